"""A classifier as a folder: ``config.json``, which says how to build it, and ``model.safetensors``."""

import importlib
import inspect
import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor, nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_config(model: Any, folder: str | os.PathLike, arguments: dict) -> None:
    """Write ``config.json``.

    Args:
        model: holds an ``encoder``.
        folder: is made if it is not there.
        arguments: of the constructor of ``model``, beside the encoder.
    """
    described = {"class": type(model).__name__, "arguments": arguments, "encoder": describe(model.encoder)}
    text = json.dumps(described, indent=2) + "\n"
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / CONFIG).write_text(text)


def save_weights(folder: str | os.PathLike, tensors: dict[str, Tensor]) -> None:
    """Write ``model.safetensors``, each tensor under one name, into a folder that is there."""
    from safetensors.torch import save_file

    tensors = {name: x.contiguous() for name, x in tensors.items()}
    save_file(tensors, Path(folder) / WEIGHTS, metadata={"format": "pt"})


def load(cls: type, folder: str | os.PathLike, encoder: nn.Module | None) -> nn.Module:
    """A ``cls`` from the folder that was written, around ``encoder`` or one built from its config.

    Raises:
        ValueError: ``folder`` holds no ``cls``, or its weights do not fit the encoder.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    described = json.loads((folder / CONFIG).read_text()) if (folder / CONFIG).is_file() else {}
    if described.get("class") != cls.__name__ or not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"folder: {str(folder)!r} given, a folder that {cls.__name__}.save_pretrained wrote is accepted; "
            f"this one holds {described.get('class', 'no classifier')}"
        )
    encoder = build(described["encoder"]) if encoder is None else encoder
    model, saved = cls(encoder, **described["arguments"]), load_file(folder / WEIGHTS)
    for name, x in chain(model.named_parameters(), model.named_buffers()):
        if name in saved:
            x.data = x.data.to(saved[name].dtype)
    try:
        model.load_state_dict(saved)
    except RuntimeError as error:
        raise ValueError(
            f"encoder: the weights in {str(folder)!r} do not fit this {type(model.encoder).__name__}; an "
            f"encoder as it was when it was saved is accepted"
        ) from error
    return model.eval()


def describe(encoder: nn.Module) -> dict | None:
    """What :func:`build` needs; None for a class that is not one of transformers."""
    cls = type(encoder)
    if not cls.__module__.startswith("transformers."):
        return None
    config: Any = encoder.config
    config = json.loads(config.to_json_string(use_diff=False))
    option = "add_pooling_layer"  # of the constructor, not of the config
    without = option in inspect.signature(cls).parameters and getattr(encoder, "pooler", None) is None
    arguments = {option: False} if without else {}
    return {"class": f"{cls.__module__}.{cls.__qualname__}", "config": config, "arguments": arguments}


def build(described: dict | None) -> nn.Module:
    """An encoder as it was described, with random weights.

    Raises:
        ValueError: it is not a class of the installed transformers.
    """
    from transformers import PreTrainedModel

    cls: Any
    module, _, name = described["class"].rpartition(".") if described else ("", "", "None")
    try:
        cls = getattr(importlib.import_module(module), name) if module.startswith("transformers.") else None
    except (ImportError, AttributeError):
        cls = None
    if described is None or not (isinstance(cls, type) and issubclass(cls, PreTrainedModel)):
        raise ValueError(
            f"encoder: None given, and what was saved is no class of the installed transformers "
            f"({module}.{name}); an encoder to load the weights into is accepted"
        )
    kind: Any = cls
    config = kind.config_class.from_dict(described["config"])
    encoder = kind(config, **described.get("arguments", {}))  # folders of the first edition have none
    if encoder.get_input_embeddings() is None:  # a T5Stack of transformers 4 is given its table
        encoder.set_input_embeddings(nn.Embedding(config.vocab_size, config.hidden_size))
    return encoder


def _second_names(module: nn.Module) -> dict[str, str]:
    """Second name of each parameter that has several -> its first: safetensors stores a tensor once."""
    first: dict[int, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in named if first.setdefault(id(p), name) != name}


def drop_second_names(module, state_dict, prefix, local_metadata):
    for name in _second_names(module):
        state_dict.pop(prefix + name, None)


def fill_second_names(module, state_dict, prefix, *_):
    for name, first in _second_names(module).items():
        if prefix + first in state_dict:
            state_dict.setdefault(prefix + name, state_dict[prefix + first])
