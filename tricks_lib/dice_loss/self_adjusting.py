"""The self-adjusting Dice loss, example by example. Equation numbers are those of
:mod:`tricks_lib.dice_loss`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import require
from tricks_lib._labels import one_hot
from tricks_lib._loss_parameters import check_dice
from tricks_lib.dice_loss.matrix import prepare, ratio

OVER_TERMS = ("mean", "sum", "none")


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
        scalar, or with "none" one loss per term, (...) or (..., C).

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
        x, y, keep = _true_class(x, y, keep, activation)
    if activation is not None:
        f = torch.exp(alpha * F.logsigmoid(-x) + F.logsigmoid(x))  # without the cancellation in 1 - p
    else:
        perfect = x >= 1  # where the slope of (1 - p)^alpha is infinite, and taken as 0
        f = ((1 - x).masked_fill(perfect, 1) ** alpha).masked_fill(perfect, float(alpha == 0)) * x
    loss = 1 - ratio(2 * f * y + smooth, f + y + smooth, smooth)  # (4)
    if keep is not None:
        loss = loss.masked_fill(~keep, 0)
    if reduction == "none":
        return loss.view(logits.shape[:-1] if exclusive else logits.shape)
    if reduction == "sum" or keep is None:
        return loss.sum() if reduction == "sum" else loss.mean()
    return loss.sum() / keep.sum().clamp(min=1)


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


def _true_class(x, y, keep, activation):
    """Where classes exclude each other: logit (or probability), label 1 and mask (N,) of the true class."""
    true, keep = one_hot(y, x) if y.ndim == 1 else y, None if keep is None else keep.all(dim=1)
    y = true.sum(dim=1)
    one = y == 1 if keep is None else (y == 1) | ~keep
    require(
        one.all(),
        "labels: rows with {} ones given, with activation='softmax' one-hot rows are accepted",
        y,
    )
    of_true = x.masked_fill(true == 0, 0).sum(dim=1)
    if activation == "softmax":  # the true class against the rest is one logit
        of_true = of_true - x.masked_fill(true == 1, float("-inf")).logsumexp(dim=1)
    return of_true, y, keep
