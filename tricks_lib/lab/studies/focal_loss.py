"""Focal loss on a model that overfits: what does it do to the scores, and what to the confidence?

Label smoothing is the control: it lowers confidence in another way. And a temperature, fitted after training,
corrects the confidence of every arm at no cost. What chapter 8's demo runs.
"""

import numpy as np
import torch

from tricks_lib.lab import device, fit
from tricks_lib.lab.compare.metrics import ece


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
    """Accuracy, mean confidence, and calibration error before and after the temperature."""
    sure, right = confidence(logits, labels)
    scaled, _ = confidence(logits, labels, temperature)
    before, after = (float(ece(np.stack([right, p], axis=-1), np.ones(len(p)))) for p in (sure, scaled))
    return {
        "accuracy": float(right.mean()), "confidence": float(sure.mean()), "ece": before, "ece_scaled": after,
    }  # fmt: skip


def train(model, rows, collate_fn, loss, **options):
    """Train a model with ``loss(logits, labels)`` in place of its own; options as :func:`fit.fit`."""
    loss = loss.to(options.get("device") or device())
    fit.fit(model, rows, collate_fn, loss_fn=fit.of_logits(loss), **options)
    return model
