"""Oracles: statsmodels (two-way analysis of variance, Holm), SciPy's t intervals, and simulations of
experiments whose true difference is known.
"""

import numpy as np
import pytest
import scipy.stats

from tricks_lib.lab import stats
from tricks_lib.lab.compare import metrics, statistics
from tricks_lib.lab.compare.statistics import Components, components


def matrix(S=10, N=40, seed=1.0, example=1.0, residual=1.0, mean=0.0, draw=0):
    """Differences (S, N) whose parts have these standard deviations."""
    rng = np.random.default_rng([draw, S, N])
    return (
        mean
        + seed * rng.normal(size=(S, 1))
        + example * rng.normal(size=(1, N))
        + residual * rng.normal(size=(S, N))
    )


# ---- Interval ----


@pytest.mark.parametrize("S, N", [(2, 3), (10, 40), (5, 2)])
def test_mean_squares_are_statsmodels_analysis_of_variance(S, N):
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    D = matrix(S, N)
    rows, columns = np.indices(D.shape)
    frame = pandas.DataFrame({"d": D.ravel(), "seed": rows.ravel(), "example": columns.ravel()})
    table = anova_lm(ols("d ~ C(seed) + C(example)", frame).fit())["mean_sq"]
    c = components(D)
    assert (c.seeds, c.examples) == (S, N) and c.mean == pytest.approx(D.mean())
    assert [c.seed, c.example, c.residual] == pytest.approx(
        [table["C(seed)"], table["C(example)"], table["Residual"]]
    )


@pytest.mark.parametrize("shape", [(10,), (10, 1), (1, 40)])
def test_with_one_random_factor_the_interval_is_the_t_interval(shape):
    D = np.random.default_rng(0).normal(0.3, 1, shape)
    low, high = scipy.stats.ttest_1samp(D.ravel(), 0).confidence_interval()
    assert statistics.interval(D) == pytest.approx((D.mean(), low, high))


def test_examples_that_vary_widen_the_interval_beyond_the_seeds():
    D = matrix(seed=0.1, example=2.0, residual=0.1)
    by_seed = statistics.interval(D.mean(axis=1))
    both = statistics.interval(D)
    assert both[0] == pytest.approx(by_seed[0]) and both[2] - both[0] > 3 * (by_seed[2] - by_seed[0])
    assert both[2] - both[0] == pytest.approx(
        scipy.stats.t.ppf(0.975, 39) * np.sqrt(D.mean(axis=0).var(ddof=1) / 40), rel=0.02
    )


def test_equal_arms_have_an_interval_of_no_width():
    assert statistics.interval(np.zeros((10, 30))) == (0, 0, 0)
    assert statistics.interval(np.full(6, 0.25)) == (0.25, 0.25, 0.25)


def from_latent(rng, sizes, S=10, N=300):
    """Correctness of two arms, differences (S, N), where a latent score of seed, example and both decides."""
    seed, example, residual = sizes
    difficulty = rng.normal(size=(1, N))

    def arm(mean):
        latent = mean + difficulty + seed * rng.normal(size=(S, 1)) + example * rng.normal(size=(1, N))
        return latent + residual * rng.normal(size=(S, N)) > 0

    spread = np.sqrt(1 + seed**2 + example**2 + residual**2)
    truth = scipy.stats.norm.cdf(0.7 / spread) - scipy.stats.norm.cdf(0.5 / spread)
    return arm(0.7).astype(float) - arm(0.5), truth


