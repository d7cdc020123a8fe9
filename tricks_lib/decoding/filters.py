"""Which tokens may be drawn: each filter sets the logits of all others to -inf.

With p = softmax(logits) over the V tokens, its largest value p_max and its entropy H:

    top-k      the k most probable tokens                                                      (1)
    top-p      the smallest set of most probable tokens with sum(p) >= top_p                   (2)
    min-p      p >= min_p * p_max                                                              (3)
    typical    the smallest set with sum(p) >= mass, tokens with the smallest |-log p - H| first (4)
    eta        p >= min(eta, sqrt(eta) * exp(-H))                                              (5)
    top-h      most probable tokens first while their sum of -p log p stays <= top_h * H       (6)

The most probable token always stays (typical: the most typical one). A tie never makes a set (1), (2) or (4) larger:
among equal tokens those with the lower ids stay.

Sources: (1) Fan et al., ACL 2018; (2) Holtzman et al., ICLR 2020, section 3.1; (3) Nguyen et al., 2024, section 3;
(4) Meister et al., TACL 2023, equation 10; (5) Hewitt et al., EMNLP Findings 2022, equation 7;
(6) "Top-H decoding", NeurIPS 2025, as transformers has it: over the 100 most probable tokens.
Shapes: ... any leading dimensions, V vocabulary, B batch, T tokens so far.
"""

import math

import numpy as np
import torch
from torch import Tensor

from tricks_lib._checks import number, same_device, tensor

__all__ = ["top_k_filter", "top_p_filter", "min_p_filter", "typical_filter", "eta_filter", "top_h_filter", "block_repeated_ngrams"]

INF = float("inf")


def top_k_filter(logits: Tensor, top_k: int) -> Tensor:
    """Exactly the k most probable tokens, equation (1).

    Args:
        logits: (..., V), floating point.
        top_k: at least 1; where it is larger than V, every token stays.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError: ``logits`` is not a floating point tensor, ``top_k`` not an integer.
        ValueError: ``top_k`` is smaller than 1, or ``logits`` is empty.

    Example:
        >>> top_k_filter(torch.tensor([1.0, 3.0, 3.0, 3.0, 2.0]), 2).isfinite().sum()
        tensor(2)
    """
    _check(logits)
    number("top_k", top_k, 1, accepted="a positive integer", integer=True)
    V = logits.shape[-1]
    if top_k >= V:
        return logits
    border = logits.topk(top_k, dim=-1).values[..., -1:]  # (..., 1)
    return _keep(logits, logits, border, top_k)


def top_p_filter(logits: Tensor, top_p: float) -> Tensor:
    """The nucleus: the smallest set of most probable tokens that holds ``top_p`` of the probability, equation (2).

    Args:
        logits: (..., V), floating point.
        top_p: in [0, 1]; 1 keeps every token, 0 the most probable one.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`; ``top_p`` is outside [0, 1].

    Example:
        >>> top_p_filter(torch.tensor([0.5, 0.3, 0.2]).log(), 0.7).exp()
        tensor([0.5000, 0.3000, 0.0000])
    """
    _check(logits)
    number("top_p", top_p, 0.0, 1.0)
    if top_p == 1:
        return logits
    V, p = logits.shape[-1], logits.detach().softmax(dim=-1, dtype=_wide(logits))
    if p.device.type == "cpu" and not torch.compiler.is_compiling():
        rising = torch.from_numpy(np.sort(p.numpy(), axis=-1))  # values alone: several times faster than with their indices
    else:
        rising = p.sort(dim=-1).values
    # The tail that can go: its tokens, the least probable first, sum to at most 1 - top_p.
    left_out = torch.searchsorted(rising.cumsum(dim=-1), rising.new_full((*p.shape[:-1], 1), 1 - top_p), right=True).clamp(max=V - 1)  # (..., 1)
    return _keep(logits, p, rising.gather(-1, left_out), V - left_out)


