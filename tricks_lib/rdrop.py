"""R-Drop: two passes of the same batch, with two dropout masks, must agree.

Dropout makes the network another one at each pass. With logits of two passes, p and q their softmax, y the
labels:

    D(p, q) = 1/2 (KL(p || q) + KL(q || p)) = 1/2 sum_c (p_c - q_c) (log p_c - log q_c)            (1)
    L = 1/2 (CE(p, y) + CE(q, y)) + alpha * mean over examples of D(p, q)                          (2)

Without dropout, in evaluation mode, the passes are equal, D is 0 and (2) is the plain loss.

Others normalise otherwise. Their alpha times this factor is ours, for batches of B examples and C classes:

    paper: CE(p) + CE(q) + alpha * mean D                                 1/2
    official BERT: CE(p) + CE(q) + alpha * sum over the batch of D        B/2
    official README, RoBERTa: 1/2 (CE(p) + CE(q)) + alpha * sum of D      B
    bert4torch: 1/2 (CE(p) + CE(q)) + alpha/4 * mean over B and C of 2 D  1/(2 C)

Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021, section 2;
github.com/dropreg/R-Drop.
Shapes: B batch, T tokens, C classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor

__all__ = ["symmetric_kl", "rdrop_loss", "rdrop_forward", "RDropOutput"]

# Causal language models whose loss does not shift the labels: in these, position t speaks of label t.
_UNSHIFTED = (
    "XLNet",
    "Bart",
    "BigBirdPegasus",
    "Blenderbot",
    "MBart",
    "Marian",
    "Mvp",
    "PLBart",
    "Pegasus",
    "TrOCR",
    "Whisper",
)


def symmetric_kl(
    logits_p: Tensor, logits_q: Tensor, mask: Tensor | None = None, reduction: str = "batchmean"
) -> Tensor:
    """Half the sum of both Kullback-Leibler divergences, in nats, equation (1).

    Half precision is computed in float32. A class that both rule out with -inf adds 0; one that only one side
    rules out makes the divergence infinite.

    Args:
        logits_p: (B, C) or (B, T, C), floating point, C at least 2.
        logits_q: the same shape and device.
        mask: (B,) or (B, T), bool, integer or float, 1 for a position that counts and 0 for padding (the
            official ``pad_mask`` is the other way round); default: all count.
        reduction: "batchmean" is the mean over the examples (B, C) or tokens (B, T, C) that count, 0 if none
            does; "sum" their sum; "none" one number each, 0 where the mask is 0.

    Returns:
        scalar, or (B,) or (B, T) with "none"; float64 for float64 logits, else float32.

    Raises:
        TypeError: an argument is not a tensor, or logits are not floating point.
        ValueError: wrong shape, device, mask value or reduction, an empty batch, a single class.

    Example:
        >>> logits_p, logits_q = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> symmetric_kl(logits_p, logits_q)  # 1/2 (sigmoid(1) - 1/2) * 1
        tensor(0.1155)
    """
    if reduction not in ("batchmean", "sum", "none"):
        raise ValueError(f"reduction: {reduction!r} given, 'batchmean', 'sum' or 'none' is accepted")
    keep = _check(logits_p, logits_q, mask, ("logits_p", "logits_q"))
    divergence = _divergence(*_without_padding(logits_p, logits_q, keep))  # (B,) or (B, T)
    if reduction == "none":
        return divergence
    return divergence.sum() if reduction == "sum" else _mean(divergence, keep)


def rdrop_loss(
    logits_1: Tensor, logits_2: Tensor, labels: Tensor, alpha: float, mask: Tensor | None = None
) -> Tensor:
    """The R-Drop loss of two passes, equation (2); for numbers, mean squared errors take the place of CE and
    D.

    Args:
        logits_1: (B, C) or (B, T, C), floating point; for regression (B,) or (B, 1).
        logits_2: the same shape and device.
        labels: (B,) or (B, T) class indices in 0..C-1, -100 where neither term counts; for regression (B,) or
            (B, 1) floating point.
        alpha: weight of the divergence, at least 0. 0.5 to 5 in the paper: see the table above before you
            copy one.
        mask: as :func:`symmetric_kl`; where it is 0 neither term counts.

    Returns:
        scalar; float64 for float64 logits, else float32; 0 if no position counts.

    Raises:
        TypeError, ValueError: as :func:`symmetric_kl`; labels of another shape or range; ``alpha`` negative
            or infinite.

    Example:
        >>> logits_1, logits_2 = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> rdrop_loss(logits_1, logits_2, torch.tensor([0]), alpha=2.0)  # 1/2 (0.6931 + 0.3133) + 2 * 0.1155
        tensor(0.7343)
    """
    number("alpha", alpha, 0.0)
    tensor("labels", labels)
    tensor("logits_1", logits_1, floating=True)
    same_device("labels", labels, "logits_1", logits_1)
    names = "logits_1", "logits_2"
    if labels.is_floating_point():
        B = len(logits_1) if logits_1.ndim else 0
        if logits_1.shape not in {(B,), (B, 1)} or labels.shape not in {(B,), (B, 1)}:
            raise ValueError(
                f"labels: floating {tuple(labels.shape)} given with logits {tuple(logits_1.shape)}; (B,) or "
                f"(B, 1) for both is accepted"
            )
        x, y = logits_1.reshape(-1, 1), tensor("logits_2", logits_2).reshape(-1, 1)
        keep = _check(x, y, mask, names, classes=1)
        x, y, target = (v.to(_wide(x)).view(B) for v in (*_without_padding(x, y, keep), labels))
        target = target if keep is None else target.masked_fill(~keep, 0)
        return _mean(0.5 * ((x - target) ** 2 + (y - target) ** 2) + alpha * (x - y) ** 2, keep)
    keep = _check(logits_1, logits_2, mask, names)
    C = logits_1.shape[-1]
    if labels.shape != logits_1.shape[:-1]:
        raise ValueError(
            f"labels: shape {tuple(labels.shape)} given, {tuple(logits_1.shape[:-1])} is accepted"
        )
    labels = labels.long() if keep is None else labels.long().masked_fill(~keep, -100)
    keep = labels != -100
    require(
        (~keep | ((labels >= 0) & (labels < C))).all(),
        f"labels: class indices in 0..{C - 1}, or -100, are accepted, {{}} given",
        labels,
    )
    p, q = _without_padding(logits_1, logits_2, keep)
    entropy = sum(
        F.cross_entropy(x.to(_wide(x)).reshape(-1, C), labels.reshape(-1), reduction="sum") for x in (p, q)
    )
    return 0.5 * entropy / keep.sum().clamp(min=1) + alpha * _mean(_divergence(p, q), keep)


class RDropOutput(NamedTuple):
    """What :func:`rdrop_forward` returns: ``loss``, a scalar, and ``logits`` of the first pass, (B, ...)."""

    loss: Tensor
    logits: Tensor


def rdrop_forward(model: nn.Module, batch: Mapping, alpha: float) -> RDropOutput:
    """Equation (2) for a Hugging Face model, in one pass over the batch written twice, not in two passes.

    The model's own loss, a mean, is on the doubled batch already 1/2 (CE + CE), or what else the model
    minimises. Added
    is the divergence: over examples, or tokens whose label is not -100 (in a causal language model, the next
    label).
    Use it in training mode: in evaluation mode the divergence is 0 and the second half of the work is wasted.

    Args:
        model: takes the batch as keywords, returns an output with ``loss`` and ``logits`` (B, C), (B, T, C)
            or (B, 1).
        batch: tensors with B rows, among them ``labels``; anything else is passed on as it is.
        alpha: weight of the divergence, at least 0.

    Returns:
        :class:`RDropOutput`.

    Raises:
        TypeError: ``model`` is not a module or ``batch`` is not a mapping.
        ValueError: ``alpha`` negative or infinite; ``batch`` is empty, has no labels, or a
            ``num_items_in_batch``, which makes the loss a sum; ``model`` returns no loss; logits and labels
            do not fit.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8)
        >>> model = BertForSequenceClassification(config).train()
        >>> out = rdrop_forward(model, {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([1])},
        alpha=1.0)
        >>> out.loss.backward(); out.logits.shape
        torch.Size([1, 2])
    """
    for name, value, kind in (("model", model, nn.Module), ("batch", batch, Mapping)):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: {type(value).__name__} given, a {kind.__name__} is accepted")
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
    B = len(labels)
    output = model(
        **{
            k: torch.cat([v, v]) if isinstance(v, Tensor) and v.ndim and len(v) == B else v
            for k, v in batch.items()
        }
    )
    if getattr(output, "loss", None) is None or getattr(output, "logits", None) is None:
        raise ValueError(
            f"model: {type(model).__name__} gives no loss or no logits; an output with both is accepted"
        )
    logits, again = output.logits.chunk(2)  # (B, ...) each
    if logits.shape in {(B,), (B, 1)}:
        return RDropOutput(
            output.loss + alpha * F.mse_loss(logits.to(_wide(logits)), again.to(_wide(logits))), logits
        )
    p, q, inner = logits, again, model
    for wrapper in (
        "_orig_mod",
        "module",
        "_orig_mod",
    ):  # of torch.compile and DistributedDataParallel, in either order
        inner = getattr(inner, wrapper, inner)
    name = type(inner).__name__
    if name.endswith(("ForCausalLM", "LMHeadModel")) and not name.startswith(
        _UNSHIFTED
    ):  # position t speaks of label t + 1
        p, q, labels = p[:, :-1], q[:, :-1], labels[:, 1:]
    if labels.is_floating_point() or labels.shape != p.shape[:-1]:
        raise ValueError(
            f"batch: labels {tuple(labels.shape)} of {labels.dtype} given with logits {tuple(p.shape)}; one "
            f"class index for each is accepted"
        )
    return RDropOutput(output.loss + alpha * symmetric_kl(p, q, labels != -100), logits)


def _divergence(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """Equation (1): (..., C), (..., C) -> (...)."""
    C = logits_p.shape[-1]
    if logits_p.device.type == "cpu" and not torch.compiler.is_compiling():
        # A few rows at a time, so that what stands between logits and result stays in the cache: 2 to 3 times
        # faster.
        blocks = zip(*(x.reshape(-1, C).split(max(1, 2**17 // C)) for x in (logits_p, logits_q)))
        divergence = torch.cat([_equation_1(p, q) for p, q in blocks]).view(logits_p.shape[:-1])
        if torch.isfinite(divergence).all():
            return divergence
    return _equation_1(logits_p, logits_q, ruled_out=True)


def _equation_1(logits_p: Tensor, logits_q: Tensor, ruled_out: bool = False) -> Tensor:
    """``ruled_out``: there may be logits of -inf, and 0 * inf is NaN."""
    log_p, log_q = (F.log_softmax(x.to(_wide(x)), dim=-1) for x in (logits_p, logits_q))
    difference = log_p - log_q
    if ruled_out:
        difference = difference.masked_fill((logits_p == float("-inf")) & (logits_q == float("-inf")), 0)
    terms = (log_p.exp() - log_q.exp()) * difference
    if ruled_out:
        terms = terms.masked_fill(difference.isinf(), float("inf"))
    return 0.5 * terms.sum(dim=-1)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _mean(values: Tensor, keep: Tensor | None) -> Tensor:
    return values.mean() if keep is None else values.sum() / keep.sum().clamp(min=1)


def _without_padding(logits_p: Tensor, logits_q: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Zeros where nothing counts: what padding holds, NaN too, meets neither value nor gradient."""
    return (
        (logits_p, logits_q)
        if keep is None
        else tuple(x.masked_fill(~keep.unsqueeze(-1), 0) for x in (logits_p, logits_q))
    )


def _check(logits_p, logits_q, mask, names, classes=2) -> Tensor | None:
    tensor(names[0], logits_p, floating=True)
    tensor(names[1], logits_q, floating=True)
    if logits_p.ndim < 2 or 0 in logits_p.shape or logits_p.shape[-1] < classes:
        raise ValueError(
            f"{names[0]}: shape {tuple(logits_p.shape)} given, (B, C) or (B, T, C) without a zero and with "
            f"C at least 2 is accepted"
        )
    if logits_q.shape != logits_p.shape:
        raise ValueError(
            f"{names[1]}: shape {tuple(logits_q.shape)} given, that of {names[0]}, {tuple(logits_p.shape)}, "
            f"is accepted"
        )
    same_device(names[1], logits_q, names[0], logits_p)
    if mask is None:
        return None
    tensor("mask", mask)
    if mask.shape != logits_p.shape[:-1]:
        raise ValueError(f"mask: shape {tuple(mask.shape)} given, {tuple(logits_p.shape[:-1])} is accepted")
    same_device("mask", mask, names[0], logits_p)
    if mask.dtype != torch.bool:
        require(((mask == 0) | (mask == 1)).all(), "mask: values 0 and 1 are accepted, {} given", mask)
    return mask.bool()
