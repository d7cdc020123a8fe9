"""What may be said of a difference between two arms: p-values over seeds, verdicts, and what was missed.

A trick is *better* or *worse* where the 95 % interval over seeds and examples excludes zero and the
sign-flip p-value over seeds, after Holm, is at most 0.05. Elsewhere *no difference is shown*, and beside it
stands the smallest difference that this rule would have shown with 80 % power.
"""

import functools

import numpy as np
from scipy.stats import t as t_distribution

from tricks_lib._checks import number
from tricks_lib.lab.compare.variance import (
    Components,
    components,
    contributions,
    half_width,
    interval,
    matrix,
    pseudo_values,
)
from tricks_lib.lab.stats import EXACT_UP_TO, LEAST_COUNTED, direction, holm, share_won, sign_flip

__all__ = [
    "Components", "components", "contributions", "failed", "family", "holm", "interval", "level_left",
    "pseudo_values", "seeds_needed", "share_won", "sign_flip", "smallest_difference", "verdict",
]  # fmt: skip
LEVEL = 0.05
LEAST_SEEDS = 10
ROUNDING = 1e-9  # of a mean of pseudo-values, relative to the largest
DRAWS = 4000  # simulated experiments behind a smallest difference
WORDS = {1: "better", -1: "worse", 0: "no difference shown"}


def level_left(others) -> float:
    """The p-value up to which one more comparison is significant after Holm beside ``others`` (M - 1,)."""
    remaining = 1 + len(others)
    for p in sorted(others):
        if p > LEVEL / remaining:
            break
        remaining -= 1
    return LEVEL / remaining


def seeds_needed(comparisons: int) -> int:
    """The least number of seeds, ten or more, with ``2**(1 - n) * comparisons <= 0.01``: the smallest p-value
    that signs of n seeds can give stands a family of so many comparisons.
    """
    number("comparisons", comparisons, 1, accepted="a positive integer", integer=True)
    return max(LEAST_SEEDS, 1 + int(np.ceil(np.log2(100 * comparisons))))


def seeds_for_a_verdict(comparisons: int) -> int:
    """The least number of seeds, six or more, with which the smallest p-value stands such a family at all."""
    return max(LEAST_COUNTED, 1 + int(np.ceil(np.log2(comparisons / LEVEL))))


def smallest_difference(c: Components, level: float = LEVEL, power: float = 0.8) -> float:
    """The smallest true difference that is shown with probability ``power``: the interval excludes zero and
    the sign-flip p-value is at most ``level``.

    Seeds, examples and residuals are drawn from normal distributions with the variances of ``c``. In each
    draw, both conditions hold for every true difference above a number that has a closed form; the result is
    a quantile of these numbers.

    Args:
        c: of the comparison; its mean is not used. level: what Holm leaves, see :func:`level_left`.

    Returns:
        the difference; ``inf`` where so few seeds never give a p-value of ``level``.
    """
    number("level", level, 0, 1)
    number("power", power, 0, 1)
    S, N = c.seeds, c.examples
    if S == 1:  # only the examples are random: they stand where seeds stood
        return smallest_difference(Components(c.mean, N, 1, c.example, 0.0, 0.0), level, power)
    center, spread, critical = _unit_seeds(S, level)  # (R,)
    if np.isinf(critical).all():
        return np.inf
    rng = np.random.default_rng(1)
    of_examples = max(c.example - c.residual, 0) / (S * N)  # variance of the examples' mean
    shared = np.sqrt(of_examples) * rng.normal(size=DRAWS)
    seed = c.seed * spread**2
    example, residual = (
        ms * rng.chisquare(df, DRAWS) / df if df else np.zeros(DRAWS)
        for ms, df in ((c.example, N - 1), (c.residual, (S - 1) * (N - 1)))
    )
    scale = np.sqrt(c.seed / N)  # standard deviation of the seeds' means
    by_interval = half_width(S, N, seed, example, residual) - scale * center - shared
    by_sign_flip = scale * critical - shared
    return float(np.quantile(np.maximum(by_interval, by_sign_flip), power, method="higher"))


