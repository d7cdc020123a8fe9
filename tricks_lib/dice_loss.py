"""Dice loss: one minus a soft F1 score, for labels so rare that cross-entropy is content to predict none of
them.

With p_ic the probability of class c for example i and y_ic in {0, 1} its label, count softly, for each class,

    TP_c = sum_i p_ic y_ic,   P_c = sum_i p_ic,   Y_c = sum_i y_ic                              (1)
    Dice_c = (2 TP_c + s) / (P_c + Y_c + s),   loss = mean_c (1 - Dice_c)                       (2)

s smooths the ratio where a class is absent. The micro form adds the counts of all classes up before the
ratio: that is the widely known loss on flattened tensors, in which frequent classes drown the rare ones.
Tversky's index prices false positives P - TP and false negatives Y - TP apart; Dice is its case alpha = beta
= 1/2 with s / 2:

    T_c = (TP_c + s) / (TP_c + alpha (P_c - TP_c) + beta (Y_c - TP_c) + s)                      (3)

Soft labels, y_ic in [0, 1], are counted by the same products. Then p = y does not score 0, and is not the
minimum: by each p_ic on its own the slope of Dice_c never changes its sign, so p goes to 0 or 1, whichever
side of Dice_c / 2 its y_ic is on.

The self-adjusting loss of Li et al. is taken example by example, with f = (1 - p)^alpha p in place of p:

    loss_i = 1 - (2 f_i y_i + s) / (f_i + y_i + s)                                              (4)

f grows up to p = 1 / (1 + alpha) and falls to 0 at p = 1. So for a positive example (4) is smallest at p = 1
/ (1 + alpha), and a perfect prediction scores 1 - s / (1 + s), 0.5 at s = 1, for every alpha > 0. A negative
fares worse: there (4) is f / (f + s), which rises up to p = 1 / (1 + alpha) and falls to 0 at p = 1. A
negative that the model surely takes for a positive scores like a perfect one (0.01 at p = 0.99, alpha = 1,
s = 1), and is pushed further. Keep alpha small; at the default of 0.01 the factor hardly acts. Example by
example no count of a class is left, so (4) is no soft F1 score.

Sources: Milletari et al., "V-Net", 3DV 2016 (Dice as a loss, there with squares in P and Y); Salehi et al.,
"Tversky loss function for image segmentation using 3D fully convolutional deep networks", MLMI 2017, equation
(3); Li et al., "Dice Loss for Data-imbalanced NLP Tasks", ACL 2020, section 3.
Shapes: B batch, T tokens, C classes; N = B or B T examples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import readable, require, same_shape
from tricks_lib._dice_counts import CountsOfClasses, CountsOfSigmoid
from tricks_lib._dice_matrix import prepare
from tricks_lib._labels import one_hot
from tricks_lib._loss_parameters import check_dice

__all__ = [
    "dice_loss",
    "tversky_loss",
    "self_adjusting_dice_loss",
    "DiceLoss",
    "TverskyLoss",
    "SelfAdjustingDiceLoss",
]

OVER_CLASSES = ("macro", "micro", "none")
OVER_TERMS = ("mean", "sum", "none")


def dice_loss(
    logits: Tensor,
    labels: Tensor,
    smooth: float = 1.0,
    reduction: str = "macro",
    activation: str | None = "softmax",
    weight: Tensor | None = None,
    ignore_index: int = -100,
    ignore_empty: bool = False,
) -> Tensor:
    """Dice loss over the batch, equation (2).

    Args:
        logits: (..., C), e.g. (B, C) or (B, T, C), floating point; half precision is computed in float32.
        labels: class indices (...) in 0..C-1, or (..., C) of 0 and 1, one-hot or multi-label, in any dtype;
            in a floating point dtype also soft labels, numbers in [0, 1]; with one logit (C = 1) also
            without the last axis. An example, or an element of (..., C), with ``ignore_index`` counts for
            nothing, be its logits NaN.
        smooth: s, at least 0; where 0 leaves 0 / 0 (no such label, no such prediction) the loss is 0.
        reduction: "macro", the mean over classes; "micro", one ratio for all; or "none", (C,).
        activation: "softmax", "sigmoid", or None if ``logits`` are probabilities.
        weight: (C,), at least 0, of the classes: in the mean of "macro", in the sums of "micro", and a factor
            with "none".
        ignore_index: see ``labels``.
        ignore_empty: leave classes without a label in the batch (Y = 0) out of the mean of "macro", where
            their false positives would count; 0 for them with "none", and if all are. Named after MONAI's
            option of ``compute_dice``.

    Returns:
        scalar, or (C,) with "none"; float32 (float64 for float64 logits). 0 for a perfect prediction.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, a parameter out of range; where tensors can be read
            without a synchronisation (eager mode on the CPU), a label or a weight out of range, no
            probabilities with ``activation=None``.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
        >>> dice_loss(probabilities, torch.tensor([0, 1]), smooth=0.0, activation=None)
        tensor(0.2558)

        which is 1 - (1.8 / 2.3 + 1.2 / 1.7) / 2.
    """
    check_dice(reduction, OVER_CLASSES, activation, ignore_index, weight, ignore_empty, smooth=smooth)
    options = reduction, activation, weight, ignore_index, ignore_empty
    return _tversky_loss(logits, labels, 0.5, 0.5, smooth / 2, *options)


def tversky_loss(
    logits: Tensor,
    labels: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    reduction: str = "macro",
    activation: str | None = "softmax",
    weight: Tensor | None = None,
    ignore_index: int = -100,
    ignore_empty: bool = False,
) -> Tensor:
    """Tversky loss over the batch, one minus equation (3); alpha = beta = 0.5 is Dice with twice the
    ``smooth``.

    Args:
        alpha: price of a false positive, at least 0.
        beta: price of a false negative, at least 0; not both are 0.
        logits, labels, smooth, reduction, activation, weight, ignore_index, ignore_empty: as in
            :func:`dice_loss`, like what is returned and raised.

    Example:
        >>> probabilities = torch.tensor([[0.5], [1.0]])
        >>> tversky_loss(probabilities, torch.tensor([[1], [1]]), smooth=0.0, activation=None)
        tensor(0.1892)

        which is 1 - 1.5 / (1.5 + 0.7 * 0.5).
    """
    numbers = {"alpha": alpha, "beta": beta, "smooth": smooth}
    check_dice(reduction, OVER_CLASSES, activation, ignore_index, weight, ignore_empty, **numbers)
    options = reduction, activation, weight, ignore_index, ignore_empty
    return _tversky_loss(logits, labels, alpha, beta, smooth, *options)


def self_adjusting_dice_loss(
    logits: Tensor, labels: Tensor, alpha: float = 0.01, smooth: float = 1.0, reduction: str = "mean",
    activation: str | None = "softmax", ignore_index: int = -100,
) -> Tensor:  # fmt: skip
    """The self-adjusting Dice loss of Li et al., equation (4), example by example.

    Where classes exclude each other ("softmax", or class indices), an example is one term, that of its true
    class with y = 1: its row must be one-hot. Else each element of (..., C) is a term with its own y.

    Args:
        alpha: at least 0; a positive example is pulled to p = 1 / (1 + alpha), not to 1: 0.99 with the
            default, 0.5 with alpha = 1.
        reduction: "mean" over the terms that are not ignored (0 if all are), "sum" or "none".
        logits, labels, smooth, activation, ignore_index: as in :func:`dice_loss`, but no soft labels.

    Returns:
        scalar, or with "none" one loss a term, (...) or (..., C).

    Raises:
        TypeError, ValueError: as :func:`dice_loss`.

    Example:
        >>> probabilities, options = torch.tensor([[0.5], [1.0]]), {"activation": None, "reduction": "none"}
        >>> self_adjusting_dice_loss(probabilities, torch.tensor([[1], [1]]), alpha=1.0, **options)
        tensor([[0.3333],
                [0.5000]])
    """
    check_dice(reduction, OVER_TERMS, activation, ignore_index, alpha=alpha, smooth=smooth)
    x, y, keep = prepare(logits, labels, activation, ignore_index, soft=False)
    exclusive = activation == "softmax" or y.ndim == 1
    if exclusive:
        true, keep = one_hot(y, x) if y.ndim == 1 else y, None if keep is None else keep.all(dim=1)
        y = true.sum(dim=1)  # (N,)
        one = y == 1 if keep is None else (y == 1) | ~keep
        require(
            one.all(),
            "labels: rows with {} ones given, with activation='softmax' one-hot rows are accepted",
            y,
        )
        rest = x.masked_fill(true == 1, float("-inf")).logsumexp(dim=1) if activation == "softmax" else 0
        x = (
            x.masked_fill(true == 0, 0).sum(dim=1) - rest
        )  # of a softmax, the true class against the rest is one logit
    if activation is not None:
        f = torch.exp(alpha * F.logsigmoid(-x) + F.logsigmoid(x))  # without the cancellation in 1 - p
    else:
        perfect = x >= 1  # where the slope of (1 - p)^alpha is infinite, and taken as 0
        f = ((1 - x).masked_fill(perfect, 1) ** alpha).masked_fill(perfect, float(alpha == 0)) * x
    loss = 1 - _ratio(2 * f * y + smooth, f + y + smooth, smooth)  # (4)
    if keep is not None:
        loss = loss.masked_fill(~keep, 0)
    if reduction == "none":
        return loss.view(logits.shape[:-1] if exclusive else logits.shape)
    return (
        loss.sum()
        if reduction == "sum"
        else loss.mean()
        if keep is None
        else loss.sum() / keep.sum().clamp(min=1)
    )


class DiceLoss(nn.Module):
    """:func:`dice_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer: it
    moves with the module.

    Example:
        >>> loss = DiceLoss(reduction="micro", activation="sigmoid")
        >>> loss(torch.tensor([[0.0, -99.0]]), torch.tensor([[1.0, 0.0]]))  # 1 - (2 * 0.5 + 1) / (0.5 + 2)
        tensor(0.2000)
    """

    def __init__(
        self,
        smooth: float = 1.0,
        reduction: str = "macro",
        activation: str | None = "softmax",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        ignore_empty: bool = False,
    ):
        super().__init__()
        check_dice(reduction, OVER_CLASSES, activation, ignore_index, weight, ignore_empty, smooth=smooth)
        self.smooth, self.reduction, self.activation = smooth, reduction, activation
        self.ignore_index, self.ignore_empty = ignore_index, ignore_empty
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        options = self.reduction, self.activation, self.weight, self.ignore_index, self.ignore_empty
        return dice_loss(logits, labels, self.smooth, *options)


class TverskyLoss(nn.Module):
    """:func:`tversky_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer:
    it moves with the module.

    Example:
        >>> TverskyLoss(alpha=0.5, beta=0.5)(torch.zeros(2, 2), torch.tensor([0, 1]))  # TP = 0.5, P = Y = 1
        tensor(0.2500)
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        reduction: str = "macro",
        activation: str | None = "softmax",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        ignore_empty: bool = False,
    ):
        super().__init__()
        numbers = {"alpha": alpha, "beta": beta, "smooth": smooth}
        check_dice(reduction, OVER_CLASSES, activation, ignore_index, weight, ignore_empty, **numbers)
        self.alpha, self.beta, self.smooth = alpha, beta, smooth
        self.reduction, self.activation = reduction, activation
        self.ignore_index, self.ignore_empty = ignore_index, ignore_empty
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        options = self.reduction, self.activation, self.weight, self.ignore_index, self.ignore_empty
        return tversky_loss(logits, labels, self.alpha, self.beta, self.smooth, *options)


