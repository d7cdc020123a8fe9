"""What every decoding mode shares: a prompt, the model's key-value cache, and the next token's logits.

Without a cache, step t computes all t positions again: 1 + 2 + ... + T forwards of a column. With it, each step computes
one column and reads the keys and values of the others.
Shapes: B prompts, R rows under way (B times beams or candidates), T tokens of the prompt, V vocabulary, H hidden.
"""

import inspect
import warnings
from typing import Callable, TypedDict

import torch
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor
from tricks_lib.decoding.filters import block_repeated_ngrams

# What `generate(custom_generate=...)` hands on beside the options. The cache and the positions are made anew here.
FROM_GENERATE = {"past_key_values", "position_ids", "cache_position", "use_cache", "logits_to_keep", "synced_gpus", "streamer"}


class Options(TypedDict, total=False):
    """Keyword arguments that all decoding modes share.

    They stand outside the modes' own signatures because ``generate(custom_generate=mode)`` takes from its caller what it
    finds in the signature, and must itself see the mask and the special tokens.

    Attributes:
        attention_mask: (B, T), 1 for a token and 0 for padding (on the left); default: every position is a token.
        eos_token_id: a row ends with any of these ids; default: the model's ``generation_config``; ``[]``: none.
        pad_token_id: fills a row after its end; default: the ``generation_config``'s, else the first end token.
        no_repeat_ngram_size: no n-gram of this size stands twice in a row, prompt included; 0, the default: no limit.
        on_token: called with the new tokens (B,) of each step, e.g. ``TextStreamer(tokenizer).put``; not for beams.
        logits_processor: (input_ids (R, t), scores (R, V)) -> scores, e.g. a ``LogitsProcessorList``; R is B or, with
            beams, rows under way, and scores are logits or, with beams, log-probabilities.
        stopping_criteria: (input_ids (B, t), None) -> (B,) bool, or a ``StoppingCriteriaList``; not for beams.
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
    """Rows of tokens that grow: ``next_logits`` -> ``process`` -> ``take``; ``select`` picks and repeats rows.

    Attributes:
        ids: (R, T + max_new_tokens), tokens, padding where none is yet. length: columns in use. mask: as ids, or None.
        eos: list of token ids that end a row. pad: the id that fills a row which has ended. done: (B,) bool.
    """

    def __init__(self, model, input_ids, max_new_tokens, attention_mask=None, eos_token_id=None, pad_token_id=None,
                 no_repeat_ngram_size=0, on_token=None, logits_processor=None, stopping_criteria=None, generation_config=None,
                 **from_generate):  # fmt: skip
        takes = causal_model(model)
        if model.training:
            raise ValueError("model: one in training mode given, where dropout changes the tokens; model.eval() is accepted")
        check_prompt(model, input_ids, attention_mask)
        for name in from_generate.keys() - FROM_GENERATE:
            raise TypeError(f"{name}: given, but accepted are the mode's own arguments and {', '.join(Options.__annotations__)}")
        if (cache := from_generate.get("past_key_values")) is not None and cache.get_seq_length():
            raise ValueError(f"past_key_values: a cache of {cache.get_seq_length()} tokens given, an empty one is accepted")
        if getattr(generation_config, "num_beams", None) not in (None, 1):
            raise ValueError("num_beams: given to generate, which repeated the rows for it; it is accepted as the mode's own argument")
        for name, value in {"on_token": on_token, "logits_processor": logits_processor}.items():
            if value is not None and not callable(value):
                raise TypeError(f"{name}: {type(value).__name__} given, a callable is accepted")

        (B, T), V = input_ids.shape, model.get_input_embeddings().num_embeddings
        if max_new_tokens is None and generation_config is not None:
            max_new_tokens = generation_config.max_new_tokens or (generation_config.max_length or 0) - T
        number("max_new_tokens", max_new_tokens, 1, accepted="a positive integer", integer=True)
        number("no_repeat_ngram_size", no_repeat_ngram_size, 0, accepted="an integer of at least 0 (0: no limit)", integer=True)
        config = generation_config or getattr(model, "generation_config", None)
        self.eos = end_tokens(model, eos_token_id, config)
        pad = token_ids("pad_token_id", pad_token_id, V) or from_config(config, "pad_token_id", V) or self.eos or [0]
        self.model, self.pad, self.max_new_tokens, self.ngram_size = model, pad[0], max_new_tokens, no_repeat_ngram_size
        self.on_token, self.processor, self.criteria = on_token, logits_processor, own_criteria(stopping_criteria)

        self.ids = input_ids.new_full((B, T + max_new_tokens), self.pad)  # (R, T + new)
        self.ids[:, :T] = input_ids
        self.done = torch.zeros(B, dtype=torch.bool, device=input_ids.device)
        self.length, self.seen, self.cache, self.mask = T, 0, None, None
        longest = T
        if attention_mask is not None and not (attention_mask == 1).all():
            last = attention_mask[:, -1]
            require((last == 1).all(), "attention_mask: a last column of ones (padding on the left) is accepted, {} given", last)
            self.mask = torch.ones_like(self.ids, dtype=torch.long)
            self.mask[:, :T] = attention_mask
            self.positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
            longest = int(attention_mask.sum(dim=1).max())
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and 0 < limit < longest + max_new_tokens:
            raise ValueError(f"max_new_tokens: {max_new_tokens} given after a prompt of {longest} tokens, {limit} positions in all are accepted")
        if T > 1 and any(token in self.eos for token in input_ids[:, -1].tolist()):
            message = "input_ids: a prompt closes with an end token, and the model goes on after it; tokenize with add_special_tokens=False"
            warnings.warn(message, stacklevel=4)
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.takes_positions = "position_ids" in takes or "kwargs" in takes

    def next_logits(self, hidden: bool = False):
        """Logits (R, V) in float32 of the token to come; with ``hidden`` also the last layer's states (R, n, H).

        The model sees the n columns that its cache has not: the prompt at first, then one a step.
        """
        columns = slice(self.seen, self.length)
        inputs = {"input_ids": self.ids[:, columns], "past_key_values": self.cache, "use_cache": True, **self.options}
        if self.mask is not None:
            inputs["attention_mask"] = self.mask[:, : self.length]
            if self.takes_positions:
                inputs["position_ids"] = self.positions[:, columns]
        out = self.model(**inputs, output_hidden_states=True) if hidden else self.model(**inputs)
        self.cache, self.seen = getattr(out, "past_key_values", None), self.length
        if not isinstance(getattr(out, "logits", None), Tensor) or self.cache is None:
            given = f"{type(out).__name__} without logits or past_key_values"
            raise TypeError(f"model: one that returns {given} given, a causal language model with a cache is accepted")
        logits = out.logits[:, -1].float()  # (R, V)
        highest = logits.amax()  # NaN if any is
        require(~highest.isnan(), "model: logits without NaN are accepted, {} given", highest)
        return (logits, out.hidden_states[-1]) if hidden else logits

    def process(self, scores: Tensor) -> Tensor:
        """Scores (R, V) after n-gram blocking and the caller's processor."""
        tokens = self.ids[:, : self.length]
        if self.ngram_size:
            scores = block_repeated_ngrams(scores, tokens, self.ngram_size)
        return scores if self.processor is None else self.processor(tokens, scores)

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


