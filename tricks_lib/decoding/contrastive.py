"""Contrastive search: the most probable of k candidates, less how much its state resembles an earlier one.

    x_t = argmax over v in the k most probable of  (1 - a) p(v | x_<t) - a max_{j<t} cos(h_v, h_j)   (1)

h_j is the last layer's state of token j and h_v the candidate's, so each step runs the model on all k
candidates. The second term punishes text that falls back on itself; a = 0 or k = 1 is greedy search.

Source: Su et al., "A Contrastive Framework for Neural Text Generation", NeurIPS 2022, equation 5.
Shapes: B batch, T tokens of the prompt, t tokens so far, k candidates, H hidden, V vocabulary.
"""

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from tricks_lib._checks import number
from tricks_lib.decoding.run import Options, Run

__all__ = ["contrastive_search"]


@torch.no_grad()
def contrastive_search(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    penalty_alpha: float = 0.6,
    top_k: int = 4,
    **options: Unpack[Options],
) -> Tensor:
    """Equation (1) at each step, as ``model.generate(penalty_alpha=..., top_k=...)`` did until transformers
    4.55.

    Args:
        model, input_ids, max_new_tokens, options: as :func:`~tricks_lib.decoding.greedy_search`.
        penalty_alpha: a, in [0, 1].
        top_k: k, at least 1, the candidates a step; a step costs a forward of B * k columns.

    Returns:
        (B, T + new), the prompts and their continuations.

    Raises:
        TypeError, ValueError: as :func:`~tricks_lib.decoding.greedy_search`; a parameter out of its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> contrastive_search(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4, penalty_alpha=0.6,
        top_k=3).shape torch.Size([1, 7])
    """
    number("penalty_alpha", penalty_alpha, 0.0, 1.0)
    number("top_k", top_k, 1, accepted="a positive integer", integer=True)
    run = Run(model, input_ids, max_new_tokens, **options)
    logits, states = run.next_logits(hidden=True)  # (B, V), (B, T, H)
    B, V = logits.shape
    k, row = min(top_k, V), torch.arange(B, device=logits.device)
    wide = torch.promote_types(states.dtype, torch.float32)  # cosines near 1 are alike in half precision
    past = states.new_zeros(
        B, run.ids.shape[1], states.shape[-1], dtype=wide
    )  # (B, T + new, H), directions of the states
    past[:, : run.length] = F.normalize(states.to(wide), dim=-1)
    for _ in range(run.max_new_tokens):
        p, candidates = run.process(logits).softmax(dim=-1).topk(k, dim=-1)  # (B, k)
        t = run.length
        keep = None if run.mask is None else run.mask[:, None, :t].bool()  # (B, 1, t)
        run.select(row.repeat_interleave(k))
        run.append(candidates.flatten())
        logits, states = run.next_logits(hidden=True)  # (B*k, V), (B*k, 1, H)
        directions = F.normalize(states.to(wide), dim=-1).view(B, k, -1)  # (B, k, H)
        likeness = directions @ past[:, :t].transpose(1, 2)  # (B, k, t)
        if keep is not None:
            likeness = likeness.masked_fill(~keep, -2.0)  # below any cosine
        score = (1 - penalty_alpha) * p - penalty_alpha * likeness.amax(dim=-1)  # (B, k), equation (1)
        best = score.masked_fill(p == 0, -torch.inf).argmax(
            dim=-1
        )  # (B,); a blocked token may be among fewer than k others
        logits, past[:, t] = logits.view(B, k, V)[row, best], directions[row, best]
        run.select(row * k + best)
        run.length = t  # the column of the candidates becomes that of the chosen ones; the cache has it
        if run.take(candidates[row, best]):
            break
    return run.ids[:, : run.length].clone()
