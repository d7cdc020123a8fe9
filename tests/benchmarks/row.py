"""What one row of the benchmark is."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Row:
    """``make(device) -> (ours, {peer: theirs}, {what: limit})``: functions without arguments.

    ``limit`` is one function that does only what every implementation must do: the time that cannot be
    beaten. It may be one of the peers.
    ``bars``: peer -> largest allowed ratio. ``packages``: peer -> the distribution it comes from; a peer
    without one is code of the bench. Where ours and theirs return tensors, ``same`` of them must be equal
    before anything is timed.
    """

    name: str
    size: str
    make: Callable
    bars: dict[str, float] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    same: Callable = torch.Tensor.detach
