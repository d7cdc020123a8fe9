"""Layer-wise learning rates: the nearer to the input, the smaller the step.

A pretrained encoder's lower layers hold what every text needs; fine-tuning should move them least. With base
rate lr, decay d <= 1 and n layers, numbered 0 to n-1 from the input,

    lr(layer i)           = lr * d^(n-1-i)                                                      (1)
    lr(embeddings)        = lr * d^n                                                            (2)
    lr(pooler, last norm) = lr                                                                  (3)
    lr(head)              = head_lr, or lr                                                      (4)

Every trainable parameter is in exactly one group; one that finds no layer is an error, not a default.

Sources: Howard & Ruder, "ULMFiT", ACL 2018, section 3.2 (d = 1/2.6); Sun et al., "How to Fine-Tune BERT for
Text Classification?", CCL 2019, "layer-wise decreasing layer rate" (d = 0.95); Clark et al., "ELECTRA", ICLR
2020, model/optimization.py, whose rates of embeddings and layers are those here times d^2. Ratios between
layers agree.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from tricks_lib._checks import number

__all__ = ["layer_decay_groups"]

# Where a parameter stands, by its full path inside the encoder: never by a substring, where "layer.1" is also
# "layer.10".
LAYER = re.compile(
    r"(?:text_model\.)?(?:(?:encoder|transformer)\.layers?|encoder\.albert_layer_groups|layers?|h|block)\.(\d+)\."
)
EMBEDDINGS = re.compile(
    r"(?:text_model\.)?(?:embeddings|embeddings_project|word_embedding|mask_emb|wte|wpe"
    r"|embed_tokens|embed_positions|layernorm_embedding|embed_in|project_in|pre_layrnorm"
    # tables of relative positions that all layers share (DeBERTa, MPNet); ALBERT
    r"|encoder\.(?:rel_embeddings|relative_attention_bias|embedding_hidden_mapping_in))(?:\.|$)"
)
FIRST_LAYER = re.compile(r"encoder\.conv\.")  # DeBERTa-v2 adds a convolution to the output of layer 0
TOP = re.compile(
    r"(?:text_model\.)?(?:pooler|ln_f|final_norm|norm|final_layer_norm|layer_norm|post_layernorm|project_out)\."
)
# DeBERTa-v2 normalises its table of relative positions, XLM-RoBERTa-XL the output of the last layer
ENCODER_NORM, RELATIVE_POSITIONS = "encoder.LayerNorm.", "encoder.rel_embeddings."


class Place(NamedTuple):
    """Where a parameter stands: ``part`` is embeddings, layer, top or head; ``above`` counts the layers from
    it to the output.
    """

    name: str
    parameter: nn.Parameter
    part: str
    above: int
    layer: int | None = None


def layer_decay_groups(
    model: nn.Module,
    lr: float,
    decay: float = 0.95,
    head_lr: float | None = None,
    weight_decay: float = 0.0,
    layer_of: Callable[[str], int | None] | None = None,
    min_lr: float = 0.0,
) -> list[dict]:
    """Parameter groups for any torch optimizer, rates by equations (1) to (4).

    Knows BERT, RoBERTa, XLM-RoBERTa-XL, DeBERTa, ELECTRA, DistilBERT, ALBERT, MPNet, XLNet, ModernBERT,
    GPT-2, GPT-NeoX, OPT, Llama, BART, T5 and CLIP, at any depth inside ``model``, also under PEFT. Weights
    that several layers share (ALBERT) take the rate of the topmost; an output layer tied to the embeddings is
    the embeddings. Encoder and decoder are numbered each by itself; the embeddings that they share count with
    the encoder. Biases, norms and other vectors get no weight decay.

    Args:
        model: a Hugging Face encoder, or a module that holds one or more; everything outside them is the
            head. With ``layer_of`` any module.
        lr: rate of the top layer.
        decay: d in (0, 1]; 1 gives one rate.
        head_lr: rate of the head; default: ``lr``.
        weight_decay: of the matrices.
        layer_of: your own map: from the name of a parameter to the number of its layer, 0 nearest to the
            input, -1 for the embeddings, or None where the rules above shall decide. With it, one numbering
            holds for the whole model, and what neither the map nor an encoder knows is the head.
        min_lr: floor of the rates of layers and embeddings, at most ``lr``.

    Returns:
        list of ``{"params", "lr", "weight_decay", "name"}``, name being ``"embeddings"``, ``"layer 0"``, ...,
        ``"top"`` or ``"head"``; none is empty, no parameter is in two, frozen ones are in none.

    Raises:
        TypeError: ``model`` is not a module, ``layer_of`` is not callable, or a number is not one.
        ValueError: ``model`` holds no encoder, no trainable parameter, or one that belongs to no layer (it is
            named, with what was matched); a number is out of range.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> size = dict(hidden_size=8, num_attention_heads=2, intermediate_size=8, vocab_size=9)
        >>> bert = BertModel(BertConfig(num_hidden_layers=2, **size))
        >>> for group in layer_decay_groups(bert, lr=1.0, decay=0.5):
        ...     print(group["name"], group["lr"], len(group["params"]))
        embeddings 0.25 5
        layer 0 0.5 16
        layer 1 1.0 16
        top 1.0 2
    """
    number("lr", lr, 0.0)
    number("decay", decay, sys.float_info.min, 1.0, accepted="a number in (0, 1]")
    number(
        "head_lr", lr if head_lr is None else head_lr, 0.0, accepted="a finite number of at least 0, or None,"
    )
    number("weight_decay", weight_decay, 0.0)
    number("min_lr", min_lr, 0.0, lr, accepted=f"a number from 0 to lr {lr}")
    placed = [place for place in places(model, layer_of) if place.parameter.requires_grad]
    if not placed:
        raise ValueError("model: no trainable parameter given, at least one is accepted")
    norms = {
        id(p)
        for m in model.modules()
        if "norm" in type(m).__name__.lower()
        for p in m.parameters(recurse=False)
    }
    groups: dict[tuple, dict] = {}
    for name, p, part, above, layer in placed:
        head = lr if head_lr is None else head_lr
        rate = head if part == "head" else max(min_lr, lr * decay**above)
        plain = p.ndim <= 1 or name.endswith("bias") or id(p) in norms
        label = part if layer is None else f"layer {layer}"
        group = {"params": [], "lr": rate, "weight_decay": 0.0 if plain else weight_decay, "name": label}
        groups.setdefault((label, rate, group["weight_decay"]), group)["params"].append(p)
    return list(groups.values())


def places(model: nn.Module, layer_of: Callable[[str], int | None] | None = None) -> list[Place]:
    """The place of every parameter of ``model``, each once, encoders first.

    Args:
        model, layer_of: as :func:`layer_decay_groups`.

    Returns:
        one :class:`Place` a parameter; frozen parameters that belong to no layer are left out.

    Raises:
        TypeError, ValueError: as :func:`layer_decay_groups`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: {type(model).__name__} given, a torch.nn.Module is accepted")
    mapped = _mapped(model, layer_of)  # id -> layer
    encoders = _encoders(model)
    if not encoders and layer_of is None:
        raise ValueError(
            f"model: {type(model).__name__} holds no encoder; a Hugging Face model, a module with one "
            f"inside, or your own map layer_of is accepted"
        )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}  # id -> part, layer, depth of its encoder
    for encoder in encoders:
        n = _layers(encoder)[1]
        for key, spot in _spots(encoder, names, mapped).items():
            found.setdefault(key, spot and (*spot, n))
    if mapped:
        n = 1 + max([*mapped.values(), *(spot[2] - 1 for spot in found.values() if spot)])
        found = {key: spot and (*spot[:2], n) for key, spot in found.items()}
        found |= {key: ("embeddings", None, n) if i < 0 else ("layer", i, n) for key, i in mapped.items()}
    parameters = {id(p): p for p in model.parameters()}
    found |= {key: ("head", None, 0) for key in parameters if key not in found}
    return [
        Place(names[key], parameters[key], part, {"embeddings": n, "layer": n - 1 - (i or 0)}.get(part, 0), i)
        for key, (part, i, n) in ((key, spot) for key, spot in found.items() if spot)
    ]


