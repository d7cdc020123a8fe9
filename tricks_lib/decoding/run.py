"""What every decoding mode shares: a prompt, the model's key-value cache, and the next token's logits.

Without a cache, step t computes all t positions again: 1 + 2 + ... + T forwards of a column. With it, each step computes
one column and reads the keys and values of the others.
Shapes: B prompts, R rows under way (B times beams or candidates), T tokens of the prompt, V vocabulary, H hidden.
"""

import inspect
import warnings

import torch
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor
from tricks_lib.decoding.filters import block_repeated_ngrams

# What `generate(custom_generate=...)` hands on beside the arguments of a mode. The cache and the positions are made anew here.
FROM_GENERATE = {"past_key_values", "position_ids", "cache_position", "use_cache", "logits_to_keep", "synced_gpus", "streamer"}


class Run:
    """Rows of tokens that grow: ``next_logits`` -> ``process`` -> ``append``; ``select`` picks and repeats rows.

    Attributes:
        ids: (R, T + max_new_tokens), tokens, padding where none is yet. length: columns in use. mask: as ids, or None.
        eos: list of token ids that end a row. pad: the id that fills a row which has ended.
    """

    def __init__(self, model, input_ids, max_new_tokens, attention_mask, eos_token_id, pad_token_id, no_repeat_ngram_size,
                 logits_processor, stopping_criteria, generation_config, from_generate):  # fmt: skip
        self.forward, takes = causal_model(model)
        if model.training:
            raise ValueError("model: one in training mode given, where dropout changes the tokens; model.eval() is accepted")
        check_prompt(model, input_ids, attention_mask)
        for name in from_generate.keys() - FROM_GENERATE:
            raise TypeError(f"{name}: given, but no argument of this mode or of its model's cache; input_ids and attention_mask are accepted")
        if (cache := from_generate.get("past_key_values")) is not None and cache.get_seq_length():
            raise ValueError(f"past_key_values: a cache of {cache.get_seq_length()} tokens given, an empty one is accepted")
        config = model.generation_config if generation_config is None and hasattr(model, "generation_config") else generation_config
        if getattr(generation_config, "num_beams", None) not in (None, 1):
            raise ValueError("num_beams: given to generate, which repeated the rows for it; it is accepted as the mode's own argument")

        B, T = input_ids.shape
        V = model.get_input_embeddings().num_embeddings
        if max_new_tokens is None and generation_config is not None:
            max_new_tokens = generation_config.max_length - T
        number("max_new_tokens", max_new_tokens, 1, accepted="a positive integer", integer=True)
        number("no_repeat_ngram_size", no_repeat_ngram_size, 0, accepted="an integer of at least 0 (0: none)", integer=True)
        self.eos = token_ids("eos_token_id", eos_token_id, V)
        if eos_token_id is None:
            self.eos = from_config(config, "eos_token_id", V)
        pad = token_ids("pad_token_id", pad_token_id, V) or from_config(config, "pad_token_id", V) or self.eos or [0]
        self.pad, self.max_new_tokens, self.ngram_size = pad[0], max_new_tokens, no_repeat_ngram_size
        self.processor, self.criteria = logits_processor, own_criteria(stopping_criteria)
        for name, value in {"logits_processor": logits_processor, "stopping_criteria": stopping_criteria}.items():
            if value is not None and not callable(value):
                raise TypeError(f"{name}: {type(value).__name__} given, a callable (input_ids, scores) is accepted")

        self.ids = input_ids.new_full((B, T + max_new_tokens), self.pad)  # (R, T + new)
        self.ids[:, :T] = input_ids
        self.length, self.seen, self.cache, self.mask = T, 0, None, None
        longest = T
        if attention_mask is not None and not (attention_mask == 1).all():
            require((attention_mask[:, -1] == 1).all(), "attention_mask: a last column of ones (padding on the left) is accepted, {} given", attention_mask[:, -1])
            self.mask = attention_mask.new_ones(self.ids.shape, dtype=torch.long)
            self.mask[:, :T] = attention_mask
            longest = int(attention_mask.sum(dim=1).max())
            self.positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        if T > 1 and self.eos and any(token in self.eos for token in input_ids[:, -1].tolist()):
            warnings.warn("input_ids: a prompt closes with an end token, and the model goes on after it; tokenizer(..., add_special_tokens=False) is accepted", stacklevel=4)
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit and longest + max_new_tokens > limit:
            raise ValueError(f"max_new_tokens: {max_new_tokens} given after a prompt of {longest} tokens, {limit} positions in all are accepted")
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
        out = self.forward(**inputs, output_hidden_states=True) if hidden else self.forward(**inputs)
        self.cache, self.seen = getattr(out, "past_key_values", None), self.length
        if not isinstance(getattr(out, "logits", None), Tensor) or self.cache is None:
            raise TypeError(f"model: {type(out).__name__} without logits or past_key_values came from it, a causal language model with a cache is accepted")
        logits = out.logits[:, -1].float()  # (R, V)
        highest = logits.amax()  # NaN if any is
        require(~highest.isnan(), "model: logits without NaN are accepted, {} given", highest)
        return (logits, out.hidden_states[-1]) if hidden else logits

    def process(self, scores: Tensor) -> Tensor:
        """Scores (R, V) after n-gram blocking and the caller's processor."""
        tokens = self.ids[:, : self.length]
        if self.ngram_size:
            mask = None if self.mask is None else self.mask[:, : self.length]
            scores = block_repeated_ngrams(scores, tokens, self.ngram_size, mask)
        return scores if self.processor is None else self.processor(tokens, scores)

    def append(self, tokens: Tensor) -> None:
        """One more column: tokens (R,)."""
        self.ids[:, self.length] = tokens
        self.length += 1

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` (R',) of the R, in that order; one may stand there several times."""
        self.ids = self.ids[rows]
        if self.mask is not None:
            self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.cache.reorder_cache(rows)

    def ends(self, tokens: Tensor) -> Tensor:
        """(R,) bool: rows that end with the tokens (R,) just appended."""
        ended = torch.zeros_like(tokens, dtype=torch.bool)
        for token in self.eos:
            ended |= tokens == token
        for criterion in self.criteria:
            ended |= criterion(self.ids[:, : self.length], None)
        return ended


def causal_model(model):
    """``model`` and the names of its forward's arguments, if it is a decoder-only language model."""
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise TypeError(f"model: {type(model).__name__} given, a transformers causal language model is accepted")
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(f"model: {type(model).__name__}, an encoder-decoder, given, a decoder-only causal language model is accepted")
    return model, inspect.signature(model.forward).parameters.keys()


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


def from_config(config, name: str, V: int) -> list[int]:
    return [i for i in as_list(getattr(config, name, None)) if i < V]  # a small model may keep the ids of a large vocabulary


def as_list(value) -> list:
    """None -> [], 5 -> [5], a list or tensor of ids -> list."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def own_criteria(criteria) -> list:
    """The caller's stopping criteria, less the length and the end tokens that `generate` adds: :class:`Run` has those."""
    criteria = criteria if isinstance(criteria, list) else [] if criteria is None else [criteria]
    return [c for c in criteria if not hasattr(c, "max_length") and not hasattr(c, "eos_token_id")]
