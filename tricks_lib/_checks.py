"""Checks of arguments that every trick shares: each error names the argument, what was given and what is
accepted.
"""

import sys

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.autograd.forward_ad import unpack_dual

LARGEST = sys.float_info.max  # by a name of its own: torch.compile of torch 2.6 cannot trace sys.float_info


def eager(value: Tensor) -> bool:
    """Whether ``value`` is an ordinary tensor, computed with here and now: one that hand-written backward
    passes may be used for.

    False under ``torch.compile``, ``torch.export`` and the transforms of ``torch.func``, in forward-mode
    differentiation, and for fake and meta tensors: there the plain formula is right.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or isinstance(value, FakeTensor)
        or value.is_meta
        or unpack_dual(value).tangent is not None
    )


def readable(value: Tensor) -> bool:
    """Whether code may depend on what is in ``value``: eager, and on the CPU, where a look costs no
    synchronisation. The one rule for checks of values and for short cuts that they allow.
    """
    return value.device.type == "cpu" and eager(value)


def truth(condition: Tensor) -> bool | None:
    """The value of a bool scalar; None where there is none to read (:func:`eager`)."""
    return bool(condition) if eager(condition) else None


def require_now(condition: Tensor, message: str, given: Tensor) -> None:
    """Raise a ``ValueError`` unless ``condition`` holds. On CUDA this waits for the device: it is for
    ``tricks_lib.decoding``, which reads a value of each step anyway.

    Args:
        condition: bool scalar. message: with ``{}`` where the extremes of ``given`` are shown. given: what
            was checked.
    """
    if truth(condition) is False:
        low, high = given.min().item(), given.max().item()
        raise ValueError(message.format(f"{low:g}" if low == high else f"{low:g} to {high:g}"))


def require(condition: Tensor, message: str, given: Tensor) -> None:
    """As :func:`require_now` where looking at a value is free (:func:`readable`), so not on CUDA: nothing is
    checked there, and a function that checks by ``require`` says so in its docstring. Shapes and dtypes are
    checked everywhere.
    """
    if readable(condition):
        require_now(condition, message, given)


def tensor(name: str, value, floating: bool | None = None) -> Tensor:
    """``value`` if it is a tensor, of a floating point dtype (True) or of another one (False); else a
    ``TypeError``.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {type(value).__name__} given, a torch.Tensor is accepted")
    if floating is not None and value.is_floating_point() != floating:
        raise TypeError(
            f"{name}: dtype {value.dtype} given, {'a floating point' if floating else 'an integer or bool'} "
            f"one is accepted"
        )
    return value


def same_device(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    if value.device != other.device:
        raise ValueError(f"{name}: on {value.device}, {other_name} on {other.device}; one device is accepted")


def number(
    name: str, value, low: float, high: float = LARGEST, accepted: str | None = None, integer: bool = False
):
    """``value`` as a Python number if it is a finite one of Python or NumPy (with ``integer`` an integer) and
    ``low <= value <= high``; else an error, where ``accepted`` says in words what is.
    """
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    accepted = accepted or (
        f"a number in [{low}, {high}]" if high < LARGEST else f"a finite number of at least {low:g}"
    )
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name}: {value!r} given, {accepted} is accepted")
    value = value.item() if isinstance(value, np.generic) else value
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} given, {accepted} is accepted")
    return value


def same_shape(name: str, value: Tensor, shape, logits: Tensor, also: str = "") -> None:
    if value.shape != tuple(shape):
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} given with logits {tuple(logits.shape)}, "
            f"{tuple(shape)}{also} is accepted"
        )
    same_device(name, value, "logits", logits)
