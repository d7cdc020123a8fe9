"""The losses of :mod:`tricks_lib.trainer` by name, of logits and labels as models and collators give them;
over all processes.

Shapes: B batch, T tokens, C classes; N = B or B T rows.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib.dice_loss import DiceLoss, SelfAdjustingDiceLoss
from tricks_lib.focal_loss import BinaryFocalLoss, FocalLoss, focal_loss
from tricks_lib.mse_corr_loss import CCCLoss, MSECorrLoss
from tricks_lib.rdrop.divergence import divergence_of, divergence_of_own_loss


class WeightedCrossEntropy(FocalLoss):
    """Cross-entropy with class weights, a focal loss of gamma 0; without a ``weight``, count labels first."""

    weight: Tensor

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, label_smoothing: float = 0.0):
        super().__init__(0.0, weight, ignore_index, label_smoothing)

    def count(self, labels: Tensor) -> None:
        """Weights n / (C n_c) of class indices (N,); an absent class counts as seen once."""
        counts = labels.bincount()
        self.absent = len(labels) / len(counts)
        self.weight = self.absent / counts.clamp(min=1).float()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        absent = logits.shape[-1] - len(self.weight)
        if absent > 0 and hasattr(self, "absent"):
            self.weight = F.pad(self.weight, (0, absent), value=self.absent)
        return super().forward(logits, labels)


class DiceCE(nn.Module):
    """Cross-entropy plus Dice loss, of the same rows."""

    def __init__(self, **kwargs):
        super().__init__()
        self.dice = DiceLoss(**kwargs)
        self.ignore_index = self.dice.ignore_index
        if self.dice.activation != "softmax":
            raise ValueError(f"activation: {self.dice.activation!r} given, 'softmax' is accepted")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        cross_entropy = focal_loss(logits, labels, gamma=0.0, ignore_index=self.ignore_index)
        return self.dice(logits, labels) + cross_entropy


LOSSES = {
    "cross_entropy": None,
    "weighted": WeightedCrossEntropy,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "dice_ce": DiceCE,
    "self_adjusting_dice": SelfAdjustingDiceLoss,
    "mse_corr": MSECorrLoss,
    "ccc": CCCLoss,
}
OF_THE_BATCH = ("dice", "dice_ce", "mse_corr", "ccc")  # not a mean over examples
OF_NUMBERS = (MSECorrLoss, CCCLoss)


def make_loss(name: str, kwargs: Mapping | None) -> nn.Module | None:
    """The module of that name; None for "cross_entropy", the model's own."""
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"loss_kwargs: {kwargs!r} given, a dict or None is accepted")
    if kwargs and name == "cross_entropy":
        own = "the model's own; None is accepted ('weighted' takes a weight)"
        raise ValueError(f"loss_kwargs: {dict(kwargs)} given with loss 'cross_entropy', {own}")
    if kwargs.get("reduction") in ("sum", "none"):
        raise ValueError(f"loss_kwargs: reduction {kwargs['reduction']!r} given, a mean is accepted")
    kind: Any = BinaryFocalLoss if name == "focal" and "alpha" in kwargs else LOSSES[name]
    try:
        return kind and kind(
            **{
                k: torch.tensor(v, dtype=torch.float32) if isinstance(v, list) else v
                for k, v in kwargs.items()
            }
        )
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"loss_kwargs: {dict(kwargs)} given, the arguments of {kind.__name__} are accepted; {error}"
        ) from error


def labels_of(dataset, ignore_index: int) -> Tensor:
    """All class indices (N,) of a dataset of rows, those of tokens too, without ``ignore_index``."""
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            f"train_dataset: {type(dataset).__name__} given with loss 'weighted', one with a length and "
            f"labels is accepted (or loss_kwargs with a weight)"
        )
    names = getattr(dataset, "column_names", None) or list(dataset[0])
    name = next((name for name in ("labels", "label", "label_ids") if name in names), None)
    if name is None:
        raise ValueError(f"train_dataset: columns {names} given with loss 'weighted', labels are accepted")
    rows = dataset[name] if hasattr(dataset, "column_names") else [row[name] for row in dataset]
    labels = torch.cat([torch.as_tensor(row).flatten() for row in rows])
    if labels.is_floating_point():
        raise ValueError(
            f"train_dataset: labels of {labels.dtype} given with loss 'weighted', class indices are accepted"
        )
    return labels[labels != ignore_index]


