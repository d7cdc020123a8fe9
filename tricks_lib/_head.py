"""The classifiers' head: dropout and one linear layer, and the loss that fits the labels.

Shapes: B batch, H hidden, C classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib._checks import number, require


def classification_head(
    encoder: nn.Module,
    num_labels: int,
    dropout: float | None,
    vectors: int = 1,
    bias: float | Sequence[float] | Tensor | None = None,
) -> tuple[nn.Dropout, nn.Linear]:
    """Dropout and a linear layer over ``vectors`` vectors of the encoder's size, started as a Hugging Face
    head is; ``bias`` is its initial bias, default 0.

    Raises:
        TypeError: ``encoder`` is not a module with a ``config.hidden_size``, or a number is not one.
        ValueError: ``num_labels`` is not positive, ``dropout`` is outside [0, 1], ``bias`` is neither one
            number nor C numbers.
    """
    config: Any = getattr(encoder, "config", None)
    if not isinstance(encoder, nn.Module) or not hasattr(config, "hidden_size"):
        raise TypeError(
            f"encoder: {type(encoder).__name__} given, a module with a config.hidden_size is accepted"
        )
    num_labels = number("num_labels", num_labels, 1, accepted="a positive integer", integer=True)
    dropout = getattr(config, "hidden_dropout_prob", 0.1) if dropout is None else dropout
    dropout = number("dropout", dropout, 0.0, 1.0)
    linear = nn.Linear(vectors * config.hidden_size, num_labels)
    # a checkpoint may be loaded in half precision, or to a GPU
    linear.to(next(encoder.parameters(), linear.weight))
    nn.init.normal_(linear.weight, std=getattr(config, "initializer_range", 0.02))
    with torch.no_grad():
        linear.bias.copy_(initial_bias(bias, num_labels))
    return nn.Dropout(dropout), linear


def initial_bias(bias, num_labels: int) -> Tensor:
    """``bias`` as a tensor that broadcasts to (C,)."""
    accepted = f"a finite number, or {num_labels} of them, is accepted"
    try:
        start = torch.as_tensor(0.0 if bias is None else bias, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"head_bias: {bias!r} given, {accepted}") from None
    if start.shape not in {(), (num_labels,)} or not start.isfinite().all():
        raise ValueError(f"head_bias: {bias!r} given, {accepted}")
    return start


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss that fits the labels: regression (C = 1), multi-label (floating labels (B, C)) or classes.

    Args:
        logits: (B, C).
        labels: (B,) or (B, 1) numbers if C = 1; (B, C) floating point; else (B,) integers in 0..C-1.

    Returns:
        scalar, the mean over examples.

    Raises:
        ValueError: ``labels`` fits none of these, or (not checked on CUDA) a class index is outside 0..C-1.
    """
    B, C = logits.shape
    if C == 1 and labels.shape in {(B,), (B, 1)}:
        return F.mse_loss(logits.float().squeeze(1), labels.float().view(B))
    if labels.shape == (B, C) and labels.is_floating_point():
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float())
    if labels.shape == (B,) and not labels.is_floating_point():
        require(
            ((labels >= 0) & (labels < C)).all(),
            f"labels: class indices in 0..{C - 1} are accepted, {{}} given",
            labels,
        )
        return F.cross_entropy(logits.float(), labels.long())
    raise ValueError(
        f"labels: shape {tuple(labels.shape)} of {labels.dtype} given with logits {(B, C)}; accepted are "
        f"class indices (B,), floating (B, C), numbers (B,) if C = 1"
    )
