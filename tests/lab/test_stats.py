"""Oracles: SciPy's correlations, ranks, exact permutation test and bootstrap; sums over all 2^n sign flips in
integers.
"""

import itertools

import numpy as np
import pytest
import scipy.stats

from tricks_lib.lab import stats


def sample(n=40, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    return (np.round(x, 1), np.round(y)) if ties else (x, y)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 3, 40, 1000])
def test_ranks_are_scipys(n, ties):
    x, _ = sample(n, seed=n, ties=ties)
    if ties and n < 4:
        x = np.array([0.0, 1.0, 1.0])[:n]
    assert stats.ranks(x) == pytest.approx(scipy.stats.rankdata(x), abs=0)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_scikit_learns(ties):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(3)
    for n in (2, 5, 200):
        labels = np.arange(n) % 2
        scores = rng.normal(size=n) + labels
        scores = scores.round(1) if ties else scores
        assert stats.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert stats.auc([1.0, 1.0, 1.0], [0, 1, 1]) == 0.5


def test_ranks_of_few():
    assert stats.ranks([]).tolist() == []
    assert stats.ranks([5]).tolist() == [1]
    assert stats.ranks([2, 2, 1, 2]).tolist() == [3, 3, 1, 3]
    assert stats.ranks([np.inf, -np.inf, 0]).tolist() == [3, 1, 2]


@pytest.mark.parametrize("n", [2, 3, 6, 10, 12])
def test_exact_p_value_is_scipys_permutation_test(n):
    rng = np.random.default_rng(n)
    trick, baseline = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    oracle = scipy.stats.permutation_test(
        (trick, baseline),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    found = stats.paired_difference(trick, baseline)
    assert found["mean"] == pytest.approx(oracle.statistic, abs=1e-12)
    assert found["p"] == pytest.approx(oracle.pvalue, abs=1e-12)
    assert found["n"] == n


def flips(differences) -> float:
    """Two-sided p-value over all 2^n sign flips of integers, counted without rounding."""
    sums = np.zeros(1, dtype=np.int64)
    for d in differences:
        sums = np.concatenate([sums + d, sums - d])
    return float(np.mean(np.abs(sums) >= abs(sum(differences))))


@pytest.mark.parametrize("unit", [1 / 500, 1 / 3080, 1e-9, 1e6 / 3], ids=str)
@pytest.mark.parametrize("n", [5, 10, 14])
def test_ties_among_sign_flips_are_counted_at_every_scale(n, unit):
    """Scores are multiples of one test example, so that many flips give exactly the observed sum."""
    correct = np.random.default_rng(n).integers(-3, 5, size=n)
    base = np.full(n, 400)
    found = stats.paired_difference((base + correct) * unit, base * unit)
    assert found["p"] == flips(correct.tolist())


@pytest.mark.parametrize("n", [15, 20])
@pytest.mark.parametrize("shift", [0, 2, 6])
def test_drawn_p_value_agrees_with_all_sign_flips(n, shift):
    correct = np.random.default_rng(n).integers(-6, 7, size=n) + shift
    exact = flips(correct.tolist())
    found = stats.paired_difference((400 + correct) / 500, np.full(n, 0.8))["p"]
    assert abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / 100_000) + 2e-5
    assert found >= 1 / 100_001  # the observed one counts among the drawn: never 0


def test_the_smallest_drawn_p_value_is_not_zero():
    assert stats.paired_difference([0.9] * 40, [0.8] * 40)["p"] == pytest.approx(1 / 100_001)


def test_interval_is_scipys_percentile_bootstrap():
    trick, baseline = sample(20, seed=3)
    found = stats.paired_difference(trick, baseline)
    oracle = scipy.stats.bootstrap(
        (trick - baseline,), np.mean, n_resamples=100_000, method="percentile", rng=1
    )
    low, high = oracle.confidence_interval
    assert [found["low"], found["high"]] == pytest.approx([low, high], abs=0.08 * oracle.standard_error)
    assert found["low"] < found["mean"] < found["high"]


