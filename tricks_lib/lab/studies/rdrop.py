"""The demonstration of R-Drop: a classifier with a dropout rate, its training with and without R-Drop, and
two passes of a batch under two masks.
"""

import torch

from tricks_lib.lab import fit, heads, models, tasks
from tricks_lib.lab.compare.classifier import with_dropout
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.rdrop import rdrop_forward


def prepare(task: str, frozen: bool):
    """Rows of the training and test split, how they are stacked, and ``make(seed, dropout=0.1)``, which gives
    a fresh classifier.

    Args:
        frozen: train only a head on vectors that are computed once; else the whole encoder.
    """
    data = tasks.load_task(task)
    encoder, tokenizer = models.load_encoder()
    num_labels = data["train"].features["label"].num_classes
    if frozen:
        rows = heads.embedded(encoder, tokenizer, {s: data[s] for s in ("train", "test")}, 32)
        (train, test), stack = rows.values(), torch.utils.data.default_collate
    else:
        train, test = (fit.tokenize(tokenizer, data[s], 80) for s in ("train", "test"))
        stack = fit.collate(tokenizer)

    def make(seed: int, dropout: float = 0.1):  # 0.1 as BERT has it
        torch.manual_seed(seed)
        if frozen:
            return heads.Head(encoder.config.hidden_size, num_labels, seed, 256, dropout, normed=False)
        return MeanPoolingClassifier(with_dropout(encoder, dropout), num_labels)

    return train, test, stack, make


def train(model, rows, collate_fn, arm: dict, *, steps: int, **options) -> None:
    """:func:`tricks_lib.lab.fit.fit` with ``arm["times"]`` the steps, and with R-Drop where ``arm["alpha"]``
    is not 0.
    """
    alpha = arm["alpha"]
    loss_fn = (lambda model, batch: rdrop_forward(model, batch, alpha).loss) if alpha else None
    fit.fit(model, rows, collate_fn, steps=arm["times"] * steps, loss_fn=loss_fn, **options)


@torch.no_grad()
def two_passes(model, batch):
    """Logits (B, C) of two passes with dropout, whose masks are the same at every call; leaves model and
    random state as they were.
    """
    training, where = model.training, next(model.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.train()
        p, q = (model(**{k: v.to(where) for k, v in batch.items()}).logits.float().cpu() for _ in range(2))
    model.train(training)
    return p, q


def correct(model, rows, collate_fn):
    """Which rows the model classifies correctly, (N,) bool."""
    logits, labels = fit.predict(model, rows, collate_fn)
    return logits.argmax(1) == labels