def min_p_filter(logits: Tensor, min_p: float) -> Tensor:
    """Tokens at least ``min_p`` times as probable as the most probable one, equation (3), read off the logits.

    Args:
        logits: (..., V), floating point.
        min_p: in [0, 1].

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`; ``min_p`` is outside [0, 1].

    Example:
        >>> min_p_filter(torch.tensor([0.6, 0.3, 0.1]).log(), 0.2).exp()
        tensor([0.6000, 0.3000, 0.0000])
    """
    _check(logits)
    number("min_p", min_p, 0.0, 1.0)
    if min_p == 0:
        return logits
    # p >= min_p * p_max  <=>  logit >= largest logit + log(min_p)
    border = logits.amax(dim=-1, keepdim=True).to(_wide(logits)) + math.log(min_p)  # (..., 1)
    return torch.where(logits >= border, logits, -INF)


def typical_filter(logits: Tensor, typical_p: float) -> Tensor:
    """Tokens whose surprise is close to the expected one, until they hold ``typical_p`` of the probability, equation (4).

    Args:
        logits: (..., V), floating point.
        typical_p: in (0, 1]; 1 keeps every token.

    Returns:
        (..., V), the logits, -inf for the tokens left out, the most probable one perhaps among them.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`; ``typical_p`` is outside (0, 1].

    Example:
        >>> typical_filter(torch.tensor([0.5, 0.3, 0.2]).log(), 0.2).exp()
        tensor([0.0000, 0.3000, 0.0000])
    """
    _check(logits)
    _in_open_interval("typical_p", typical_p, closed=True)
    if typical_p == 1:
        return logits
    log_p = logits.detach().log_softmax(dim=-1, dtype=_wide(logits))
    p = log_p.exp()
    entropy = torch.special.entr(p).sum(dim=-1, keepdim=True)  # (..., 1); 0 log 0 = 0
    order = (-log_p - entropy).abs().sort(dim=-1, stable=True).indices  # (..., V)
    mass = p.gather(-1, order).cumsum(dim=-1)
    before = torch.cat([torch.zeros_like(mass[..., :1]), mass[..., :-1]], dim=-1)
    return _keep_only(logits, order, before < typical_p)


def eta_filter(logits: Tensor, eta_cutoff: float) -> Tensor:
    """Tokens above a cutoff that falls as the entropy rises, and the most probable one, equation (5).

    Args:
        logits: (..., V), floating point.
        eta_cutoff: in (0, 1), the paper's epsilon: 3e-4 to 4e-3.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`; ``eta_cutoff`` is outside (0, 1).

    Example:
        >>> eta_filter(torch.tensor([0.9, 0.0999, 0.0001]).log(), 0.001).exp()
        tensor([0.9000, 0.0999, 0.0000])
    """
    _check(logits)
    _in_open_interval("eta_cutoff", eta_cutoff)
    p = logits.softmax(dim=-1, dtype=_wide(logits))
    entropy = torch.special.entr(p).sum(dim=-1, keepdim=True)
    cutoff = (eta_cutoff**0.5 * torch.exp(-entropy)).clamp(max=eta_cutoff)  # (..., 1)
    return torch.where(p >= cutoff.minimum(p.amax(dim=-1, keepdim=True)), logits, -INF)  # p_max >= exp(-H): the minimum is for rounding only


