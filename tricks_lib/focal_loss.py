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

Nothing here is the logarithm or the negative power of a number that can round to 0, so value and gradient are
finite at any finite logit.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equations (4) and (5), our (1).
Shapes: B batch, T tokens, C classes.
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import kept_labels, number, require, same_shape, tensor
from tricks_lib._few_passes import WithSlope, alpha_t, binary_with_slope, of_class_with_slope, pick

__all__ = ["binary_focal_loss", "focal_loss", "BinaryFocalLoss", "FocalLoss"]


def binary_focal_loss(
    logits: Tensor,
    labels: Tensor,
    gamma: float = 2.0,
    alpha: float | Tensor | None = 0.25,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Focal loss of independent yes/no labels (binary and multi-label), equation (2).

    Args:
        logits: (B,), (B, C), (B, T, C) or any other shape, floating point; half precision is computed in
            float32.
        labels: same shape and device; 0, 1 or ``ignore_index``, in a bool, integer or floating point dtype.
        gamma: focusing parameter, at least 0.
        alpha: weight of the positives in [0, 1], the negatives weigh 1 - alpha; a number, a tensor (C,), or
            None: no weights.
        reduction: "mean" over the labels that are not ignored (0 if all are), "sum", or "none".
        ignore_index: a label with this value counts for nothing, whatever its logit, be it NaN.

    Returns:
        scalar, or the shape of ``logits`` with "none"; float32 (float64 for float64 logits).

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, another label, a parameter out of range.

    Example:
        >>> logits = torch.tensor([[0.3992, 0.2232, 0.6435], [0.3800, 0.3044, 0.3241]])
        >>> binary_focal_loss(logits, torch.tensor([[0, 1, 1], [1, 0, 1]]))
        tensor(0.0908)
    """
    _check_parameters(gamma, reduction, ignore_index, alpha=alpha)
    tensor("logits", logits, floating=True)
    tensor("labels", labels)
    if 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, one without a zero is accepted")
    same_shape("labels", labels, logits.shape, logits)
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if isinstance(alpha, Tensor):
        same_shape("alpha", alpha, logits.shape[-1:], logits)
        alpha = alpha.to(x.dtype)
    keep = kept_labels(labels, 2, ignore_index)
    if keep is not None:
        x, labels = x.masked_fill(~keep, 0), labels.masked_fill(~keep, 0)
    eager = x.requires_grad and not torch.compiler.is_compiling()
    loss = (
        WithSlope.apply(_binary, binary_with_slope, x, labels, gamma, alpha)[0]
        if eager
        else _binary(x, labels, gamma, alpha)
    )
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
    """Focal loss of one class among several, equation (4); with ``gamma=0`` it is ``F.cross_entropy``.

    Args:
        logits: (..., C), e.g. (B, C) or (B, T, C), C at least 2, floating point; half precision is computed
            in float32.
        labels: (...), integer, class indices in 0..C-1 or ``ignore_index``, on the same device.
        gamma: focusing parameter, at least 0.
        weight: (C,), floating point, at least 0; the weight of each class.
        ignore_index: an example with this label counts for nothing, whatever its logits, be they NaN.
        label_smoothing: e in [0, 1]; the loss is (1 - e) times that of the true class plus e/C times the sum
            of (4) over all classes, each with its own p, q and weight.
        reduction: "mean" over the examples kept (with ``weight`` divided by the sum of their weights, as
            ``F.cross_entropy``; 0 if all are ignored), "sum", or "none".

    Returns:
        scalar, or the shape of ``labels`` with "none"; float32 (float64 for float64 logits).

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, a label or a parameter out of range.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])  # p = 0.787, 0.107, 0.107 for each
        >>> focal_loss(logits, torch.tensor([0, 1]), reduction="none")
        tensor([0.0109, 1.7879])
    """
    _check_parameters(gamma, reduction, ignore_index, label_smoothing=label_smoothing, weight=weight)
    tensor("logits", logits, floating=True)
    tensor("labels", labels, floating=False)
    if logits.ndim < 2 or 0 in logits.shape or logits.shape[-1] == 1:
        raise ValueError(
            f"logits: shape {tuple(logits.shape)} given, (..., C) with C > 1 and no zero is accepted (one "
            f"logit: BinaryFocalLoss)"
        )
    C = logits.shape[-1]
    same_shape("labels", labels, logits.shape[:-1], logits)
    x, t = logits.to(torch.promote_types(logits.dtype, torch.float32)), labels.long()
    keep = divisor = kept_labels(labels, C, ignore_index)  # (...)
    if keep is not None:
        x, t = x.masked_fill(~keep.unsqueeze(-1), 0), t.masked_fill(~keep, 0)
    if weight is not None:
        same_shape("weight", weight, (C,), logits)
        weight = weight.to(x.dtype)
        divisor = weight[t] if keep is None else weight[t].masked_fill(~keep, 0)  # (...)
    if label_smoothing:
        each = _focal(-F.log_softmax(x, dim=-1), gamma) * (1 if weight is None else weight)  # (..., C)
        loss = (1 - label_smoothing) * pick(each, t) + label_smoothing / C * each.sum(dim=-1)
    else:
        eager = x.requires_grad and x.device.type == "cpu" and not torch.compiler.is_compiling()
        loss = (
            WithSlope.apply(_of_class, of_class_with_slope, x, t, gamma)[0]
            if eager
            else _of_class(x, t, gamma)
        )  # (...)
        loss = loss if weight is None else loss * weight[t]
    return _reduce(loss, keep, divisor, reduction)


class BinaryFocalLoss(nn.Module):
    """:func:`binary_focal_loss` as a module; its parameters are attributes of the same name, a tensor
    ``alpha`` a buffer.

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
    ):
        super().__init__()
        _check_parameters(gamma, reduction, ignore_index, alpha=alpha)
        self.gamma, self.reduction, self.ignore_index = gamma, reduction, ignore_index
        if isinstance(alpha, Tensor):
            self.register_buffer("alpha", alpha)
        else:
            self.alpha = alpha

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return binary_focal_loss(logits, labels, self.gamma, self.alpha, self.reduction, self.ignore_index)


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
        _check_parameters(gamma, reduction, ignore_index, label_smoothing=label_smoothing, weight=weight)
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


