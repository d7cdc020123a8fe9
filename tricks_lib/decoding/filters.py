"""Which tokens may be drawn: each filter sets the logits of all others to -inf.

With p = softmax(logits) over the V tokens, its largest value p_max and its entropy H:

    top-k      the k most probable tokens                                                      (6)
    top-p      the smallest set of most probable tokens with sum(p) >= top_p                   (7)
    min-p      p >= min_p * p_max                                                              (8)
    typical    the smallest set with sum(p) >= mass, tokens with the smallest |-log p - H| first (9)
    eta        p >= min(eta, sqrt(eta) * exp(-H))                                              (10)
    top-h      most probable tokens first while their sum of -p log p stays <= top_h * H       (11)

The most probable token always stays (typical: the most typical one). A tie never makes a set (6), (7) or (9)
larger: among equal tokens those with the lower ids stay. Logits of -inf stay -inf; each row needs a token
that is not blocked.

Sources: (6) Fan et al., ACL 2018; (7) Holtzman et al., ICLR 2020, section 3.1; (8) Nguyen et al., 2024,
section 3; (9) Meister et al., "Locally Typical Sampling", TACL 2023; (10) Hewitt et al., EMNLP Findings 2022,
eta-sampling; (11) "Top-H decoding", NeurIPS 2025, as transformers has it: over the 100 most probable tokens.
Shapes: ... any leading dimensions, V vocabulary.
"""

import math

import numpy as np
import torch
from torch import Tensor

from tricks_lib._checks import number, readable, require_now, tensor

__all__ = ["top_k_filter", "top_p_filter", "min_p_filter", "typical_filter", "eta_filter", "top_h_filter"]

INF = float("inf")
ABOVE_0, BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)


def top_k_filter(logits: Tensor, top_k: int) -> Tensor:
    """Exactly the k most probable tokens, equation (6).

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        top_k: at least 1; where it is larger than V, every token stays.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError: ``logits`` is not a floating point tensor, ``top_k`` not an integer.
        ValueError: ``top_k`` is out of range; ``logits`` is empty, holds NaN or +inf, or a row without a
            finite value.

    Example:
        >>> top_k_filter(torch.tensor([1.0, 3.0, 3.0, 3.0, 2.0]), 2).isfinite().sum()
        tensor(2)
    """
    largest_logits(logits)
    top_k = number("top_k", top_k, 1, accepted="a positive integer", integer=True)
    if top_k >= logits.shape[-1]:
        return logits
    border = logits.topk(top_k, dim=-1).values[..., -1:]  # (..., 1)
    return _keep_largest(logits, logits, border, top_k)


def top_p_filter(logits: Tensor, top_p: float) -> Tensor:
    """The nucleus: the smallest set of most probable tokens that holds ``top_p`` of the probability, equation
    (7).

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        top_p: in [0, 1]; 1 keeps every token, 0 the most probable one.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`.

    Example:
        >>> top_p_filter(torch.tensor([0.5, 0.3, 0.2]).log(), 0.7).exp()
        tensor([0.5000, 0.3000, 0.0000])
    """
    largest_logits(logits)
    top_p = number("top_p", top_p, 0.0, 1.0)
    if top_p == 1:
        return logits
    V, p = logits.shape[-1], logits.detach().softmax(dim=-1, dtype=wide(logits))
    if readable(p):
        rising = torch.from_numpy(
            np.sort(p.numpy(), axis=-1)
        )  # values alone: several times faster than with their indices
    else:
        rising = p.sort(dim=-1).values
    # The tail that can go: its tokens, the least probable first, sum to at most 1 - top_p.
    left_out = torch.searchsorted(
        rising.cumsum(dim=-1), rising.new_full((*p.shape[:-1], 1), 1 - top_p), right=True
    ).clamp(max=V - 1)  # (..., 1)
    return _keep_largest(logits, p, rising.gather(-1, left_out), V - left_out)


def min_p_filter(logits: Tensor, min_p: float) -> Tensor:
    """Tokens at least ``min_p`` times as probable as the most probable one, equation (8), read off the
    logits.

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        min_p: in [0, 1]; 0 keeps every token.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`.

    Example:
        >>> min_p_filter(torch.tensor([0.6, 0.3, 0.1]).log(), 0.2).exp()
        tensor([0.6000, 0.3000, 0.0000])
    """
    highest = largest_logits(logits)  # (..., 1)
    min_p = number("min_p", min_p, 0.0, 1.0)
    if min_p == 0:
        return logits
    border = highest.to(wide(logits)) + math.log(
        min_p
    )  # p >= min_p * p_max  <=>  logit >= largest logit + log(min_p)
    return torch.where(logits >= border, logits, -INF)