def loss_of(loss: nn.Module, logits: Tensor, labels: Tensor, gather: bool) -> Tensor:
    """Scalar; with ``gather`` of the rows of all processes."""
    logits, labels = _fit(logits, labels)
    if gather:
        labels = labels.flatten(0, -2) if labels.shape == logits.shape else labels.flatten()  # (N, C) or (N,)
        logits, labels = Gather.apply(logits.flatten(0, -2)), Gather.apply(labels)  # (N, C)
    return loss(logits, labels, labels != -100) if isinstance(loss, OF_NUMBERS) else loss(logits, labels)


def divergence(loss: nn.Module | None, p: Tensor, q: Tensor, labels: Tensor, problem: str | None) -> Tensor:
    """R-Drop's D, the mean over the labelled examples or tokens, of what ``loss`` takes logits for; None is
    the own loss of a model with that ``problem_type``.
    """
    if loss is None:
        return divergence_of_own_loss(p, q, labels, problem)
    (p, labels), (q, _) = _fit(p, labels), _fit(q, labels)
    ignore_index = getattr(loss, "ignore_index", -100)
    if isinstance(loss, OF_NUMBERS):
        return divergence_of(p, q, labels, "numbers", ignore_index)
    if isinstance(loss, BinaryFocalLoss) or getattr(loss, "activation", "") == "sigmoid":
        labels = labels if labels.shape == p.shape else labels.unsqueeze(-1).expand_as(p)  # class indices
        return divergence_of(p, q, labels, "yes or no", ignore_index)
    return divergence_of(p, q, labels, "classes", ignore_index)


def items(loss: nn.Module | None, labels: Tensor) -> Tensor:
    """What the mean divides by: the number of labels that are not ignored (numbers that a model's own loss
    takes are all counted) or, with class weights, the sum of theirs.
    """
    if loss is None and labels.is_floating_point():
        return torch.tensor(float(labels.numel()), device=labels.device)
    keep = labels != getattr(loss, "ignore_index", -100)
    if not isinstance(loss, FocalLoss) or loss.weight is None or labels.is_floating_point():
        return keep.sum(dtype=torch.float32)
    return loss.weight[labels.masked_fill(~keep, 0).long()].masked_fill(~keep, 0).sum()


def logits_of(outputs, position: int) -> Tensor:
    """The logits of a model's output; in a tuple they stand at ``position``."""
    logits = (
        outputs.get("logits")
        if isinstance(outputs, Mapping)
        else outputs[position]
        if len(outputs) > position
        else None
    )
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"model: an output {type(outputs).__name__} without logits given, one with logits is accepted"
        )
    return logits


class Gather(torch.autograd.Function):
    """The rows (N, ...) of all processes, in order of rank; N may differ.

    Each process computes the same loss of all rows and keeps the gradient of its own, times the number of
    processes: their gradients are averaged afterwards, where this one is a sum.
    """

    @staticmethod
    def forward(ctx, rows):
        own = torch.tensor([len(rows)], device=rows.device)
        sizes = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, own)
        sizes = [size.item() for size in sizes]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        pieces = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(pieces, padded)
        start = sum(sizes[: dist.get_rank()])
        ctx.own = slice(start, start + len(rows))
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes)])

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.own] * dist.get_world_size()


def _fit(logits, labels):
    """Logits (..., C), and labels (..., 1) where there is one logit for each."""
    logits = logits.unsqueeze(-1) if logits.ndim == 1 else logits
    return logits, labels.unsqueeze(-1) if (*labels.shape, 1) == logits.shape else labels