def _focal(ce, gamma):
    q = -torch.expm1(
        -ce.clamp(1e-30, 80)
    )  # 1 - p_t; at 0 the slope of q^gamma is infinite for gamma < 1, beyond 80 it is 0
    return q**gamma * ce  # (4)


def _of_class(x, t, gamma):
    return _focal(-pick(F.log_softmax(x, dim=-1), t), gamma)


def _binary(x, y, gamma, alpha):
    sign = 1 - 2 * y.to(x.dtype)
    z = sign * x
    return alpha_t(sign, alpha) * torch.exp(gamma * F.logsigmoid(z)) * F.softplus(z, threshold=50)  # (2)


def _reduce(loss, keep, divisor, reduction):
    """``divisor``: of the mean, as a tensor to sum; None: the number of losses."""
    if keep is not None:
        loss = loss.masked_fill(~keep, 0)
    if reduction != "mean":
        return loss.sum() if reduction == "sum" else loss
    if divisor is None:
        return loss.mean()
    divisor = divisor.sum()
    return loss.sum() / divisor.masked_fill(divisor == 0, 1)


def _check_parameters(gamma, reduction, ignore_index, alpha=None, label_smoothing=0.0, weight=None):
    number("gamma", gamma, 0.0)
    number("label_smoothing", label_smoothing, 0.0, 1.0)
    number(
        "ignore_index",
        ignore_index,
        -sys.maxsize,
        sys.maxsize,
        accepted="an integer of 64 bits",
        integer=True,
    )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction: {reduction!r} given, 'mean', 'sum' or 'none' is accepted")
    if alpha is not None and not isinstance(alpha, Tensor):
        number("alpha", alpha, 0.0, 1.0, accepted="a number in [0, 1], a tensor (C,) of them or None")
        alpha = None
    for name, values, high in ("alpha", alpha, 1), ("weight", weight, float("inf")):
        if values is not None:
            tensor(name, values, floating=True)
            if not values.is_meta:  # a module may be built on the meta device
                valid = (values >= 0) & (values <= high) & values.isfinite()
                require(
                    valid.all(), f"{name}: {{}} given, finite numbers in [0, {high}] are accepted", values
                )
