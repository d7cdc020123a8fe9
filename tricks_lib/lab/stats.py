"""Statistics of an experiment: paired difference by seed, its bootstrap interval, its sign-flip p-value, and
what may be said of it.
"""

import numpy as np

RESAMPLES = 10_000
EXACT_UP_TO = 14  # differences whose signs are flipped in all ways
FLIPS = 100_000  # else drawn
LEAST_COUNTED = 6  # seeds, for a verdict: five can give no p-value below 0.0625


def paired_difference(trick, baseline, seed: int = 0) -> dict:
    """Mean of trick - baseline over seeds, with a 95 % percentile bootstrap interval and a two-sided p-value.

    ``p`` is :func:`sign_flip`'s.

    Args:
        trick: n scores, one a seed. baseline: n scores of the same seeds.

    Returns:
        ``{"mean", "low", "high", "p", "n", "won"}``; ``won`` is :func:`share_won`'s.

    Raises:
        ValueError: different lengths, fewer than two, or a score that is not finite.
    """
    difference = (
        np.asarray(trick, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
        if len(trick) == len(baseline)
        else None
    )
    if difference is None or difference.ndim != 1 or len(difference) < 2:
        raise ValueError(
            f"trick, baseline: {len(trick)} and {len(baseline)} scores given, the same number and at least "
            f"2 are accepted"
        )
    if not np.isfinite(difference).all():
        raise ValueError("trick, baseline: a score is not finite")
    n, rng = len(difference), np.random.default_rng(seed)
    means = difference[rng.integers(n, size=(RESAMPLES, n))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "p": sign_flip(difference, rng),
        "n": n,
        "won": share_won(difference),
    }


def sign_flip(differences, rng=None) -> float:
    """Two-sided p-value of the hypothesis that every difference is as likely with the other sign.

    All 2^n flips are counted up to n = 14; else 100,000 are drawn, and the observed one counts among them
    (Phipson & Smyth 2010, *Stat. Appl. Genet. Mol. Biol.* 9, equation 2).

    Args:
        differences: (n,). rng: draws the flips; seeded with 0 if None.

    Raises:
        ValueError: not (n,) with n of at least 1, or a number that is not finite.
    """
    differences = _finite_row(differences)
    n = len(differences)
    if n <= EXACT_UP_TO:
        sums, extra = (1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)) @ differences, 0
    else:
        rng, extra = np.random.default_rng(0) if rng is None else rng, 1
        drawn = (rng.choice([1, -1], size=(FLIPS // 100, n)) for _ in range(100))  # in parts: n may be large
        sums = np.concatenate([signs @ differences for signs in drawn])
    rounding = 1e-12 * np.abs(differences).sum()  # equal sums, added in another order
    at_least = np.sum(np.abs(sums) >= abs(differences.sum()) - rounding) + extra
    return float(at_least / (len(sums) + extra))


def share_won(differences) -> float:
    """Share of the differences (n,) that are positive; zero is half a win.

    Raises:
        ValueError: as :func:`sign_flip`.
    """
    differences = _finite_row(differences)
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def _finite_row(differences) -> np.ndarray:
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 1 or not len(differences) or not np.isfinite(differences).all():
        raise ValueError(f"differences: shape {differences.shape} given, finite numbers (n,) are accepted")
    return differences


def direction(difference: dict) -> int:
    """1 or -1 where a difference is shown to be positive or negative, 0 where it is not.

    It is shown where its 95 % interval excludes zero, its p-value is at most 0.05 (after Holm, where ``holm``
    is given) and six seeds or more stand behind it.

    Args:
        difference: ``{"low", "high", "n", "p"}``, and perhaps ``"holm"``.
    """
    shown = difference["n"] >= LEAST_COUNTED and difference.get("holm", difference["p"]) <= 0.05
    return shown * (int(difference["low"] > 0) - int(difference["high"] < 0))


def auc(scores, labels) -> float:
    """Area under the ROC curve: the probability that a positive example scores above a negative one, ties
    counted half.

    Args:
        scores: (N,). labels: (N,) of 0 and 1.

    Raises:
        ValueError: different shapes, a score that is not finite, or labels that are not 0 and 1, both of them
            there.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.shape != labels.shape or scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(
            f"scores, labels: shapes {scores.shape}, {labels.shape} given, finite numbers of the same shape "
            f"(N,) are accepted"
        )
    if {*labels.tolist()} != {0, 1}:
        raise ValueError(
            f"labels: {sorted({*labels.tolist()})[:5]} given, 0 and 1, both of them, are accepted"
        )
    positive = labels == 1
    n, m = positive.sum(), (~positive).sum()
    return float((ranks(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def ranks(values) -> np.ndarray:
    """Ranks (N,) of numbers (N,), from 1; equal numbers share their mean rank.

    Raises:
        ValueError: not (N,), or a number is NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(
            f"values: shape {values.shape}{' with NaN' if np.isnan(values).any() else ''} given, (N,) of "
            f"numbers is accepted"
        )
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def holm(p) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down procedure (Holm 1979, *Scandinavian Journal of
    Statistics* 6:65).

    Args:
        p: (M,).

    Raises:
        ValueError: not (M,), or a number outside [0, 1].
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p: shape {p.shape} given, (M,) of numbers in [0, 1] is accepted")
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def with_holm(differences: dict) -> dict:
    """The same differences, each with ``"holm"``: its p-value adjusted for all of them by :func:`holm`.

    Args:
        differences: name -> difference with ``"p"``.
    """
    values = holm([difference["p"] for difference in differences.values()])
    return {name: d | {"holm": p} for (name, d), p in zip(differences.items(), values)}
