"""The poolings: states of the tokens (B, T, H) and their mask (B, T) -> one vector per text (B, H)."""

import torch
from torch import Tensor

from tricks_lib._checks import readable
from tricks_lib.mean_pooling.masks import kept_tokens, one_run


def mean_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean of the token vectors that the mask keeps, equation (1).

    Half precision is summed in float32: a sum over 4,096 tokens can overflow float16, their mean does not.

    Args:
        hidden_states: (B, T, H), floating point, e.g. ``model(...).last_hidden_state``.
        attention_mask: (B, T), bool, integer or float, 1 for a token and 0 for padding, on the same device.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError: an argument is not a tensor, or ``hidden_states`` is not floating point.
        ValueError: wrong shape or device, an empty batch, a mask with other values than 0 and 1 (on CUDA the
            values of a mask are not checked).

    Example:
        >>> hidden_states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]]])
        >>> mean_pool(hidden_states, torch.tensor([[1, 1, 0]]))
        tensor([[2., 4.]])
    """
    keep = kept_tokens(hidden_states, attention_mask)  # (B, T) bool
    count = keep.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    return (weighted_sum(hidden_states, keep) / count).to(hidden_states.dtype)  # equation (1)


def max_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Largest value of each feature over the tokens that the mask keeps.

    Where several tokens share the largest value, they share its gradient evenly.

    Args:
        hidden_states: (B, T, H), floating point.
        attention_mask: (B, T), 1 for a token and 0 for padding.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError, ValueError: as :func:`mean_pool`.

    Example:
        >>> max_pool(torch.tensor([[[1.0, 6.0], [3.0, 2.0], [99.0, 99.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[3., 6.]])
    """
    keep = kept_tokens(hidden_states, attention_mask)
    largest = hidden_states.masked_fill(~keep.unsqueeze(-1), float("-inf")).amax(dim=1)  # (B, H)
    return largest.masked_fill(~keep.any(dim=1, keepdim=True), 0)


def cls_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """The first token that the mask keeps: position 0 with right padding, later with left padding.

    Args:
        hidden_states: (B, T, H), floating point.
        attention_mask: (B, T), 1 for a token and 0 for padding.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError, ValueError: as :func:`mean_pool`.

    Example:
        >>> cls_pool(torch.tensor([[[99.0, 99.0], [1.0, 6.0], [3.0, 2.0]]]), torch.tensor([[0, 1, 1]]))
        tensor([[1., 6.]])
    """
    keep = kept_tokens(hidden_states, attention_mask)
    first = keep.int().argmax(dim=1)  # (B,)
    picked = hidden_states[torch.arange(len(first), device=first.device), first]  # (B, H)
    return picked.masked_fill(~keep.any(dim=1, keepdim=True), 0)


def last_token_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """The last token that the mask keeps, for encoders whose tokens read only those before them.

    Args:
        hidden_states: (B, T, H), floating point.
        attention_mask: (B, T), 1 for a token and 0 for padding; one run of tokens per row.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError, ValueError: as :func:`mean_pool`; a row has gaps, as several texts packed into one have (on
            CUDA this is not checked).

    Example:
        >>> last_token_pool(torch.tensor([[[1.0, 6.0], [3.0, 2.0], [99.0, 99.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[3., 2.]])
    """
    keep = one_run(kept_tokens(hidden_states, attention_mask))
    last = keep.shape[1] - 1 - keep.flip(1).int().argmax(dim=1)  # (B,)
    picked = hidden_states[torch.arange(len(last), device=last.device), last]  # (B, H)
    return picked.masked_fill(~keep.any(dim=1, keepdim=True), 0)


def weighted_mean_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean with weights that grow from 1 to n over a row's n tokens, equation (2).

    The weights count tokens, not positions: left padding does not change them, and behind a prompt that
    :func:`tricks_lib.mean_pooling.exclude_prompt` has left out they start at 1. Half precision is summed in
    float32.

    Args:
        hidden_states: (B, T, H), floating point.
        attention_mask: (B, T), 1 for a token and 0 for padding; one run of tokens per row.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError, ValueError: as :func:`last_token_pool`.

    Example:
        >>> weighted_mean_pool(torch.tensor([[[99.0], [3.0], [6.0]]]), torch.tensor([[0, 1, 1]]))
        tensor([[5.]])
    """
    keep = one_run(kept_tokens(hidden_states, attention_mask))
    weights = keep.cumsum(dim=1) * keep  # (B, T): 1 to n
    count = weights.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    return (weighted_sum(hidden_states, weights) / count).to(hidden_states.dtype)  # equation (2)


def weighted_sum(hidden_states: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t h_t in float32 at least, under autocast too: (B, T, H) states, (B, T) bool or integer
    weights -> (B, H).

    Where the weight is 0, the states may be infinite or NaN.
    """
    wide = torch.promote_types(hidden_states.dtype, torch.float32)
    if hidden_states.dtype == wide and readable(hidden_states):
        # One read of the states, no copy of them: w (B, 1, T) @ h (B, T, H). But 0 * inf is NaN, so
        # a sum that is not finite is done again below, where padding cannot meet the sum.
        with torch.autocast("cpu", enabled=False):
            total = torch.bmm(weights.unsqueeze(1).to(wide), hidden_states).squeeze(1)  # (B, H)
        if torch.isfinite(total).all():
            return total
    states = hidden_states.masked_fill((weights == 0).unsqueeze(-1), 0)
    if weights.dtype == torch.bool:
        return states.sum(dim=1, dtype=wide)
    return (weights.unsqueeze(-1) * states.to(wide)).sum(dim=1)  # autocast leaves it in float32


POOLS = {
    "mean": mean_pool,
    "max": max_pool,
    "cls": cls_pool,
    "last": last_token_pool,
    "weighted": weighted_mean_pool,
}
