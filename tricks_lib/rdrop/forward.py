"""The loss of a model and a batch, equation (2) of :mod:`tricks_lib.rdrop`."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib._shift import shifts_labels, unwrapped
from tricks_lib.rdrop.divergence import divergence_of_own_loss
from tricks_lib.rdrop.dropout import warn_without_dropout


class RDropOutput(NamedTuple):
    """What :func:`rdrop_forward` returns: ``loss``, a scalar, and ``logits`` of the first pass, (B, ...)."""

    loss: Tensor
    logits: Tensor


def rdrop_forward(model: nn.Module, batch: Mapping, alpha: float, two_passes: bool = False) -> RDropOutput:
    """Equation (2) for a Hugging Face model, in one pass over the batch written twice, not in two passes.

    The model's own loss, a mean, is on the doubled batch already 1/2 (CE + CE), or what else the model
    minimises. Added is the mean divergence: of the examples, or of the tokens that have a label; of examples
    and classes if the model is multi-label; if it predicts numbers, the mean squared difference. In a causal
    language model a token's label is that of the next position: whether the model's loss shifts the labels is
    found out at the first call, by two further passes without gradient.

    Use it in training mode: in evaluation mode the divergence is 0 and the second half of the work is wasted.

    Args:
        model: takes the batch as keywords, returns an output with ``loss`` and ``logits`` (B, C), (B, T, C)
            or (B, 1).
        batch: tensors with B rows, among them ``labels``; anything else is passed on as it is.
        alpha: weight of the divergence, at least 0.
        two_passes: take two passes all the same, for a model that mixes the rows of a batch, or takes them
            packed.

    Returns:
        :class:`RDropOutput`.

    Raises:
        TypeError: ``model`` is not a module, ``batch`` not a mapping, ``two_passes`` not a bool, or ``alpha``
            not a number.
        ValueError: ``alpha`` negative or infinite; ``batch`` is empty, has no labels, or a
            ``num_items_in_batch``, which makes the loss a sum; ``model`` returns no loss; logits and labels
            do not fit.

    Warns:
        UserWarning, once per model: it is in training mode and has no dropout.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> config = BertConfig(vocab_size=9, intermediate_size=8, **sizes)
        >>> model = BertForSequenceClassification(config).train()
        >>> batch = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([1])}
        >>> out = rdrop_forward(model, batch, alpha=1.0)
        >>> out.loss.backward()
        >>> out.logits.shape
        torch.Size([1, 2])
    """
    for name, value, kind in (("model", model, nn.Module), ("batch", batch, Mapping)):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: {type(value).__name__} given, a {kind.__name__} is accepted")
    if not isinstance(two_passes, bool):
        raise TypeError(f"two_passes: {two_passes!r} given, True or False is accepted")
    number("alpha", alpha, 0.0)
    labels = batch.get("labels")
    if (
        not isinstance(labels, Tensor)
        or labels.ndim == 0
        or len(labels) == 0
        or batch.get("num_items_in_batch") is not None
    ):
        raise ValueError(
            f"batch: keys {list(batch)} given; a tensor of B labels, not empty, and no num_items_in_batch "
            f"is accepted"
        )
    outputs = [model(**each) for each in ([batch, batch] if two_passes else [doubled(batch)])]
    if any(getattr(output, name, None) is None for output in outputs for name in ("loss", "logits")):
        raise ValueError(
            f"model: {type(model).__name__} gives no loss or no logits; an output with both is accepted"
        )
    loss = sum(output.loss for output in outputs) / len(outputs)
    p, q = (half for output in outputs for half in output.logits.chunk(3 - len(outputs)))  # (B, ...) each
    warn_without_dropout(model, p, q)
    return RDropOutput(loss + alpha * _between(model, batch, p, q), p)


def doubled(batch: Mapping) -> dict:
    """Each tensor with as many rows as there are labels written twice, one below the other."""
    B = len(batch["labels"])
    return {
        k: torch.cat([v, v]) if isinstance(v, Tensor) and v.ndim and len(v) == B else v
        for k, v in batch.items()
    }


def _between(model: nn.Module, batch: Mapping, p: Tensor, q: Tensor) -> Tensor:
    """The divergence of what the model's own loss compares with the labels."""
    labels = batch["labels"]
    if shifts_labels(model, batch):
        p, q, labels = p[:, :-1], q[:, :-1], labels[:, 1:]
    return divergence_of_own_loss(p, q, labels, problem_type(model))


def problem_type(model: nn.Module) -> str | None:
    """What the model's config says of its labels; None where it says nothing."""
    return getattr(getattr(unwrapped(model), "config", None), "problem_type", None)
