"""What every decoding mode accepts: a decoder-only language model, prompts of its vocabulary, ids of special
tokens.

Shapes: B prompts, T tokens of the prompt, V vocabulary.
"""

import inspect

import torch
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor


def causal_model(model):
    """The names of the arguments of ``model``'s forward, if it is a decoder-only language model."""
    if (
        not isinstance(model, nn.Module)
        or not hasattr(model, "config")
        or not hasattr(model, "get_input_embeddings")
    ):
        raise TypeError(
            f"model: {type(model).__name__} given, a transformers causal language model is accepted"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise TypeError(
            f"model: {type(model).__name__}, an encoder-decoder, given, a decoder-only causal language "
            f"model is accepted"
        )
    return inspect.signature(model.forward).parameters.keys()


def positions(model) -> float:
    """How many positions the model has; infinity where it does not say."""
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit if limit is not None and limit > 0 else float("inf")


def check_prompt(model, input_ids, attention_mask, name: str = "input_ids") -> None:
    tensor(name, input_ids, floating=False)
    if input_ids.ndim != 2 or 0 in input_ids.shape or input_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"{name}: {input_ids.dtype} of shape {tuple(input_ids.shape)} given, int64 (B, T) without a "
            f"zero is accepted"
        )
    embedding = model.get_input_embeddings()
    same_device(name, input_ids, "model", embedding.weight)
    V = embedding.num_embeddings
    require(
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
    require(
        ((attention_mask == 0) | (attention_mask == 1)).all(),
        "attention_mask: values 0 and 1 are accepted, {} given",
        attention_mask,
    )


def special_tokens(name: str, given, model, config) -> list[int]:
    """The ids that the caller gives, else those of the generation config."""
    V = model.get_input_embeddings().num_embeddings
    if given is None:
        return [
            i for i in as_list(getattr(config, name, None)) if 0 <= i < V
        ]  # a small model may keep the ids of a large vocabulary
    for token in (ids := as_list(given)):
        number(name, token, 0, V - 1, accepted=f"a token id in 0..{V - 1} (or a list of them)", integer=True)
    return ids


def as_list(value) -> list:
    """None -> [], 5 -> [5], a list or tensor of ids -> list."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
