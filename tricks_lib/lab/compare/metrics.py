"""What predictions are worth: metrics by name, for each kind of data.

Shapes: N examples, C classes, T tokens; ``...`` stands for any number of arms or seeds, which are scored at
once. Predictions and labels are class indices (N,) for classes, 0 and 1 (N, C) for several labels per text,
class indices (N, T) with -100 for padding for tags, and floats (N,) for numbers. Every metric takes
predictions (..., N, *) and labels (N, *) and returns (...).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

KINDS = ("classes", "labels", "tags", "numbers")
IGNORED = -100
GUESSES = 200


@dataclass(frozen=True)
class Metric:
    """A score and what is known of it.

    Attributes:
        kinds: of data that it is for.
        score: ``score(predictions (..., N, *), labels (N, *)) -> (...)``.
        of_examples: ``of_examples(predictions, labels) -> (..., N)`` where the score is the mean of a value
            of each example.
        higher_is_better: of the score.
    """

    kinds: tuple[str, ...]
    score: Callable
    of_examples: Callable | None = None
    higher_is_better: bool = True

    def guess(self, labels) -> float:
        """Score without a model: classes drawn by their frequency (the mean of 200 draws); of numbers, their
        mean.
        """
        labels = np.asarray(labels)
        if self.kinds == ("numbers",):
            return float(self.score(np.full(labels.shape, labels.mean()), labels))
        kept = labels != IGNORED
        rng, drawn, scores = np.random.default_rng(0), labels[None].copy(), []
        for _ in range(GUESSES):  # one at a time: of tags all together would fill the memory
            if labels.ndim == 2 and "labels" in self.kinds:
                drawn = rng.permuted(labels[None], axis=1)  # each label by its own frequency
            else:
                drawn[:, kept] = rng.permuted(labels[None][:, kept], axis=1)
            scores.append(self.score(drawn, labels)[0])
        return float(np.mean(scores))


def constant(labels, kind: str) -> np.ndarray:
    """The best answer that knows no text, for labels (N, ...): the mean of numbers, else the most common."""
    if kind == "numbers":
        return np.full(labels.shape, labels.mean())
    if kind == "labels":
        return np.broadcast_to((labels.mean(axis=0) > 0.5).astype(int), labels.shape)
    return np.full(labels.shape, np.bincount(labels[labels != IGNORED]).argmax())


def right(predictions, labels) -> np.ndarray:
    """1 where the class is the label's, 0 elsewhere, (..., N)."""
    return (predictions == labels).astype(np.float64)


def accuracy(predictions, labels):
    return right(predictions, labels).mean(axis=-1)


def tag_accuracy(predictions, labels):
    """Share of the tokens whose tag is right, padding left out."""
    return (predictions == labels)[..., labels != IGNORED].mean(axis=-1)


def _ratio(above, below):
    """above / below, 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)


def f1(predictions, labels):
    """2 TP / (predicted + true) of class 1; 0 where it is neither predicted nor true."""
    predictions, labels = predictions == 1, labels == 1
    return _ratio(2.0 * (predictions & labels).sum(axis=-1), predictions.sum(axis=-1) + labels.sum())


def micro_f1(predictions, labels):
    """F1 over all labels of all texts together."""
    return f1(predictions.reshape(*predictions.shape[:-2], -1), labels.reshape(-1))


def macro_f1(predictions, labels):
    """Mean F1 of the classes that are predicted or true."""
    hits, found, true = _counts(predictions, labels)
    there = (found + true > 0).sum(axis=-1)
    return (_ratio(2.0 * hits, found + true).sum(axis=-1) / there).reshape(predictions.shape[:-1])


def matthews(predictions, labels):
    """Matthews's correlation of any number of classes (Gorodkin 2004, equation 8); 0 where one side is
    constant.
    """
    N = len(labels)
    hits, found, true = _counts(predictions, labels)
    covariance = N * hits.sum(axis=-1) - (found * true).sum(axis=-1)
    lengths = (N**2 - (found**2).sum(axis=-1)) * float(N**2 - (true**2).sum())
    return _ratio(covariance, np.sqrt(lengths)).reshape(predictions.shape[:-1])


def _counts(predictions, labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right predictions (R, C), predictions (R, C) and labels (C,) of each class, R arms or seeds."""
    predictions = predictions.reshape(-1, len(labels))  # (R, N)
    R, C = len(predictions), 1 + int(max(predictions.max(), labels.max()))
    cells = predictions + C * np.arange(R)[:, None]  # (R, N)
    hits, found = (
        np.bincount(cell, minlength=R * C).reshape(R, C)
        for cell in (cells[predictions == labels], cells.ravel())
    )
    return hits, found, np.bincount(labels, minlength=C)


def average_precision(predictions, labels):
    """Precision averaged over the recall that each threshold gains; of scores (..., N), labels 0 and 1."""
    order = np.argsort(-predictions, axis=-1, kind="stable")
    scores, hits = np.take_along_axis(predictions, order, -1), (labels == 1)[order].cumsum(axis=-1)
    threshold = np.ones(scores.shape, dtype=bool)  # the last of equal scores
    threshold[..., :-1] = scores[..., 1:] != scores[..., :-1]
    at_threshold = np.maximum.accumulate(np.where(threshold, hits, 0), axis=-1)
    gained = np.diff(at_threshold, axis=-1, prepend=0)
    precision = hits / np.arange(1, hits.shape[-1] + 1)
    return _ratio((gained * precision).sum(axis=-1), hits[..., -1])


def pearson(predictions, labels):
    """Pearson's correlation, centred and scaled before it is multiplied; 0 where one side is constant."""
    x, y = (_unit(np.asarray(v, dtype=np.float64)) for v in (predictions, labels))
    return (x * y).sum(axis=-1)


