"""What every decoding mode shares: rows of tokens that grow, the model's key-value cache, and the next
token's logits.

Without a cache, step t computes all t positions again: 1 + 2 + ... + T forwards of a column. With it, each
step computes one column and reads the keys and values of the others.
Shapes: B prompts, R rows under way (B times beams or candidates), T tokens of the prompt, V vocabulary, H
hidden.
"""

import warnings
from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor

from tricks_lib._checks import number, require
from tricks_lib.decoding.ngrams import block_repeated_ngrams
from tricks_lib.decoding.prompt import as_list, causal_model, check_prompt, positions, special_tokens

# What `generate(custom_generate=...)` hands on beside the options. The cache and the positions are made anew
# here.
FROM_GENERATE = {
    "past_key_values",
    "position_ids",
    "cache_position",
    "use_cache",
    "logits_to_keep",
    "synced_gpus",
    "streamer",
}


class Options(TypedDict, total=False):
    """Keyword arguments that all decoding modes share.

    They stand outside the modes' own signatures because ``generate(custom_generate=mode)`` takes from its
    caller what it finds in the signature, and must itself see the mask and the special tokens.

    Attributes:
        attention_mask: (B, T), 1 for a token and 0 for padding (on the left); default: every position is a
            token.
        eos_token_id: a row ends with any of these ids; default: the model's ``generation_config``; ``[]``:
            none.
        pad_token_id: fills a row after its end; default: the ``generation_config``'s, else the first end
            token.
        no_repeat_ngram_size: no n-gram of this size stands twice in a row, prompt included; 0, the default:
            no limit.
        on_token: called with the new tokens (B,) of each step, e.g. ``TextStreamer(tokenizer).put``; not for
            beams.
        logits_processor: (input_ids (R, t), scores (R, V)) -> scores, e.g. a ``LogitsProcessorList``; R is B
            or, with beams, rows under way, and scores are logits or, with beams, log-probabilities.
        stopping_criteria: (input_ids (B, t), None) -> (B,) bool, or a ``StoppingCriteriaList``; not for
            beams.
        generation_config: the ``GenerationConfig`` to take defaults from instead of the model's.
    """

    attention_mask: Tensor | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    no_repeat_ngram_size: int
    on_token: Callable | None
    logits_processor: Callable | None
    stopping_criteria: Callable | list | None
    generation_config: object


