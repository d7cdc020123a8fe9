"""Where the average is kept, and how the weights get there if that is not where they are."""

from collections.abc import Mapping

import torch
from torch import Tensor


def available(device: torch.device | str | None, weights: Mapping[str, Tensor]) -> torch.device | None:
    """The device that is asked for, if it is there and the weights can be averaged on it."""
    if not isinstance(device, torch.device | str | None):
        raise TypeError(f"device: {device!r} given, a torch.device, its name or None is accepted")
    if device is None:
        return None
    if any(hasattr(value, "device_mesh") for value in weights.values()):
        raise ValueError(
            f"device: {device!r} given with weights that FSDP2 has sharded, None is accepted (its "
            f"CPUOffloadPolicy moves the average too)"
        )
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # no such device, or torch is built without it
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: {device!r} given, one that is there is accepted ({reason})") from error
    if found.type == "meta":
        raise ValueError(f"device: {device!r} given, one that holds values is accepted")
    return found


class Copies:
    """The weights on the device of their averages, where that is another one: one copy each, kept from step
    to step; from CUDA to page-locked memory, all at once.
    """

    def __init__(self):
        self._kept: dict[str, Tensor] = {}

    def beside(self, averages: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        away = {name: value for name, value in weights.items() if value.device != averages[name].device}
        for name, value in away.items():
            pinned = value.is_cuda and averages[name].device.type == "cpu"
            if name not in self._kept:
                self._kept[name] = torch.empty_like(value, device=averages[name].device, pin_memory=pinned)
            self._kept[name].copy_(value, non_blocking=pinned)
        for device in {value.device for value in away.values() if value.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        return {**weights, **{name: self._kept[name] for name in away}}
