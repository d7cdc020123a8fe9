"""Last four layers: let the head read several layers of the encoder, not only its last.

An encoder of n layers gives, with ``output_hidden_states=True``, the states h^(0) (embeddings) to h^(n) (last
layer). The token t is described by the last k of them side by side, lower layer first:

    z_t = [h_t^(n-k+1); ...; h_t^(n)]                                                           (1)

or by their sum with learned weights, which is k times narrower, of the states as they are or, as higher
layers' states are longer, each normalised over its H numbers (Ba et al., "Layer Normalization", 2016):

    z_t = gamma * sum_i s_i h_t^(i),   s = softmax(w)                                           (2)

The order of the blocks in (1) is part of the head: a head trained on (1) is wrong on the reversed listing.

Sources: (1) Devlin et al., "BERT", NAACL 2019, section 5.3 and table 7 (k = 4, frozen encoder);
(2) Peters et al., "Deep contextualized word representations", NAACL 2018, equation 1.
Shapes: B batch, T tokens, H hidden, C classes, k layers read.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number, same_device, tensor
from tricks_lib._classifier import EncoderClassifier
from tricks_lib._layers import depth
from tricks_lib.mean_pooling import cls_pool, mean_pool

__all__ = ["concat_last_layers", "WeightedLayerPool", "LastFourClassifier"]

POOLS = {"cls": cls_pool, "mean": mean_pool}


def concat_last_layers(hidden_states: Sequence[Tensor], num_layers: int = 4) -> Tensor:
    """The last layers' states side by side, equation (1).

    The first of an encoder's n + 1 hidden states is the embedding's output; it counts as a layer here,
    because a tuple of tensors does not say where it comes from (:class:`LastFourClassifier` refuses it).

    Args:
        hidden_states: tuple or list of (B, T, H), floating point, lowest layer first: ``model(...,
            output_hidden_states=True).hidden_states``.
        num_layers: k, how many of them, counted from the end.

    Returns:
        (B, T, num_layers * H), the lower layer first, ``torch.cat(hidden_states[-num_layers:], dim=-1)``.

    Raises:
        TypeError: ``hidden_states`` is not a tuple or list of floating point tensors, ``num_layers`` is not
            an integer.
        ValueError: ``num_layers`` is below 1 or above their number; they differ in shape or device, or are
            empty.

    Example:
        >>> layers = [torch.full((1, 1, 2), float(i)) for i in range(13)]
        >>> concat_last_layers(layers)
        tensor([[[ 9.,  9., 10., 10., 11., 11., 12., 12.]]])
    """
    return torch.cat(_last(hidden_states, num_layers), dim=-1)  # (B, T, k*H)


class WeightedLayerPool(nn.Module):
    """Learned weighted mean of the last layers, equation (2); at the start it is their plain mean.

    Attributes:
        weights: w, (num_layers,) float32, zeros at the start, lower layer first.
        scale: gamma, scalar float32, 1 at the start.

    Args:
        num_layers: k, how many layers are read, counted from the end.
        layer_norm: normalise each layer's states first, every token over its H numbers, without weights.
            AllenNLP's ScalarMix normalises over the whole batch instead, so that a text's result depends on
            its neighbours.

    Raises:
        TypeError, ValueError: ``num_layers`` is not a positive integer, ``layer_norm`` not a bool.

    Example:
        >>> layers = [torch.full((1, 1, 2), float(i)) for i in range(13)]
        >>> WeightedLayerPool(4)(layers).detach()
        tensor([[[10.5000, 10.5000]]])
    """

    def __init__(self, num_layers: int = 4, layer_norm: bool = False):
        super().__init__()
        num_layers = number("num_layers", num_layers, 1, accepted="a positive integer", integer=True)
        if not isinstance(layer_norm, bool):
            raise TypeError(f"layer_norm: {layer_norm!r} given, True or False is accepted")
        self.layer_norm = layer_norm
        self.weights = nn.Parameter(torch.zeros(num_layers))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """The weighted mean; half precision is summed in float32.

        Args:
            hidden_states: as :func:`concat_last_layers`.

        Returns:
            (B, T, H) in the dtype of the hidden states.

        Raises:
            TypeError, ValueError: as :func:`concat_last_layers`; the hidden states are on another device than
                the weights.
        """
        layers = _last(hidden_states, len(self.weights))
        same_device("hidden_states", layers[0], "weights", self.weights)
        wide = torch.promote_types(layers[0].dtype, torch.float32)
        share = self.scale.to(wide) * torch.softmax(self.weights.to(wide), dim=0)  # (k,)
        states = (h.to(wide) for h in layers)
        if self.layer_norm:
            states = (F.layer_norm(h, h.shape[-1:]) for h in states)
        mean = sum(s * h for s, h in zip(share, states))  # equation (2)
        return mean.to(layers[0].dtype)  # (B, T, H)


class LastFourClassifier(EncoderClassifier):
    """An encoder, its last four layers side by side, one vector per text, dropout and one linear layer.

    Saved, loaded and trained as :class:`tricks_lib.mean_pooling.MeanPoolingClassifier`.

    Args:
        encoder: a Hugging Face encoder of size ``config.hidden_size``. Of an encoder-decoder model (BART, T5)
            the encoder is taken, ``get_encoder()``.
        num_labels: C; with 1 the task is regression.
        pool: ``"cls"``, the first token that the mask keeps, or ``"mean"``, the mean over the tokens that it
            keeps.
        num_layers: k; the embedding's output does not count.
        dropout: on the pooled vector; default: the encoder's ``hidden_dropout_prob``, else 0.1.
        head_bias: initial bias of the head: one number, or C of them; default 0.

    Raises:
        TypeError: ``encoder`` is not a module with a ``config.hidden_size``, or a number is not one.
        ValueError: ``num_layers`` is below 1 or above the encoder's layers; ``pool`` is another word;
            ``num_labels`` is not positive; ``dropout`` is outside [0, 1]; ``head_bias`` is neither one number
            nor C of them.
    """

    settings = ("pool", "num_layers")

    def __init__(
        self,
        encoder: nn.Module,
        num_labels: int,
        pool: str = "cls",
        num_layers: int = 4,
        dropout: float | None = None,
        head_bias: float | Sequence[float] | Tensor | None = None,
    ):
        if pool not in POOLS:
            raise ValueError(f"pool: {pool!r} given, {' or '.join(map(repr, POOLS))} is accepted")
        num_layers = number("num_layers", num_layers, 1, accepted="a positive integer", integer=True)
        super().__init__(encoder, num_labels, dropout, head_bias, vectors=num_layers)
        self.pool, self.num_layers = pool, num_layers
        self._check_depth(depth(self.encoder))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **inputs,
    ):
        """Logits and, with labels, the loss.

        Args:
            input_ids: (B, T) token ids; None with ``inputs_embeds`` (B, T, H).
            attention_mask: (B, T); default: every position is a token.
            labels: as :class:`tricks_lib.mean_pooling.MeanPoolingClassifier`.
            token_type_ids: (B, T), for encoders that take them.
            **inputs: passed on to the encoder (``position_ids``, ``inputs_embeds``, ...).

        Returns:
            ``transformers.modeling_outputs.SequenceClassifierOutput`` with logits (B, C).

        Raises:
            TypeError: neither ``input_ids`` nor ``inputs_embeds``.
            ValueError: as :func:`tricks_lib.mean_pooling.mean_pool`; labels of another shape; the encoder has
                fewer layers than ``num_layers``; not checked on CUDA: labels outside 0..C-1,
                ``position_ids`` of several texts in one row.
        """
        read = {**inputs, "token_type_ids": token_type_ids, "output_hidden_states": True}
        mask, out = self.encode(input_ids, attention_mask, **read)
        self._check_depth(len(out.hidden_states) - 1)  # the first is the embedding's output
        # pool([a; b]) = [pool(a); pool(b)]: pooling first copies k vectors per text, not k per token
        pooled = torch.cat(
            [POOLS[self.pool](h, mask) for h in _last(out.hidden_states, self.num_layers)], dim=-1
        )  # (B, k*H)
        return self.classify(pooled, labels, out, **inputs)

    def _check_depth(self, layers: int) -> None:
        accepted = f"an integer from 1 to the encoder's {layers} layers"
        number("num_layers", self.num_layers, 1, layers, accepted=accepted, integer=True)


def _last(hidden_states, num_layers) -> list[Tensor]:
    num_layers = number("num_layers", num_layers, 1, accepted="a positive integer", integer=True)
    if not isinstance(hidden_states, (tuple, list)):
        raise TypeError(
            f"hidden_states: {type(hidden_states).__name__} given, a tuple or list of (B, T, H) is accepted "
            f"(output_hidden_states=True)"
        )
    if len(hidden_states) < num_layers:
        raise ValueError(
            f"num_layers: {num_layers} given with {len(hidden_states)} layers in hidden_states; at most "
            f"that many are accepted"
        )
    layers = [tensor("hidden_states", h, floating=True) for h in hidden_states[-num_layers:]]
    for h in layers:
        if h.ndim != 3 or 0 in h.shape or h.shape != layers[0].shape:
            raise ValueError(
                f"hidden_states: shapes {[tuple(h.shape) for h in layers]} given, one shape (B, T, H) "
                f"without a zero is accepted"
            )
        same_device("hidden_states", h, "another of them", layers[0])
    return layers
