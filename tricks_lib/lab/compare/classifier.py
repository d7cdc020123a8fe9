"""The classifier of an arm: a copy of the encoder, what is read of its layers, a pooling and a head.

The package's classifiers where they have it, else :class:`PooledClassifier`; for tags :class:`TagClassifier`.
Shapes: B batch, T tokens, H hidden, C classes, D features of a token.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput

from tricks_lib._classifier import EncoderClassifier
from tricks_lib.lab.compare.arms import DROPOUTS
from tricks_lib.last_four import LastFourClassifier, WeightedLayerPool, concat_last_layers
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.mean_pooling.classifier import POOLS

LAST = 4  # layers that are concatenated or weighted
LAYERS = ("last", "concat", "weighted", "wide")


class PooledClassifier(EncoderClassifier):
    """An encoder, one vector per text, dropout and a linear layer.

    Args:
        encoder, num_labels, dropout, head_bias: as :class:`~tricks_lib.mean_pooling.MeanPoolingClassifier`.
        pool: as that class's.
        layers: what is pooled: "last"; "concat", the last four side by side; "weighted", the learned weighted
            mean of the last four, normalised; a number, that layer (0 is the embeddings' output); or "wide",
            the last one beside learned features of it, as wide as "concat".

    Raises:
        ValueError: ``pool`` or ``layers`` is none of these.
    """

    settings = ("pool", "layers")

    def __init__(self, encoder, num_labels: int, dropout=None, head_bias=None, pool="mean", layers="last"):
        if pool not in POOLS:
            raise ValueError(f"pool: {pool!r} given, one of {', '.join(map(repr, POOLS))} is accepted")
        if layers not in LAYERS and not isinstance(layers, int):
            raise ValueError(
                f"layers: {layers!r} given, one of {', '.join(map(repr, LAYERS))} or a number is accepted"
            )
        super().__init__(
            encoder, num_labels, dropout, head_bias, vectors=LAST if layers in ("concat", "wide") else 1
        )
        self.pool, self.layers = pool, layers
        H = self.config.hidden_size
        self.weighted = WeightedLayerPool(LAST, layer_norm=True) if layers == "weighted" else None
        self.widened = nn.Linear(H, (LAST - 1) * H) if layers == "wide" else None

    def states(self, hidden_states: tuple[Tensor, ...]) -> Tensor:
        """What is read of the layers, (B, T, D)."""
        if self.layers == "concat":
            return concat_last_layers(hidden_states, LAST)
        if self.layers == "weighted":
            return self.weighted(hidden_states)
        return hidden_states[self.layers if isinstance(self.layers, int) else -1]

    def forward(self, input_ids=None, attention_mask=None, labels=None, token_type_ids=None, **inputs):
        """As :class:`~tricks_lib.mean_pooling.MeanPoolingClassifier`."""
        given = {**inputs, "token_type_ids": token_type_ids, "output_hidden_states": True}
        mask, out = self.encode(input_ids, attention_mask, **given)
        vectors = POOLS[self.pool](self.states(out.hidden_states), mask)  # (B, D)
        if self.widened is not None:
            vectors = torch.cat([vectors, F.relu(self.widened(vectors))], dim=-1)
        return self.classify(vectors, labels, out, **inputs)


class TagClassifier(EncoderClassifier):
    """An encoder, dropout and a linear layer on each token: logits (B, T, C), labels (B, T) but for -100."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, token_type_ids=None, **inputs):
        """As :class:`~tricks_lib.mean_pooling.MeanPoolingClassifier`, for each token."""
        _, out = self.encode(input_ids, attention_mask, token_type_ids=token_type_ids, **inputs)
        logits = self.classifier(self.dropout(out.last_hidden_state))
        loss = None if labels is None else F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits)


def chosen(
    settings: dict, kind: str, num_labels: int, labels: np.ndarray | None = None
) -> tuple[type[EncoderClassifier], dict]:
    """The class of an arm's classifier and its arguments.

    Args:
        settings: of the arm. kind, num_labels: of the data.
        labels: (N,) class indices of the training rows, for ``prior_bias``: the head starts at the logarithm
            of their frequencies.
    """
    pool, layers = settings.get("pool", "mean"), settings.get("layers", "last")
    bias = {}
    if settings.get("prior_bias"):
        counts = np.bincount(labels, minlength=num_labels)
        bias = {"head_bias": np.log(np.maximum(counts, 1) / len(labels)).round(4).tolist()}
    if kind == "tags":
        return TagClassifier, bias
    if layers == "concat" and pool in ("cls", "mean"):
        return LastFourClassifier, {"pool": pool, "num_layers": LAST} | bias
    if layers == "last":
        return MeanPoolingClassifier, ({} if pool == "mean" else {"pool": pool}) | bias
    return PooledClassifier, {"pool": pool, "layers": layers} | bias


def build(
    encoder: nn.Module, kind: str, num_labels: int, settings: dict, seed: int, labels=None
) -> nn.Module:
    """A fresh classifier around a copy of ``encoder``; ``seed`` draws the head."""
    encoder = with_dropout(encoder, settings["dropout"]) if "dropout" in settings else copy.deepcopy(encoder)
    made, given = chosen(settings, kind, num_labels, labels)
    torch.manual_seed(seed)
    return made(encoder, num_labels, **given)


def dropouts(config) -> list[str]:
    """Names of the encoder's own dropout rates."""
    return [name for name in DROPOUTS if isinstance(getattr(config, name, None), (int, float))]


def with_dropout(encoder: nn.Module, p: float) -> nn.Module:
    """A copy of the encoder whose every dropout is ``p``, as its configuration with that number builds it."""
    config = copy.deepcopy(encoder.config)
    for name in dropouts(config):
        setattr(config, name, p)
    changed = type(encoder)._from_config(config, dtype=torch.float32)
    changed.load_state_dict(encoder.state_dict())
    return changed
