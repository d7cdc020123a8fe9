"""The classifier of an arm: a copy of the encoder, a pooling, dropout and a linear layer, drawn by the seed."""

import copy

import torch
from torch import nn

from tricks_lib.lab.compare.arms import DROPOUTS
from tricks_lib.mean_pooling import MeanPoolingClassifier


def build(encoder: nn.Module, num_labels: int, settings: dict, seed: int) -> nn.Module:
    """A fresh classifier around a copy of ``encoder``.

    Args:
        settings: of the classifier, see :mod:`tricks_lib.lab.compare.arms`. seed: draws the head.
    """
    encoder = with_dropout(encoder, settings["dropout"]) if "dropout" in settings else copy.deepcopy(encoder)
    torch.manual_seed(seed)
    return MeanPoolingClassifier(encoder, num_labels)


def with_dropout(encoder: nn.Module, p: float) -> nn.Module:
    """A copy of the encoder whose every dropout is ``p``, as a configuration with that number would build it."""
    config = copy.deepcopy(encoder.config)
    for name in DROPOUTS:
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, p)
    changed = type(encoder)._from_config(config, dtype=torch.float32)
    changed.load_state_dict(encoder.state_dict())
    return changed
