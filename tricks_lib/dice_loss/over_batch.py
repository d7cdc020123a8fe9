"""Dice and Tversky: one ratio for each class, over the batch. Equation numbers are those of
:mod:`tricks_lib.dice_loss`.
"""

import torch
from torch import Tensor, nn

from tricks_lib._checks import same_shape
from tricks_lib._loss_parameters import check_dice
from tricks_lib.dice_loss.counts import counts
from tricks_lib.dice_loss.matrix import prepare, ratio

OVER_CLASSES = ("macro", "micro", "none")


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
            without the last axis. An example with ``ignore_index`` throughout counts for nothing, be its
            logits NaN; so does an element of (..., C), unless softmax normalises over it.
        smooth: s, at least 0; where 0 leaves 0 / 0 (no such label, no such prediction) the loss is 0.
        reduction: "macro", the mean over classes; "micro", one ratio for all; or "none", (C,).
        activation: "softmax", "sigmoid", or None if ``logits`` are probabilities.
        weight: (C,), at least 0, of the classes: in the mean of "macro", in the sums of "micro", and a factor
            with "none".
        ignore_index: see ``labels``.
        ignore_empty: leave classes without a label in the batch (Y = 0) out of the mean of "macro", where
            their false positives would count; 0 for them with "none", and if all are; not with "micro".
            Named after MONAI's option of ``compute_dice``.

    Returns:
        scalar, or (C,) with "none"; float32 (float64 for float64 logits). 0 for a perfect prediction.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, a parameter out of range, ``ignore_empty`` with
            "micro", softmax of one class; where tensors can be read
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


class DiceLoss(nn.Module):
    """:func:`dice_loss` as a module; its parameters are attributes of the same name, ``weight`` a buffer: it
    moves with the module.

    Example:
        >>> loss = DiceLoss(reduction="micro", activation="sigmoid")
        >>> loss(torch.tensor([[0.0, -99.0]]), torch.tensor([[1.0, 0.0]]))  # 1 - (2 * 0.5 + 1) / (0.5 + 2)
        tensor(0.2000)
    """

    weight: Tensor | None

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

    weight: Tensor | None

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


def _tversky_loss(
    logits, labels, alpha, beta, smooth, reduction, activation, weight, ignore_index, ignore_empty
):
    x, y, keep = prepare(logits, labels, activation, ignore_index)
    if weight is not None:
        same_shape("weight", weight, logits.shape[-1:], logits)
        weight = weight.to(x.dtype)

    if reduction == "micro" and weight is None and activation != "softmax" and y.ndim == 2:
        x, y, keep = (v if v is None else v.reshape(-1, 1) for v in (x, y, keep))  # all classes are one
    TP, P, Y = counts(x, y, keep, activation)
    if reduction == "micro":
        TP, P, Y = (n.sum() if weight is None else (n * weight).sum() for n in (TP, P, Y))
    numerator = TP + smooth
    denominator = numerator.add(P - TP, alpha=alpha).add(Y - TP, alpha=beta)
    loss = 1 - ratio(numerator, denominator, smooth)  # (3); scalar if micro, else (C,)
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
