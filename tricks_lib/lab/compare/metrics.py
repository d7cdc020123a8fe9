"""What predictions are worth: metrics by name, for each kind of data.

Shapes: S seeds, N examples, C classes, T tokens. Labels are class indices (N,) for classes, 0 and 1 (N, C) for
several labels a text, class indices (N, T) with -100 for padding for tags, and floats (N,) for numbers;
predictions have one more axis (S, ...) in front.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tricks_lib.lab.stats import ranks

IGNORED = -100


@dataclass(frozen=True)
class Metric:
    """A score and what is known of it.

    Attributes:
        kinds: of the data that it is for.
        score: ``score(predictions (S, N, ...), labels (N, ...)) -> (S,)``.
        guess: ``guess(labels) -> float``, the score of guessing by class frequencies (numbers: their mean).
        of_examples: ``of_examples(predictions, labels) -> (S, N)`` where the score is the mean of these.
        higher_is_better: False for errors.
    """

    kinds: tuple[str, ...]
    score: Callable
    guess: Callable
    of_examples: Callable | None = None
    higher_is_better: bool = True


def frequencies(labels: np.ndarray) -> np.ndarray:
    """Share (C,) of each class that occurs, padding left out."""
    counts = np.unique(labels[labels != IGNORED], return_counts=True)[1]
    return counts / counts.sum()


def right(predictions, labels) -> np.ndarray:
    return (predictions == labels).astype(np.float64)  # (S, N)


def f1_by_class(predictions, labels) -> tuple[np.ndarray, np.ndarray]:
    """F1 (S, C) of each class, 0 where it never occurs, and whether (S, C) it occurs on either side."""
    S, C = len(predictions), 1 + int(max(predictions.max(), labels.max()))
    offset = C * np.arange(S)[:, None]
    hits = np.where(predictions == labels, labels, C - 1) + offset
    found = np.bincount((predictions + offset).ravel(), minlength=S * C).reshape(S, C)
    true = np.bincount(labels.ravel(), minlength=C)  # (C,)
    both = np.bincount(hits.ravel(), (predictions == labels).ravel(), minlength=S * C).reshape(S, C)
    return 2 * both / np.maximum(1, found + true), (found + true) > 0


def macro_f1(predictions, labels) -> np.ndarray:
    """Mean F1 of the classes that occur in predictions or labels, as scikit-learn's."""
    f1, occurs = f1_by_class(predictions, labels)
    return f1.sum(axis=1) / occurs.sum(axis=1)


def f1_of_ones(predictions, labels) -> np.ndarray:
    """F1 of class 1, or of all labels of all texts together; 0 where nothing is found and nothing is there."""
    axes = tuple(range(1, predictions.ndim))
    both = ((predictions == 1) & (labels == 1)).sum(axis=axes)
    return 2 * both / np.maximum(1, (predictions == 1).sum(axis=axes) + (labels == 1).sum())


def pearson(predictions, labels) -> np.ndarray:
    """Pearson's correlation; 0 for constant predictions. Of columns of 0 and 1 it is Matthews's."""
    p, y = (x - x.mean(axis=-1, keepdims=True) for x in (predictions.astype(float), labels.astype(float)))
    norm = np.sqrt((p**2).sum(axis=1) * (y**2).sum())
    return np.divide(p @ y, norm, out=np.zeros(len(p)), where=norm > 0)


def spearman(predictions, labels) -> np.ndarray:
    return pearson(np.stack([ranks(p) for p in predictions]), ranks(labels))


def rmse(predictions, labels) -> np.ndarray:
    return np.sqrt(((predictions.astype(float) - labels) ** 2).mean(axis=1))


def tag_accuracy(predictions, labels) -> np.ndarray:
    known = labels != IGNORED
    return (predictions == labels)[:, known].mean(axis=1)


def by_frequency(labels) -> float:
    return float((frequencies(labels) ** 2).sum())


def zero(labels) -> float:
    return 0.0


METRICS = {
    "accuracy": Metric(("classes",), lambda p, y: right(p, y).mean(axis=1), by_frequency, right),
    "macro_f1": Metric(("classes",), macro_f1, lambda y: 1 / len(frequencies(y))),
    "f1": Metric(("classes",), f1_of_ones, lambda y: float((y == 1).mean())),
    "mcc": Metric(("classes",), pearson, zero),
    "micro_f1": Metric(("labels",), f1_of_ones, lambda y: float(y.mean())),
    "tag_accuracy": Metric(("tags",), tag_accuracy, by_frequency),
    "pearson": Metric(("numbers",), pearson, zero),
    "spearman": Metric(("numbers",), spearman, zero),
    "rmse": Metric(("numbers",), rmse, lambda y: float(np.std(y)), higher_is_better=False),
}
DEFAULT = {"classes": "accuracy", "labels": "micro_f1", "tags": "tag_accuracy", "numbers": "pearson"}
OF_TWO_CLASSES = ("f1", "mcc")


def fitting(kind: str, classes: int) -> list[str]:
    """Names of the metrics for data of a kind with so many classes."""
    return [
        name
        for name, metric in METRICS.items()
        if kind in metric.kinds and (name not in OF_TWO_CLASSES or classes == 2)
    ]
