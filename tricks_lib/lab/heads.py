"""A head on vectors of a frozen encoder: a network that is small enough to train often while a page runs.

Shapes: N texts, B of them in a batch, H hidden, C classes (1 for numbers).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from tricks_lib.lab import fit
from tricks_lib.mean_pooling import mean_pool


class Head(nn.Module):
    """Logits (B, C) of vectors (B, H), with one hidden layer; of classes it has a loss, cross-entropy.

    Args:
        inputs: H. outputs: C. seed: of the start. hidden: units of the hidden layer.
        dropout: after the hidden layer. normed: layer norm before it; else dropout there, too.
    """

    def __init__(
        self, inputs: int, outputs: int, seed: int = 0, hidden: int = 128, dropout: float = 0.1, normed=True
    ):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs) if normed else nn.Dropout(dropout),
            nn.Linear(inputs, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )

    def forward(self, vectors: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        logits = self.layers(vectors)
        classes = labels is not None and not labels.is_floating_point()
        return SequenceClassifierOutput(F.cross_entropy(logits, labels) if classes else None, logits)


def vectors(encoder, rows: list[dict], collate_fn, batch_size: int = 64) -> Tensor:
    """Masked means of the encoder's last layer, (N, H) float32 on the CPU, in the order of the rows.

    Args:
        rows: what :func:`.fit.tokenize` returns. collate_fn: what :func:`.fit.collate` returns.
    """

    def read(output, mask):
        return mean_pool(output.last_hidden_state.float(), mask)

    return fit.encode(encoder, rows, collate_fn, read, batch_size)


def with_labels(x: Tensor, labels) -> list[dict]:
    """Rows as :class:`Head` and :func:`.fit.fit` take them, of vectors (N, H) and labels (N, ...)."""
    return [{"vectors": v, "labels": y} for v, y in zip(x, torch.as_tensor(labels))]


def embedded(encoder, tokenizer, dataset, max_length: int) -> dict[str, list[dict]]:
    """:func:`with_labels` of each split of a data set."""
    tokenized = {split: fit.tokenize(tokenizer, dataset[split], max_length) for split in dataset}
    return {
        split: with_labels(vectors(encoder, rows, fit.collate(tokenizer)), dataset[split]["label"])
        for split, rows in tokenized.items()
    }