def top_h_filter(logits: Tensor, top_h: float) -> Tensor:
    """Most probable tokens first, until they hold ``top_h`` of the entropy, equation (6).

    Args:
        logits: (..., V), floating point.
        top_h: in (0, 1].

    Returns:
        (..., V), the logits, -inf for the tokens left out: at most 100 tokens stay.

    Raises:
        TypeError, ValueError: as :func:`top_k_filter`; ``top_h`` is outside (0, 1].

    Example:
        >>> top_h_filter(torch.tensor([0.6, 0.3, 0.1]).log(), 0.4).exp()
        tensor([0.6000, 0.0000, 0.0000])
    """
    _check(logits)
    _in_open_interval("top_h", top_h, closed=True)
    top, order = logits.detach().topk(min(100, logits.shape[-1]), dim=-1)
    terms = torch.special.entr(top.softmax(dim=-1, dtype=_wide(logits)))  # -p log p
    keep = terms.cumsum(dim=-1) <= top_h * terms.sum(dim=-1, keepdim=True)
    return _keep_only(logits, order, keep | (torch.arange(keep.shape[-1], device=keep.device) == 0))


def block_repeated_ngrams(logits: Tensor, input_ids: Tensor, ngram_size: int) -> Tensor:
    """-inf for each token that would complete an n-gram which the row, prompt included, already holds.

    Args:
        logits: (B, V), floating point, of the token to come.
        input_ids: (B, T), the tokens so far; padding counts as a token, as in transformers.
        ngram_size: n, at least 1.

    Returns:
        (B, V), the logits, -inf for the tokens left out.

    Raises:
        TypeError: not a floating point / integer tensor, ``ngram_size`` not an integer.
        ValueError: shapes or devices that do not fit, ``ngram_size`` smaller than 1.

    Example:
        >>> block_repeated_ngrams(torch.zeros(1, 4), torch.tensor([[2, 3, 1, 2]]), 2)
        tensor([[0., 0., 0., -inf]])
    """
    _check(logits)
    tensor("input_ids", input_ids, floating=False)
    number("ngram_size", ngram_size, 1, accepted="a positive integer", integer=True)
    if logits.ndim != 2 or input_ids.ndim != 2 or len(input_ids) != len(logits):
        raise ValueError(f"input_ids: shape {tuple(input_ids.shape)} given with logits {tuple(logits.shape)}, (B, T) with (B, V) is accepted")
    same_device("input_ids", input_ids, "logits", logits)
    (_, T), V = input_ids.shape, logits.shape[-1]
    if T < ngram_size:
        return logits
    windows = input_ids.unfold(1, ngram_size, 1)  # (B, T-n+1, n)
    seen = (windows[..., :-1] == input_ids[:, None, T - ngram_size + 1 :]).all(dim=-1)  # (B, T-n+1): they begin as the row ends
    banned = torch.zeros(len(logits), V + 1, dtype=torch.bool, device=logits.device)  # column V takes what is not banned
    banned.scatter_(1, windows[..., -1].long().masked_fill(~seen, V), True)
    return logits.masked_fill(banned[:, :V], -INF)


def _keep(logits: Tensor, value: Tensor, border: Tensor, count) -> Tensor:
    """The ``count`` (..., 1) largest by ``value``, of which ``border`` (..., 1) is the smallest: lower ids first among equals."""
    keep = value >= border
    if torch.compiler.is_compiling() or (keep.sum(dim=-1, keepdim=True) > count).any():
        tied = value == border
        room = count - (value > border).sum(dim=-1, keepdim=True)
        keep = (value > border) | (tied & (tied.cumsum(dim=-1) <= room))
    return torch.where(keep, logits, -INF)


def _keep_only(logits: Tensor, order: Tensor, keep: Tensor) -> Tensor:
    """The tokens ``order`` (..., n) where ``keep`` (..., n) says so."""
    return torch.where(torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, keep), logits, -INF)


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _check(logits) -> None:
    tensor("logits", logits, floating=True)
    if logits.ndim == 0 or 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, (..., V) without a zero is accepted")


def _in_open_interval(name: str, value, closed: bool = False) -> None:
    interval = "(0, 1]" if closed else "(0, 1)"
    number(name, value, 0.0, 1.0, accepted=f"a number in {interval}")
    if value == 0 or (value == 1 and not closed):
        raise ValueError(f"{name}: {value} given, a number in {interval} is accepted")
