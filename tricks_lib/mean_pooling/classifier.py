"""An encoder with a pooling and a linear head."""

from collections.abc import Sequence

from torch import Tensor, nn

from tricks_lib._classifier import EncoderClassifier
from tricks_lib.mean_pooling.pools import POOLS


class MeanPoolingClassifier(EncoderClassifier):
    """An encoder, the masked mean of its last layer, dropout and one linear layer.

    ``save_pretrained(folder)`` and ``from_pretrained(folder)`` store and load it with its encoder. Trainer's
    gradient checkpointing, label smoothing and NEFTune, and PEFT work on it; ``config`` is the encoder's.

    Args:
        encoder: a Hugging Face encoder whose output has ``last_hidden_state`` (B, T, H) and whose
            ``config.hidden_size`` is H. Of an encoder-decoder model (BART, T5) the encoder is taken,
            ``get_encoder()``.
        num_labels: C; with 1 the task is regression.
        dropout: on the pooled vector; default: the encoder's ``hidden_dropout_prob``, else 0.1.
        pool: ``"mean"``, ``"max"``, ``"cls"`` (first token), ``"last"`` (last token) or ``"weighted"``,
            equation (2).
        head_bias: initial bias of the head: one number, or C of them; default 0. For rare classes
            -log((1 - p) / p) with the share p of each class, as Lin et al., "Focal Loss", ICCV 2017, section
            3.3.

    Raises:
        TypeError: ``encoder`` is not a module with a ``config.hidden_size``, or a number is not one.
        ValueError: ``num_labels`` is not positive, ``dropout`` is outside [0, 1], ``pool`` is another word,
            ``head_bias`` is neither one number nor C numbers.
    """

    settings = ("pool",)

    def __init__(
        self,
        encoder: nn.Module,
        num_labels: int,
        dropout: float | None = None,
        pool: str = "mean",
        head_bias: float | Sequence[float] | Tensor | None = None,
    ):
        super().__init__(encoder, num_labels, dropout, head_bias)
        if pool not in POOLS:
            raise ValueError(f"pool: {pool!r} given, {', '.join(map(repr, POOLS))} are accepted")
        self.pool = pool

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
            TypeError: neither ``input_ids`` nor ``inputs_embeds``.
            ValueError: as :func:`tricks_lib.mean_pooling.mean_pool`; labels of another shape; not checked on
                CUDA: labels outside 0..C-1, ``position_ids`` of several texts in one row.
        """
        mask, out = self.encode(input_ids, attention_mask, token_type_ids=token_type_ids, **inputs)
        pooled = POOLS[self.pool](out.last_hidden_state, mask)  # (B, H)
        return self.classify(pooled, labels, out, **inputs)