class SelfAdjustingDiceLoss(nn.Module):
    """:func:`self_adjusting_dice_loss` as a module; its parameters are attributes of the same name.

    Example:
        >>> SelfAdjustingDiceLoss(alpha=1.0)(torch.tensor([[99.0, 0.0]]), torch.tensor([0]))  # perfect
        tensor(0.5000)
    """

    def __init__(
        self,
        alpha: float = 0.01,
        smooth: float = 1.0,
        reduction: str = "mean",
        activation: str | None = "softmax",
        ignore_index: int = -100,
    ):
        super().__init__()
        check_dice(reduction, OVER_TERMS, activation, ignore_index, alpha=alpha, smooth=smooth)
        self.alpha, self.smooth = alpha, smooth
        self.reduction, self.activation, self.ignore_index = reduction, activation, ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self_adjusting_dice_loss(
            logits, labels, self.alpha, self.smooth, self.reduction, self.activation, self.ignore_index
        )


def _tversky_loss(
    logits, labels, alpha, beta, smooth, reduction, activation, weight, ignore_index, ignore_empty
):
    x, y, keep = prepare(logits, labels, activation, ignore_index)
    if weight is not None:
        same_shape("weight", weight, logits.shape[-1:], logits)
        weight = weight.to(x.dtype)

    if reduction == "micro" and weight is None and activation != "softmax" and y.ndim == 2:
        x, y, keep = (v if v is None else v.reshape(-1, 1) for v in (x, y, keep))  # all classes are one
    TP, P, Y = _counts(x, y, keep, activation)
    if reduction == "micro":
        TP, P, Y = (n.sum() if weight is None else (n * weight).sum() for n in (TP, P, Y))
    numerator = TP + smooth
    denominator = numerator.add(P - TP, alpha=alpha).add(Y - TP, alpha=beta)
    loss = 1 - _ratio(numerator, denominator, smooth)  # (3); scalar if micro, else (C,)
    if ignore_empty:
        weight = (torch.ones_like(Y) if weight is None else weight).masked_fill(Y == 0, 0)
    if reduction == "micro" or (reduction == "none" and weight is None):
        return loss
    if reduction == "none":
        return loss * weight
    if weight is None:
        return loss.mean()
    total = weight.sum()
    weight = weight / total.masked_fill(total == 0, 1)
    return (loss * weight).sum()  # not @: autocast would do it in half precision


def _ratio(numerator, denominator, smooth):
    """Their ratio, and 1 for the 0 / 0 that ``smooth=0`` allows."""
    if smooth > 0:
        return numerator / denominator
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 1)


def _counts(x, y, keep, activation):
    """TP, P and Y of equation (1), each (C,)."""
    fast = keep is None and readable(x) and not y.requires_grad
    if fast and activation == "softmax" and y.ndim == 1:
        TP, P, _ = CountsOfClasses.apply(x, y)
        return TP, P, torch.bincount(y, minlength=x.shape[1]).to(x.dtype)
    y = one_hot(y, x) if y.ndim == 1 else y
    if fast and activation == "sigmoid":
        TP, P, _ = CountsOfSigmoid.apply(x, y)
        return TP, P, y.sum(dim=0)
    p = x.softmax(dim=1) if activation == "softmax" else x.sigmoid() if activation == "sigmoid" else x
    if keep is not None:
        p, y = p.masked_fill(~keep, 0), y.masked_fill(~keep, 0)
    return (p * y).sum(dim=0), p.sum(dim=0), y.sum(dim=0)
