"""One class in sixteen: which loss finds it, and is it the loss or the threshold?

Dice and a weighted cross-entropy both push the probability of the rare class up. So does, for nothing, a
threshold below 0.5: chosen on validation it is the control that either has to beat. One training serves an
arm with and an arm without it. What chapter 7's demo runs: a head with one hidden layer on the frozen
encoder's mean vectors, which are computed once.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import precision_recall_curve

from tricks_lib.dice_loss import dice_loss
from tricks_lib.lab import fit, heads

# ---- Losses and scores ----


def losses(labels) -> dict:
    """Name -> ``loss(logits (B, 2), labels (B,))``; the weights are those that give both classes of
    ``labels`` the same sum.
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=2)
    weight = counts.sum() / (2 * counts)
    return {
        "cross-entropy": F.cross_entropy,
        "weighted": lambda x, y: F.cross_entropy(x, y, weight=weight.to(x.device)),
        "Dice": dice_loss,
    }


def best_threshold(scores, labels) -> float:
    """What to cut ``scores`` at for the highest F1: half-way between two neighbours, the strictest of
    equals.
    """
    precision, recall, cuts = precision_recall_curve(labels, scores)  # of score >= cut, rising
    value = (2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1]
    k = np.flatnonzero(value == value.max())[-1]
    return float(cuts[k - 1 : k + 1].mean() if k else np.nextafter(cuts[0], -np.inf))


# ---- Vectors, splits, training ----


def standardised(x, known):
    """x with the mean and deviation of ``known`` taken off, each (N, H)."""
    return (x - known.mean(0)) / known.std(0).clamp(min=1e-6)


def stratified(labels, seed: int, parts=(0.5, 0.25)) -> list[np.ndarray]:
    """Indices of train, validation and test: both classes divided by ``parts``, the rest is test."""
    rng, out = np.random.default_rng(seed), ([], [], [])
    for c in (0, 1):
        some = rng.permutation(np.flatnonzero(np.asarray(labels) == c))
        cuts = np.cumsum([round(part * len(some)) for part in parts])
        for into, each in zip(out, np.split(some, cuts)):
            into.extend(each)
    return [np.array(each) for each in out]


def thinned(labels, share: float, seed: int = 0) -> np.ndarray:
    """Sorted indices of all negatives, and of as many positives, drawn by ``seed``, as make ``share``; all
    where there are fewer.
    """
    labels = np.asarray(labels)
    negatives, positives = (
        np.flatnonzero(labels == 0),
        np.random.default_rng(seed).permutation(np.flatnonzero(labels == 1)),
    )
    return np.sort(np.r_[negatives, positives[: round(share / (1 - share) * len(negatives))]])


def train(rows, loss, *, seed, device=None, **options):
    """A head trained on rows of vectors with a loss of :func:`losses`; options as
    :func:`tricks_lib.lab.fit.fit`.
    """
    head = heads.Head(len(rows[0]["vectors"]), 2, seed, 256, normed=False)
    fit.fit(head, rows, torch.utils.data.default_collate, seed=seed, device=device,
            loss_fn=fit.of_logits(loss), **options)  # fmt: skip
    return head


@torch.no_grad()
def score(head, x) -> np.ndarray:
    """Probability (N,) of the rare class."""
    where = next(head.parameters()).device
    return head.eval()(x.to(where)).logits.softmax(1)[:, 1].double().cpu().numpy()
