"""Focal loss on unbalanced classes: what does it do to the scores, and what to the confidence?

Few rows, read several times, as that is where cross-entropy overfits and becomes overconfident. Two controls
separate what is said of focal loss: class weights, for the rare classes, and label smoothing, for the
confidence. And a temperature, fitted after training, corrects the confidence of every arm at no cost.
"""

import functools

import numpy as np
import torch
from torch import nn

from tricks_lib.focal_loss import FocalLoss
from tricks_lib.lab import device, fit, models, tasks
from tricks_lib.lab.compare import calibration
from tricks_lib.lab.compare.metrics import ece
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.studies import ema

TRAIN_ROWS, VALIDATION_ROWS, STEPS, BATCH, MAX_LENGTH = 240, 750, 100, 8, 20


def binned(confidence, right, bins: int = 15) -> dict[str, np.ndarray]:
    """``share`` of the predictions (bins,), mean ``confidence`` and share ``right`` in equal bins of [0, 1];
    NaN where a bin is empty.

    Args:
        confidence: (N,) in [0, 1]. right: (N,) of 0 and 1.
    """
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count, *sums = (np.bincount(place, weights, bins) for weights in (None, confidence, right))
    with np.errstate(invalid="ignore"):
        return {"share": count / len(place), "confidence": sums[0] / count, "right": sums[1] / count}


def confidence(logits, labels, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probability (N,) of the predicted class of logits (N, C), and whether it is the label (N,)."""
    p = torch.from_numpy(np.asarray(logits, dtype=np.float64) / temperature).softmax(dim=1).numpy()
    return p.max(axis=1), p.argmax(axis=1) == labels


def score(logits, labels, temperature: float = 1.0) -> dict[str, float]:
    """Macro-F1, accuracy, mean cross-entropy, mean confidence, and calibration error before and after the
    temperature.
    """
    sure, right = confidence(logits, labels)
    scaled, _ = confidence(logits, labels, temperature)
    before, after = (float(ece(np.stack([right, p], axis=-1), np.ones(len(p)))) for p in (sure, scaled))
    return {
        **ema.score(logits, labels), "confidence": float(sure.mean()), "ece": before, "ece_scaled": after,
    }  # fmt: skip


def balanced(labels, num_labels: int, power: float = 1.0) -> torch.Tensor:
    """Weight (C,) of each class: (mean count / its own count) ^ power; power 1 gives all classes the same sum
    of weights.
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=num_labels).clamp(min=1)
    return (counts.sum() / num_labels / counts) ** power


def train(model, rows, collate_fn, loss, **options):
    """Train a model with ``loss(logits, labels)`` in place of its own; options as :func:`fit.fit`."""
    loss = loss.to(options.get("device") or device())
    fit.fit(model, rows, collate_fn, loss_fn=fit.of_logits(loss), **options)
    return model


@functools.cache
def prepared(model: str, data: str):
    """Encoder, what pads rows, number of classes and the rows of each split: fixed random parts of train and
    validation, all of test.
    """
    encoder, tokenizer = models.load_encoder(model)
    dataset = tasks.load_task(data)
    rows = {"train": fit.draw(fit.tokenize(tokenizer, dataset["train"], MAX_LENGTH), TRAIN_ROWS, seed=0)}
    for split, count in ("validation", VALIDATION_ROWS), ("test", len(dataset["test"])):
        some = fit.draw(fit.tokenize(tokenizer, dataset[split], MAX_LENGTH), count, seed=0)
        rows[split] = sorted(
            some, key=lambda row: len(row["input_ids"])
        )  # less padding to compute; scores know no order
    return encoder, fit.collate(tokenizer), dataset["train"].features["label"].num_classes, rows


LOSSES = {  # each has one parameter of its own, and every arm may choose between two values of it
    "cross-entropy": lambda weight, dose: nn.CrossEntropyLoss(),
    "label smoothing": lambda weight, dose: nn.CrossEntropyLoss(label_smoothing=(0.1, 0.2)[dose]),
    "class weights": lambda weight, dose: nn.CrossEntropyLoss(weight=weight ** (0.5, 1.0)[dose]),
    "focal": lambda weight, dose: FocalLoss(gamma=(2.0, 4.0)[dose]),
}
WEIGHT_DECAY = (0.01, 0.1)  # cross-entropy's dose


def run(experiment, settings, seed, split):
    encoder, stack, num_labels, rows = prepared(experiment.model, experiment.data)
    weight, dose = balanced([row["labels"] for row in rows["train"]], num_labels), settings["dose"]
    plain = settings["loss"] == "cross-entropy"
    model = train(
        ema.classifier(encoder, num_labels, seed),
        rows["train"],
        stack,
        LOSSES[settings["loss"]](weight, dose),
        seed=seed,
        steps=STEPS,
        batch_size=BATCH,
        lr=settings["lr"],
        weight_decay=WEIGHT_DECAY[dose] if plain else WEIGHT_DECAY[0],
    )
    held_out = fit.predict(model, rows["validation"], stack)
    T = calibration.temperature(*held_out)
    return {
        **score(*(held_out if split == "validation" else fit.predict(model, rows[split], stack)), T),
        "temperature": T,
    }


EXPERIMENTS = [
    Experiment(
        trick="focal_loss",
        task="en_hate_davidson",
        model="mini_bert",
        data="en_hate_davidson",
        metric="macro_f1",
        baseline="cross-entropy",
        run=run,
        arms={name: {"loss": name} for name in LOSSES},
        grid={"lr": [5e-4, 1e-3], "dose": [0, 1]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=f"fine-tuned whole on {TRAIN_ROWS} random tweets: {STEPS} steps of {BATCH}, at most "
        f"{MAX_LENGTH} tokens, mean pooling; doses of the grid: "
        "label smoothing 0.1, 0.2; class weights (inverse frequency) ^ 1/2, 1; gamma 2, 4; weight "
        "decay 0.01, 0.1 for cross-entropy; "
        "temperature fitted on validation",
    ),
]
