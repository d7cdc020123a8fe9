"""The difference between two arms and its 95 % interval, from scores on the same seeds and test examples.

Both are random: another seed trains another network, another test set asks other questions.
A matrix of differences D with a row for each of S seeds and a column for each of N examples is read as

    D[i, j] = mean + seed[i] + example[j] + residual[i, j],                                           (1)

and the variance of its mean is estimated from the mean squares of the two-way layout,

    Var(mean) = (MS_seed + max(MS_example - MS_residual, 0)) / (S N),                                 (2)

with Satterthwaite's degrees of freedom (Satterthwaite 1946, *Biometrics Bulletin* 2:110), but at least the
smaller of S - 1 and N - 1, as the difference in (2) makes them too few: for few seeds a t interval, where a
bootstrap over seeds is too narrow. A metric that is not a mean over examples enters as the pseudo-values of a
jackknife over groups of examples (Tukey 1958; Busing et al. 1999, *Statistics and Computing* 9:3): their mean
is the metric, and (1) and (2) hold for them as for any score.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as t_distribution

from tricks_lib._checks import number

GROUPS = 100  # of examples, for the jackknife


@dataclass(frozen=True)
class Components:
    """Mean squares of a matrix of differences: all that its interval depends on.

    Attributes:
        mean: of all differences. seeds, examples: S and N.
        seed, example, residual: mean squares; 0 where there is one seed, or one example.
    """

    mean: float
    seeds: int
    examples: int
    seed: float
    example: float
    residual: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval around the mean."""
        return float(half_width(self.seeds, self.examples, self.seed, self.example, self.residual))


def components(differences) -> Components:
    """The mean squares of (1).

    Args:
        differences: (S, N), or (S,) where only the scores of the seeds are known. One row, (1, N), is a
            comparison in which only the examples are random.

    Raises:
        ValueError: another shape, fewer than two numbers, or a number that is not finite.
    """
    D = matrix(differences)  # (S, N)
    S, N = D.shape
    rows, columns = D.mean(axis=1), D.mean(axis=0)
    seed = N * rows.var(ddof=1) if S > 1 else 0.0
    example = S * columns.var(ddof=1) if N > 1 else 0.0
    rest = D - rows[:, None] - columns + D.mean()
    residual = (rest**2).sum() / ((S - 1) * (N - 1)) if min(S, N) > 1 else 0.0
    return Components(float(D.mean()), S, N, float(seed), float(example), float(residual))


def matrix(differences) -> np.ndarray:
    D = np.asarray(differences, dtype=np.float64)
    if D.ndim not in (1, 2) or D.size < 2:
        raise ValueError(
            f"differences: shape {D.shape} given, (seeds,) or (seeds, examples) with at least two numbers is "
            f"accepted"
        )
    if not np.isfinite(D).all():
        raise ValueError("differences: a number is not finite")
    return D[:, None] if D.ndim == 1 else D


def half_width(S: int, N: int, seed, example, residual):
    """Half width of the 95 % interval for mean squares of any shape; a zero variance gives 0."""
    total = seed + np.maximum(example - residual, 0)  # S N Var(mean), equation (2)
    squares = sum(
        ms**2 / max(1, df) for ms, df in ((seed, S - 1), (example, N - 1), (residual, (S - 1) * (N - 1)))
    )
    degrees = np.divide(total**2, squares, out=np.ones_like(np.asarray(total, float)), where=squares > 0)
    degrees = np.maximum(degrees, max(1, min(S, N) - 1))
    return t_distribution.ppf(0.975, degrees) * np.sqrt(total / (S * N))


def interval(differences) -> tuple[float, float, float]:
    """Mean difference and its 95 % interval over seeds and examples: ``(mean, low, high)``.

    Raises:
        ValueError: as :func:`components`.
    """
    c = components(differences)
    return c.mean, c.mean - c.half_width, c.mean + c.half_width


def contributions(metric, predictions, labels) -> np.ndarray:
    """What each example, or group of examples, contributes to an arm's score: the mean of a row is the score.

    The difference between the contributions of two arms is what :func:`components` takes.

    Args:
        metric: a :class:`.metrics.Metric`. predictions: (S, N, ...). labels: (N, ...).

    Returns:
        (S, N) where the score is a mean over examples, else (S, K) of :func:`pseudo_values`.

    Raises:
        ValueError: as :func:`pseudo_values`.
    """
    if metric.of_examples is None:
        return pseudo_values(metric.score, predictions, labels)
    return metric.of_examples(*_one_arm(predictions, labels))


def pseudo_values(score, predictions, labels, groups: int = GROUPS) -> np.ndarray:
    """Pseudo-values of the jackknife, by seed and group of examples.

    The examples are divided at random into groups, the same for every arm. Group k contributes
    h score - (h - 1) score(without k), with h = N / size of the group, shifted so that the mean is the score.

    Args:
        score: ``score(predictions (S, M, ...), labels (M, ...)) -> (S,)``.
        predictions: (S, N, ...). labels: (N, ...).
        groups: the largest number of groups; N or more is one example a group.

    Returns:
        (S, K), K of at most ``groups``.

    Raises:
        ValueError: other shapes, or fewer than two examples.
    """
    number("groups", groups, 2, accepted="an integer of at least 2", integer=True)
    predictions, labels = _one_arm(predictions, labels)
    N = len(labels)
    K = N // -(-N // groups)  # groups of equal size, but for a few that hold one more
    group = np.random.default_rng(0).permutation(N) % K  # (N,)
    whole = np.asarray(score(predictions, labels), dtype=np.float64)  # (S,)
    without = [score(predictions[:, group != k], labels[group != k]) for k in range(K)]
    h = N / np.bincount(group)
    values = h * whole[:, None] - (h - 1) * np.stack(without, axis=1)  # (S, K)
    return values - values.mean(axis=1, keepdims=True) + whole[:, None]


def _one_arm(predictions, labels) -> tuple[np.ndarray, np.ndarray]:
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.ndim < 2 or not 2 <= predictions.shape[1] == len(labels):
        raise ValueError(
            f"predictions, labels: shapes {predictions.shape} and {labels.shape} given, (seeds, examples, "
            f"...) and (examples, ...) with at least two examples is accepted"
        )
    return predictions, labels
