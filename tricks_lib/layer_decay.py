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
from typing import NamedTuple

from torch import nn

from tricks_lib._checks import number

__all__ = ["layer_decay_groups"]

# Where a parameter stands, by its full path inside the encoder: never by a substring, where "layer.1" is also
# "layer.10".
LAYER = re.compile(r"(?:(?:encoder|transformer)\.layer|encoder\.albert_layer_groups|layers?|h)\.(\d+)\.")
EMBEDDINGS = re.compile(
    r"(?:embeddings|embeddings_project|word_embedding|mask_emb|wte|wpe|embed_tokens"
    # ALBERT; DeBERTa, which normalises its relative positions
    r"|encoder\.(?:embedding_hidden_mapping_in|rel_embeddings|LayerNorm))(?:\.|$)"
)
FIRST_LAYER = re.compile(r"encoder\.conv\.")  # DeBERTa-v2 adds a convolution to the output of layer 0
TOP = re.compile(r"(?:pooler|ln_f|final_norm|norm)\.")


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
    model: nn.Module, lr: float, decay: float = 0.95, head_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict]:
    """Parameter groups for any torch optimizer, rates by equations (1) to (4).

    Knows the encoders of BERT, RoBERTa, DeBERTa, ELECTRA, DistilBERT, ALBERT, XLNet, GPT-2, ModernBERT and
    Llama, at any depth inside ``model``. Weights that several layers share (ALBERT) take the rate of the
    topmost; an output layer tied to the embeddings is the embeddings. Biases, norms and other vectors get no
    weight decay.

    Args:
        model: a Hugging Face encoder, or a module that holds one or more; everything outside them is the
            head.
        lr: rate of the top layer.
        decay: d in (0, 1]; 1 gives one rate.
        head_lr: rate of the head; default: ``lr``.
        weight_decay: of the matrices.

    Returns:
        list of ``{"params", "lr", "weight_decay", "name"}``, name being ``"embeddings"``, ``"layer 0"``, ...,
        ``"top"`` or ``"head"``; none is empty, no parameter is in two, frozen ones are in none.

    Raises:
        TypeError: ``model`` is not a module, or a number is not one.
        ValueError: ``model`` holds no encoder, no trainable parameter, or one that belongs to no layer (it is
            named); a number is out of range.

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
    placed = [place for place in places(model) if place.parameter.requires_grad]
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
        rate = (lr if head_lr is None else head_lr) if part == "head" else lr * decay**above
        plain = p.ndim <= 1 or name.endswith("bias") or id(p) in norms
        label = part if layer is None else f"layer {layer}"
        group = {"params": [], "lr": rate, "weight_decay": 0.0 if plain else weight_decay, "name": label}
        groups.setdefault((label, rate, group["weight_decay"]), group)["params"].append(p)
    return list(groups.values())


def places(model: nn.Module) -> list[Place]:
    """The place of every parameter of ``model``, each once, encoders first.

    Args:
        model: as :func:`layer_decay_groups`.

    Returns:
        one :class:`Place` a parameter; frozen parameters that belong to no layer are left out.

    Raises:
        TypeError, ValueError: as :func:`layer_decay_groups`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: {type(model).__name__} given, a torch.nn.Module is accepted")
    encoders = [
        (path, m)
        for path, m in model.named_modules()
        if _is_encoder(m) and not any(_is_encoder(c) for c in m.modules() if c is not m)
    ]
    if not encoders:
        raise ValueError(
            f"model: {type(model).__name__} holds no encoder; a Hugging Face model, or a module with one "
            f"inside, is accepted"
        )
    found: dict[int, Place | None] = {}
    for path, encoder in encoders:
        named = list(encoder.named_parameters())
        stacked = {int(match[1]) for name, _ in named if (match := LAYER.match(name))}
        index, n = {i: i for i in stacked}, max(stacked, default=-1) + 1
        if groups := getattr(
            encoder.config, "num_hidden_groups", None
        ):  # ALBERT: n layers share the weights of a few
            n = encoder.config.num_hidden_layers
            index = {
                int(i / (n / groups)): i for i in range(n)
            }  # as AlbertTransformer.forward; the topmost use stays
        for name, p in named:
            full = f"{path}.{name}" if path else name
            if (match := LAYER.match(name)) and int(match[1]) in index:
                i = index[int(match[1])]
                place = Place(full, p, "layer", n - 1 - i, i)
            elif FIRST_LAYER.match(name):
                place = Place(full, p, "layer", n - 1, 0)
            elif EMBEDDINGS.match(name):
                place = Place(full, p, "embeddings", n)
            elif TOP.match(name):
                place = Place(full, p, "top", 0)
            elif p.requires_grad:
                known = f"embeddings, numbered layers, pooler and last norm of a {type(encoder).__name__}, and heads outside it,"
                raise ValueError(f"model: parameter {full!r} belongs to no layer; {known} are accepted")
            else:
                place = None
            found.setdefault(id(p), place)
    for name, p in model.named_parameters():
        found.setdefault(id(p), Place(name, p, "head", 0))
    return [place for place in found.values() if place]


def _is_encoder(module: nn.Module) -> bool:
    return hasattr(getattr(module, "config", None), "num_hidden_layers") and hasattr(
        module, "get_input_embeddings"
    )
