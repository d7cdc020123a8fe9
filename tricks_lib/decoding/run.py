"""What every decoding mode shares: rows of tokens that grow, the next token's logits, and their end.

Shapes: B prompts, R rows under way (B times beams or candidates), T tokens of the prompt, V vocabulary, H
hidden.
"""

import warnings

import torch
from torch import Tensor

from tricks_lib._checks import require_now
from tricks_lib.decoding.ngrams import block_repeated_ngrams
from tricks_lib.decoding.options import (
    REFUSED,
    Options,
    asked_for,
    check_config,
    limits,
    new_tokens,
    without_fill_ins,
)
from tricks_lib.decoding.prepared import INPUTS, by_generate_now, plain, unpacked
from tricks_lib.decoding.prompt import as_list, causal_model, check_prompt, check_room, special_tokens
from tricks_lib.decoding.streaming import Stream, streamer_of_generate


class Run:
    """Rows of tokens that grow: ``next_logits`` -> ``process`` -> ``take``; ``repeat`` makes K rows of each
    prompt, ``select`` picks among them. As a context, it ends the caller's streamer.

    Args:
        own: names of the mode's own parameters, which ``asked_for`` reads from the generation config.
        do_sample: whether the config's temperature and filters are meant. looks_at_last: whether the model
            sees the last new token as well.

    Attributes:
        ids: (R, T + max_new_tokens), tokens, padding where none is yet. length: columns in use. each: R / B.
        eos: list of token ids that end a row. pad: the id that fills a row which has ended. done: (B,) bool.
    """

    def __init__(
        self,
        model,
        input_ids,
        max_new_tokens,
        own=(),
        do_sample=False,
        looks_at_last=False,
        *,
        attention_mask=None,
        eos_token_id=None,
        pad_token_id=None,
        repetition_penalty=None,
        no_repeat_ngram_size=None,
        min_new_tokens=None,
        on_token=None,
        streamer=None,
        logits_processor=None,
        stopping_criteria=None,
        generation_config=None,
        **handed,
    ):
        takes = causal_model(model)
        if model.training:
            raise ValueError(
                "model: one in training mode given, where dropout changes the tokens; model.eval() is "
                "accepted"
            )
        check_prompt(model, input_ids, attention_mask)
        under_generate = "use_cache" in handed  # `generate` hands it on; it is no option
        _check_handed(handed)
        self.configs = [generation_config, own_config := getattr(model, "generation_config", None)]
        if under_generate:
            self.configs = [without_fill_ins(generation_config, own_config)]
        check_config(generation_config, self.configs, set(own))
        T, given = input_ids.shape[1], limits(repetition_penalty, no_repeat_ngram_size, min_new_tokens)
        self.max_new_tokens = new_tokens(max_new_tokens, T, self.configs)
        self.eos = special_tokens("eos_token_id", eos_token_id, model, self.configs)
        self.pad = (special_tokens("pad_token_id", pad_token_id, model, self.configs) or self.eos or [0])[0]
        seen = self.max_new_tokens - (not looks_at_last)
        padded = check_room(model, takes, input_ids, attention_mask, seen)
        if looks_at_last and "static" in (kind := str(self.asked_for("cache_implementation", None, ""))):
            raise ValueError(
                f"cache_implementation: {kind!r}, without a place for the last token, is asked for by the "
                f"generation_config; a cache that grows is accepted"
            )
        processors = callables("logits_processor", logits_processor)
        criteria = callables("stopping_criteria", stopping_criteria)

        self.ngram_size = given.get("no_repeat_ngram_size", 0)
        if under_generate:
            _check_under_generate(generation_config, given, set(own), T + self.max_new_tokens)
            passed = {"attention_mask": attention_mask, "generation_config": generation_config}
            passed |= {"logits_processor": processors, "stopping_criteria": criteria}
            ready, criteria = unpacked(model, input_ids, handed | passed), []
        elif not hasattr(model, "prepare_inputs_for_generation"):
            ready = plain(model, input_ids, attention_mask if padded else None, given, processors, takes)
        else:
            changes = given | self._changes(given, set(own), do_sample)
            config = generation_config
            ready = by_generate_now(model, input_ids, attention_mask, config, changes, processors, takes)
        self.model, self.feed, self.processors = ready.model, ready.feed, ready.processors
        self.criteria, self.B, self.each, self.length = ready.criteria + criteria, len(ready.ids), 1, T
        self.ids = ready.ids.new_full((self.B, T + self.max_new_tokens), self.pad)  # (R, T + new)
        self.ids[:, :T] = ready.ids
        self.done = torch.zeros(self.B, dtype=torch.bool, device=self.ids.device)
        if under_generate and streamer is None:
            streamer = streamer_of_generate()
        self.stream = Stream(on_token, streamer, self.B, None if under_generate else ready.ids)
        if T > 1 and any(token in self.eos for token in input_ids[:, -1].tolist()):
            warnings.warn(
                "input_ids: a prompt closes with an end token, and the model goes on after it; tokenize with "
                "add_special_tokens=False",
                stacklevel=4,
            )

    def _changes(self, given: dict, own: set, do_sample: bool) -> dict:
        """What the config is to say to ``generate``, whatever it says: the mode, and what is checked here."""
        changes = {"max_new_tokens": self.max_new_tokens, "use_cache": True, "do_sample": do_sample}
        changes |= {"eos_token_id": self.eos, "pad_token_id": self.pad, "num_beams": 1}
        if do_sample:
            changes["top_k"] = self.asked_for("top_k", None, 0)  # not the 50 that `generate` adds
        for name in own & REFUSED.keys() - {"num_return_sequences" if do_sample else None}:
            if asked_for(name, *self.configs) is not None:
                changes[name] = REFUSED[name]
        if "no_repeat_ngram_size" in given:
            changes["no_repeat_ngram_size"] = 0
        return changes

    def asked_for(self, name: str, given, default):
        """A mode's parameter: the one given, else what a generation config asks for, else the default."""
        wish = given if given is not None else asked_for(name, *self.configs)
        return default if wish is None else wish

    def __enter__(self):
        self.stream.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.stream.__exit__(*error)

    def next_logits(self, hidden: bool = False):
        """Logits (R, V) in float32 of the token to come; with ``hidden`` also the last layer's states (R, n,
        H) of the n columns that the model had not seen: the prompt at first, then one a step.
        """
        wanted = {"output_hidden_states": True} if hidden else {}
        out = self.feed.forward(self.ids[:, : self.length], **wanted)
        if not isinstance(getattr(out, "logits", None), Tensor):
            raise TypeError(
                f"model: one that returns {type(out).__name__} without logits given, a causal language "
                f"model is accepted"
            )
        logits = out.logits[:, -1].float()  # (R, V)
        highest = logits.amax()  # NaN if any is
        require_now(~highest.isnan(), "model: logits without NaN are accepted, {} given", highest)
        return (logits, out.hidden_states[-1]) if hidden else logits

    def process(self, scores: Tensor) -> Tensor:
        """Scores (B, V), or (R, V) of beams, after n-gram blocking and the processors, which see B rows."""
        tokens = self.ids[:: len(self.ids) // len(scores), : self.length]
        if self.ngram_size:
            scores = block_repeated_ngrams(scores, tokens, self.ngram_size)
        if not self.processors:
            return scores
        beams = len(scores) // self.B
        processed = [self._processed(tokens[i::beams], scores[i::beams]) for i in range(beams)]  # (B, V) each
        return processed[0] if beams == 1 else torch.stack(processed, dim=1).flatten(0, 1)

    def _processed(self, tokens: Tensor, scores: Tensor) -> Tensor:
        for processor in self.processors:
            processed = processor(tokens, scores)
            if not isinstance(processed, Tensor) or processed.shape != scores.shape:
                given = tuple(processed.shape) if isinstance(processed, Tensor) else type(processed).__name__
                raise ValueError(
                    f"logits_processor: one that returns {given} given, scores {tuple(scores.shape)} (B, V) "
                    f"are accepted"
                )
            scores = processed
        return scores

    def take(self, tokens: Tensor) -> bool:
        """One more column, tokens (B,): padding in rows that have ended; True when all have."""
        tokens = tokens.masked_fill(self.done, self.pad)
        self.append(tokens if self.each == 1 else tokens.repeat_interleave(self.each))
        if self.stream:
            self.stream.put(tokens)
        for token in self.eos:
            self.done |= tokens == token
        for criterion in self.criteria:
            self.done |= criterion(self.ids[:: self.each, : self.length], None)
        return bool(self.eos or self.criteria) and bool(self.done.all())

    def append(self, tokens: Tensor) -> None:
        self.ids[:, self.length] = tokens
        self.length += 1

    def repeat(self, times: int) -> None:
        """``times`` rows of each prompt, one below the other, before the first step."""
        prompts = self.feed.repeat(self.ids[:, : self.length], times)
        self.ids = torch.cat([prompts, self.ids[:, self.length :].repeat_interleave(times, dim=0)], dim=1)
        self.each = times

    def select(self, rows: Tensor, candidates: bool = False) -> None:
        """Keep ``rows`` (R,), in that order, each of the prompt whose place it takes."""
        self.ids = self.ids[rows]
        self.feed.select(rows, candidates)


def _check_handed(handed: dict) -> None:
    """What cannot be honoured is an error, never ignored."""
    for name in sorted(handed.keys() - INPUTS - {"synced_gpus"}):
        raise TypeError(
            f"{name}: given, but accepted are the mode's own arguments and "
            f"{', '.join(Options.__annotations__)}"
        )
    for name in ("cache", "past_key_values"):
        if (cache := handed.get(name)) is not None and cache.get_seq_length():
            raise ValueError(
                f"{name}: a cache of {cache.get_seq_length()} tokens given, an empty one is accepted"
            )
    if handed.get("synced_gpus"):
        raise ValueError("synced_gpus: True given, False is accepted")


def _check_under_generate(config, given: dict, own: set, length: int) -> None:
    """What ``generate`` has prepared before it calls a mode, and the mode cannot undo."""
    for name in {"num_beams", "num_return_sequences"} & own if "num_beams" in own else ():
        if getattr(config, name, None) not in (None, 1):
            raise ValueError(
                f"{name}: given to generate, which repeated the rows for it; it is accepted as the mode's "
                f"own argument"
            )
    for name in given.keys() - {"no_repeat_ngram_size"}:
        raise ValueError(f"{name}: given to a mode under generate; it is accepted as an argument of generate")
    if getattr(config, "forced_eos_token_id", None) is not None and config.max_length != length:
        raise ValueError(
            f"forced_eos_token_id: asked for at {config.max_length} tokens, where generate ends, with "
            f"max_new_tokens that ends at {length}; one length for both is accepted"
        )


def callables(name: str, given) -> list:
    for one in (many := as_list(given)):
        if not callable(one):
            raise TypeError(
                f"{name}: {type(one).__name__} given, a callable (input_ids, scores) or a list of them is "
                f"accepted"
            )
    return many