class Run:
    """Rows of tokens that grow: ``next_logits`` -> ``process`` -> ``take``; ``select`` picks and repeats
    rows.

    Attributes:
        ids: (R, T + max_new_tokens), tokens, padding where none is yet. length: columns in use. mask: as ids,
            or None.
        eos: list of token ids that end a row. pad: the id that fills a row which has ended. done: (B,) bool.
    """

    def __init__(
        self,
        model,
        input_ids,
        max_new_tokens,
        attention_mask=None,
        eos_token_id=None,
        pad_token_id=None,
        no_repeat_ngram_size=0,
        on_token=None,
        logits_processor=None,
        stopping_criteria=None,
        generation_config=None,
        **from_generate,
    ):
        takes = causal_model(model)
        if model.training:
            raise ValueError(
                "model: one in training mode given, where dropout changes the tokens; model.eval() is "
                "accepted"
            )
        check_prompt(model, input_ids, attention_mask)
        self._check_options(generation_config, from_generate)
        for name, value in {"on_token": on_token, "logits_processor": logits_processor}.items():
            if value is not None and not callable(value):
                raise TypeError(f"{name}: {type(value).__name__} given, a callable is accepted")
        B, T = input_ids.shape
        if max_new_tokens is None and generation_config is not None:
            max_new_tokens = generation_config.max_new_tokens or (generation_config.max_length or 0) - T
        number("max_new_tokens", max_new_tokens, 1, accepted="a positive integer", integer=True)
        number(
            "no_repeat_ngram_size",
            no_repeat_ngram_size,
            0,
            accepted="an integer of at least 0 (0: no limit)",
            integer=True,
        )
        config = generation_config or getattr(model, "generation_config", None)
        self.eos = special_tokens("eos_token_id", eos_token_id, model, config)
        self.pad = (special_tokens("pad_token_id", pad_token_id, model, config) or self.eos or [0])[0]
        self.model, self.max_new_tokens, self.ngram_size, self.processor = (
            model,
            max_new_tokens,
            no_repeat_ngram_size,
            logits_processor,
        )
        self.on_token, self.criteria = (
            on_token,
            own_criteria(stopping_criteria, under_generate=generation_config is not None),
        )

        self.ids = input_ids.new_full((B, T + max_new_tokens), self.pad)  # (R, T + new)
        self.ids[:, :T] = input_ids
        self.done = torch.zeros(B, dtype=torch.bool, device=input_ids.device)
        self.length, self.seen, self.cache, self.mask = T, 0, None, None
        longest = T
        if attention_mask is not None and not (attention_mask == 1).all():
            last = attention_mask[:, -1]
            require(
                (last == 1).all(),
                "attention_mask: a last column of ones (padding on the left) is accepted, {} given",
                last,
            )
            self.mask = torch.ones_like(self.ids, dtype=torch.long)
            self.mask[:, :T] = attention_mask
            self.positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
            longest = int(attention_mask.sum(dim=1).max())
        if longest + max_new_tokens > (limit := positions(model)):
            raise ValueError(
                f"max_new_tokens: {max_new_tokens} given after a prompt of {longest} tokens, {limit} "
                f"positions in all are accepted"
            )
        if T > 1 and any(token in self.eos for token in input_ids[:, -1].tolist()):
            message = "input_ids: a prompt closes with an end token, and the model goes on after it; tokenize with add_special_tokens=False"
            warnings.warn(message, stacklevel=4)
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.takes_positions = "position_ids" in takes or "kwargs" in takes

    @staticmethod
    def _check_options(generation_config, from_generate: dict) -> None:
        """What cannot be honoured is an error, never ignored."""
        for name in sorted(from_generate.keys() - FROM_GENERATE):
            raise TypeError(
                f"{name}: given, but accepted are the mode's own arguments and "
                f"{', '.join(Options.__annotations__)}"
            )
        if (cache := from_generate.get("past_key_values")) is not None and cache.get_seq_length():
            raise ValueError(
                f"past_key_values: a cache of {cache.get_seq_length()} tokens given, an empty one is accepted"
            )
        for name, instead in {"synced_gpus": "False", "streamer": "on_token=streamer.put"}.items():
            if from_generate.get(name):
                raise ValueError(f"{name}: {type(from_generate[name]).__name__} given, {instead} is accepted")
        if generation_config is not None and not hasattr(generation_config, "eos_token_id"):
            raise TypeError(
                f"generation_config: {type(generation_config).__name__} given, a "
                f"transformers.GenerationConfig is accepted"
            )
        if getattr(generation_config, "num_beams", None) not in (None, 1):
            raise ValueError(
                "num_beams: given to generate, which repeated the rows for it; it is accepted as the mode's "
                "own argument"
            )

    def next_logits(self, hidden: bool = False):
        """Logits (R, V) in float32 of the token to come; with ``hidden`` also the last layer's states (R, n,
        H).

        The model sees the n columns that its cache has not: the prompt at first, then one a step.
        """
        columns = slice(self.seen, self.length)
        inputs = {
            "input_ids": self.ids[:, columns],
            "past_key_values": self.cache,
            "use_cache": True,
            **self.options,
        }
        if self.mask is not None:
            inputs["attention_mask"] = self.mask[:, : self.length]
            if self.takes_positions:
                inputs["position_ids"] = self.positions[:, columns]
        out = self.model(**inputs, output_hidden_states=True) if hidden else self.model(**inputs)
        self.cache, self.seen = getattr(out, "past_key_values", None), self.length
        if not isinstance(getattr(out, "logits", None), Tensor) or self.cache is None:
            given = f"{type(out).__name__} without logits or past_key_values"
            raise TypeError(
                f"model: one that returns {given} given, a causal language model with a cache is accepted"
            )
        logits = out.logits[:, -1].float()  # (R, V)
        highest = logits.amax()  # NaN if any is
        require(~highest.isnan(), "model: logits without NaN are accepted, {} given", highest)
        return (logits, out.hidden_states[-1]) if hidden else logits

    def process(self, scores: Tensor) -> Tensor:
        """Scores (R, V) after n-gram blocking and the caller's processor."""
        tokens = self.ids[:, : self.length]
        if self.ngram_size:
            scores = block_repeated_ngrams(scores, tokens, self.ngram_size)
        if self.processor is None:
            return scores
        processed = self.processor(tokens, scores)
        if not isinstance(processed, Tensor) or processed.shape != scores.shape:
            given = f"returns {tuple(processed.shape) if isinstance(processed, Tensor) else type(processed).__name__}"
            raise ValueError(
                f"logits_processor: one that {given} given, scores {tuple(scores.shape)} (R, V) are accepted"
            )
        return processed

    def take(self, tokens: Tensor) -> bool:
        """One more column, tokens (B,): padding in rows that have ended; True when all have."""
        tokens = tokens.masked_fill(self.done, self.pad)
        self.append(tokens)
        if self.on_token is not None:
            self.on_token(tokens)
        for token in self.eos:
            self.done |= tokens == token
        for criterion in self.criteria:
            self.done |= criterion(self.ids[:, : self.length], None)
        return bool(self.eos or self.criteria) and bool(self.done.all())

    def append(self, tokens: Tensor) -> None:
        self.ids[:, self.length] = tokens
        self.length += 1

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` (R',) of the R, in that order; one may stand there several times."""
        self.ids = self.ids[rows]
        if self.mask is not None:
            self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.cache.reorder_cache(rows)


def own_criteria(criteria, under_generate: bool) -> list:
    """The caller's stopping criteria; `generate` adds the length and the end tokens, which :class:`Run` has
    already.
    """
    criteria = as_list(criteria)
    for criterion in criteria:
        if not callable(criterion):
            raise TypeError(
                f"stopping_criteria: {type(criterion).__name__} given, a callable (input_ids, scores) or a "
                f"list of them is accepted"
            )
    return [
        c
        for c in criteria
        if not (under_generate and type(c).__name__ in ("MaxLengthCriteria", "EosTokenCriteria"))
    ]
