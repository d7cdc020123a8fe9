"""What :class:`~tricks_lib.ema.EMA` averages: the weights and buffers of a model by name."""

import re
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tricks_lib._shift import unwrapped

# What torch.compile, activation checkpointing and FSDP put into the names of the modules they wrap.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters; weights that DeepSpeed ZeRO-3 has taken away are refused by name."""
    found = {name: value for name, value in parameters(model).items() if value.requires_grad}
    if empty := [name for name, value in found.items() if not value.numel() and hasattr(value, "ds_shape")]:
        raise ValueError(
            f"model: {', '.join(empty)} given without values, as DeepSpeed ZeRO-3 leaves its weights between "
            f"the passes; weights with values are accepted"
        )
    return found


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """All of them by name; under FSDP2 the shards, also where a forward pass has left a module gathered."""
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
    return _by_name(unwrapped(model).named_parameters())


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return _by_name(unwrapped(model).named_buffers())


def _by_name(pairs: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {_WRAPPERS.sub("", name): value for name, value in pairs}


def start(value: Tensor, device: torch.device | None = None) -> Tensor:
    """A copy to begin an average with: half precision in float32, on ``device`` or where it is."""
    wide = torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype
    return value.detach().to(device=device, dtype=wide, copy=True)


def fill(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy the values into the targets of their name and shape."""
    for name, value in values.items():
        if name in targets and targets[name].shape == value.shape:
            targets[name].copy_(value)
    torch.clear_autocast_cache()  # it may hold half precision copies of the old weights


def same(argument: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise unless the names and shapes given are those expected."""
    for names, what in (
        (given.keys() - expected.keys(), "added or unfrozen"),
        (expected.keys() - given.keys(), "missing or frozen"),
    ):
        if names:
            listed = ", ".join(sorted(names))
            raise ValueError(
                f"{argument}: {listed} given as {what}, the tensors averaged from the beginning are "
                f"accepted (else make a new EMA)"
            )
    for name, value in given.items():
        if value.shape != expected[name].shape:
            raise ValueError(
                f"{argument}: {name} of shape {tuple(value.shape)} given, {tuple(expected[name].shape)} is "
                f"accepted"
            )
