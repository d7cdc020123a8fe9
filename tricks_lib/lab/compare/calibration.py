"""How far confidence can be believed, before and after one temperature that validation chooses.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
Shapes: N examples, C classes.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tricks_lib.lab.compare.metrics import ece

LOG_TEMPERATURES = (-3.0, 3.0)
ERRORS = ("ece", "ece_scaled")  # as they are, and after the temperature


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number that logits (N, C) are divided by so that the cross-entropy of labels (N,) is least."""

    def cross_entropy(log_t):
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(cross_entropy, bounds=LOG_TEMPERATURES, method="bounded").x))


def measured(known: np.ndarray, known_labels, logits: np.ndarray, labels) -> dict:
    """Calibration error of logits (N, C) as they are and after the temperature of ``known``, of validation.

    Returns:
        ``{"temperature", "ece", "ece_scaled", "confidence"}``, the last (N, 2) float16, before and after; the
        errors are those of the confidence as it is kept.
    """
    t = temperature(known.astype(np.float64), known_labels)
    predicted = logits.argmax(axis=1)
    sure = [np.exp(log_softmax(logits.astype(np.float64) / by, axis=1)).max(axis=1) for by in (1.0, t)]
    confidence = np.stack(sure, axis=-1).astype(np.float16)
    errors = {
        name: round(float(e), 6) for name, e in zip(ERRORS, of_confidence(predicted, confidence, labels))
    }
    return {"temperature": round(t, 4), **errors, "confidence": confidence}


def of_confidence(predicted: np.ndarray, confidence: np.ndarray, labels) -> list[np.ndarray]:
    """Calibration error before and after the temperature.

    Args:
        predicted: (..., N) classes. confidence: (..., N, 2) as it is kept. labels: (N,).
    """
    return [ece(paired(predicted, confidence, error), labels) for error in ERRORS]


def paired(predicted: np.ndarray, confidence: np.ndarray, error: str) -> np.ndarray:
    """Classes (..., N) beside the confidence that an error is computed from, (..., N, 2)."""
    return np.stack([predicted, confidence[..., ERRORS.index(error)].astype(np.float64)], axis=-1)
