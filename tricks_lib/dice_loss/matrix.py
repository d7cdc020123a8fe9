"""What the losses of :mod:`tricks_lib.dice_loss` are given, checked, as a matrix of examples and classes,
with what is ignored set apart; and the ratio they have in common.
"""

import torch

from tricks_lib._checks import require, same_shape, tensor
from tricks_lib._labels import channels_last, kept_classes, kept_yes_no, refuse_classes_in_second_axis


def prepare(logits, labels, activation, ignore_index, soft=True):
    """Checked logits (N, C), labels (N,) of classes or (N, C) in [0, 1], with ``soft`` false 0 and 1; and
    where they count, (N, 1) or (N, C), or None: all do.
    """
    tensor("logits", logits, floating=True)
    tensor("labels", labels)
    if logits.ndim < 2 or 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, (..., C) without a zero is accepted")
    C = logits.shape[-1]
    if activation == "softmax" and C == 1:
        raise ValueError(
            "activation: 'softmax' given with one class, where it is always 1; 'sigmoid' or None is accepted"
        )
    classes = labels.shape == logits.shape[:-1]
    if classes and C > 1:
        tensor("labels", labels, floating=False)
    elif classes:
        labels, classes = labels.unsqueeze(-1), False
    shape = logits.shape[:-1] if classes else logits.shape
    also = " or class indices without the last axis" + channels_last(logits, labels)
    same_shape("labels", labels, shape, logits, also)
    if activation == "softmax" and not classes:
        refuse_classes_in_second_axis(labels)
    keep = kept_classes(labels, C, ignore_index) if classes else kept_yes_no(labels, ignore_index, soft)

    x = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, C)
    y = labels.reshape(-1).long() if classes else labels.reshape(-1, C).to(x.dtype)
    if keep is not None:
        keep = keep.reshape(-1, 1 if classes else C)
        y = y.masked_fill(~keep.reshape(y.shape), 0)
        x = x.masked_fill(~(keep.any(dim=1, keepdim=True) if activation == "softmax" else keep), 0)
    if activation is None:
        require(
            ((x >= -1e-3) & (x <= 1 + 1e-3)).all(),
            "logits: {} given, with activation=None probabilities in [0, 1] are accepted",
            x,
        )
    return x, y, keep


def ratio(numerator, denominator, smooth):
    """Their ratio, and 1 for the 0 / 0 that ``smooth=0`` allows."""
    if smooth > 0:
        return numerator / denominator
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 1)
