"""What a model thinks of tokens: the log-probability of a sequence, and a table of the choices at each step.

    log p(y | x) = sum_i log p(y_i | x, y_<i)                                                   (1)

Source: Tunstall, von Werra & Wolf, "Natural Language Processing with Transformers", chapter 5 (the table; its
circulating code computes the whole prefix again in each step).
Shapes: B batch, T tokens, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tricks_lib._checks import number
from tricks_lib.decoding.prompt import (
    CAUSAL,
    check_prompt,
    left_to_right,
    positions,
    positions_of,
    special_tokens,
)
from tricks_lib.decoding.run import Run

__all__ = ["sequence_log_prob", "next_token_table"]


def sequence_log_prob(
    model,
    sequences: Tensor,
    prompt_length: int = 0,
    attention_mask: Tensor | None = None,
    length_penalty: float = 0.0,
    eos_token_id: int | list[int] | None = None,
) -> Tensor:
    """Log-probability of each row's continuation, equation (1), or with ``length_penalty`` (4), in nats;
    differentiable.

    Scored are the kept tokens from ``prompt_length`` to the first end token, that one included. A token
    without a kept one before it has nothing that predicts it.

    Args:
        model: a causal language model of transformers.
        sequences: (B, T), int64, e.g. what :func:`~tricks_lib.decoding.beam_search` returns.
        prompt_length: number of leading columns that are given, not scored, in 0..T-1.
        attention_mask: (B, T), or (B, prompt_length) for the prompts alone, 1 for a token and 0 for padding
            on either side; default: every position is a token.
        length_penalty: from -10 to 10; 0: the sum; 1: the mean over the counted tokens; else as beam search
            divides.
        eos_token_id: as :func:`~tricks_lib.decoding.greedy_search`.

    Returns:
        (B,) in the logits' dtype, at least float32; 0 for a row without a counted token.

    Raises:
        TypeError: ``model`` is no decoder-only language model, or an argument is of the wrong type.
        ValueError: shapes or devices that do not fit, ids outside the vocabulary, a parameter out of range,
            more tokens than the model has positions for.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> sequence_log_prob(model, torch.tensor([[1, 2, 3, 4]]), prompt_length=2).shape
        torch.Size([1])
    """
    takes = left_to_right(model)
    if getattr(model.config, "model_type", None) in ("cpmant", "rwkv"):  # one forward is not its steps
        raise TypeError(
            f"model: {type(model).__name__}, which scores a whole text otherwise than token by token, given, "
            f"{CAUSAL}"
        )
    check_prompt(model, sequences, None, "sequences")
    B, T = sequences.shape
    prompt_length = number(
        "prompt_length", prompt_length, 0, T - 1, accepted=f"an integer in 0..{T - 1}", integer=True
    )
    length_penalty = number("length_penalty", length_penalty, -10.0, 10.0)
    if isinstance(attention_mask, Tensor) and attention_mask.shape == (
        B,
        prompt_length,
    ):  # the continuation is all tokens
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(B, T - prompt_length)], dim=1)
    check_prompt(model, sequences, attention_mask, "sequences")
    mask = torch.ones_like(sequences) if attention_mask is None else attention_mask.long()
    seen = slice(0, max(T - 1, 1))  # nothing is predicted from the last token
    if (longest := int(mask[:, seen].sum(dim=1).max())) > (limit := positions(model)):
        raise ValueError(
            f"sequences: {longest} tokens before the last given, the model's {limit} positions are accepted"
        )

    inputs = {"input_ids": sequences, "attention_mask": mask, "position_ids": positions_of(mask)}
    inputs = {name: value[:, seen] for name, value in inputs.items() if name in takes}
    first = max(prompt_length, 1)
    logits = model(**inputs, use_cache=False).logits[:, first - 1 : T - 1]  # (B, n, V): tokens first..T-1
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = sequences[:, first:].long()  # (B, n)
    log_p = -F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, n)

    keep = (mask[:, first:] * mask[:, first - 1 : -1]).bool()  # (B, n)
    eos = special_tokens("eos_token_id", eos_token_id, model, [getattr(model, "generation_config", None)])
    ends = keep & torch.isin(
        targets, torch.tensor(eos, dtype=torch.long, device=targets.device)
    )  # not the padding of a model whose pad is its eos
    keep &= ends.long().cumsum(dim=1) - ends.long() == 0  # none before the first end token
    count = keep.sum(dim=1).clamp(min=1)
    return log_p.masked_fill(~keep, 0).sum(dim=1) / count.to(log_p.dtype) ** length_penalty


@torch.no_grad()
def next_token_table(
    model,
    input_ids: Tensor,
    tokenizer=None,
    max_new_tokens: int = 8,
    num_choices: int = 5,
    attention_mask: Tensor | None = None,
    eos_token_id: int | list[int] | None = None,
):
    """A row for each step of greedy search: the text so far and the most probable next tokens with their
    probability.

    Args:
        model, attention_mask, eos_token_id: as :func:`~tricks_lib.decoding.greedy_search`.
        input_ids: (1, T), int64, one prompt.
        tokenizer: turns ids into text by ``decode``; default: the ids are shown.
        max_new_tokens: rows at most; the table ends with an end token.
        num_choices: columns of choices.

    Returns:
        ``pandas.DataFrame`` with the columns Input, Choice 1, Choice 2, ... of strings such as ``"cat
        (12.34%)"``; Choice 1 is the token that the next row goes on with.

    Raises:
        TypeError, ValueError: as :func:`~tricks_lib.decoding.greedy_search`; more than one prompt; a
            parameter out of its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> table = next_token_table(model, torch.tensor([[1, 2, 3]]), max_new_tokens=2, num_choices=2)
        >>> table.columns.tolist()
        ['Input', 'Choice 1', 'Choice 2']
    """
    import pandas as pd

    if tokenizer is not None and not hasattr(tokenizer, "decode"):
        raise TypeError(f"tokenizer: {type(tokenizer).__name__} given, one with decode() is accepted")
    num_choices = number("num_choices", num_choices, 1, accepted="a positive integer", integer=True)
    run = Run(model, input_ids, max_new_tokens, attention_mask=attention_mask, eos_token_id=eos_token_id)
    if len(input_ids) != 1:
        raise ValueError(f"input_ids: shape {tuple(input_ids.shape)} given, one prompt (1, T) is accepted")
    padding = 0 if attention_mask is None else int((attention_mask == 0).sum())
    decode = tokenizer.decode if tokenizer is not None else lambda ids: " ".join(map(str, ids))
    rows = []
    for _ in range(run.max_new_tokens):
        so_far = run.ids[0, padding : run.length]
        p = run.next_logits()[0].softmax(dim=-1)  # (V,)
        top = p.topk(min(num_choices, len(p)))
        choices = {
            f"Choice {i}": f"{decode([token])} ({share:.2%})"
            for i, (token, share) in enumerate(zip(top.indices.tolist(), top.values.tolist()), 1)
        }
        rows.append({"Input": decode(so_far.tolist()), **choices})
        if run.take(top.indices[:1]):
            break
    return pd.DataFrame(rows)
