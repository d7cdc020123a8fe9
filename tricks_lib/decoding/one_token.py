"""Greedy search and sampling: one token per step, chosen from the next token's distribution alone.

    greedy   x_t = argmax_v p(v | x_<t)                                                        (2)
    sample   x_t ~ p'(v | x_<t), p' the softmax of logits / temperature after the filters       (3)

Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, sections 3 and 4.
Shapes: B batch, T tokens of the prompt, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import Unpack

from tricks_lib.decoding.options import Options
from tricks_lib.decoding.run import Run
from tricks_lib.decoding.warpers import checked, use_warpers

__all__ = ["greedy_search", "sample"]


@torch.no_grad()
def greedy_search(
    model, input_ids: Tensor, max_new_tokens: int | None = None, **options: Unpack[Options]
) -> Tensor:
    """The most probable token at each step, equation (2); token for token what
    ``model.generate(do_sample=False)`` returns.

    Args:
        model: a decoder-only language model of transformers, or a module with the forward of one (ids, a
            mask, ``past_key_values`` with ``reorder_cache``); in evaluation mode.
        input_ids: (B, T), int64, the prompts, padded on the left.
        max_new_tokens: at most so many tokens are added; default: the generation config's; with neither a
            TypeError.
        **options: attention_mask, eos_token_id, pad_token_id, repetition_penalty, no_repeat_ngram_size,
            min_new_tokens, on_token, streamer, logits_processor, stopping_criteria, generation_config: see
            :class:`~tricks_lib.decoding.Options`.

    Returns:
        (B, T + new), the prompts and their continuations; new <= max_new_tokens, the longest row's.

    Raises:
        TypeError: ``model`` is no decoder-only language model, or an argument is of the wrong type.
        ValueError: ``model`` is in training mode or gives NaN, ids outside the vocabulary, padding on the
            right, shapes or devices that do not fit, an empty batch, more tokens than the model has positions
            for, a setting of the generation config that no mode supports. Values are checked on CUDA as well.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> greedy_search(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4).shape
        torch.Size([1, 7])
    """
    with Run(model, input_ids, max_new_tokens, **options) as run:
        return _grow(run, lambda logits: logits.argmax(dim=-1))


@torch.no_grad()
def sample(
    model,
    input_ids: Tensor,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
    eta_cutoff: float | None = None,
    top_h: float | None = None,
    top_n_sigma: float | None = None,
    generator: torch.Generator | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """A token drawn at each step, equation (3). Without a filter every token can come: no top-k of 50 is
    added.

    Filters apply in the order top-n-sigma, top-h, top-k, top-p, min-p, typical, eta, each to what the one
    before has left, as in transformers; with the same seed the tokens are those of
    ``model.generate(do_sample=True, top_k=0, ...)``.

    Args:
        model, input_ids, max_new_tokens, options: as :func:`greedy_search`.
        temperature: from 1e-6 to 1e6; below 1 sharpens the distribution, above flattens it; default: the
            generation config's, else 1.
        top_k, top_p, min_p, typical_p, eta_cutoff, top_h, top_n_sigma: see the filters of the same names;
            default: what the generation config asks for.
        generator: source of randomness on the model's device; default: torch's.

    Returns:
        (B, T + new), the prompts and their continuations; (B * N, T + new) where the generation config has N
        ``num_return_sequences``.

    Raises:
        TypeError, ValueError: as :func:`greedy_search`; a parameter out of its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).eval()
        >>> sample(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4, temperature=0.7, min_p=0.1).shape
        torch.Size([1, 7])
    """
    given = {
        "temperature": temperature,
        "top_n_sigma": top_n_sigma,
        "top_h": top_h,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "eta_cutoff": eta_cutoff,
    }
    given = checked(given)
    with Run(model, input_ids, max_new_tokens, ("num_return_sequences",), do_sample=True, **options) as run:
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator: {type(generator).__name__} given, a torch.Generator is accepted")
        if generator is not None and generator.device.type != run.ids.device.type:
            raise ValueError(
                f"generator: on {generator.device}, model on {run.ids.device}; one device is accepted"
            )
        use_warpers(run, given)
        return _grow(run, lambda scores: scores.softmax(dim=-1).multinomial(1, generator=generator)[:, 0])


def _grow(run: Run, choose: Callable) -> Tensor:
    """Tokens chosen one a step until every row has ended: (B, T + new)."""
    for _ in range(run.max_new_tokens):
        if run.take(choose(run.process(run.next_logits()))):
            break
    return run.ids[:, : run.length].clone()
