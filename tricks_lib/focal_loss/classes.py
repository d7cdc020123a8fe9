"""Focal loss of one class among several. Equation numbers are those of :mod:`tricks_lib.focal_loss`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import same_device, same_shape, tensor
from tricks_lib._labels import channels_last, kept_classes, kept_distributions, one_hot
from tricks_lib._loss_parameters import check_focal
from tricks_lib.focal_loss.slopes import (
    gradient_of_class,
    gradient_of_shares,
    of_class_with_slope,
    of_shares_with_slope,
    pick,
)
from tricks_lib.focal_loss.value import reduced, value


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss of one class among several, equations (4) and (5); with ``gamma=0`` it is
    ``F.cross_entropy``.

    Args:
        logits: (..., C), e.g. (B, C) or (B, T, C), C at least 2, floating point; half precision is computed
            in float32.
        labels: (...), integer, class indices in 0..C-1 or ``ignore_index``, on the same device; or soft
            labels (..., C), floating point, each row with the sum 1, or ``ignore_index`` throughout.
        gamma: focusing parameter, at least 0.
        weight: (C,), floating point, at least 0; the weight of each class.
        ignore_index: an example with this label counts for nothing, whatever its logits, be they NaN.
        label_smoothing: e in [0, 1]; labels are taken as the soft labels (1 - e) y + e / C.
        reduction: "mean" over the examples kept (with class indices and ``weight`` divided by the sum of
            their weights, as ``F.cross_entropy``; 0 if all are ignored), "sum", or "none".

    Returns:
        scalar, or the shape of ``logits`` without C with "none"; float32 (float64 for float64 logits).

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, a parameter out of range; where tensors can be read
            without a synchronisation (eager mode on the CPU), a label or a weight out of range. On CUDA a
            class index out of range is met by the device's own assertion, as in ``F.cross_entropy``.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])  # p = 0.787, 0.107, 0.107 for each
        >>> focal_loss(logits, torch.tensor([0, 1]), reduction="none")
        tensor([0.0109, 1.7879])
        >>> soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
        >>> focal_loss(logits, soft, reduction="none")  # the mean of both, and the second
        tensor([0.8994, 1.7879])
    """
    check_focal(gamma, reduction, ignore_index, label_smoothing=label_smoothing, weight=weight)
    tensor("logits", logits, floating=True)
    if logits.ndim < 2 or 0 in logits.shape or logits.shape[-1] == 1:
        raise ValueError(
            f"logits: shape {tuple(logits.shape)} given, (..., C) with C > 1 and no zero is accepted (one "
            f"logit: BinaryFocalLoss)"
        )
    tensor("labels", labels)
    C = logits.shape[-1]
    soft = labels.is_floating_point() and labels.shape == logits.shape
    if soft:
        same_device("labels", labels, "logits", logits)
    else:
        tensor("labels", labels, floating=False)
        also = f" or soft labels {tuple(logits.shape)} of a floating point dtype"
        same_shape("labels", labels, logits.shape[:-1], logits, also + channels_last(logits, labels))
    keep = kept_distributions(labels, ignore_index) if soft else kept_classes(labels, C, ignore_index)
    if weight is not None:
        same_shape("weight", weight, (C,), logits)

    x = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (..., C)
    y = labels.to(x.dtype) if soft else labels.long()
    weight = weight if weight is None else weight.to(x.dtype)
    if keep is not None:
        x = x.masked_fill(~keep.unsqueeze(-1), 0)
        y = y.masked_fill(~(keep.unsqueeze(-1) if soft else keep), 0)
    if soft or label_smoothing:
        e, shares = float(label_smoothing), y if soft else one_hot(y, x)  # (..., C)
        shares = (1 - e) * shares + e / C if e else shares
        loss = value(SHARES, x, shares, gamma, weight)
    else:
        loss = value(CLASS, x, y, gamma)  # (...)
        loss = loss if weight is None else loss * weight[y]
    if weight is None or soft:
        return reduced(loss, keep, keep, reduction)
    divisor = weight[y] if keep is None else weight[y].masked_fill(~keep, 0)
    return reduced(loss, keep, divisor, reduction)


class FocalLoss(nn.Module):
    """:func:`focal_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer: it
    moves with the module.

    Example:
        >>> loss = FocalLoss(weight=torch.tensor([1.0, 3.0]))
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))  # log 2 / 4
        tensor(0.1733)
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ):
        super().__init__()
        check_focal(gamma, reduction, ignore_index, label_smoothing=label_smoothing, weight=weight)
        self.gamma, self.ignore_index, self.label_smoothing, self.reduction = (
            gamma,
            ignore_index,
            label_smoothing,
            reduction,
        )
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return focal_loss(
            logits, labels, self.gamma, self.weight, self.ignore_index, self.label_smoothing, self.reduction
        )


# The formulas, whose gradient by autograd is right and finite.


def _of_class(x, t, gamma):
    return _focal(_cross_entropy(x, t), gamma)


def _of_shares(x, y, gamma, weight):
    top = x.argmax(dim=-1)  # the only class whose p can round to 1
    ce = -F.log_softmax(x, dim=-1)  # (..., C)
    ce = ce.scatter(-1, top.unsqueeze(-1), _cross_entropy(x, top).unsqueeze(-1))
    ce = ce.masked_fill((y == 0) & (ce == float("inf")), 0)  # a masked class without a share
    each = _focal(ce, gamma) * (1 if weight is None else weight)
    return (y * each).sum(dim=-1)  # (5)


def _cross_entropy(x, t):
    """-log p_t as log(1 + e^z), with z the log-odds against class t."""
    x = x - x.detach().amax(dim=-1, keepdim=True)  # an offset of all logits costs no digits
    nothing = torch.finfo(x.dtype).min
    rest = x.scatter(-1, t.unsqueeze(-1), nothing).logsumexp(dim=-1)
    return F.softplus(rest - pick(x, t), threshold=50)


def _focal(ce, gamma):
    # at 0 the slope of q^gamma is infinite for gamma < 1, beyond 80 it is 0
    q = -torch.expm1(-ce.clamp(1e-30, 80))  # 1 - p_t
    return q**gamma * ce  # (4)


CLASS = _of_class, of_class_with_slope, gradient_of_class
SHARES = _of_shares, of_shares_with_slope, gradient_of_shares
