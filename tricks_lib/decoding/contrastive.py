"""Contrastive search: the most probable of k candidates, less how much its state resembles an earlier one.

    x_t = argmax over v in the k most probable of  (1 - a) p(v | x_<t) - a max_{j<t} cos(h_v, h_j)   (13)

h_j is the last layer's state of token j and h_v the candidate's, so each step runs the model on all k
candidates. The second term punishes text that falls back on itself; a = 0 or k = 1 is greedy search.

Source: Su et al., "A Contrastive Framework for Neural Text Generation", NeurIPS 2022, equation 5.
Shapes: B batch, T tokens of the prompt, t tokens so far, k candidates, H hidden, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from tricks_lib._checks import number
from tricks_lib.decoding.options import Options
from tricks_lib.decoding.prompt import left_to_right
from tricks_lib.decoding.run import Run

__all__ = ["contrastive_search"]


@torch.no_grad()
def contrastive_search(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    penalty_alpha: float | None = None,
    top_k: int | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Equation (13) at each step, as ``model.generate(penalty_alpha=..., top_k=...)`` did until transformers
    4.55.

    Args:
        model, input_ids, max_new_tokens, options: as :func:`~tricks_lib.decoding.greedy_search`.
        penalty_alpha: a, in [0, 1]; default: the generation config's, else 0.6.
        top_k: k, at least 1, the candidates of a step; default: the generation config's if ``penalty_alpha``
            is its own too, else 4. All forwards are of B * k rows.

    Returns:
        (B, T + new), the prompts and their continuations.

    Raises:
        TypeError, ValueError: as :func:`~tricks_lib.decoding.greedy_search`; a parameter out of its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> options = {"max_new_tokens": 4, "penalty_alpha": 0.6, "top_k": 3}
        >>> contrastive_search(model, torch.tensor([[1, 2, 3]]), **options).shape
        torch.Size([1, 7])
    """
    left_to_right(model)
    if top_k is not None:
        number("top_k", top_k, 1, accepted="a positive integer", integer=True)
    if penalty_alpha is not None:
        penalty_alpha = number("penalty_alpha", penalty_alpha, 0.0, 1.0)
    own = ("penalty_alpha",)
    with Run(model, input_ids, max_new_tokens, own, looks_at_last=True, **options) as run:
        if top_k is None:
            of_config = penalty_alpha is None and run.asked_for("penalty_alpha", None, None) is not None
            top_k = run.asked_for("top_k", None, 4) if of_config else 4
        k = number("top_k", top_k, 1, accepted="a positive integer", integer=True)
        a = number("penalty_alpha", run.asked_for("penalty_alpha", penalty_alpha, 0.6), 0.0, 1.0)
        run.repeat(k)  # k rows of each prompt, one for each candidate
        logits, states = run.next_logits(hidden=True)  # (B*k, V), (B*k, T, H)
        logits, states = logits[::k], states[::k]  # (B, V), (B, T, H)
        B, V = logits.shape
        prompts, n = torch.arange(B, device=logits.device) * k, min(k, V)
        wide = torch.promote_types(states.dtype, torch.float32)  # for cosines near 1
        past = states.new_zeros(
            B, run.ids.shape[1], states.shape[-1], dtype=wide
        )  # (B, T + new, H), directions
        past[:, : run.length] = F.normalize(states.to(wide), dim=-1)
        mask = run.feed.mask
        padding = None if mask is None else mask[::k, None, : run.length] == 0  # (B, 1, T)
        for _ in range(run.max_new_tokens):
            p, candidates = run.process(logits).softmax(dim=-1).topk(n, dim=-1)  # (B, n)
            candidates = F.pad(candidates, (0, k - n))  # (B, k), also for a vocabulary of fewer
            t = run.length
            run.append(candidates.flatten())
            logits, states = run.next_logits(hidden=True)  # (B*k, V), (B*k, 1, H)
            directions = F.normalize(states[:, -1].to(wide), dim=-1).view(B, k, -1)  # (B, k, H)
            with torch.autocast(directions.device.type, enabled=False):
                likeness = directions @ past[:, :t].transpose(1, 2)  # (B, k, t)
            if padding is not None:
                likeness[..., : padding.shape[-1]].masked_fill_(padding, -2.0)  # below any cosine
            score = (1 - a) * p - a * likeness.amax(dim=-1)[:, :n]  # (B, n), equation (13)
            best = score.masked_fill(p == 0, -torch.inf).argmax(
                dim=-1
            )  # (B,); a blocked token may be among them
            rows = prompts + best  # (B,)
            logits, past[:, t] = logits[rows], directions.flatten(0, 1)[rows]
            chosen = run.ids[rows, t]  # (B,)
            run.select(rows.repeat_interleave(k), candidates=True)
            run.length = t  # the candidates' column becomes that of the chosen; the cache has it
            if run.take(chosen):
                break
        return run.ids[::k, : run.length].clone()
