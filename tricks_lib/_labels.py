"""The labels of :mod:`tricks_lib.focal_loss` and :mod:`tricks_lib.dice_loss`: which values are accepted, and
which of them count.

Each ``kept_`` function gives where labels are not ``ignore_index``, or None: everywhere. Values are looked at
where that is free (:func:`tricks_lib._checks.readable`).
"""

import torch
from torch import Tensor

from tricks_lib._checks import readable, require


def kept_classes(labels: Tensor, C: int, ignore_index: int) -> Tensor | None:
    """Class indices (...): the kept ones are in 0..C-1."""
    labels = labels.long()  # a uint8 would be compared with -100 as 156
    if readable(labels) and not 0 <= ignore_index < C:
        low, high = labels.aminmax()  # several times faster than comparing each label with each value
        if low >= 0 and high < C:
            return None
    keep = labels != ignore_index
    _require_values(((labels >= 0) & (labels < C)) | ~keep, labels, f"0..{C - 1}", ignore_index)
    return keep


def kept_yes_no(labels: Tensor, ignore_index: int, soft: bool) -> Tensor | None:
    """Labels of any shape: the kept ones are 0 or 1, with ``soft`` and a floating point dtype in [0, 1]."""
    soft = soft and labels.is_floating_point()
    labels = labels.to(_wide(labels)) if labels.is_floating_point() else labels.long()
    if readable(labels) and ignore_index not in (0, 1):
        low, high = labels.aminmax()
        if low >= 0 and high <= 1 and (soft or are_hard(labels)):
            return None
    keep = labels != ignore_index
    valid = (labels >= 0) & (labels <= 1) if soft else (labels == 0) | (labels == 1)
    _require_values(valid | ~keep, labels, "numbers in [0, 1]" if soft else "0 and 1", ignore_index)
    return keep


def kept_distributions(labels: Tensor, ignore_index: int) -> Tensor | None:
    """Shares (..., C): a kept row has numbers of at least 0 with the sum 1; an ignored one is
    ``ignore_index`` throughout. Gives (...).
    """
    labels = labels.to(_wide(labels))
    total = labels.sum(dim=-1)
    one = (total - 1).abs() <= 0.01  # 1/3 three times is 1.002 in bfloat16
    if readable(labels) and one.all() and labels.amin() >= 0:
        return None
    keep = (labels != ignore_index).any(dim=-1)
    require(
        ((one & (labels >= 0).all(dim=-1)) | ~keep).all(),
        f"labels: rows with the sum {{}} given, along the last axis only distributions (at least 0, sum 1) "
        f"and rows of ignore_index {ignore_index} are accepted",
        total,
    )
    return keep


def are_hard(labels: Tensor) -> bool:
    """Whether labels from [0, 1] are known to be 0 or 1, by their dtype or by a look at them."""
    if not labels.is_floating_point():
        return True
    flat = labels.detach().reshape(-1)
    return readable(labels) and not labels.requires_grad and bool(torch.dot(flat, 1 - flat) == 0)


def one_hot(t: Tensor, x: Tensor) -> Tensor:
    """Class indices t (...) as 0 and 1, in the shape (..., C) and the dtype of x."""
    return (t.unsqueeze(-1) == torch.arange(x.shape[-1], device=t.device)).to(x.dtype)


def channels_last(logits: Tensor, labels: Tensor) -> str:
    """What an error adds where ``logits`` are (B, C, ...) and ``labels`` (B, ...) or (B, 1, ...)."""
    B, *rest = logits.shape[:1] + logits.shape[2:]
    if logits.ndim > 2 and labels.shape in ((B, *rest), (B, 1, *rest)):
        return "; channels last: move the class axis to the end, logits.movedim(1, -1)"
    return ""


def refuse_classes_in_second_axis(labels: Tensor) -> None:
    """Raise where one-hot labels are (B, C, ...): their ones stand along the second axis, not the last."""
    if labels.ndim > 2 and readable(labels):
        in_second, in_last = (bool((labels.sum(dim=axis) == 1).all()) for axis in (1, -1))
        if in_second and not in_last:
            raise ValueError(
                f"labels: shape {tuple(labels.shape)} given, one-hot along the second axis; channels last, "
                f"(B, ..., C), are accepted: labels.movedim(1, -1), and logits likewise"
            )


def _require_values(valid, labels, accepted, ignore_index):
    message = f"labels: values from {{}} given, only {accepted} and ignore_index {ignore_index} are accepted"
    require(valid.all(), message, labels)


def _wide(labels):
    return torch.promote_types(labels.dtype, torch.float32)
