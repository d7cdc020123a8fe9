"""Keyword arguments that all decoding modes share, and what a ``generation_config`` asks for where they are
silent.

Shapes: B prompts, T tokens of the prompt, t tokens so far, V vocabulary.
"""

import copy
import functools
from collections.abc import Callable
from typing import TypedDict

from torch import Tensor

from tricks_lib._checks import number

# What would be another mode or another kind of output, with the value that asks for nothing.
REFUSED = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "penalty_alpha": 0.0,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "constraints": None,
    "force_words_ids": None,
    "stop_strings": None,
    "token_healing": False,
    "return_dict_in_generate": False,
    "use_mtp": False,
}


class Options(TypedDict, total=False):
    """Keyword arguments that all decoding modes share.

    They stand outside the modes' own signatures because ``generate(custom_generate=mode)`` takes from its
    caller what it finds in the signature, and must itself see the mask and the special tokens. Where they are
    not given, the ``generation_config`` decides, and all else that it asks for is done as ``generate`` does
    it; what would be another mode or another kind of output is a ``ValueError``.

    Attributes:
        attention_mask: (B, T), 1 for a token and 0 for padding (on the left); default: every position is a
            token.
        eos_token_id: a row ends with any of these ids; default: the ``generation_config``'s; ``[]``: none.
        pad_token_id: fills a row after its end; default: the ``generation_config``'s, else the first end
            token.
        repetition_penalty: from 1e-3 to 1e3; the logit of a token that the row holds is divided by it if
            positive, multiplied if negative (Keskar et al., "CTRL", 2019, section 4.1); 1: no penalty.
        no_repeat_ngram_size: no n-gram of this size stands twice in a row, prompt included; 0: no limit.
        min_new_tokens: an end token cannot come before so many other new ones; 0: no limit.
        on_token: called with the new tokens (B,) of each step, e.g. ``TextStreamer(tokenizer).put``: a
            streamer so given is ended too; not for beams.
        streamer: gets the prompt, the new tokens of each step and its end, as from ``generate``; not for
            beams.
        logits_processor: (input_ids (B, t), scores (B, V)) -> scores, or a ``LogitsProcessorList``; scores
            are logits or, with beams, log-probabilities: it is then called once per beam, with B rows.
        stopping_criteria: (input_ids (B, t), None) -> (B,) bool, or a ``StoppingCriteriaList``; not for
            beams.
        generation_config: the ``GenerationConfig`` to ask before the model's.
    """

    attention_mask: Tensor | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    min_new_tokens: int | None
    on_token: Callable | None
    streamer: object
    logits_processor: Callable | list | None
    stopping_criteria: Callable | list | None
    generation_config: object


def asked_for(name: str, *configs):
    """What the first config that asks for ``name`` asks for; None where none does. The value that every
    config has (50 for ``top_k`` in transformers 4) asks for nothing.
    """
    for config in configs:
        value = getattr(config, name, None)
        if value is not None and value != getattr(_plain_config(), name, None):
            return value
    return None


def without_fill_ins(config, own):
    """A config that ``generate`` has handed on, less the values that neither its caller nor the model's
    ``own`` config asked for: transformers 5 fills them in.
    """
    fill_ins = getattr(type(config), "_get_default_generation_params", dict)()
    config = copy.copy(config)
    for name, value in fill_ins.items():
        if getattr(config, name, None) == value and getattr(own, name, None) is None:
            setattr(config, name, None)
    return config


@functools.cache
def _plain_config():
    from transformers import GenerationConfig

    return GenerationConfig()


def check_config(generation_config, configs: list, own: set) -> None:
    """Refuse what is no GenerationConfig, and what ``configs`` ask for that no mode can do, or not this one,
    whose own parameters are ``own``.
    """
    if generation_config is not None and not hasattr(generation_config, "eos_token_id"):
        raise TypeError(
            f"generation_config: {type(generation_config).__name__} given, a transformers.GenerationConfig "
            f"is accepted"
        )
    for name, neutral in REFUSED.items():
        value = asked_for(name, *configs)
        if name not in own and value is not None and value != neutral:
            raise ValueError(
                f"{name}: {value!r} is asked for by the generation_config, {neutral!r} is accepted here"
            )


def new_tokens(max_new_tokens, T: int, configs: list) -> int:
    """How many tokens may be added to the T: as given, else as a config says."""
    if max_new_tokens is None:
        max_new_tokens = asked_for("max_new_tokens", *configs)
    if max_new_tokens is None and (whole := asked_for("max_length", *configs)) is not None:
        max_new_tokens = whole - T
    return number("max_new_tokens", max_new_tokens, 1, accepted="a positive integer", integer=True)


def limits(repetition_penalty, no_repeat_ngram_size, min_new_tokens) -> dict:
    """Those of the three that are given, checked."""
    ranges = {
        "repetition_penalty": (repetition_penalty, 1e-3, 1e3, "a number from 1e-3 to 1e3", False),
        "no_repeat_ngram_size": (no_repeat_ngram_size, 0, 2**31, "an integer of at least 0", True),
        "min_new_tokens": (min_new_tokens, 0, 2**31, "an integer of at least 0", True),
    }
    return {
        name: number(name, value, low, high, accepted, integer)
        for name, (value, low, high, accepted, integer) in ranges.items()
        if value is not None
    }