def depth(encoder: nn.Module) -> int:
    """Layers that ``encoder`` really has; what its config says where their names are not known."""
    inner = _encoders(encoder)
    return (_layers(inner[0])[1] if len(inner) == 1 else 0) or encoder.config.num_hidden_layers


def _encoders(model: nn.Module) -> list[nn.Module]:
    """The innermost modules that have layers and input embeddings."""

    def is_encoder(module):
        config = getattr(module, "config", None)
        return hasattr(config, "num_hidden_layers") and hasattr(module, "get_input_embeddings")

    candidates = [m for m in model.modules() if is_encoder(m)]
    return [m for m in candidates if not any(is_encoder(c) for c in m.modules() if c is not m)]


def _layers(encoder: nn.Module) -> tuple[dict[int, int], int]:
    """Number in a parameter's name -> layer, and the number of layers."""
    numbers = {int(match[1]) for name, _ in encoder.named_parameters() if (match := LAYER.match(name))}
    if groups := getattr(encoder.config, "num_hidden_groups", None):  # ALBERT: n layers share a few weights
        n = encoder.config.num_hidden_layers
        # as AlbertTransformer.forward; the topmost use stays
        return {int(i / (n / groups)): i for i in range(n)}, n
    return {i: i for i in numbers}, max(numbers, default=-1) + 1