def test_interval_agrees_with_all_resamples():
    difference = np.array([0.0, 1.0, 2.5, -4.0, 8.0])
    every = [np.mean(rows) for rows in itertools.product(difference, repeat=5)]
    found = stats.paired_difference(difference + 1, np.ones(5))
    near = np.percentile(
        every, [1.8, 2.5, 3.2, 96.8, 97.5, 98.2]
    )  # 2.5 and 97.5, give or take 4 standard errors of 10,000 resamples
    assert near[0] <= found["low"] <= near[2] and near[3] <= found["high"] <= near[5]


@pytest.mark.parametrize("n", [6, 16])
def test_equal_arms_differ_by_nothing(n):
    scores = sample(n)[0]
    nothing = {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "n": n, "won": 0.5}
    assert stats.paired_difference(scores, scores) == nothing


@pytest.mark.parametrize("n", [8, 18])
def test_swapped_arms_turn_the_sign_and_keep_p(n):
    a, b = sample(n, seed=n)
    one, other = stats.paired_difference(a, b), stats.paired_difference(b, a)
    assert [one["mean"], one["low"], one["high"]] == pytest.approx(
        [-other["mean"], -other["high"], -other["low"]]
    )
    assert one["p"] == other["p"]


def test_same_call_same_numbers_and_plain_types():
    a, b = sample(18)
    first = stats.paired_difference(a, b)
    assert first == stats.paired_difference(a.tolist(), b.tolist())
    assert first != stats.paired_difference(a, b, seed=1)
    assert {type(v) for v in first.values()} == {float, int}


def test_a_tie_is_half_a_win():
    assert stats.share_won([0.3, -0.1, 0.0, 1e-9]) == 2.5 / 4
    assert stats.paired_difference([1, 2, 3, 4], [0, 2, 4, 4])["won"] == 0.5


@pytest.mark.parametrize(
    "low, high, p, n, expected",
    [
        (0.1, 0.3, 0.01, 6, 1),
        (-0.3, -0.1, 0.05, 10, -1),
        (0.0, 0.3, 0.01, 10, 0),  # touches zero
        (-0.3, 0.0, 0.01, 10, 0),
        (0.1, 0.3, 0.051, 10, 0),
        (0.1, 0.3, 0.01, 5, 0),  # too few seeds
    ],
)
def test_a_difference_is_shown_by_interval_p_value_and_seeds_together(low, high, p, n, expected):
    assert stats.direction({"low": low, "high": high, "p": p, "n": n}) == expected


def test_holms_p_value_stands_for_the_single_one():
    shown = {"low": 0.1, "high": 0.3, "p": 0.04, "n": 10}
    assert stats.direction(shown) == 1
    assert stats.direction(shown | {"holm": 0.06}) == 0
    assert stats.direction(shown | {"p": 0.06, "holm": 0.05}) == 1


NAN, INF = float("nan"), float("inf")
REFUSED = {
    "other length": (
        stats.paired_difference,
        ([1, 2, 3], [1, 2]),
        "3 and 2 scores given, .* at least 2 are accepted",
    ),
    "one seed": (stats.paired_difference, ([1], [1]), "1 and 1 scores given"),
    "no seed": (stats.paired_difference, ([], []), "0 and 0 scores given"),
    "two dimensions": (stats.paired_difference, ([[1, 2], [3, 4]], [[1, 2], [3, 4]]), "accepted"),
    "nan score": (stats.paired_difference, ([1, NAN], [1, 2]), "trick, baseline: a score is not finite"),
    "infinite score": (stats.paired_difference, ([1, 2], [INF, 2]), "trick, baseline: a score is not finite"),
    "auc: one class": (stats.auc, ([1, 2, 3], [1, 1, 1]), "^labels: "),
    "auc: nan": (stats.auc, ([1, NAN, 3], [1, 0, 1]), "^scores, labels: "),
    "auc: shapes": (stats.auc, ([1, 2, 3], [1, 0]), "^scores, labels: "),
    "sign flips: none": (stats.sign_flip, ([],), r"differences: shape \(0,\) given"),
    "sign flips: nan": (stats.sign_flip, ([1.0, NAN],), "differences: .* finite numbers"),
    "won: two dimensions": (stats.share_won, ([[1.0, 2.0]],), r"differences: shape \(1, 2\) given"),
    "ranks: nan": (stats.ranks, ([1, NAN],), "with NaN given"),
    "ranks: two dimensions": (stats.ranks, ([[1, 2]],), r"shape \(1, 2\) given"),
}


@pytest.mark.parametrize("function, arguments, message", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