def causal_model(model):
    """The names of the arguments of ``model``'s forward, if it is a decoder-only language model."""
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise TypeError(f"model: {type(model).__name__} given, a transformers causal language model is accepted")
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(f"model: {type(model).__name__}, an encoder-decoder, given, a decoder-only causal language model is accepted")
    return inspect.signature(model.forward).parameters.keys()


def check_prompt(model, input_ids, attention_mask, name: str = "input_ids") -> None:
    tensor(name, input_ids, floating=False)
    if input_ids.ndim != 2 or 0 in input_ids.shape or input_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"{name}: {input_ids.dtype} of shape {tuple(input_ids.shape)} given, int64 (B, T) without a zero is accepted")
    embedding = model.get_input_embeddings()
    same_device(name, input_ids, "model", embedding.weight)
    V = embedding.num_embeddings
    require(((input_ids >= 0) & (input_ids < V)).all(), f"{name}: token ids in 0..{V - 1} are accepted, {{}} given", input_ids)
    if attention_mask is None:
        return
    tensor("attention_mask", attention_mask)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask: shape {tuple(attention_mask.shape)} given, {tuple(input_ids.shape)} (B, T) is accepted")
    same_device("attention_mask", attention_mask, name, input_ids)
    require(((attention_mask == 0) | (attention_mask == 1)).all(), "attention_mask: values 0 and 1 are accepted, {} given", attention_mask)


def token_ids(name: str, value, V: int) -> list[int]:
    ids = as_list(value)
    for token in ids:
        number(name, token, 0, V - 1, accepted=f"a token id in 0..{V - 1} (or a list of them)", integer=True)
    return ids


def end_tokens(model, eos_token_id, config) -> list[int]:
    """The caller's end tokens, else those of the generation config."""
    V = model.get_input_embeddings().num_embeddings
    return from_config(config, "eos_token_id", V) if eos_token_id is None else token_ids("eos_token_id", eos_token_id, V)


def from_config(config, name: str, V: int) -> list[int]:
    return [i for i in as_list(getattr(config, name, None)) if 0 <= i < V]  # a small model may keep the ids of a large vocabulary


def as_list(value) -> list:
    """None -> [], 5 -> [5], a list or tensor of ids -> list."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def own_criteria(criteria) -> list:
    """The caller's stopping criteria, less the length and the end tokens that `generate` adds: :class:`Run` has those."""
    criteria = as_list(criteria)
    for criterion in criteria:
        if not callable(criterion):
            raise TypeError(f"stopping_criteria: {type(criterion).__name__} given, a callable (input_ids, scores) or a list of them is accepted")
    return [c for c in criteria if not hasattr(c, "max_length") and not hasattr(c, "eos_token_id")]