def _spots(encoder: nn.Module, names: dict[int, str], mapped: dict[int, int]) -> dict:
    """id -> part and layer of the encoder's parameters beside the mapped ones; None: unknown, but frozen."""
    (index, _), spots, unknown = _layers(encoder), {}, []
    named = list(encoder.named_parameters())
    relative = any(name.startswith(RELATIVE_POSITIONS) for name, _ in named)
    for name, p in named:
        if id(p) in mapped:
            continue
        if (match := LAYER.match(name)) and int(match[1]) in index:
            spots[id(p)] = ("layer", index[int(match[1])])
        elif FIRST_LAYER.match(name):
            spots[id(p)] = ("layer", 0)
        elif EMBEDDINGS.match(name) or (name.startswith(ENCODER_NORM) and relative):
            spots[id(p)] = ("embeddings", None)
        elif TOP.match(name) or name.startswith(ENCODER_NORM):
            spots[id(p)] = ("top", None)
        else:
            spots[id(p)] = None
            unknown += [names[id(p)]] if p.requires_grad else []
    if unknown:
        counts = Counter(spot[0] for spot in spots.values() if spot)
        matched = ", ".join(f"{count} of {part}" for part, count in counts.items()) or "none"
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ValueError(
            f"model: parameter {unknown[0]!r}{more} belongs to no layer of a {type(encoder).__name__}; "
            f"matched are {matched}; embeddings, numbered layers, pooler, last norm and heads outside the "
            f"encoder are accepted, or your own map layer_of"
        )
    return spots


def _mapped(model: nn.Module, layer_of) -> dict[int, int]:
    """id -> layer of the parameters that the user's map knows."""
    if layer_of is None:
        return {}
    if not callable(layer_of):
        raise TypeError(
            f"layer_of: {type(layer_of).__name__} given, a function from a name to a layer is accepted"
        )
    mapped = {id(p): layer_of(name) for name, p in model.named_parameters()}
    mapped = {key: layer for key, layer in mapped.items() if layer is not None}
    for layer in mapped.values():
        number(
            "layer_of", layer, -1, accepted="an integer of at least -1, or None, as its result", integer=True
        )
    return {key: int(layer) for key, layer in mapped.items()}
