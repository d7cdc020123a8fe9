"""Does a correlation term in the loss raise the correlation on new texts? Against squared error alone, and
against CCC.

Labels are standardised with mean and standard deviation of the training split: squared error has a unit and 1
- r has none, so a weight p means something only then. All arms see the same rows, starts and orders of
batches; the terms cost nothing.
"""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from tricks_lib.lab import fit, heads, models, tasks
from tricks_lib.lab.compare.metrics import METRICS
from tricks_lib.lab.compare.statistics import contributions, family
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.mse_corr_loss import ccc_loss, mse_corr_loss


def losses(*weights: float) -> dict:
    """Name -> ``loss(predictions (B,), targets (B,))``: squared error, the same with the correlation term at
    each weight p, and CCC.
    """
    with_term = {f"MSE + corr, p {p:g}": functools.partial(mse_corr_loss, p=p) for p in weights}
    return {"MSE": F.mse_loss, **with_term, "CCC": ccc_loss}


@functools.cache
def prepare(task: str, frozen: bool, max_length: int):
    """A regression task, ready to train on.

    Args:
        frozen: train only a head on the masked means of the encoder's last layer, computed once;
            else the whole encoder.

    Returns:
        ``rows`` by split, with labels standardised by the training split; ``stack``, which makes a batch of
        them; ``make(seed)``, a fresh model with logits (B, 1).
    """
    data, (encoder, tokenizer) = tasks.load_task(task), models.load_encoder()
    mean, sd = float(np.mean(data["train"]["label"])), float(np.std(data["train"]["label"]))
    rows, stack = {}, torch.utils.data.default_collate if frozen else fit.collate(tokenizer)
    for split in data:
        labels = ((np.array(data[split]["label"]) - mean) / sd).astype(np.float32)
        known = fit.tokenize(tokenizer, data[split], max_length)
        if frozen:
            x = heads.vectors(encoder, known, fit.collate(tokenizer))
            rows[split] = heads.with_labels(x, torch.from_numpy(labels))
        else:
            rows[split] = [{**row, "labels": y} for row, y in zip(known, labels.tolist())]

    def make(seed: int):
        torch.manual_seed(seed)
        if frozen:
            return heads.Head(encoder.config.hidden_size, 1, seed)
        return MeanPoolingClassifier(copy.deepcopy(encoder), 1)

    return SimpleNamespace(rows=rows, stack=stack, make=make)


def train(model, rows, collate_fn, loss, **options) -> list[float]:
    """:func:`tricks_lib.lab.fit.fit` with a loss of :func:`losses`; returns the loss at every step."""
    of_first = fit.of_logits(lambda logits, targets: loss(logits[:, 0], targets))
    return fit.fit(model, rows, collate_fn, loss_fn=of_first, **options)


def scores(model, rows, collate_fn) -> dict[str, float]:
    """Pearson's correlation, 0 of constant predictions, and spread: sd of predictions / sd of labels."""
    logits, labels = fit.predict(model, rows, collate_fn)
    x, y = logits[:, 0].astype(np.float64), labels.astype(np.float64)
    return {"pearson": float(METRICS["pearson"].score(x, y)), "spread": float(x.std() / y.std())}


def watch(task, every: int, split: str = "test"):
    """``after_step`` for :func:`train`, and the list it fills: the scores before the first step and after
    each ``every`` steps.
    """
    seen, steps = [], 0

    def look(model):
        nonlocal steps
        if steps % every == 0:
            with torch.random.fork_rng():  # a DataLoader draws from it
                seen.append({"step": steps, **scores(model, task.rows[split], task.stack)})
            model.train()
        steps += 1

    return look, seen


def compared(outputs: dict[str, np.ndarray], targets, metric: str, baseline: str = "MSE") -> dict[str, dict]:
    """Statistics of every other arm against the baseline, over seeds and texts together, after Holm; see
    :func:`tricks_lib.lab.compare.statistics.family`.

    Args:
        outputs: arm -> predictions (S, N). targets: (N,). metric: a name in ``METRICS``.
    """
    chosen = METRICS[metric]
    parts = {arm: contributions(chosen, x, targets) for arm, x in outputs.items()}
    others = {arm: part - parts[baseline] for arm, part in parts.items() if arm != baseline}
    return family(others, chosen.higher_is_better)
