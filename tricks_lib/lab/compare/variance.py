"""The difference between two arms and its 95 % interval, from scores on the same seeds and test examples.

Both are random: another seed trains another network, another test set asks other questions.
A matrix of differences D with a row for each of S seeds and a column for each of N examples is read as

    D[i, j] = mean + seed[i] + example[j] + residual[i, j],                                           (1)

and the variance of its mean is estimated from the mean squares of the two-way layout,

    Var(mean) = (MS_seed + max(MS_example - MS_residual, 0)) / (S N),                                 (2)

with Satterthwaite's degrees of freedom (Satterthwaite 1946, *Biometrics Bulletin* 2:110): for few seeds a t
interval, where a bootstrap over seeds is too narrow. A metric that is not a mean over examples enters as the
pseudo-values of a jackknife over groups of examples (Tukey 1958; Busing et al. 1999, *Statistics and
Computing* 9:3): their mean is the metric, and (1) and (2) hold for them as for any score.
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


def paired(metric, trick, baseline, labels) -> np.ndarray:
    """Differences of a :class:`.metrics.Metric` for :func:`components`: by example where the score is a mean
    over examples, else :func:`pseudo_values`, whose arguments and errors these are.
    """
    if metric.of_examples is None:
        return pseudo_values(metric.score, trick, baseline, labels)
    trick, baseline, labels = _arms(trick, baseline, labels)
    return metric.of_examples(trick, labels) - metric.of_examples(baseline, labels)


def pseudo_values(metric, trick, baseline, labels, groups: int = GROUPS) -> np.ndarray:
    """Differences by seed and group of examples, whose mean over groups is ``metric``'s difference on each
    seed.

    The examples are divided at random into groups; group k is worth what the metric loses without it:
    h d - (h - 1) d(without k), with h = N / size of the group. One example a group is the jackknife.

    Args:
        metric: ``metric(predictions (S, M, ...), labels (M, ...)) -> (S,)``.
        trick, baseline: predictions (S, N, ...), the same seeds and examples.
        labels: (N, ...).
        groups: the largest number of groups.

    Returns:
        (S, K), K of at most ``groups``.

    Raises:
        ValueError: other shapes, or fewer than two examples.
    """
    number("groups", groups, 2, accepted="an integer of at least 2", integer=True)
    trick, baseline, labels = _arms(trick, baseline, labels)
    S, N = trick.shape[:2]
    arms = np.concatenate([trick, baseline])  # (2S, N, ...): one call of the metric scores both

    def difference(kept):
        scores = np.asarray(metric(arms[:, kept], labels[kept]), dtype=np.float64)
        return scores[:S] - scores[S:]

    K = N // -(-N // groups)  # groups of equal size, but for a few that hold one more
    group = np.random.default_rng(0).permutation(N) % K  # (N,)
    whole = difference(np.arange(N))  # (S,)
    without = np.stack([difference(np.flatnonzero(group != k)) for k in range(K)], axis=1)  # (S, K)
    h = N / np.bincount(group)
    values = h * whole[:, None] - (h - 1) * without
    return values - values.mean(axis=1, keepdims=True) + whole[:, None]


def _arms(trick, baseline, labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    trick, baseline, labels = np.asarray(trick), np.asarray(baseline), np.asarray(labels)
    if trick.ndim < 2 or trick.shape != baseline.shape or not 2 <= trick.shape[1] == len(labels):
        raise ValueError(
            f"trick, baseline, labels: shapes {trick.shape}, {baseline.shape}, {labels.shape} given, twice "
            f"(seeds, examples, ...) and (examples, ...) with at least two examples is accepted"
        )
    return trick, baseline, labels
