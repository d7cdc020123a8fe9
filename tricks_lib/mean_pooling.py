"""Mean pooling: one vector for a text, the average of its tokens' last hidden states.

With mask m_t = 1 for a token and 0 for padding, the mean over the T positions of a row is

    mean = sum_t m_t h_t / max(1, sum_t m_t)                                                    (1)

Padding must not change it: not its amount, not its side, not what the encoder left there.

Source: Reimers & Gurevych, "Sentence-BERT", EMNLP 2019, section 3 (MEAN, MAX and CLS strategy).
Shapes: B batch, T tokens, H hidden, C classes.
"""

import torch
from torch import Tensor

from tricks_lib._checks import require, same_device, tensor
from tricks_lib._classifier import EncoderClassifier
from tricks_lib._head import classification_head as classification_head
from tricks_lib._head import classification_loss as classification_loss

__all__ = ["mean_pool", "max_pool", "cls_pool", "MeanPoolingClassifier"]


def mean_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean of the token vectors that the mask keeps, equation (1).

    Half precision is summed in float32: a sum of 4,096 tokens overflows float16, their mean does not.

    Args:
        hidden_states: (B, T, H), floating point, e.g. ``model(...).last_hidden_state``.
        attention_mask: (B, T), bool, integer or float, 1 for a token and 0 for padding, on the same device.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError: an argument is not a tensor, or ``hidden_states`` is not floating point.
        ValueError: wrong shape or device, an empty batch, a mask with other values than 0 and 1.

    Example:
        >>> hidden_states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]]])
        >>> mean_pool(hidden_states, torch.tensor([[1, 1, 0]]))
        tensor([[2., 4.]])
    """
    keep = _check(hidden_states, attention_mask)  # (B, T) bool
    wide = torch.promote_types(hidden_states.dtype, torch.float32)
    count = keep.sum(dim=1, keepdim=True).clamp(min=1).to(wide)  # (B, 1)
    total = None
    if (
        hidden_states.dtype == wide
        and hidden_states.device.type == "cpu"
        and not torch.compiler.is_compiling()
    ):
        # One read of the states, no copy of them: m (B, 1, T) @ h (B, T, H). But 0 * inf is NaN, so a sum
        # that is not finite is done again below, where padding cannot meet the sum.
        total = torch.bmm(keep.unsqueeze(1).to(wide), hidden_states).squeeze(1)  # (B, H)
        if not torch.isfinite(total).all():
            total = None
    if total is None:
        total = hidden_states.masked_fill(~keep.unsqueeze(-1), 0).sum(dim=1, dtype=wide)  # (B, H)
    return (total / count).to(hidden_states.dtype)


def max_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Largest value of each feature over the tokens that the mask keeps.

    Where several tokens share the largest value, they share its gradient evenly.

    Args:
        hidden_states: (B, T, H), floating point.
        attention_mask: (B, T), 1 for a token and 0 for padding.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError, ValueError: as :func:`mean_pool`.

    Example:
        >>> max_pool(torch.tensor([[[1.0, 6.0], [3.0, 2.0], [99.0, 99.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[3., 6.]])
    """
    keep = _check(hidden_states, attention_mask)
    largest = hidden_states.masked_fill(~keep.unsqueeze(-1), float("-inf")).amax(dim=1)  # (B, H)
    return largest.masked_fill(~keep.any(dim=1, keepdim=True), 0)


def cls_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """The first token that the mask keeps: position 0 with right padding, later with left padding.

    Args:
        hidden_states: (B, T, H), floating point.
        attention_mask: (B, T), 1 for a token and 0 for padding.

    Returns:
        (B, H) in the dtype of ``hidden_states``; zeros for a row that is all padding.

    Raises:
        TypeError, ValueError: as :func:`mean_pool`.

    Example:
        >>> cls_pool(torch.tensor([[[99.0, 99.0], [1.0, 6.0], [3.0, 2.0]]]), torch.tensor([[0, 1, 1]]))
        tensor([[1., 6.]])
    """
    keep = _check(hidden_states, attention_mask)
    first = keep.int().argmax(dim=1)  # (B,)
    picked = hidden_states[torch.arange(len(first), device=first.device), first]  # (B, H)
    return picked.masked_fill(~keep.any(dim=1, keepdim=True), 0)


class MeanPoolingClassifier(EncoderClassifier):
    """An encoder, the masked mean of its last layer, dropout and one linear layer.

    Args:
        encoder: a Hugging Face encoder whose output has ``last_hidden_state`` (B, T, H) and whose
            ``config.hidden_size`` is H. Of an encoder-decoder model (BART, T5) the encoder is taken,
            ``get_encoder()``.
        num_labels: C; with 1 the task is regression.
        dropout: on the pooled vector; default: the encoder's ``hidden_dropout_prob``, else 0.1.

    Raises:
        TypeError: ``encoder`` is not a module with a ``config.hidden_size``, or a number is not one.
        ValueError: ``num_labels`` is not positive, ``dropout`` is outside [0, 1].
    """

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
            labels: class indices (B,), multi-label targets (B, C) in floating point, or, with one label,
                numbers (B,): cross-entropy, binary cross-entropy or mean squared error.
            token_type_ids: (B, T), for encoders that take them.
            **inputs: passed on to the encoder (``position_ids``, ``inputs_embeds``, ...).

        Returns:
            ``transformers.modeling_outputs.SequenceClassifierOutput`` with logits (B, C).

        Raises:
            ValueError: as :func:`mean_pool`; labels of another shape or outside 0..C-1; ``position_ids`` of
                several texts in one row.
        """
        mask, out = self.encode(input_ids, attention_mask, token_type_ids=token_type_ids, **inputs)
        return self.classify(mean_pool(out.last_hidden_state, mask), labels, out, **inputs)


def _check(hidden_states, attention_mask) -> Tensor:
    tensor("hidden_states", hidden_states, floating=True)
    tensor("attention_mask", attention_mask)
    if hidden_states.ndim != 3 or 0 in hidden_states.shape:
        raise ValueError(
            f"hidden_states: shape {tuple(hidden_states.shape)} given, (B, T, H) without a zero is accepted"
        )
    if attention_mask.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"attention_mask: shape {tuple(attention_mask.shape)} given, {tuple(hidden_states.shape[:2])} "
            f"(B, T) is accepted"
        )
    same_device("attention_mask", attention_mask, "hidden_states", hidden_states)
    if attention_mask.dtype != torch.bool:
        require(
            ((attention_mask == 0) | (attention_mask == 1)).all(),
            "attention_mask: values 0 and 1 are accepted, {} given",
            attention_mask,
        )
    return attention_mask.bool()
