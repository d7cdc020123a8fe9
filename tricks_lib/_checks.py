"""Checks of arguments that every trick shares: each error names the argument, what was given and what is
accepted.
"""

import sys

import numpy as np
import torch
from torch import Tensor

LARGEST = sys.float_info.max  # by a name of its own: torch.compile of torch 2.6 cannot trace sys.float_info


def truth(condition: Tensor) -> bool | None:
    """The value of a bool scalar; None where there is none to read: under ``torch.compile`` and ``vmap``, in
    FakeTensorMode and on the meta device.
    """
    if torch.compiler.is_compiling():
        return None
    try:
        return bool(condition)
    except RuntimeError:
        if condition.is_cuda:  # a kernel that failed earlier is reported here
            raise
        return None


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
    """As :func:`require_now` where looking at a value is free, so not on CUDA: nothing is checked there, and
    a function that checks by ``require`` says so in its docstring. Shapes and dtypes are checked everywhere.
    """
    if not condition.is_cuda:
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


def kept_labels(labels: Tensor, C: int, ignore_index: int) -> Tensor | None:
    """Where labels are not ``ignore_index`` (None: everywhere); the others must be in 0..C-1, for C = 2 in
    any dtype 0 and 1.
    """
    floating = labels.is_floating_point()
    labels = labels.to(
        torch.promote_types(labels.dtype, torch.float32) if floating else torch.long
    )  # a uint8 would be compared with -100 as 156
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and not 0 <= ignore_index < C:
        low, high = labels.aminmax()  # several times faster than comparing each label with each value
        if truth((low >= 0) & (high < C)) and (
            not floating or truth(torch.dot(labels.reshape(-1), 1 - labels.reshape(-1)) == 0)
        ):
            return None
    keep = labels != ignore_index
    valid = (labels == 0) | (labels == 1) if C == 2 else (labels >= 0) & (labels < C)
    accepted = "0 and 1" if C == 2 else f"0..{C - 1}"
    require(
        (valid | ~keep).all(),
        f"labels: values from {{}} given, only {accepted} and ignore_index {ignore_index} are accepted",
        labels,
    )
    return keep
