"""The loss of two passes, equation (2) of :mod:`tricks_lib.rdrop`."""

import torch.nn.functional as F
from torch import Tensor

from tricks_lib._checks import number, require, same_device, tensor
from tricks_lib.rdrop.divergence import (
    bernoulli_kl,
    check_classes,
    check_pair,
    checked_mask,
    mean,
    softmax_divergence,
    wide,
    without_padding,
)

NAMES = "logits_1", "logits_2"


def rdrop_loss(
    logits_1: Tensor, logits_2: Tensor, labels: Tensor, alpha: float, mask: Tensor | None = None
) -> Tensor:
    """The R-Drop loss of two passes, equation (2), by what the labels are: classes, yes or no for each class,
    or numbers.

    Args:
        logits_1: (B, C) or (B, T, C), floating point; for regression (B,) or (B, 1).
        logits_2: the same shape and device.
        labels: (B,) or (B, T) class indices in 0..C-1; for several labels per example (B, C) floating point
            in 0..1; -100 where neither term counts. For regression (B,) or (B, 1) floating point.
        alpha: weight of the divergence, at least 0. 0.5 to 5 in the paper: see the table of
            :mod:`tricks_lib.rdrop` before you copy one.
        mask: (B,) or (B, T), as :func:`symmetric_kl`; where it is 0 neither term counts.

    Returns:
        scalar; float64 for float64 logits, else float32; 0 if no position counts.

    Raises:
        TypeError, ValueError: as :func:`symmetric_kl`; labels of another shape or, not checked on CUDA,
            range; ``alpha`` negative or infinite.

    Example:
        >>> import torch
        >>> logits_1, logits_2 = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> rdrop_loss(logits_1, logits_2, torch.tensor([0]), alpha=2.0)  # 1/2 (0.6931 + 0.3133) + 2 * 0.1155
        tensor(0.7343)
    """
    number("alpha", alpha, 0.0)
    tensor("labels", labels)
    tensor("logits_1", logits_1, floating=True)
    same_device("labels", labels, "logits_1", logits_1)
    if not labels.is_floating_point():
        return _of_classes(logits_1, logits_2, labels, alpha, mask)
    shape, B = logits_1.shape, len(logits_1) if logits_1.ndim else 0
    if shape in {(B,), (B, 1)} and labels.shape in {(B,), (B, 1)}:
        return _of_numbers(logits_1, logits_2, labels, alpha, mask)
    if logits_1.ndim == 2 and labels.shape == shape:
        return _of_yes_or_no(logits_1, logits_2, labels, alpha, mask)
    raise ValueError(
        f"labels: floating {tuple(labels.shape)} given with logits {tuple(shape)}; (B,), (B, 1) or (B, C) "
        f"for both is accepted"
    )


def _of_classes(p, q, labels, alpha, mask) -> Tensor:
    check_classes(p, q, NAMES)
    keep, C = checked_mask(mask, p.shape[:-1], p), p.shape[-1]
    if labels.shape != p.shape[:-1]:
        raise ValueError(f"labels: shape {tuple(labels.shape)} given, {tuple(p.shape[:-1])} is accepted")
    labels = labels.long() if keep is None else labels.long().masked_fill(~keep, -100)
    keep = labels != -100
    require(
        (~keep | ((labels >= 0) & (labels < C))).all(),
        f"labels: class indices in 0..{C - 1}, or -100, are accepted, {{}} given",
        labels,
    )
    p, q = without_padding(p, q, keep)
    entropy = sum(
        F.cross_entropy(x.to(wide(x)).reshape(-1, C), labels.reshape(-1), reduction="sum") for x in (p, q)
    )
    return 0.5 * entropy / keep.sum().clamp(min=1) + alpha * mean(softmax_divergence(p, q), keep)


def _of_yes_or_no(p, q, labels, alpha, mask) -> Tensor:
    check_pair(p, q, NAMES)
    keep = labels != -100  # (B, C)
    rows = checked_mask(mask, p.shape[:1], p)  # (B,)
    if rows is not None:
        keep = keep & rows.unsqueeze(-1)
    require(
        (~keep | ((labels >= 0) & (labels <= 1))).all(),
        "labels: values in 0..1, or -100, are accepted, {} given",
        labels,
    )
    p, q = (x.to(wide(x)) for x in without_padding(p, q, keep))
    labels = labels.to(p.dtype).masked_fill(~keep, 0)
    of_p, of_q = (F.binary_cross_entropy_with_logits(x, labels, reduction="none") for x in (p, q))
    return mean((0.5 * (of_p + of_q)).masked_fill(~keep, 0), keep) + alpha * bernoulli_kl(p, q, keep)


def _of_numbers(x, y, labels, alpha, mask) -> Tensor:
    B = len(x)
    x, y = x.reshape(B), tensor("logits_2", y, floating=True).reshape(-1)
    check_pair(x, y, NAMES)
    keep = checked_mask(mask, x.shape, x)
    x, y, target = (v.to(wide(x)).view(B) for v in (*without_padding(x, y, keep), labels))
    target = target if keep is None else target.masked_fill(~keep, 0)
    return mean(0.5 * ((x - target) ** 2 + (y - target) ** 2) + alpha * (x - y) ** 2, keep)
