"""Dice loss: one minus a soft F1 score, for labels so rare that cross-entropy is content to predict none of them.

With p_ic the probability of class c for example i and y_ic in {0, 1} its label, count softly, for each class,

    TP_c = sum_i p_ic y_ic,   P_c = sum_i p_ic,   Y_c = sum_i y_ic                              (1)
    Dice_c = (2 TP_c + s) / (P_c + Y_c + s),   loss = mean_c (1 - Dice_c)                       (2)

s smooths the ratio where a class is absent. The micro form adds the counts of all classes up before the ratio: that is the
widely known loss on flattened tensors, in which frequent classes drown the rare ones. Tversky's index prices false
positives P - TP and false negatives Y - TP apart:

    T_c = (TP_c + s) / (TP_c + alpha (P_c - TP_c) + beta (Y_c - TP_c) + s)                      (3)

The self-adjusting loss of Li et al. is taken example by example, with f = (1 - p)^alpha p in place of p:

    loss_i = 1 - (2 f_i y_i + s) / (f_i + y_i + s)                                              (4)

f grows up to p = 1 / (1 + alpha) and falls to 0 at p = 1. So for a positive example (4) is smallest at p = 1 / (1 + alpha), and a
perfect prediction scores 1 - s / (1 + s), 0.5 at s = 1, for every alpha > 0. Keep alpha small.

Sources: Milletari et al., "V-Net", 3DV 2016 (Dice as a loss); Salehi et al., "Tversky loss function for image segmentation using 3D
fully convolutional deep networks", MLMI 2017, equation (3); Li et al., "Dice Loss for Data-imbalanced NLP Tasks", ACL 2020, section 3.
Shapes: B batch, T tokens, C classes; N = B or B T examples.
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor

__all__ = ["dice_loss", "tversky_loss", "self_adjusting_dice_loss", "DiceLoss", "TverskyLoss", "SelfAdjustingDiceLoss"]

OVER_CLASSES = ("macro", "micro", "none")
OVER_TERMS = ("mean", "sum", "none")


def dice_loss(
    logits: Tensor, labels: Tensor, smooth: float = 1.0, reduction: str = "macro", activation: str | None = "softmax",
    weight: Tensor | None = None, ignore_index: int = -100,
) -> Tensor:  # fmt: skip
    """Dice loss over the batch, equation (2).

    Args:
        logits: (..., C), e.g. (B, C) or (B, T, C), floating point; half precision is computed in float32.
        labels: class indices (...) in 0..C-1, or (..., C) of 0 and 1, one-hot or multi-label, in any dtype; with one logit (C = 1)
            also (...) of 0 and 1. An example, or an element of (..., C), with ``ignore_index`` counts for nothing, be its logits NaN.
        smooth: s, at least 0; where 0 leaves 0 / 0 (no such label, no such prediction) the loss is 0.
        reduction: "macro", the mean over classes; "micro", one ratio for all; or "none", (C,).
        activation: "softmax", "sigmoid", or None if ``logits`` are probabilities.
        weight: (C,), at least 0, of the classes: in the mean of "macro", in the sums of "micro", and a factor with "none".
        ignore_index: see ``labels``.

    Returns:
        scalar, or (C,) with "none"; float32 (float64 for float64 logits). 0 for a perfect prediction.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, a label or a parameter out of range, no probabilities with ``activation=None``.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
        >>> dice_loss(probabilities, torch.tensor([0, 1]), smooth=0.0, activation=None)  # 1 - (1.8 / 2.3 + 1.2 / 1.7) / 2
        tensor(0.2558)
    """
    _check_parameters(reduction, OVER_CLASSES, activation, ignore_index, weight, smooth=smooth)
    return _overlap_loss(logits, labels, (2, 0, 1, 1), smooth, reduction, activation, weight, ignore_index)


def tversky_loss(
    logits: Tensor, labels: Tensor, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0, reduction: str = "macro",
    activation: str | None = "softmax", weight: Tensor | None = None, ignore_index: int = -100,
) -> Tensor:  # fmt: skip
    """Tversky loss over the batch, one minus equation (3); alpha = beta = 0.5 is Dice with twice the ``smooth``.

    Args:
        alpha: price of a false positive, at least 0.
        beta: price of a false negative, at least 0; not both are 0.
        logits, labels, smooth, reduction, activation, weight, ignore_index: as in :func:`dice_loss`.

    Returns:
        as :func:`dice_loss`.

    Raises:
        TypeError, ValueError: as :func:`dice_loss`.

    Example:
        >>> probabilities = torch.tensor([[0.5], [1.0]])
        >>> tversky_loss(probabilities, torch.tensor([[1], [1]]), smooth=0.0, activation=None)  # 1 - 1.5 / (1.5 + 0.7 * 0.5)
        tensor(0.1892)
    """
    _check_parameters(reduction, OVER_CLASSES, activation, ignore_index, weight, alpha=alpha, beta=beta, smooth=smooth)
    return _overlap_loss(logits, labels, (1, 1 - alpha - beta, alpha, beta), smooth, reduction, activation, weight, ignore_index)


def self_adjusting_dice_loss(
    logits: Tensor, labels: Tensor, alpha: float = 0.01, smooth: float = 1.0, reduction: str = "mean",
    activation: str | None = "softmax", ignore_index: int = -100,
) -> Tensor:  # fmt: skip
    """The self-adjusting Dice loss of Li et al., equation (4), example by example.

    Where classes exclude each other ("softmax", or probabilities with class indices), an example is one term, that of its
    true class with y = 1. Else each element of (..., C) is a term with its own y.

    Args:
        alpha: at least 0; a positive example is pulled to p = 1 / (1 + alpha), not to 1: 0.99 with the default, 0.5 with alpha = 1.
        reduction: "mean" over the terms that are not ignored (0 if all are), "sum" or "none".
        logits, labels, smooth, activation, ignore_index: as in :func:`dice_loss`.

    Returns:
        scalar, or with "none" one loss a term, (...) or (..., C).

    Raises:
        TypeError, ValueError: as :func:`dice_loss`.

    Example:
        >>> probabilities = torch.tensor([[0.5], [1.0]])
        >>> self_adjusting_dice_loss(probabilities, torch.tensor([[1], [1]]), alpha=1.0, activation=None, reduction="none")
        tensor([[0.3333],
                [0.5000]])
    """
    _check_parameters(reduction, OVER_TERMS, activation, ignore_index, alpha=alpha, smooth=smooth)
    x, y, keep = _prepare(logits, labels, activation, ignore_index)
    exclusive = activation == "softmax" or y.ndim == 1
    if y.ndim == 1:
        y = _one_hot(y, x)
    true = y == 1  # (N, C)
    if activation == "softmax":
        log_q = x.masked_fill(true, float("-inf")).logsumexp(dim=1) - x.logsumexp(dim=1)  # log (1 - p), without the cancellation in 1 - p
        f = torch.exp(alpha * log_q + F.log_softmax(x, dim=1).masked_fill(~true, 0).sum(dim=1))  # (N,)
    elif activation == "sigmoid":
        f = torch.exp(alpha * F.logsigmoid(-x) + F.logsigmoid(x))  # (N, C)
    else:
        perfect = x >= 1  # where the slope of (1 - p)^alpha is infinite, and taken as 0
        f = ((1 - x).masked_fill(perfect, 1) ** alpha).masked_fill(perfect, float(alpha == 0)) * x
        f = f.masked_fill(~true, 0).sum(dim=1) if exclusive else f
    if exclusive:
        y, keep = y.sum(dim=1), None if keep is None else keep.all(dim=1)
    loss = 1 - _ratio(f * y, f, y, (2, 0, 1, 1), smooth)[0]  # (4)
    if keep is not None:
        loss = loss.masked_fill(~keep, 0)
    if reduction == "none":
        return loss.view(logits.shape[:-1] if exclusive else logits.shape)
    return loss.sum() if reduction == "sum" else loss.mean() if keep is None else loss.sum() / keep.sum().clamp(min=1)


class DiceLoss(nn.Module):
    """:func:`dice_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer: it moves with the module.

    Example:
        >>> loss = DiceLoss(reduction="micro", activation="sigmoid")
        >>> loss(torch.tensor([[0.0, -99.0]]), torch.tensor([[1.0, 0.0]]))  # 1 - (2 * 0.5 + 1) / (0.5 + 1 + 1)
        tensor(0.2000)
    """

    def __init__(
        self, smooth: float = 1.0, reduction: str = "macro", activation: str | None = "softmax", weight: Tensor | None = None, ignore_index: int = -100
    ):
        super().__init__()
        _check_parameters(reduction, OVER_CLASSES, activation, ignore_index, weight, smooth=smooth)
        self.smooth, self.reduction, self.activation, self.ignore_index = smooth, reduction, activation, ignore_index
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return dice_loss(logits, labels, self.smooth, self.reduction, self.activation, self.weight, self.ignore_index)


class TverskyLoss(nn.Module):
    """:func:`tversky_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer: it moves with the module.

    Example:
        >>> TverskyLoss(alpha=0.5, beta=0.5)(torch.zeros(2, 2), torch.tensor([0, 1]))  # TP = 0.5, P = Y = 1
        tensor(0.2500)
    """

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0, reduction: str = "macro", activation: str | None = "softmax",
        weight: Tensor | None = None, ignore_index: int = -100,
    ):  # fmt: skip
        super().__init__()
        _check_parameters(reduction, OVER_CLASSES, activation, ignore_index, weight, alpha=alpha, beta=beta, smooth=smooth)
        self.alpha, self.beta, self.smooth = alpha, beta, smooth
        self.reduction, self.activation, self.ignore_index = reduction, activation, ignore_index
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return tversky_loss(logits, labels, self.alpha, self.beta, self.smooth, self.reduction, self.activation, self.weight, self.ignore_index)


class SelfAdjustingDiceLoss(nn.Module):
    """:func:`self_adjusting_dice_loss` as a module; its parameters are attributes of the same name.

    Example:
        >>> SelfAdjustingDiceLoss(alpha=1.0)(torch.tensor([[99.0, 0.0]]), torch.tensor([0]))  # perfect, and not 0
        tensor(0.5000)
    """

    def __init__(
        self, alpha: float = 0.01, smooth: float = 1.0, reduction: str = "mean", activation: str | None = "softmax", ignore_index: int = -100
    ):
        super().__init__()
        _check_parameters(reduction, OVER_TERMS, activation, ignore_index, alpha=alpha, smooth=smooth)
        self.alpha, self.smooth, self.reduction, self.activation, self.ignore_index = alpha, smooth, reduction, activation, ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self_adjusting_dice_loss(logits, labels, self.alpha, self.smooth, self.reduction, self.activation, self.ignore_index)


def _overlap_loss(logits, labels, coefficients, smooth, reduction, activation, weight, ignore_index):
    """(2) and (3) in one: 1 - (a TP + s) / (b TP + c P + e Y + s), with ``coefficients`` (a, b, c, e)."""
    x, y, keep = _prepare(logits, labels, activation, ignore_index)
    if weight is not None:
        _check_shape("weight", weight, logits.shape[-1:], logits)
        weight = weight.to(x.dtype)
    if reduction == "macro":
        share = x.new_full((x.shape[1],), 1 / x.shape[1]) if weight is None else weight / weight.sum()  # (C,)
        eager_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
        if y.ndim == 1 and activation == "softmax" and keep is None and eager_cpu and x.requires_grad and torch.is_grad_enabled():
            return _MacroOfClasses.apply(x, y, share, coefficients, smooth)[0]
        return (1 - _ratio(*_counts(x, y, keep, activation), coefficients, smooth)[0]) @ share
    counts = _counts(x, y, keep, activation)
    if reduction == "micro":
        counts = (n.sum() if weight is None else n @ weight for n in counts)
    loss = 1 - _ratio(*counts, coefficients, smooth)[0]
    return loss if weight is None or reduction == "micro" else loss * weight


def _counts(x, y, keep, activation):
    """TP, P and Y of equation (1), each (C,)."""
    y = _one_hot(y, x) if y.ndim == 1 else y
    p = x.softmax(dim=1) if activation == "softmax" else x.sigmoid() if activation == "sigmoid" else x
    if keep is not None:
        p, y = p.masked_fill(~keep, 0), y.masked_fill(~keep, 0)
    return (p * y).sum(dim=0), p.sum(dim=0), y.sum(dim=0)


def _ratio(TP, P, Y, coefficients, smooth):
    """The ratio and its denominator; 1 and infinity for 0 / 0."""
    a, b, c, e = coefficients
    numerator, denominator = a * TP + smooth, b * TP + c * P + e * Y + smooth
    if smooth > 0:
        return numerator / denominator, denominator
    empty = denominator == 0
    denominator = denominator.masked_fill(empty, float("inf"))
    return (numerator / denominator).masked_fill(empty, 1), denominator


class _MacroOfClasses(torch.autograd.Function):
    """The macro loss of softmax(x) for class indices t, and its slope: with no one-hot matrix, and few passes over memory."""

    @staticmethod
    def forward(x, t, share, coefficients, smooth):
        p = _softmax(x)  # (N, C)
        p_t = p.gather(1, t.unsqueeze(1)).squeeze(1)  # (N,)
        TP = torch.zeros(x.shape[1], dtype=torch.float64).index_add_(0, t, p_t.double()).to(x.dtype)
        ratio, denominator = _ratio(TP, p.sum(dim=0), torch.bincount(t, minlength=x.shape[1]).to(x.dtype), coefficients, smooth)
        a, b, c, _ = coefficients
        slope_TP, slope_P = share * (b * ratio - a) / denominator, share * c * ratio / denominator  # (C,)
        g_t = slope_TP.index_select(0, t) * p_t
        mean = torch.addmv(g_t, p, slope_P)  # the slope of softmax is p (g - mean of g under p), with g = slope_P + slope_TP onehot
        slope = (slope_P - mean.unsqueeze(1)).mul_(p).scatter_add_(1, t.unsqueeze(1), g_t.unsqueeze(1))
        return (1 - ratio) @ share, slope

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, t, share, ctx.coefficients, ctx.smooth = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, t, share, output[1])

    @staticmethod
    def backward(ctx, grad, _):
        x, t, share, slope = ctx.saved_tensors
        if grad is None:
            gradient = None
        elif torch.is_grad_enabled():  # create_graph=True: by autograd, so that it can be derived again
            loss = (1 - _ratio(*_counts(x, t, None, "softmax"), ctx.coefficients, ctx.smooth)[0]) @ share
            gradient = torch.autograd.grad(loss, x, grad, create_graph=True)[0]
        else:
            gradient = slope * grad
        return gradient, None, None, None, None


def _softmax(x):
    """Softmax on the CPU, where torch's takes up to six times as long for fewer than 16 classes: it does not vectorise their rows."""
    low, high = x.aminmax()
    if x.shape[1] >= 32 or not high - low < 30:
        return x.softmax(dim=1)
    p = torch.exp_(x - high)  # one maximum for all rows: no row can underflow
    return p.div_((p @ p.new_ones(x.shape[1])).unsqueeze(1))


