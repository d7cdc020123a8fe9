"""Checks of arguments that every trick shares: each error names the argument, what was given and what is accepted."""

import sys

import torch
from torch import Tensor


def require(condition: Tensor, message: str, given: Tensor) -> None:
    """Raise a ``ValueError`` unless ``condition`` (a bool scalar tensor) holds.

    For checks that look at values: under ``torch.compile`` they are left out, and on CUDA they are asynchronous
    (``torch._assert_async``), so that they cost no synchronisation.

    Args:
        condition: bool scalar. message: with ``{}`` where the extremes of ``given`` are shown. given: what was checked.
    """
    if torch.compiler.is_compiling():
        return
    if condition.is_cuda:
        torch._assert_async(condition, message.format("others"))
    elif not condition:
        low, high = given.min().item(), given.max().item()
        raise ValueError(message.format(f"{low:g}" if low == high else f"{low:g} to {high:g}"))


def tensor(name: str, value, floating: bool | None = None) -> Tensor:
    """``value`` if it is a tensor, of a floating point dtype (True) or of another one (False); else a ``TypeError``."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {type(value).__name__} given, a torch.Tensor is accepted")
    if floating is not None and value.is_floating_point() != floating:
        raise TypeError(f"{name}: dtype {value.dtype} given, {'a floating point' if floating else 'an integer or bool'} one is accepted")
    return value


def same_device(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    if value.device != other.device:
        raise ValueError(f"{name}: on {value.device}, {other_name} on {other.device}; one device is accepted")


def number(name: str, value, low: float, high: float = sys.float_info.max, accepted: str | None = None, integer: bool = False) -> None:
    """Raise unless ``low <= value <= high`` and ``value`` is a finite number (with ``integer`` an int); ``accepted`` says it in words."""
    kind = int if integer else (int, float)
    accepted = accepted or (f"a number in [{low}, {high}]" if high < sys.float_info.max else f"a finite number of at least {low:g}")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name}: {value!r} given, {accepted} is accepted")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} given, {accepted} is accepted")
