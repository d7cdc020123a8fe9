"""What stands where in a Hugging Face encoder: its embeddings, its numbered layers, what follows the last."""

import re
from collections import Counter
from typing import Any, NamedTuple

from torch import nn

# Where a parameter stands, by its full path inside the encoder: never by a substring, where "layer.1" is also
# "layer.10".
LAYER = re.compile(
    r"(?:text_model\.)?(?:(?:encoder|transformer)\.layers?|encoder\.albert_layer_groups|layers?|h|block)\.(\d+)\."
)
EMBEDDINGS = re.compile(
    r"(?:text_model\.)?(?:embeddings|embeddings_project|word_embeddings?|word_embeddings_layernorm|mask_emb"
    r"|wte|wpe|embed_tokens|embed_positions|layernorm_embedding|embed_in|project_in|pre_layrnorm"
    r"|tokens_embed|positions_embed"
    # tables of relative positions that all layers share (DeBERTa, MPNet); ALBERT
    r"|encoder\.(?:rel_embeddings|relative_attention_bias|embedding_hidden_mapping_in))(?:\.|$)"
)
FIRST_LAYER = re.compile(r"encoder\.conv\.")  # DeBERTa-v2 adds a convolution to the output of layer 0
TOP = re.compile(
    r"(?:text_model\.)?(?:pooler|ln_f|norm|norm_f|final_norm|final_layer_?norm|layer_norm|LayerNorm|post_layernorm"
    r"|encoder\.(?:LayerNorm|ln)|project_out)\."
)
# Names that mean something else in one architecture than in all others, by ``config.model_type``
EXCEPTIONS = {
    "deberta-v2": {"encoder.LayerNorm.": "embeddings"},  # of the relative positions
    "bigbird_pegasus": {"layernorm_embedding.": "top"},  # after the last layer, whatever it is called
}


class Spot(NamedTuple):
    """Where a parameter stands: ``part`` is embeddings, layer, top or head; ``layer`` its number from the
    input; ``depth`` the number of layers of its encoder.
    """

    part: str
    layer: int | None = None
    depth: int = 0

    @property
    def above(self) -> int:
        """Layers from it to the output."""
        return {"embeddings": self.depth, "layer": self.depth - 1 - (self.layer or 0)}.get(self.part, 0)


def encoders_in(model: nn.Module) -> list[nn.Module]:
    """The innermost modules that have layers and input embeddings."""

    def is_encoder(module):
        config = getattr(module, "config", None)
        return hasattr(config, "num_hidden_layers") and hasattr(module, "get_input_embeddings")

    candidates = [m for m in model.modules() if is_encoder(m)]
    return [m for m in candidates if not any(is_encoder(c) for c in m.modules() if c is not m)]


def numbering(encoder: nn.Module) -> tuple[dict[int, int], int]:
    """Number in a parameter's name -> layer, and the number of layers."""
    config: Any = encoder.config
    numbers = {int(match[1]) for name, _ in encoder.named_parameters() if (match := LAYER.match(name))}
    if groups := getattr(config, "num_hidden_groups", None):  # ALBERT: n layers share a few weights
        n = config.num_hidden_layers
        # as AlbertTransformer.forward; the topmost use stays
        return {int(i / (n / groups)): i for i in range(n)}, n
    return {i: i for i in numbers}, max(numbers, default=-1) + 1


def depth(encoder: nn.Module) -> int:
    """Layers that ``encoder`` really has; what its config says where their names are not known."""
    config: Any = encoder.config
    inner = encoders_in(encoder)
    return (numbering(inner[0])[1] if len(inner) == 1 else 0) or config.num_hidden_layers


def spots(encoder: nn.Module, names: dict[int, str], skip: dict[int, int]) -> dict[int, Spot | None]:
    """id -> spot of each parameter of ``encoder``, without those in ``skip``; None: unknown, but frozen.

    Args:
        names: id -> name in the whole model, for the error.

    Raises:
        ValueError: a trainable parameter belongs to no layer.
    """
    index, depth = numbering(encoder)
    found: dict[int, Spot | None] = {}
    unknown: list[str] = []
    exceptions = EXCEPTIONS.get(getattr(encoder.config, "model_type", ""), {})
    for name, p in encoder.named_parameters():
        if id(p) in skip:
            continue
        if parts := [part for start, part in exceptions.items() if name.startswith(start)]:
            found[id(p)] = Spot(parts[0], None, depth)
        elif (match := LAYER.match(name)) and int(match[1]) in index:
            found[id(p)] = Spot("layer", index[int(match[1])], depth)
        elif FIRST_LAYER.match(name):
            found[id(p)] = Spot("layer", 0, depth)
        elif EMBEDDINGS.match(name):
            found[id(p)] = Spot("embeddings", None, depth)
        elif TOP.match(name):
            found[id(p)] = Spot("top", None, depth)
        else:
            found[id(p)] = None
            unknown += [names[id(p)]] if p.requires_grad else []
    if unknown:
        counts = Counter(spot.part for spot in found.values() if spot)
        matched = ", ".join(f"{count} of {part}" for part, count in counts.items()) or "none"
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ValueError(
            f"model: parameter {unknown[0]!r}{more} belongs to no layer of a {type(encoder).__name__}; "
            f"matched are {matched}; embeddings, numbered layers, pooler, last norm and heads outside the "
            f"encoder are accepted, or your own map layer_of"
        )
    return found
