"""Focal loss: cross-entropy that turns its attention from the easy examples to the hard ones.

With p_t the probability that the model gives to the true label, cross-entropy is -log p_t. Focal loss
multiplies it by a factor that vanishes as the example becomes easy:

    FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t                                                  (1)

gamma = 0 is (weighted) cross-entropy; gamma = 2 gives an example with p_t = 0.9 a hundredth of its weight.
Binary, with logit x and label y, everything follows from one number, z = (1 - 2y) x: how far the logit is on
the wrong side:

    p_t = sigmoid(-z),   FL = alpha_t sigmoid(z)^gamma softplus(z)                              (2)
    dFL/dz = alpha_t sigmoid(z)^gamma (gamma (1 - sigmoid(z)) softplus(z) + sigmoid(z))         (3)

Several classes, with the cross-entropy ce = -log p_t and the weight w_y of the true class:

    FL = w_y q^gamma ce,   dFL/dce = w_y q^gamma (gamma p_t ce / q + 1),   q = 1 - p_t          (4)

A soft label gives each class a share y_c; in the binary form the positive has y, the negative 1 - y. Its loss
is the mean of the hard labels' losses:

    FL = sum_c y_c FL(p_c)                                                                      (5)

At gamma = 0 this is cross-entropy with soft targets; with y = (1 - e) onehot + e / C it is label smoothing.
For gamma > 0 it is smallest at a p less sure than y, as is the mean loss of hard labels drawn with the shares
y. Keras' CategoricalFocalCrossentropy and kornia's binary form have (5). Two others differ from it where y is
between 0 and 1: torchvision mixes the two p_t in place of the two losses, and Quality Focal Loss (Li et al.
2020) is ``|y - p|^gamma`` times the cross-entropy.

Nothing here is the logarithm or the negative power of a number that can round to 0, so value and gradient are
finite at any finite logit. Nor is anything the difference of 1 and a number that can round to 1: ce is
log(1 + e^z), with z the log-odds against the true class, and q is -expm1(-ce) or the sum of the others' p. So
an example that is nearly certain keeps all digits of its loss.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equations (4) and (5), our (1). There
the sum of the losses is divided by the number of positives, and training starts from a last bias of
-log((1 - pi) / pi), pi = 0.01, so that the many negatives are easy from the first step on.
Shapes: B batch, T tokens, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import eager, same_device, same_shape, tensor
from tricks_lib._focal_slopes import (
    WithSlope,
    binary_with_slope,
    gradient_of_binary,
    gradient_of_class,
    gradient_of_shares,
    of_class_with_slope,
    of_shares_with_slope,
    pick,
    soft_binary_with_slope,
)
from tricks_lib._labels import are_hard, channels_last, kept_classes, kept_distributions, kept_yes_no, one_hot
from tricks_lib._loss_parameters import check_focal

__all__ = ["binary_focal_loss", "focal_loss", "BinaryFocalLoss", "FocalLoss"]


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
        alpha: weight of the positives in [0, 1], the negatives weigh 1 - alpha; a number, a tensor (C,), or
            None: no weights. The default is the paper's for detectors, where it makes up for gamma = 2, which
            alone favours the positives. It weighs a positive a third of a negative: for labels that are
            merely rare start from None.
        reduction: "mean" over the labels that are not ignored (0 if all are), "sum", or "none".
        ignore_index: a label with this value counts for nothing, whatever its logit, be it NaN.
        pos_weight: a factor for the positives' loss, beside ``alpha``, as in
            ``F.binary_cross_entropy_with_logits``; at least 0; a number, a tensor (C,) or None.

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
    loss = _value(form, x, y, gamma, _weights(alpha, pos_weight, x.dtype))
    return _reduce(loss, keep, keep, reduction)


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
        loss = _value(SHARES, x, shares, gamma, weight)
    else:
        loss = _value(CLASS, x, y, gamma)  # (...)
        loss = loss if weight is None else loss * weight[y]
    if weight is None or soft:
        return _reduce(loss, keep, keep, reduction)
    divisor = weight[y] if keep is None else weight[y].masked_fill(~keep, 0)
    return _reduce(loss, keep, divisor, reduction)


class BinaryFocalLoss(nn.Module):
    """:func:`binary_focal_loss` as a module; its parameters are attributes of the same name, tensors among
    them buffers: they move with the module.

    Example:
        >>> BinaryFocalLoss(gamma=0.0, alpha=None)(torch.tensor([0.0]), torch.tensor([1.0]))  # log 2
        tensor(0.6931)
    """

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


class FocalLoss(nn.Module):
    """:func:`focal_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer: it
    moves with the module.

    Example:
        >>> loss = FocalLoss(weight=torch.tensor([1.0, 3.0]))
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))  # log 2 / 4
        tensor(0.1733)
    """

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


def _value(form, x, labels, *parameters):
    """The loss, in training together with its slope."""
    formula, *slopes = form
    if x.requires_grad and not labels.requires_grad and eager(x):
        return WithSlope.apply(formula, *slopes, x, labels, *parameters)[0]
    return formula(x, labels, *parameters)


# The formulas, whose gradient by autograd is right and finite.


def _binary(x, y, gamma, weights):
    z = (1 - 2 * y) * x
    loss = torch.exp(gamma * F.logsigmoid(z)) * F.softplus(z, threshold=50)  # (2)
    return loss if weights is None else (y * weights[0] + (1 - y) * weights[1]) * loss


def _soft_binary(x, y, gamma, weights):
    positive, negative = (_binary(x, torch.full_like(y, label), gamma, weights) for label in (1, 0))
    return y * positive + (1 - y) * negative  # (5)


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


HARD = _binary, binary_with_slope, gradient_of_binary
SOFT = _soft_binary, soft_binary_with_slope, gradient_of_binary
CLASS = _of_class, of_class_with_slope, gradient_of_class
SHARES = _of_shares, of_shares_with_slope, gradient_of_shares


def _weights(alpha, pos_weight, dtype):
    """Of positives and negatives: numbers or tensors (C,); None: all weigh 1."""
    if alpha is None and pos_weight is None:
        return None
    alpha, pos_weight = (
        v.to(dtype) if isinstance(v, Tensor) else v if v is None else float(v) for v in (alpha, pos_weight)
    )
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return positive if pos_weight is None else positive * pos_weight, negative


def _reduce(loss, keep, divisor, reduction):
    """``divisor``: of the mean, as a tensor to sum; None: the number of losses."""
    if keep is not None:
        loss = loss.masked_fill(~keep, 0)
    if reduction != "mean":
        return loss.sum() if reduction == "sum" else loss
    if divisor is None:
        return loss.sum() / loss.numel()  # the backward of mean() would write a gradient for each of them
    divisor = divisor.sum()
    return loss.sum() / divisor.masked_fill(divisor == 0, 1)
