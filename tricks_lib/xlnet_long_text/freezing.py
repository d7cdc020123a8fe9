"""Which parameters are trained: those of the last layers and of the head, counted by layer and not matched by
name.

A name such as ``layer.1`` also matches ``layer.10``, and a list of names made for 12 layers freezes the wrong
ones in a model of another depth.
"""

from torch import nn

from tricks_lib._checks import number
from tricks_lib.layer_decay import places

__all__ = ["freeze_all_but_last"]


def freeze_all_but_last(model: nn.Module, num_layers: int) -> list[str]:
    """Train the last layers, the pooler, the last norm and everything outside the encoder; freeze the rest.

    Whatever was frozen before: a second call with more layers unfreezes them.

    Args:
        model: an encoder that :func:`tricks_lib.layer_decay.layer_decay_groups` knows, or a module that holds
            one.
        num_layers: how many layers stay trainable, from 0 to all; the embeddings are always frozen.

    Returns:
        names of the parameters that stay trainable.

    Raises:
        TypeError, ValueError: ``model`` is not a module or holds no encoder; ``num_layers`` is not an integer
            in range.

    Example:
        >>> from transformers import XLNetConfig, XLNetModel
        >>> xlnet = XLNetModel(XLNetConfig(n_layer=12, d_model=4, n_head=2, d_inner=4, vocab_size=9))
        >>> sorted({name.split(".")[1] for name in freeze_all_but_last(xlnet, 2)})
        ['10', '11']
    """
    found = places(model)
    depth = max(place.above for place in found if place.part != "head")
    accepted = f"an integer from 0 to the encoder's {depth} layers"
    num_layers = number("num_layers", num_layers, 0, depth, accepted=accepted, integer=True)
    for place in found:
        place.parameter.requires_grad_(
            place.part in ("top", "head") or (place.part == "layer" and place.above < num_layers)
        )
    return [place.name for place in found if place.parameter.requires_grad]