def _one_hot(t, x):
    return (t.unsqueeze(1) == torch.arange(x.shape[1], device=t.device)).to(x.dtype)  # (N, C)


def _prepare(logits, labels, activation, ignore_index):
    """Checked logits (N, C), labels (N,) of classes or (N, C) of 0 and 1, and where they count, (N, 1) or (N, C), or None: all do."""
    tensor("logits", logits, floating=True)
    tensor("labels", labels)
    if logits.ndim < 2 or 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, (..., C) without a zero is accepted")
    C = logits.shape[-1]
    if activation == "softmax" and C == 1:
        raise ValueError("activation: 'softmax' given with one class, where it is always 1; 'sigmoid' or None is accepted")
    classes = labels.shape == logits.shape[:-1]
    if classes and C > 1:
        tensor("labels", labels, floating=False)
    elif classes:
        labels, classes = labels.unsqueeze(-1), False
    _check_shape("labels", labels, logits.shape[:-1] if classes else logits.shape, logits)
    x = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, C)
    keep = _kept(labels, C if classes else 2, ignore_index)
    y = labels.reshape(-1).long() if classes else labels.reshape(-1, C).to(x.dtype)
    if keep is not None:
        keep = keep.reshape(-1, 1 if classes else C)
        y = y.masked_fill(~keep.view(y.shape), 0)
        x = x.masked_fill(~(keep.any(dim=1, keepdim=True) if activation == "softmax" else keep), 0)
    if activation is None:
        require(((x >= -1e-3) & (x <= 1 + 1e-3)).all(), "logits: {} given, with activation=None probabilities in [0, 1] are accepted", x)
    return x, y, keep


