"""No n-gram twice: the tokens that would repeat what a row already holds.

With n-grams of the row x_1 ... x_t, prompt included, the token v is blocked if

    (x_(t-n+2), ..., x_t, v) = (x_i, ..., x_(i+n-1))   for some i                               (14)

Source: Paulus, Xiong & Socher, "A Deep Reinforced Model for Abstractive Summarization", ICLR 2018, section
2.5, with n = 3.
Shapes: B batch, T tokens so far, V vocabulary.
"""

import torch
from torch import Tensor

from tricks_lib._checks import number, require_now, same_device, tensor

__all__ = ["block_repeated_ngrams"]


def block_repeated_ngrams(logits: Tensor, input_ids: Tensor, ngram_size: int) -> Tensor:
    """-inf for each token that would complete an n-gram which the row already holds, equation (14).

    Args:
        logits: (B, V), floating point, of the token to come.
        input_ids: (B, T), the tokens so far; padding counts as a token, as in transformers.
        ngram_size: n, at least 1.

    Returns:
        (B, V), the logits, -inf for the tokens blocked, perhaps for every token.

    Raises:
        TypeError: not a floating point / integer tensor, ``ngram_size`` not an integer.
        ValueError: shapes or devices that do not fit, ids outside 0..V-1, ``ngram_size`` smaller than 1.

    Example:
        >>> block_repeated_ngrams(torch.zeros(1, 4), torch.tensor([[2, 3, 1, 2]]), 2)
        tensor([[0., 0., 0., -inf]])
    """
    tensor("logits", logits, floating=True)
    tensor("input_ids", input_ids, floating=False)
    ngram_size = number("ngram_size", ngram_size, 1, accepted="a positive integer", integer=True)
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits: shape {tuple(logits.shape)} given, (B, V) without a zero is accepted")
    if input_ids.ndim != 2 or len(input_ids) != len(logits):
        raise ValueError(
            f"input_ids: shape {tuple(input_ids.shape)} given with logits {tuple(logits.shape)}, (B, T) "
            f"with (B, V) is accepted"
        )
    same_device("input_ids", input_ids, "logits", logits)
    (_, T), V = input_ids.shape, logits.shape[-1]
    if ngram_size > T:
        return logits
    require_now(
        ((input_ids >= 0) & (input_ids < V)).all(),
        f"input_ids: token ids in 0..{V - 1} are accepted, {{}} given",
        input_ids,
    )
    windows = input_ids.unfold(1, ngram_size, 1)  # (B, T-n+1, n)
    seen = (windows[..., :-1] == input_ids[:, None, T - ngram_size + 1 :]).all(
        dim=-1
    )  # (B, T-n+1): they begin as the row ends
    blocked = torch.zeros(
        len(logits), V + 1, dtype=torch.bool, device=logits.device
    )  # column V takes what is not blocked
    blocked.scatter_(1, windows[..., -1].long().masked_fill(~seen, V), True)
    return logits.masked_fill(blocked[:, :V], float("-inf"))
