"""What every decoding mode accepts: a decoder-only language model, prompts of its vocabulary, ids of special
tokens.

Shapes: B prompts, T tokens of the prompt, V vocabulary.
"""

import inspect

import torch
from torch import Tensor, nn

from tricks_lib._checks import number, require_now, same_device, tensor

CAUSAL = "a decoder-only causal language model is accepted"


def causal_model(model):
    """The names of the arguments of the forward, inside any wrapper, if ``model`` is a decoder-only language
    model.
    """
    if (
        not isinstance(model, nn.Module)
        or not hasattr(model, "config")
        or not hasattr(model, "get_input_embeddings")
    ):
        raise TypeError(
            f"model: {type(model).__name__} given, a transformers causal language model is accepted"
        )
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(f"model: {name}, an encoder-decoder, given, {CAUSAL}")
    if not getattr(model, "can_generate", lambda: True)():
        raise TypeError(f"model: {name}, which cannot generate, given, {CAUSAL}")
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise TypeError(f"model: {name} with virtual tokens of prompt learning given, {CAUSAL}")
    is_decoder = next((vars(m)["is_decoder"] for m in model.modules() if "is_decoder" in vars(m)), True)
    if not is_decoder:
        raise TypeError(
            f"model: {name} with is_decoder=False, whose tokens see those after them, given, {CAUSAL}"
        )
    inner = getattr(model, "_orig_mod", model)  # of torch.compile
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # of PEFT
    return inspect.signature(inner.forward).parameters.keys()


def left_to_right(model):
    """The names of the forward's arguments, if the state of a token is what predicts the next one."""
    takes = causal_model(model)
    masked = getattr(model.config, "model_type", None) in ("xlnet", "xlm", "flaubert")
    if masked and not getattr(model.config, "causal", False):
        raise TypeError(
            f"model: {type(model).__name__}, which predicts masked or permuted tokens, given, {CAUSAL}"
        )
    return takes


def positions(model) -> float:
    """How many positions the model has; infinity where it does not say, or where rotary positions are scaled:
    how far they then reach is the scaling's.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit <= 0 or _scaled(model.config):
        return float("inf")
    return limit


def positions_of(attention_mask: Tensor) -> Tensor:
    """The number of each token in its row (B, T), from 0 on, as ``generate`` counts; 0 for padding."""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0) * attention_mask.long()


def _scaled(config) -> bool:
    """Whether the config scales rotary positions, in all layers or in those of some kind."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(one for one in rope.values() if isinstance(one, dict))]
    return any(one.get("rope_type", one.get("type", "default")) != "default" for one in kinds)


def check_prompt(model, input_ids, attention_mask, name: str = "input_ids") -> None:
    tensor(name, input_ids, floating=False)
    if input_ids.ndim != 2 or 0 in input_ids.shape or input_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"{name}: {input_ids.dtype} of shape {tuple(input_ids.shape)} given, int32 or int64 (B, T) "
            f"without a zero is accepted"
        )
    embedding = model.get_input_embeddings()
    same_device(name, input_ids, "model", embedding.weight)
    V = vocabulary(model)
    require_now(
        ((input_ids >= 0) & (input_ids < V)).all(),
        f"{name}: token ids in 0..{V - 1} are accepted, {{}} given",
        input_ids,
    )
    if attention_mask is None:
        return
    tensor("attention_mask", attention_mask)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask: shape {tuple(attention_mask.shape)} given, {tuple(input_ids.shape)} (B, T) is "
            f"accepted"
        )
    same_device("attention_mask", attention_mask, name, input_ids)
    require_now(
        ((attention_mask == 0) | (attention_mask == 1)).all(),
        "attention_mask: values 0 and 1 are accepted, {} given",
        attention_mask,
    )


def check_room(model, takes, input_ids: Tensor, attention_mask, new: int) -> bool:
    """Whether there is padding: it is on the left, and only where the model takes a mask. The model must have
    positions for ``new`` tokens more.
    """
    longest, padded = input_ids.shape[1], False
    if attention_mask is not None:
        last, longest = attention_mask[:, -1], int(attention_mask.sum(dim=1).max())
        padded = not bool((attention_mask == 1).all())
        require_now(
            (last == 1).all(),
            "attention_mask: a last column of ones (padding on the left) is accepted, {} given",
            last,
        )
    if padded and "attention_mask" not in takes:
        raise ValueError(
            f"attention_mask: one with padding given for {type(model).__name__}, whose forward takes none; "
            f"only ones are accepted"
        )
    if longest + new > (limit := positions(model)):
        raise ValueError(
            f"max_new_tokens: {new} tokens to look at given after a prompt of {longest}, the model's {limit} "
            f"positions are accepted"
        )
    return padded


def vocabulary(model) -> int:
    embedding = model.get_input_embeddings()
    return getattr(embedding, "num_embeddings", None) or len(embedding.weight)


def special_tokens(name: str, given, model, configs: list) -> list[int]:
    """The ids that the caller gives, else those of the first generation config that has any."""
    V = vocabulary(model)
    if given is None:
        ids = next((ids for config in configs if (ids := as_list(getattr(config, name, None)))), [])
        return [i for i in ids if 0 <= i < V]  # a small model may keep the ids of a large vocabulary
    accepted = f"a token id in 0..{V - 1} (or a list of them)"
    return [number(name, token, 0, V - 1, accepted=accepted, integer=True) for token in as_list(given)]


def as_list(value) -> list:
    """None -> [], 5 -> [5], a list or tensor of ids -> list."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