def _kept(labels, C, ignore_index) -> Tensor | None:
    """Where labels are not ``ignore_index``, None if none is; the others must be 0..C-1."""
    if labels.dtype == torch.bool:
        return None
    floating = labels.is_floating_point()
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and not 0 <= ignore_index < C:
        low, high = labels.aminmax()  # several times faster than comparing each label with each value
        flat = labels.reshape(-1).to(torch.promote_types(labels.dtype, torch.float32)) if floating else None
        if low >= 0 and high < C and (flat is None or torch.dot(flat, 1 - flat) == 0):
            return None
    keep = labels != ignore_index
    valid = (labels == 0) | (labels == 1) if floating else (labels >= 0) & (labels < C)
    accepted = "0 and 1" if C == 2 else f"0..{C - 1}"
    require((valid | ~keep).all(), f"labels: values from {{}} given, only {accepted} and ignore_index {ignore_index} are accepted", labels)
    return keep


def _check_shape(name, value, shape, logits):
    if value.shape != tuple(shape):
        also = " or class indices without the last axis" if name == "labels" else ""
        raise ValueError(f"{name}: shape {tuple(value.shape)} given with logits {tuple(logits.shape)}, {tuple(shape)}{also} is accepted")
    same_device(name, value, "logits", logits)


def _check_parameters(reduction, reductions, activation, ignore_index, weight=None, **numbers):
    for name, value in numbers.items():
        number(name, value, 0.0, sys.float_info.max, accepted="a finite number of at least 0")
    if numbers.get("alpha", 1) == numbers.get("beta", 1) == 0:
        raise ValueError("alpha: 0 given with beta 0, which makes every prediction perfect; at least one positive number is accepted")
    if reduction not in reductions:
        raise ValueError(f"reduction: {reduction!r} given, one of {', '.join(map(repr, reductions))} is accepted")
    if activation not in ("softmax", "sigmoid", None):
        raise ValueError(f"activation: {activation!r} given, 'softmax', 'sigmoid' or None is accepted")
    number("ignore_index", ignore_index, -sys.maxsize, accepted="an integer", integer=True)
    if weight is not None:
        tensor("weight", weight, floating=True)
        if not weight.is_meta:  # a module may be built on the meta device
            valid = (weight >= 0).all() & (weight < float("inf")).all() & (weight > 0).any()
            require(valid, "weight: {} given, finite numbers of at least 0, not all 0, are accepted", weight)