def typical_filter(logits: Tensor, typical_p: float) -> Tensor:
    """Tokens whose surprise is close to the expected one, until they hold ``typical_p`` of the probability,
    equation (9).

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        typical_p: in (0, 1]; 1 keeps every token.

    Returns:
        (..., V), the logits, -inf for the tokens left out, the most probable one perhaps among them.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`.

    Example:
        >>> typical_filter(torch.tensor([0.5, 0.3, 0.2]).log(), 0.2).exp()
        tensor([0.0000, 0.3000, 0.0000])
    """
    largest_logits(logits)
    typical_p = number("typical_p", typical_p, ABOVE_0, 1.0, accepted="a number in (0, 1]")
    if typical_p == 1:
        return logits
    log_p = logits.detach().log_softmax(dim=-1, dtype=wide(logits))
    p = log_p.exp()
    entropy = torch.special.entr(p).sum(dim=-1, keepdim=True)  # (..., 1); 0 log 0 = 0
    order = (-log_p - entropy).abs().sort(dim=-1, stable=True).indices  # (..., V)
    mass = p.gather(-1, order).cumsum(dim=-1)
    before = torch.cat([torch.zeros_like(mass[..., :1]), mass[..., :-1]], dim=-1)
    return _keep_only(logits, order, before < typical_p)


def eta_filter(logits: Tensor, eta_cutoff: float) -> Tensor:
    """Tokens above a cutoff that falls as the entropy rises, and the most probable one, equation (10).

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        eta_cutoff: in (0, 1), the paper's epsilon: 3e-4 to 4e-3.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`.

    Example:
        >>> eta_filter(torch.tensor([0.9, 0.0999, 0.0001]).log(), 0.001).exp()
        tensor([0.9000, 0.0999, 0.0000])
    """
    largest_logits(logits)
    eta_cutoff = number("eta_cutoff", eta_cutoff, ABOVE_0, BELOW_1, accepted="a number in (0, 1)")
    p = logits.detach().softmax(dim=-1, dtype=wide(logits))
    entropy = torch.special.entr(p).sum(dim=-1, keepdim=True)
    cutoff = (eta_cutoff**0.5 * torch.exp(-entropy)).clamp(max=eta_cutoff)  # (..., 1)
    return torch.where(
        p >= cutoff.minimum(p.amax(dim=-1, keepdim=True)), logits, -INF
    )  # p_max >= exp(-H): the minimum is for rounding only


def top_h_filter(logits: Tensor, top_h: float) -> Tensor:
    """Most probable tokens first, until they hold ``top_h`` of the entropy, equation (11).

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        top_h: in (0, 1].

    Returns:
        (..., V), the logits, -inf for the tokens left out; at most 100 tokens stay.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`.

    Example:
        >>> top_h_filter(torch.tensor([0.6, 0.3, 0.1]).log(), 0.4).exp()
        tensor([0.6000, 0.0000, 0.0000])
    """
    largest_logits(logits)
    top_h = number("top_h", top_h, ABOVE_0, 1.0, accepted="a number in (0, 1]")
    top, order = logits.detach().topk(min(100, logits.shape[-1]), dim=-1)
    terms = torch.special.entr(top.softmax(dim=-1, dtype=wide(logits)))  # -p log p
    keep = terms.cumsum(dim=-1) <= top_h * terms.sum(dim=-1, keepdim=True)
    return _keep_only(logits, order, keep | (torch.arange(keep.shape[-1], device=keep.device) == 0))


def _keep_largest(logits: Tensor, value: Tensor, border: Tensor, count) -> Tensor:
    """The ``count`` (..., 1) largest by ``value``, of which ``border`` (..., 1) is the smallest: lower ids
    first among equals.
    """
    keep = value >= border
    if not readable(value) or (keep.sum(dim=-1, keepdim=True) > count).any():  # a tie
        above, tied = value > border, value == border
        keep = above | (tied & (tied.cumsum(dim=-1) <= count - above.sum(dim=-1, keepdim=True)))
    return torch.where(keep, logits, -INF)


def _keep_only(logits: Tensor, order: Tensor, keep: Tensor) -> Tensor:
    """The tokens ``order`` (..., n) where ``keep`` (..., n) says so."""
    return torch.where(torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, keep), logits, -INF)


def wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def largest_logits(logits) -> Tensor:
    """The largest logit of each row, (..., 1)."""
    tensor("logits", logits, floating=True)
    if logits.ndim == 0 or 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, (..., V) without a zero is accepted")
    highest = logits.detach().amax(dim=-1, keepdim=True)
    require_now(
        (highest.abs() < INF).all(),
        "logits: rows with a finite largest value are accepted, {} given",
        highest,
    )
    return highest
