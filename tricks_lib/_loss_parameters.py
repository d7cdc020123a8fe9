"""The parameters of the losses of :mod:`tricks_lib.focal_loss` and :mod:`tricks_lib.dice_loss`, checked."""

import sys

import torch
from torch import Tensor

from tricks_lib._checks import number, require, tensor


def check_focal(
    gamma, reduction, ignore_index, alpha=None, pos_weight=None, label_smoothing=0.0, weight=None
):
    number("gamma", gamma, 0.0)
    number("label_smoothing", label_smoothing, 0.0, 1.0)
    _check_choices(reduction, ("mean", "sum", "none"), ignore_index)
    if alpha is not None and not isinstance(alpha, Tensor):
        number("alpha", alpha, 0.0, 1.0, accepted="a number in [0, 1], a tensor (C,) of them or None")
    if pos_weight is not None and not isinstance(pos_weight, Tensor):
        number(
            "pos_weight", pos_weight, 0.0, accepted="a number of at least 0, a tensor (C,) of them or None"
        )
    if weight is not None:
        tensor("weight", weight)
    for name, values, high in ("alpha", alpha, 1), ("pos_weight", pos_weight, None), ("weight", weight, None):
        if isinstance(values, Tensor):
            tensor(name, values, floating=True)
            valid = (values >= 0) & values.isfinite() & (True if high is None else values <= high)
            accepted = f"in [0, {high}]" if high else "of at least 0"
            require(valid.all(), f"{name}: {{}} given, finite numbers {accepted} are accepted", values)


def check_dice(reduction, reductions, activation, ignore_index, weight=None, ignore_empty=False, **numbers):
    for name, value in numbers.items():
        number(name, value, 0.0)
    if numbers.get("alpha", 1) == numbers.get("beta", 1) == 0:
        raise ValueError(
            "alpha: 0 given with beta 0, which makes every prediction perfect; at least one positive number "
            "is accepted"
        )
    _check_choices(reduction, reductions, ignore_index)
    if activation not in ("softmax", "sigmoid", None):
        raise ValueError(f"activation: {activation!r} given, 'softmax', 'sigmoid' or None is accepted")
    if not isinstance(ignore_empty, bool):
        raise TypeError(f"ignore_empty: {ignore_empty!r} given, True or False is accepted")
    if ignore_empty and reduction == "micro":
        raise ValueError(
            "ignore_empty: True given with reduction 'micro', which has no mean over classes; with it "
            "'macro' or 'none' is accepted"
        )
    if weight is not None:
        tensor("weight", weight, floating=True)
        total = weight.sum(dtype=torch.promote_types(weight.dtype, torch.float32))
        require(
            (weight >= 0).all() & (total > 0) & total.isfinite(),
            "weight: {} given, numbers of at least 0 with a positive, finite sum are accepted",
            weight,
        )


def _check_choices(reduction, reductions, ignore_index):
    if reduction not in reductions:
        raise ValueError(
            f"reduction: {reduction!r} given, one of {', '.join(map(repr, reductions))} is accepted"
        )
    accepted = "an integer of 64 bits"
    number("ignore_index", ignore_index, -sys.maxsize, sys.maxsize, accepted, integer=True)