@functools.lru_cache
def _unit_seeds(n: int, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and critical shift of n standard normal numbers, DRAWS times.

    The critical shift is the number above which a constant added to all n makes the sign-flip p-value at most
    ``level``. Flipping the signs of a subset reaches the observed sum where the subset's own mean is not
    positive, so each subset counts up to a shift of minus its mean. Beyond EXACT_UP_TO the t-test stands for
    the sign flips.
    """
    z = np.random.default_rng(0).normal(size=(DRAWS, n))
    center, spread = z.mean(axis=1), z.std(axis=1, ddof=1)
    if n > EXACT_UP_TO:
        return center, spread, t_distribution.isf(level / 2, n - 1) * spread / np.sqrt(n) - center
    allowed = int(level * 2 ** (n - 1) + 1e-9)  # subsets that may count, the empty one among them
    if allowed < 1:
        return center, spread, np.full(DRAWS, np.inf)
    subsets = np.arange(1, 2**n)[:, None] >> np.arange(n) & 1  # (2^n - 1, n)
    weights = -(subsets / subsets.sum(axis=1, keepdims=True)).T
    critical = [
        np.partition(part @ weights, -allowed, axis=1)[:, -allowed] for part in np.split(z, DRAWS // 100)
    ]
    return center, spread, np.concatenate(critical)


def family(differences: dict, higher_is_better: bool = True) -> dict[str, dict]:
    """Statistics and verdicts of comparisons that were fixed beforehand as one family.

    Args:
        differences: name -> (S, N) or (S,), trick less baseline, of one score for all.
        higher_is_better: of the score.

    Returns:
        name -> ``{"mean", "low", "high", "n", "won", "p", "holm", "smallest", "verdict"}``: the 95 %
        interval, the number of seeds (of examples, where there is one seed), the share of them on which the
        trick is *higher*, the sign-flip p-value, the same after Holm, the smallest difference that would
        have been shown with 80 % power (None: none would), and the verdict.

    Raises:
        ValueError: as :func:`components`; the name is in the message.
    """
    found = {}
    for name, given in differences.items():
        try:
            c = components(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        D = matrix(given)
        units = D.mean(axis=1) if c.seeds > 1 else D[0]
        units = np.where(np.abs(units) > ROUNDING * np.abs(D).max(), units, 0.0)  # equal scores are a tie
        found[name] = c, units, sign_flip(units)
    adjusted = holm([p for *_, p in found.values()])
    out = {}
    for (name, (c, units, p)), corrected in zip(found.items(), adjusted):
        others = [q for other, (*_, q) in found.items() if other != name]
        smallest = smallest_difference(c, level_left(others))
        own = {
            "mean": c.mean, "low": c.mean - c.half_width, "high": c.mean + c.half_width, "n": len(units),
            "won": share_won(units), "p": p, "holm": float(corrected),
            "smallest": smallest if np.isfinite(smallest) else None,
        }  # fmt: skip
        out[name] = own | {"verdict": verdict(own, higher_is_better)}
    return out


def verdict(difference: dict, higher_is_better: bool = True) -> str:
    """What follows: "better" or "worse" where the interval excludes zero and Holm's p-value is at most 0.05,
    else "no difference shown"; under six seeds "counts only".
    """
    if difference["n"] < LEAST_COUNTED:
        return "counts only"
    return WORDS[direction(difference) * (1 if higher_is_better else -1)]


def failed(scores, guess: float, higher_is_better: bool = True) -> np.ndarray:
    """Runs that end less than a quarter of the way from guessing to their arm's median.

    Args:
        scores: (S,), of one arm. guess: the score without a model, see ``metrics.guess``.

    Returns:
        (S,) bool; all True where the median itself is no better than guessing.

    Raises:
        ValueError: not (S,), or a number is not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite([*scores, guess]).all():
        raise ValueError(f"scores, guess: shape {scores.shape} given, finite numbers (seeds,) are accepted")
    way = (scores - guess) * (1 if higher_is_better else -1)
    return (way < np.median(way) / 4) | (np.median(way) <= 0)
