"""How far two passes are apart, equations (1) and (3) of :mod:`tricks_lib.rdrop`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tricks_lib._checks import readable, require, same_device, tensor


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
        ValueError: wrong shape, device, mask value or reduction, an empty batch, a single class (on CUDA
            values are not checked).

    Example:
        >>> logits_p, logits_q = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> symmetric_kl(logits_p, logits_q)  # 1/2 (sigmoid(1) - 1/2) * 1
        tensor(0.1155)
    """
    _check_reduction(reduction)
    check_classes(logits_p, logits_q)
    keep = checked_mask(mask, logits_p.shape[:-1], logits_p)
    divergence = softmax_divergence(*without_padding(logits_p, logits_q, keep))  # (B,) or (B, T)
    return _reduced(divergence, keep, reduction)


def bernoulli_kl(
    logits_p: Tensor, logits_q: Tensor, mask: Tensor | None = None, reduction: str = "batchmean"
) -> Tensor:
    """The symmetric divergence of Bernoulli variables, each a yes or no of its own, in nats, equation (3).

    Half precision is computed in float32. Where both passes are sure alike with an infinite logit, it is 0;
    where only one is, it is infinite.

    Args:
        logits_p: (...), floating point: (B, C) for C labels of each example.
        logits_q: the same shape and device.
        mask: the same shape, bool, integer or float, 1 for a label that counts; default: all count.
        reduction: "batchmean" is the mean over the labels that count, 0 if none does; "sum" their sum; "none"
            one number each, 0 where the mask is 0.

    Returns:
        scalar, or (...) with "none"; float64 for float64 logits, else float32.

    Raises:
        TypeError: an argument is not a tensor, or logits are not floating point.
        ValueError: wrong shape, device, mask value or reduction, or no logits (on CUDA values are not
            checked).

    Example:
        >>> bernoulli_kl(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 2.0]]))  # 1/2 (0.1155 + 0)
        tensor(0.0578)
    """
    _check_reduction(reduction)
    check_pair(logits_p, logits_q)
    keep = checked_mask(mask, logits_p.shape, logits_p)
    z, w = (x.to(wide(x)) for x in without_padding(logits_p, logits_q, keep))
    alike = (z == w) & z.isinf()  # inf - inf is NaN
    z, w = z.masked_fill(alike, 0), w.masked_fill(alike, 0)
    return _reduced(0.5 * (z.sigmoid() - w.sigmoid()) * (z - w), keep, reduction)  # (3)


def divergence_of_own_loss(p: Tensor, q: Tensor, labels: Tensor, problem: str | None) -> Tensor:
    """The mean divergence of what the loss of a Hugging Face model compares with the labels: numbers if it
    predicts one, or its ``problem_type`` is "regression"; else a yes or no for each class, or class indices.

    Raises:
        ValueError: the labels are none of these.
    """
    one = p.ndim == 1 or p.shape[-1] == 1
    if (one or problem == "regression") and labels.numel() == p.numel():
        return divergence_of(p, q, labels.view(p.shape), "numbers", None)
    if labels.is_floating_point() and labels.shape == p.shape:
        return divergence_of(p, q, labels, "yes or no", None)
    if labels.is_floating_point() or labels.shape != p.shape[:-1]:
        raise ValueError(
            f"labels: {tuple(labels.shape)} of {labels.dtype} given with logits {tuple(p.shape)}; with "
            f"R-Drop one class index, one number, or a yes or no for each class is accepted"
        )
    return divergence_of(p, q, labels, "classes")


def divergence_of(
    logits_p: Tensor, logits_q: Tensor, labels: Tensor, kind: str, ignore_index: int | None = -100
) -> Tensor:
    """The mean divergence of two passes over the labels that are not ``ignore_index``; None: over all.

    Args:
        kind: of the labels: "numbers", by squared differences; "yes or no", equation (3); "classes", (1).
    """
    keep = None if ignore_index is None else labels != ignore_index
    if kind == "numbers":
        x, y = (x.to(wide(x)) for x in without_padding(logits_p, logits_q, keep))
        return mean((x - y).square(), keep)
    if kind == "yes or no":
        return bernoulli_kl(logits_p, logits_q, keep)
    if keep is not None and labels.shape == logits_p.shape:  # (B, C) soft labels
        keep = keep.all(dim=-1)
    return symmetric_kl(logits_p, logits_q, keep)


