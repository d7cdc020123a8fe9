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

import sys
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from tricks_lib._checks import number
from tricks_lib._layers import Spot, encoders_in, spots

__all__ = ["layer_decay_groups"]


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
        ``"top"`` or ``"head"``, twice where some parameters are decayed and others not; none is empty, no
        parameter is in two, frozen ones are in none.

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
    head = lr if head_lr is None else head_lr
    number("head_lr", head, 0.0, accepted="a finite number of at least 0, or None,")
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
        rate = head if part == "head" else max(min_lr, lr * decay**above)  # (4), else (1) to (3)
        plain = p.ndim <= 1 or name.endswith("bias") or id(p) in norms
        own_decay = 0.0 if plain else weight_decay
        label = part if layer is None else f"layer {layer}"
        group = {"params": [], "lr": rate, "weight_decay": own_decay, "name": label}
        groups.setdefault((label, rate, own_decay), group)["params"].append(p)
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
    encoders = encoders_in(model)
    if not encoders and layer_of is None:
        raise ValueError(
            f"model: {type(model).__name__} holds no encoder; a Hugging Face model, a module with one "
            f"inside, or your own map layer_of is accepted"
        )
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[int, Spot | None] = {}
    for encoder in encoders:  # what two of them share counts with the first
        found |= {key: spot for key, spot in spots(encoder, names, mapped).items() if key not in found}
    if mapped:  # one numbering for the whole model
        n = 1 + max([*mapped.values(), *(spot.depth - 1 for spot in found.values() if spot)])
        found = {key: spot and spot._replace(depth=n) for key, spot in found.items()}
        for key, i in mapped.items():
            found[key] = Spot("layer", i, n) if i >= 0 else Spot("embeddings", None, n)
    parameters = {id(p): p for p in model.parameters()}
    found |= {key: Spot("head") for key in parameters if key not in found}
    return [
        Place(names[key], parameters[key], spot.part, spot.above, spot.layer)
        for key, spot in found.items()
        if spot
    ]


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