def _unit(v):
    """v (..., N) centred and of length 1; zeros where it is constant."""
    span = np.ptp(v, axis=-1, keepdims=True)
    v = np.divide(v - v.mean(axis=-1, keepdims=True), span, out=np.zeros(v.shape), where=span > 0)
    length = np.sqrt((v**2).sum(axis=-1, keepdims=True))
    return np.divide(v, length, out=v, where=length > 0)


def spearman(predictions, labels):
    """Spearman's rank correlation, ties at their mean rank; 0 where one side is constant."""
    return pearson(rankdata(predictions, axis=-1), rankdata(labels))


def squared_error(predictions, labels) -> np.ndarray:
    return (np.asarray(predictions, dtype=np.float64) - labels) ** 2


def rmse(predictions, labels):
    return np.sqrt(squared_error(predictions, labels).mean(axis=-1))


def ece(predictions, labels, bins: int = 15):
    """Expected calibration error in bins of equal width (Guo et al. 2017, equation 3).

    Args:
        predictions: (..., N, 2): the predicted class and its confidence. labels: (N,).
    """
    confidence = predictions[..., 1]
    surplus = confidence - right(predictions[..., 0], labels)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sums = [np.abs((surplus * (index == b)).sum(axis=-1)) for b in range(bins)]
    return np.sum(sums, axis=0) / len(labels)


def entity_f1(predictions, labels):
    """F1 of entities, right where type, first and last token are; of tags (..., N, T).

    Tag 0 is outside, tag 2k + 1 begins an entity of type k, tag 2k + 2 continues it. As in conlleval, a
    continuation without a beginning begins one. Tokens that have no label, such as all of a word but its
    first, are passed over and end no entity.
    """
    order = np.argsort(labels == IGNORED, axis=-1, kind="stable")  # labelled tokens first, in their order
    labels = np.take_along_axis(labels, order, axis=-1)
    predictions = np.take_along_axis(predictions, np.broadcast_to(order, predictions.shape), axis=-1)
    predictions = np.where(labels == IGNORED, 0, predictions)
    (type_p, begin_p, end_p), (type_y, begin_y, end_y) = map(_entities, (predictions, np.maximum(labels, 0)))
    same = begin_p & begin_y & (type_p == type_y) & (end_p == end_y)
    found, true = begin_p.sum(axis=(-2, -1)), begin_y.sum()
    return _ratio(2.0 * same.sum(axis=(-2, -1)), found + true)


def _entities(tags):
    """Type, whether an entity begins, and where what begins there ends, each (..., N, T)."""
    kind = (tags + 1) // 2  # 0 is outside
    before = np.concatenate([np.zeros_like(kind[..., :1]), kind[..., :-1]], axis=-1)
    continues = (tags > 0) & (tags % 2 == 0) & (kind == before)
    T = tags.shape[-1]
    stop = np.where(continues, T, np.arange(T))  # where no entity goes on
    following = np.minimum.accumulate(stop[..., ::-1], axis=-1)[..., ::-1]  # the first stop here or later
    end = np.concatenate([following[..., 1:], np.full_like(following[..., :1], T)], axis=-1)
    return kind, (kind > 0) & ~continues, end


def log_prob_gap(predictions, labels):
    """|mean of predictions - mean of labels|, of log-probabilities per token, in nats."""
    return np.abs((np.asarray(predictions, dtype=np.float64) - labels).mean(axis=-1))


METRICS = {
    "accuracy": Metric(("classes",), accuracy, right),
    "macro_f1": Metric(("classes",), macro_f1),
    "f1": Metric(("classes",), f1),
    "mcc": Metric(("classes",), matthews),
    "micro_f1": Metric(("labels",), micro_f1),
    "entity_f1": Metric(("tags",), entity_f1),
    "tag_accuracy": Metric(("tags",), tag_accuracy),
    "pearson": Metric(("numbers",), pearson),
    "spearman": Metric(("numbers",), spearman),
    "rmse": Metric(("numbers",), rmse, higher_is_better=False),
    "log_prob_gap": Metric(("texts",), log_prob_gap, higher_is_better=False),
}


NAMES = {  # as text has them, where it is not their key
    "distinct_2": "distinct-2", "ece": "ECE", "ece_scaled": "ECE, scaled", "entity_f1": "entity F1",
    "f1": "F1", "log_prob": "log p", "log_prob_gap": "gap in log-probability",
    "macro_f1": "macro-F1", "mcc": "Matthews's correlation", "micro_f1": "micro-F1",
    "pearson": "Pearson's r", "repetition": "repeated", "rmse": "RMSE",
    "spearman": "Spearman's rho",
}  # fmt: skip


def named(key: str) -> str:
    """A score's name in a sentence: "Pearson's r", "average precision"."""
    return NAMES.get(key, key.replace("_", " "))


def fitting(kind: str, names: Sequence[str]) -> list[str]:
    """Names of the metrics for such labels, the default first.

    Args:
        kind: of the labels. names: of classes, labels or tags, as in :class:`.data.Table`.
    """
    unfit = {"f1"} if len(names) != 2 else set()
    unfit |= set() if mark_entities(names) else {"entity_f1"}
    return [name for name, metric in METRICS.items() if kind in metric.kinds and name not in unfit]


def mark_entities(names: Sequence[str]) -> bool:
    """Whether tags are O, B-x, I-x, B-y, I-y, ... in this order."""
    types = [name[2:] for name in names[1::2]]
    return [*names] == ["O", *(f"{position}-{type_}" for type_ in types for position in "BI")]
