"""Focal loss of independent yes/no labels. Equation numbers are those of :mod:`tricks_lib.focal_loss`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import same_shape, tensor
from tricks_lib._labels import are_hard, kept_yes_no
from tricks_lib._loss_parameters import check_focal
from tricks_lib.focal_loss.slopes import binary_with_slope, gradient_of_binary, soft_binary_with_slope
from tricks_lib.focal_loss.value import reduced, value


def binary_focal_loss(
    logits: Tensor,
    labels: Tensor,
    gamma: float = 2.0,
    alpha: float | Tensor | None = 0.25,
    reduction: str = "mean",
    ignore_index: int = -100,
    pos_weight: float | Tensor | None = None,
) -> Tensor:
    """Focal loss of independent yes/no labels (binary and multi-label), equations (2) and (5).

    Args:
        logits: (B,), (B, C), (B, T, C) or any other shape, floating point; half precision is computed in
            float32.
        labels: same shape and device; 0, 1 or ``ignore_index``, in a bool, integer or floating point dtype.
            In a floating point dtype also soft labels, numbers in [0, 1].
        gamma: focusing parameter, at least 0.
        alpha: weight of the positives in [0, 1], the negatives weigh 1 - alpha; a number, a tensor of the
            last axis's size, or None: no weights. The default is the paper's for detectors, where it makes up
            for gamma = 2, which alone favours the positives. It weighs a positive a third of a negative: for
            labels that are merely rare start from None.
        reduction: "mean" over the labels that are not ignored (0 if all are), "sum", or "none".
        ignore_index: a label with this value counts for nothing, whatever its logit, be it NaN.
        pos_weight: a factor for the positives' loss, beside ``alpha``, as in
            ``F.binary_cross_entropy_with_logits``; at least 0; a number, a tensor of the last axis's
            size, or None.

    Returns:
        scalar, or the shape of ``logits`` with "none"; float32 (float64 for float64 logits).

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, a parameter out of range; where tensors can be read
            without a synchronisation (eager mode on the CPU), another label or a weight out of range.

    Example:
        >>> logits = torch.tensor([[0.3992, 0.2232, 0.6435], [0.3800, 0.3044, 0.3241]])
        >>> binary_focal_loss(logits, torch.tensor([[0, 1, 1], [1, 0, 1]]))
        tensor(0.0908)
    """
    check_focal(gamma, reduction, ignore_index, alpha=alpha, pos_weight=pos_weight)
    tensor("logits", logits, floating=True)
    tensor("labels", labels)
    if 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, one without a zero is accepted")
    same_shape("labels", labels, logits.shape, logits)
    for name, values in ("alpha", alpha), ("pos_weight", pos_weight):
        if isinstance(values, Tensor):
            same_shape(name, values, logits.shape[-1:], logits)
    keep = kept_yes_no(labels, ignore_index, soft=True)

    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    y = labels.to(x.dtype)
    if keep is not None:
        x, y = x.masked_fill(~keep, 0), y.masked_fill(~keep, 0)
    hard = not labels.is_floating_point() or are_hard(y)
    form = HARD if hard else SOFT
    loss = value(form, x, y, gamma, _weights(alpha, pos_weight, x.dtype))
    return reduced(loss, keep, keep, reduction)


class BinaryFocalLoss(nn.Module):
    """:func:`binary_focal_loss` as a module; its parameters are attributes of the same name, tensors among
    them buffers: they move with the module.

    Example:
        >>> BinaryFocalLoss(gamma=0.0, alpha=None)(torch.tensor([0.0]), torch.tensor([1.0]))  # log 2
        tensor(0.6931)
    """

    alpha: float | Tensor | None
    pos_weight: float | Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Tensor | None = 0.25,
        reduction: str = "mean",
        ignore_index: int = -100,
        pos_weight: float | Tensor | None = None,
    ):
        super().__init__()
        check_focal(gamma, reduction, ignore_index, alpha=alpha, pos_weight=pos_weight)
        self.gamma, self.reduction, self.ignore_index = gamma, reduction, ignore_index
        for name, values in ("alpha", alpha), ("pos_weight", pos_weight):
            if isinstance(values, Tensor):
                self.register_buffer(name, values)
            else:
                setattr(self, name, values)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return binary_focal_loss(
            logits, labels, self.gamma, self.alpha, self.reduction, self.ignore_index, self.pos_weight
        )


# The formulas, whose gradient by autograd is right and finite.


def _binary(x, y, gamma, weights):
    z = (1 - 2 * y) * x
    loss = torch.exp(gamma * F.logsigmoid(z)) * F.softplus(z, threshold=50)  # (2)
    return loss if weights is None else (y * weights[0] + (1 - y) * weights[1]) * loss


def _soft_binary(x, y, gamma, weights):
    positive, negative = (_binary(x, torch.full_like(y, label), gamma, weights) for label in (1, 0))
    return y * positive + (1 - y) * negative  # (5)


def _weights(alpha, pos_weight, dtype):
    """Of positives and negatives: numbers or tensors (C,); None: all weigh 1."""
    if alpha is None and pos_weight is None:
        return None
    alpha, pos_weight = (
        v.to(dtype) if isinstance(v, Tensor) else v if v is None else float(v) for v in (alpha, pos_weight)
    )
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return positive if pos_weight is None else positive * pos_weight, negative


HARD = _binary, binary_with_slope, gradient_of_binary
SOFT = _soft_binary, soft_binary_with_slope, gradient_of_binary
