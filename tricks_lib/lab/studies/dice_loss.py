"""One class in sixteen: which loss finds it, and is it the loss or the threshold?

Dice and a weighted cross-entropy both push the probability of the rare class up. So does, for nothing, a
threshold below 0.5: chosen on validation it is the control that either has to beat. One training serves an
arm with and an arm without it.

A head with one hidden layer is trained on the frozen encoder's mean vectors, which are computed once. A seed
draws the training rows, the head's start, its dropout and the order of the batches: the same for every arm.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import precision_recall_curve

from tricks_lib.dice_loss import dice_loss
from tricks_lib.lab import fit, heads, models, tasks
from tricks_lib.lab.compare.metrics import average_precision, f1
from tricks_lib.lab.experiment import Experiment

ROWS, STEPS, BATCH, MAX_LENGTH, RARE = 5000, 300, 128, 40, "hate_speech"


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
        "both": lambda x, y: F.cross_entropy(x, y) + dice_loss(x, y),
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


# ---- The recorded experiment ----


@functools.cache
def loaded(model: str, data: str):
    """Standardised vectors and labels of each split: 1 is the class ``RARE``, 0 any other."""
    encoder, tokenizer = models.load_encoder(model)
    dataset = tasks.load_task(data)
    rare = dataset["train"].features["label"].names.index(RARE)
    rows = {split: fit.tokenize(tokenizer, dataset[split], MAX_LENGTH) for split in dataset}
    x = {split: heads.vectors(encoder, rows[split], fit.collate(tokenizer)) for split in dataset}
    y = {split: (np.array(dataset[split]["label"]) == rare).astype(int) for split in dataset}
    return {split: (standardised(x[split], x["train"]), y[split]) for split in dataset}


@functools.cache
def trained(model: str, data: str, loss: str, lr: float, seed: int):
    """Scores and labels of validation and test, of one training."""
    splits = loaded(model, data)
    rows = fit.draw(heads.with_labels(*splits["train"]), ROWS, seed)
    head = train(
        rows, losses([row["labels"] for row in rows])[loss], steps=STEPS, lr=lr, batch_size=BATCH, seed=seed
    )
    return {split: (score(head, splits[split][0]), splits[split][1]) for split in ("validation", "test")}


def run(experiment, settings, seed, split):
    """F1 of the rare class. While the rate is chosen, half of validation is scored and the other half chooses
    the threshold.
    """
    found = trained(experiment.model, experiment.data, settings["loss"], settings["lr"], seed)
    known, asked = found["validation"], found["test"]
    if split == "validation":
        known, asked = ([each[i::2] for each in known] for i in (0, 1))
    threshold = best_threshold(*known) if settings["threshold"] == "tuned" else settings["threshold"]
    scores, labels = asked
    return {
        "f1": float(f1(scores > threshold, labels)),
        "average_precision": round(float(average_precision(scores, labels)), 5),
        "threshold": round(threshold, 4),
        "found": int((scores > threshold).sum()),
    }


EXPERIMENTS = [
    Experiment(
        trick="dice_loss",
        task="en_hate_davidson",
        model="mini_bert",
        data="en_hate_davidson",
        metric="f1",
        baseline="cross-entropy",
        run=run,
        arms={
            "cross-entropy": {"loss": "cross-entropy", "threshold": 0.5},
            "weighted": {"loss": "weighted", "threshold": 0.5},
            "cross-entropy, tuned threshold": {"loss": "cross-entropy", "threshold": "tuned"},
            "Dice": {"loss": "Dice", "threshold": 0.5},
            "both": {"loss": "both", "threshold": 0.5},
            "Dice, tuned threshold": {"loss": "Dice", "threshold": "tuned"},
        },
        grid={"lr": [3e-4, 1e-3, 3e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(20)),
        setting=f"hate speech (6 %) against all other tweets; {ROWS} training rows drawn by the seed; a "
        f"head with one hidden layer on the frozen mean vectors, "
        f"{STEPS} steps of {BATCH}, at most {MAX_LENGTH} tokens",
    ),
]