DOMINATED = {"seeds": (0.5, 0.1, 0.3), "examples": (0.05, 0.8, 0.3), "interaction": (0.02, 0.05, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", DOMINATED.values(), ids=DOMINATED)
@pytest.mark.parametrize("kind", ["correctness", "normal"])
def test_95_percent_intervals_cover_the_truth(kind, sizes):
    rng, hits = np.random.default_rng(0), 0
    for draw in range(2000):
        D, truth = (
            from_latent(rng, sizes) if kind == "correctness" else (matrix(10, 300, *sizes, 0.2, draw), 0.2)
        )
        _, low, high = statistics.interval(D)
        hits += low <= truth <= high
    assert 0.93 <= hits / 2000 <= 0.97


@pytest.mark.slow
def test_a_percentile_bootstrap_over_ten_seeds_does_not():
    """Why there is another interval: the bootstrap of ten differences covers nine times in ten."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        found = stats.paired_difference(rng.normal(0.2, 1, 10), np.zeros(10))
        hits += found["low"] <= 0.2 <= found["high"]
    assert 0.87 <= hits / 1000 <= 0.925


def test_pseudo_values_of_a_mean_are_the_values():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(3, size=30), rng.integers(3, size=(5, 30))
    found = statistics.pseudo_values(metrics.accuracy, predictions, labels)
    expected = metrics.right(predictions, labels)
    assert np.sort(found) == pytest.approx(np.sort(expected), abs=1e-12)  # in the order of the groups
    assert components(found).residual == pytest.approx(components(expected).residual)
    assert statistics.contributions(metrics.METRICS["accuracy"], predictions, labels) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "mcc"])
def test_contributions_average_to_the_score(name):
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(3, size=301), rng.integers(3, size=(4, 301))
    metric = metrics.METRICS[name]
    found = statistics.contributions(metric, predictions, labels)
    assert found.mean(axis=1) == pytest.approx(metric.score(predictions, labels))


def correlated(N):
    """Predictions of two arms, (1, N) each, and labels (N,)."""
    rng = np.random.default_rng(N)
    labels = rng.normal(size=N)
    return *(labels + rng.normal(size=(2, 1, N))), labels


def correlation(x, labels):
    return scipy.stats.pearsonr(x, labels).statistic


def test_pseudo_values_are_those_of_the_jackknife():
    predictions, _, labels = correlated(23)
    (found,) = statistics.pseudo_values(metrics.pearson, predictions, labels)
    whole = correlation(predictions[0], labels)
    without = [correlation(np.delete(predictions[0], j), np.delete(labels, j)) for j in range(23)]
    expected = 23 * whole - 22 * np.array(without)
    assert found.mean() == pytest.approx(whole)
    assert np.sort(found - whole) == pytest.approx(np.sort(expected - expected.mean()))


@pytest.mark.parametrize("groups", [50, 100])
def test_groups_of_examples_give_the_error_of_scipys_bootstrap(groups):
    trick, baseline, labels = correlated(409)
    found = statistics.pseudo_values(metrics.pearson, trick, labels, groups)
    found = found - statistics.pseudo_values(metrics.pearson, baseline, labels, groups)
    K = found.shape[1]
    assert groups / 2 < K <= groups
    bootstrap = scipy.stats.bootstrap(
        (trick[0], baseline[0], labels), lambda x, y, z: correlation(x, z) - correlation(y, z),
        paired=True, vectorized=False, n_resamples=500, rng=1,
    )  # fmt: skip
    assert np.sqrt(components(found).example / K) == pytest.approx(bootstrap.standard_error, rel=0.2)


def two_classifiers(rng, S=10, N=300):
    """Two arms (S, N) that find a rare class, and labels (N,): seeds and examples differ."""
    labels = (rng.random(N) < 0.2).astype(int)
    difficulty = 1.5 * labels - 1.2 + 0.5 * rng.normal(size=N)
    arms = [
        difficulty + sharper * labels + 0.15 * rng.normal(size=(S, 1)) + 0.4 * rng.normal(size=(S, N))
        for sharper in (0.6, 0.2)
    ]
    return [(arm > 0).astype(int) for arm in arms], labels


def two_regressors(rng, S=10, N=300):
    labels = rng.normal(size=N)
    shared = rng.normal(size=N)
    arms = [
        labels + 0.8 * shared + weight * rng.normal(size=N) + noise * rng.normal(size=(S, N))
        for weight, noise in zip((0.3, 0.6), 0.5 * np.exp(0.3 * rng.normal(size=(2, S, 1))))
    ]
    return arms, labels


@pytest.mark.slow
@pytest.mark.parametrize(
    "metric, draw",
    [
        ("f1", two_classifiers),
        ("macro_f1", two_classifiers),
        ("pearson", two_regressors),
        ("rmse", two_regressors),
    ],
)
def test_intervals_of_metrics_that_are_no_means_cover_as_well(metric, draw):
    rng, metric, hits = np.random.default_rng(0), metrics.METRICS[metric], 0
    truth = np.mean([
        metric.score(arms[0], labels) - metric.score(arms[1], labels)
        for arms, labels in (draw(rng, S=20, N=20_000) for _ in range(40))
    ])  # fmt: skip
    for _ in range(500):
        arms, labels = draw(rng)
        trick, baseline = (statistics.contributions(metric, arm, labels) for arm in arms)
        _, low, high = statistics.interval(trick - baseline)
        hits += low <= truth <= high
    assert 0.92 <= hits / 500 <= 0.975  # 0.95 give or take three standard errors of 500 draws


# ---- p-values, power, verdict ----


def test_holm_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 25):
        p = np.round(rng.random(size) ** 3, 2)  # with ties
        assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert statistics.holm([]).tolist() == []


def test_the_level_left_is_where_holm_turns():
    rng = np.random.default_rng(0)
    for size in range(8):
        for _ in range(30):
            others = (rng.random(size) ** 6).tolist()
            level = statistics.level_left(others)
            below, above = (statistics.holm([level * side, *others])[0] for side in (0.999, 1.001))
            assert below <= 0.05 < above


@pytest.mark.parametrize("comparisons", range(1, 200, 7))
def test_seeds_needed_is_the_least_number_of_ten_or_more(comparisons):
    n = statistics.seeds_needed(comparisons)
    assert 2.0 ** (1 - n) * comparisons <= 0.01
    assert n == 10 or 2.0 ** (2 - n) * comparisons > 0.01


def test_seeds_needed_of_the_books_table():
    assert statistics.seeds_needed(25) == 13 and statistics.seeds_needed(1) == 10


@pytest.mark.parametrize("n", [6, 9])
@pytest.mark.parametrize("level", [0.05, 0.03125])
def test_the_critical_shift_is_where_the_sign_flip_turns(n, level):
    z = np.random.default_rng(0).normal(size=(statistics.DRAWS, n))
    _, _, critical = statistics._unit_seeds(n, level)
    for row, shift in zip(z[:30], critical[:30]):
        assert stats.sign_flip(row + shift + 1e-9) <= level < stats.sign_flip(row + shift - 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "S, N, sizes, level",
    [
        (10, 300, (0.5, 1, 3), 0.05),
        (10, 300, (0.05, 1, 1), 0.0125),
        (13, 100, (0.02, 0.2, 1), 0.002),
        (20, 100, (0.1, 0.5, 1), 0.01),  # more seeds than signs are counted for
        (1, 200, (0, 0, 1), 0.05),  # nothing but examples
    ],
)
def test_the_smallest_difference_is_shown_four_times_in_five(S, N, sizes, level):
    """The whole rule on simulated experiments whose true difference it is."""
    seed, example, residual = np.square(sizes)
    c = Components(0.0, S, N, residual + N * seed, residual + S * example, residual if S > 1 else 0.0)
    d, shown = statistics.smallest_difference(c, level), 0
    flips = np.random.default_rng(0).choice([1, -1], size=(8000, S if S > 1 else N))
    for draw in range(1000):
        D = matrix(S, N, *sizes, d, draw)
        units = D.mean(axis=1) if S > 1 else D[0]
        p = np.mean(np.abs(flips @ units) >= abs(units.sum()))
        shown += statistics.interval(D)[1] > 0 and p <= level
    assert 0.76 <= shown / 1000 <= 0.84


def test_the_smallest_difference_grows_with_power_and_comparisons_and_shrinks_with_examples():
    c = components(matrix())
    alone = statistics.smallest_difference(c)
    assert alone < statistics.smallest_difference(c, power=0.9)
    assert alone < statistics.smallest_difference(c, level=0.005)
    more = Components(c.mean, c.seeds, 10 * c.examples, 10 * c.seed, c.example, c.residual)
    assert alone > statistics.smallest_difference(more)


def test_so_few_seeds_show_nothing():
    c = components(matrix(S=5))
    assert statistics.smallest_difference(c) == np.inf  # 2 / 2^5 is above 0.05
    assert statistics.smallest_difference(Components(0.0, 6, 50, 0.0, 1.0, 0.5), level=0.01) == np.inf
    assert statistics.smallest_difference(components(matrix(S=6))) < np.inf
    assert statistics.family({"a": matrix(S=5)})["a"]["smallest"] is None


def test_a_family_is_corrected_together():
    given = {"large": matrix(mean=3.0), "small": matrix(mean=0.2, draw=1), "none": matrix(draw=2)}
    found = statistics.family(given)
    assert list(found) == list(given)
    assert [found[k]["holm"] for k in given] == pytest.approx(statistics.holm([found[k]["p"] for k in given]))
    for name, D in given.items():
        own = found[name]
        assert (own["mean"], own["low"], own["high"]) == pytest.approx(statistics.interval(D))
        assert own["p"] == stats.sign_flip(D.mean(axis=1))
        assert own["won"] == np.mean(D.mean(axis=1) > 0) and own["n"] == 10
        others = [found[k]["p"] for k in given if k != name]
        assert own["smallest"] == statistics.smallest_difference(components(D), statistics.level_left(others))
    assert found["large"]["verdict"] == "better" and found["none"]["verdict"] == "no difference shown"
    lower = statistics.family({k: -D for k, D in given.items()}, higher_is_better=False)
    assert {k: v["verdict"] for k, v in lower.items()} == {k: v["verdict"] for k, v in found.items()}
    assert statistics.family({"large": given["large"]}, higher_is_better=False)["large"]["verdict"] == "worse"


def test_an_interval_without_zero_is_no_verdict_where_holm_disagrees():
    D = matrix(mean=0.8)
    alone = statistics.family({"a": D})["a"]
    assert alone["verdict"] == "better" and 0.001 < alone["p"] <= 0.05
    many = statistics.family({"a": D, **{f"{i}": matrix(draw=i) for i in range(1, 40)}})["a"]
    assert many["low"] == alone["low"] > 0 and many["verdict"] == "no difference shown"


def test_equal_scores_are_half_a_win_for_every_metric():
    """The mean of pseudo-values differs from the score by rounding."""
    rng = np.random.default_rng(0)
    labels, trick = rng.integers(3, size=307), rng.integers(3, size=(6, 307))
    same = np.roll(trick, 1, axis=1)  # scores what trick scores, on the examples beside
    first = statistics.contributions(metrics.METRICS["macro_f1"], trick, labels)
    second = statistics.contributions(metrics.METRICS["macro_f1"], same, np.roll(labels, 1))
    own = statistics.family({"a": first - second})["a"]
    assert own["won"] == 0.5 and own["p"] == 1


def test_one_trained_seed_is_compared_over_examples():
    D = matrix(S=1, N=60, seed=0, mean=2.0)
    own = statistics.family({"a": D})["a"]
    assert own["n"] == 60 and own["verdict"] == "better" and own["smallest"] > 0
    assert own["p"] == stats.sign_flip(D[0]) and own["won"] == np.mean(D > 0)


@pytest.mark.parametrize("S, expected", [(4, "counts only"), (5, "counts only"), (6, "better")])
def test_under_six_seeds_there_is_no_verdict(S, expected):
    D = matrix(S=S, seed=0.1, mean=9.0)
    assert statistics.family({"a": D})["a"]["verdict"] == expected


def test_failed_runs_end_near_guessing():
    scores = [0.9, 0.88, 0.91, 0.5, 0.32, 0.3, 0.89]
    assert statistics.failed(scores, 0.3).tolist() == [False, False, False, False, True, True, False]
    errors = [0.2, 0.21, 0.95, 0.19]
    assert statistics.failed(errors, 1.0, higher_is_better=False).tolist() == [False, False, True, False]


def test_an_arm_whose_median_is_a_guess_has_failed_on_every_seed():
    assert statistics.failed([0.2, 0.3, 0.3, 0.9], 0.3).all()
    assert statistics.failed([1.1, 1.2, 0.4], 1.0, higher_is_better=False).all()


NAN = float("nan")
REFUSED = {
    "one number": (statistics.interval, ([1.0],), r"differences: shape \(1,\) given"),
    "three dimensions": (statistics.interval, (np.ones((2, 2, 2)),), r"shape \(2, 2, 2\) given"),
    "nan": (statistics.interval, ([[1.0, NAN]],), "differences: a number is not finite"),
    "named in its family": (
        statistics.family,
        ({"ok": [1.0, 2.0], "R-Drop": [1.0]},),
        "R-Drop: differences: ",
    ),
    "one axis": (statistics.pseudo_values, (metrics.f1, np.ones(5), np.ones(5)), r"shapes \(5,\) and \(5,\)"),
    "other examples": (
        statistics.contributions,
        (metrics.METRICS["accuracy"], np.ones((2, 5)), np.ones(4)),
        r"predictions, labels: shapes \(2, 5\) and \(4,\) given",
    ),
    "no groups": (
        statistics.pseudo_values,
        (metrics.f1, np.ones((2, 5)), np.ones(5), 1),
        "groups: 1 given",
    ),
    "p above one": (statistics.holm, ([0.1, 1.1],), r"p: shape \(2,\) given"),
    "p nan": (statistics.holm, ([NAN],), "p: "),
    "no comparisons": (statistics.seeds_needed, (0,), "comparisons: 0 given, a positive integer"),
    "power": (statistics.smallest_difference, (Components(0, 10, 1, 1, 0, 0), 0.05, 2), "power: 2 given"),
    "level": (statistics.smallest_difference, (Components(0, 10, 1, 1, 0, 0), -0.1), "level: -0.1 given"),
    "no scores": (statistics.failed, ([], 0.5), "scores, guess: "),
    "nan guess": (statistics.failed, ([0.4], NAN), "scores, guess: "),
}


@pytest.mark.parametrize("function, arguments, message", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
