"""The arguments of the losses of :mod:`tricks_lib.dice_loss`: checked, as a matrix of examples and classes,
with what is ignored set apart.
"""

import sys

import torch

from tricks_lib._checks import kept_labels, number, require, same_shape, tensor


def prepare(logits, labels, activation, ignore_index):
    """Checked logits (N, C), labels (N,) of classes or (N, C) of 0 and 1, and where they count, (N, 1) or (N,
    C), or None: all do.
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
    same_shape(
        "labels",
        labels,
        logits.shape[:-1] if classes else logits.shape,
        logits,
        also=" or class indices without the last axis",
    )
    x = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, C)
    keep = kept_labels(labels, C if classes else 2, ignore_index)
    y = labels.reshape(-1).long() if classes else labels.reshape(-1, C).to(x.dtype)
    if keep is not None:
        keep = keep.reshape(-1, 1 if classes else C)
        y = y.masked_fill(~keep.view(y.shape), 0)
        x = x.masked_fill(~(keep.any(dim=1, keepdim=True) if activation == "softmax" else keep), 0)
    if activation is None:
        require(
            ((x >= -1e-3) & (x <= 1 + 1e-3)).all(),
            "logits: {} given, with activation=None probabilities in [0, 1] are accepted",
            x,
        )
    return x, y, keep


def one_hot(t, x):
    return (t.unsqueeze(1) == torch.arange(x.shape[1], device=t.device)).to(x.dtype)  # (N, C)


def check_parameters(reduction, reductions, activation, ignore_index, weight=None, **numbers):
    for name, value in numbers.items():
        number(name, value, 0.0)
    if numbers.get("alpha", 1) == numbers.get("beta", 1) == 0:
        raise ValueError(
            "alpha: 0 given with beta 0, which makes every prediction perfect; at least one positive number "
            "is accepted"
        )
    if reduction not in reductions:
        raise ValueError(
            f"reduction: {reduction!r} given, one of {', '.join(map(repr, reductions))} is accepted"
        )
    if activation not in ("softmax", "sigmoid", None):
        raise ValueError(f"activation: {activation!r} given, 'softmax', 'sigmoid' or None is accepted")
    number(
        "ignore_index",
        ignore_index,
        -sys.maxsize,
        sys.maxsize,
        accepted="an integer of 64 bits",
        integer=True,
    )
    if weight is not None:
        tensor("weight", weight, floating=True)
        if not weight.is_meta:  # a module may be built on the meta device
            total = weight.sum(dtype=torch.promote_types(weight.dtype, torch.float32))
            require(
                (weight >= 0).all() & (total > 0) & total.isfinite(),
                "weight: {} given, numbers of at least 0 with a positive, finite sum are accepted",
                weight,
            )
