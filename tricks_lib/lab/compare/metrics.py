"""What a prediction is worth: metrics by name, for each kind of data.

Shapes: N examples, C classes, T tokens. Predictions and labels are class indices (N,) for classes, 0 and 1
(N, C) for several labels a text, class indices (N, T) with -100 for padding for tags, and floats (N,) for
numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tricks_lib.lab import stats

KINDS = ("classes", "labels", "tags", "numbers")
IGNORED = -100


@dataclass(frozen=True)
class Metric:
    """``score(predictions, labels) -> float``; ``of_examples(predictions, labels) -> (N,)`` where the score
    is the mean of a value of each example; ``guess(labels) -> float``: the score of guessing by frequency.
    """

    kinds: tuple[str, ...]
    score: Callable
    guess: Callable
    of_examples: Callable | None = None
    higher_is_better: bool = True


def frequencies(labels: np.ndarray) -> np.ndarray:
    """Share (C,) of each class that occurs among the labels that are not padding."""
    counts = np.unique(labels[labels != IGNORED], return_counts=True)[1]
    return counts / counts.sum()


def f1_by_class(predictions, labels) -> dict[int, float]:
    """F1 of every class that occurs in predictions or labels."""
    classes = np.union1d(predictions, labels)
    return {int(c): stats.f1(predictions == c, labels == c) for c in classes}


def macro_f1(predictions, labels) -> float:
    """Mean F1 of the classes; 0 for one that is only predicted, as scikit-learn."""
    return float(np.mean(list(f1_by_class(predictions, labels).values())))


def mcc(predictions, labels) -> float:
    """Matthews's correlation of two classes, which is Pearson's of columns of 0 and 1; 0 where one is constant."""
    constant = np.ptp(predictions) == 0 or np.ptp(labels) == 0
    return 0.0 if constant else stats.pearson(predictions, labels)


def micro_f1(predictions, labels) -> float:
    """F1 over all labels of all texts together."""
    return stats.f1(predictions.ravel(), labels.ravel())


def tag_accuracy(predictions, labels) -> float:
    return float((predictions == labels)[labels != IGNORED].mean())


def correlation(of: Callable) -> Callable:
    """``of(predictions, labels)``, and 0 for constant predictions."""
    return lambda predictions, labels: 0.0 if np.ptp(predictions) == 0 else of(predictions, labels)


def rmse(predictions, labels) -> float:
    return float(np.sqrt(np.mean((predictions.astype(np.float64) - labels) ** 2)))


def right(predictions, labels) -> np.ndarray:
    return (predictions == labels).astype(np.float64)


METRICS = {
    "accuracy": Metric(
        ("classes",), lambda p, y: float((p == y).mean()), lambda y: float((frequencies(y) ** 2).sum()), right
    ),
    "macro_f1": Metric(("classes",), macro_f1, lambda y: 1 / len(frequencies(y))),
    "f1": Metric(("classes",), lambda p, y: stats.f1(p == 1, y == 1), lambda y: float((y == 1).mean())),
    "mcc": Metric(("classes",), mcc, lambda y: 0.0),
    "micro_f1": Metric(("labels",), micro_f1, lambda y: float(y.mean())),
    "tag_accuracy": Metric(("tags",), tag_accuracy, lambda y: float((frequencies(y) ** 2).sum())),
    "pearson": Metric(("numbers",), correlation(stats.pearson), lambda y: 0.0),
    "spearman": Metric(("numbers",), correlation(stats.spearman), lambda y: 0.0),
    "rmse": Metric(("numbers",), rmse, lambda y: float(np.std(y)), higher_is_better=False),
}
DEFAULT = {"classes": "accuracy", "labels": "micro_f1", "tags": "tag_accuracy", "numbers": "pearson"}
