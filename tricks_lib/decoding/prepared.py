"""What ``generate`` prepares for a decoding mode: mask, positions, cache, and the logits processors and
stopping criteria that a ``generation_config`` asks for.

Under ``generate(custom_generate=mode)`` a mode is handed all of it. Called alone, it has ``generate`` prepare
the same, by a ``custom_generate`` that hands it back. So nothing is made here that ``generate`` could make
otherwise.
Shapes: B prompts, T tokens of the prompt.
"""

import copy
import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tricks_lib.decoding.feed import Feed, PlainFeed
from tricks_lib.decoding.prompt import as_list

# Beside the options, `generate` hands these on. The model sees them; any other is refused.
INPUTS = {
    "cache",
    "past_key_values",
    "cache_params",
    "position_ids",
    "cache_position",
    "use_cache",
    "logits_to_keep",
    "output_attentions",
    "output_hidden_states",
}


@dataclass
class Prepared:
    """What a run starts from.

    Attributes:
        model: the one to run, out of a wrapper. ids: (B, T). feed: how the model sees them. processors,
        criteria: callables, in ``generate``'s order.
    """

    model: nn.Module
    ids: Tensor
    feed: Feed | PlainFeed
    processors: list
    criteria: list


def by_generate_now(model, ids, attention_mask, config, changes: dict, processors: list, takes) -> Prepared:
    """For a mode that is called alone.

    Args:
        config: the GenerationConfig given, or None. changes: what it is to say. processors: the caller's.
        takes: the names of the forward's arguments.
    """
    if not _generates_as_others_do(model):
        raise TypeError(
            f"model: {type(model).__name__}, which has a generate of its own kind, given; one that generates "
            f"as transformers' GenerationMixin is accepted"
        )
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.long()
    inputs = {"attention_mask": mask} if "attention_mask" in takes else {}
    if config is None:
        inputs |= changes
    else:  # transformers advises against a config beside keyword arguments
        config = copy.deepcopy(config)
        for name, value in changes.items():
            setattr(config, name, value)
    inner, ids, handed = model.generate(
        ids,
        generation_config=config,
        logits_processor=processors or None,
        custom_generate=lambda model, ids, **handed: (model, ids, handed),
        **inputs,
    )
    return unpacked(inner, ids, handed)


def _generates_as_others_do(model) -> bool:
    """A wrapper's ``generate(*args, **kwargs)``, as PEFT's, is that of the model inside."""
    from transformers import GenerationMixin

    takes = inspect.signature(model.generate).parameters
    return "custom_generate" in takes or not isinstance(model, GenerationMixin)


def unpacked(model, ids: Tensor, handed: dict) -> Prepared:
    """What ``generate`` hands to its modes."""
    config = handed["generation_config"]
    inputs = {name: value for name, value in handed.items() if name in INPUTS} | {"use_cache": True}
    if handed.get("attention_mask") is not None:
        inputs["attention_mask"] = handed["attention_mask"]
    criteria = [one for one in as_list(handed["stopping_criteria"]) if not _is_built_in(one, config)]
    return Prepared(model, ids, Feed(model, ids, inputs), as_list(handed["logits_processor"]), criteria)


def _is_built_in(criterion, config) -> bool:
    """Whether ``generate`` made it of the config's length or end tokens, which a run knows itself."""
    kind = type(criterion).__name__
    return kind == "EosTokenCriteria" or (
        kind == "MaxLengthCriteria" and criterion.max_length == config.max_length
    )


def plain(model, ids, attention_mask, changes: dict, processors: list, takes) -> Prepared:
    """For a module without ``generate``: what it is asked for beyond n-grams is refused."""
    for name in ("repetition_penalty", "min_new_tokens"):
        if name in changes:
            raise ValueError(
                f"{name}: {changes[name]} given with {type(model).__name__}, which has no generate; None is "
                f"accepted"
            )
    return Prepared(model, ids, PlainFeed(model, takes, attention_mask), processors, [])