def softmax_divergence(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """Equation (1): (..., C), (..., C) -> (...)."""
    C = logits_p.shape[-1]
    if readable(logits_p):
        # A few rows at a time, so that what stands between logits and result stays in the cache: 2 to 3 times
        # faster.
        blocks = zip(*(x.reshape(-1, C).split(max(1, 2**17 // C)) for x in (logits_p, logits_q)))
        divergence = torch.cat([_equation_1(p, q) for p, q in blocks]).view(logits_p.shape[:-1])
        if torch.isfinite(divergence).all():
            return divergence
    return _equation_1(logits_p, logits_q, ruled_out=True)


def _equation_1(logits_p: Tensor, logits_q: Tensor, ruled_out: bool = False) -> Tensor:
    """``ruled_out``: there may be logits of -inf, and 0 * inf is NaN."""
    log_p, log_q = (F.log_softmax(x.to(wide(x)), dim=-1) for x in (logits_p, logits_q))
    difference = log_p - log_q
    if ruled_out:
        difference = difference.masked_fill((logits_p == float("-inf")) & (logits_q == float("-inf")), 0)
    terms = (log_p.exp() - log_q.exp()) * difference
    if ruled_out:
        terms = terms.masked_fill(difference.isinf(), float("inf"))
    return 0.5 * terms.sum(dim=-1)


def wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("batchmean", "sum", "none"):
        raise ValueError(f"reduction: {reduction!r} given, 'batchmean', 'sum' or 'none' is accepted")


def _reduced(values: Tensor, keep: Tensor | None, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else mean(values, keep)


def mean(values: Tensor, keep: Tensor | None) -> Tensor:
    return values.mean() if keep is None else values.sum() / keep.sum().clamp(min=1)


def without_padding(logits_p: Tensor, logits_q: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Zeros where nothing counts: what padding holds, NaN too, meets neither value nor gradient."""
    if keep is None:
        return logits_p, logits_q
    drop = ~keep if keep.ndim == logits_p.ndim else ~keep.unsqueeze(-1)
    return logits_p.masked_fill(drop, 0), logits_q.masked_fill(drop, 0)


def check_classes(logits_p, logits_q, names=("logits_p", "logits_q")) -> None:
    """Raise unless both are (B, C) or (B, T, C) logits of the same shape and device."""
    tensor(names[0], logits_p, floating=True)
    tensor(names[1], logits_q, floating=True)
    if logits_p.ndim < 2 or 0 in logits_p.shape or logits_p.shape[-1] < 2:
        raise ValueError(
            f"{names[0]}: shape {tuple(logits_p.shape)} given, (B, C) or (B, T, C) without a zero and with "
            f"C at least 2 is accepted"
        )
    check_pair(logits_p, logits_q, names)


def check_pair(logits_p, logits_q, names=("logits_p", "logits_q")) -> None:
    """Raise unless both are floating point of the same shape, without a zero, and device."""
    tensor(names[0], logits_p, floating=True)
    tensor(names[1], logits_q, floating=True)
    if 0 in logits_p.shape:
        raise ValueError(f"{names[0]}: shape {tuple(logits_p.shape)} given, one without a zero is accepted")
    if logits_q.shape != logits_p.shape:
        raise ValueError(
            f"{names[1]}: shape {tuple(logits_q.shape)} given, that of {names[0]}, {tuple(logits_p.shape)}, "
            f"is accepted"
        )
    same_device(names[1], logits_q, names[0], logits_p)


def checked_mask(mask, shape, logits: Tensor) -> Tensor | None:
    """The mask as bool; an error unless it has that shape and the device of the logits."""
    if mask is None:
        return None
    tensor("mask", mask)
    if mask.shape != shape:
        raise ValueError(f"mask: shape {tuple(mask.shape)} given, {tuple(shape)} is accepted")
    same_device("mask", mask, "logits", logits)
    if mask.dtype != torch.bool:
        require(((mask == 0) | (mask == 1)).all(), "mask: values 0 and 1 are accepted, {} given", mask)
    return mask.bool()
