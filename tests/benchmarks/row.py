"""What one row of the benchmark is."""

from dataclasses import dataclass, field
from typing import Callable


@dataclass(frozen=True)
class Row:
    """``make(device) -> (ours, {peer: theirs})``, functions without arguments; ``bars``: peer -> largest allowed ratio."""

    name: str
    size: str
    make: Callable
    bars: dict[str, float] = field(default_factory=dict)
