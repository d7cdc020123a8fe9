"""Oracles: scikit-learn and SciPy, one seed at a time; entities found by a loop over the tags."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk

from tricks_lib.lab.compare import metrics
from tricks_lib.lab.compare.metrics import METRICS


def each(function, predictions):
    """``function`` of every row of predictions (2, 3, ...)."""
    return [[function(row) for row in rows] for rows in predictions]


@pytest.mark.parametrize("C", [2, 3, 77])
def test_classes_are_scored_as_by_scikit_learn(C):
    rng = np.random.default_rng(C)
    labels = rng.integers(C, size=90)
    predictions = np.where(rng.random((2, 3, 90)) < 0.6, labels, rng.integers(C, size=(2, 3, 90)))
    predictions[0, 0] = 1  # a constant
    oracles = {
        "accuracy": lambda p: sk.accuracy_score(labels, p),
        "macro_f1": lambda p: sk.f1_score(labels, p, average="macro"),
        "mcc": lambda p: sk.matthews_corrcoef(labels, p),
    }
    if C == 2:
        oracles["f1"] = lambda p: sk.f1_score(labels, p)
    for name, oracle in oracles.items():
        assert METRICS[name].score(predictions, labels) == pytest.approx(np.array(each(oracle, predictions)))
        assert METRICS[name].score(predictions[1, 2], labels) == pytest.approx(oracle(predictions[1, 2]))


def test_a_class_that_no_label_has_counts_where_it_is_predicted():
    labels, predictions = np.array([0, 0, 1, 1]), np.array([[0, 0, 1, 3], [0, 0, 1, 1]])
    expected = [sk.f1_score(labels, p, average="macro") for p in predictions]
    assert metrics.macro_f1(predictions, labels) == pytest.approx(expected)
    assert metrics.matthews(predictions, labels) == pytest.approx(
        [sk.matthews_corrcoef(labels, p) for p in predictions]
    )


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 0, 1]])
def test_a_class_that_is_never_predicted_scores_zero(labels):
    labels = np.array(labels)
    assert metrics.f1(np.zeros((2, 3), int), labels).tolist() == [0, 0]
    assert metrics.matthews(np.zeros((2, 3), int), labels).tolist() == [0, 0]


def test_several_labels_per_text():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(2, size=(40, 5)), rng.integers(2, size=(2, 3, 40, 5))
    expected = each(lambda p: sk.f1_score(labels, p, average="micro"), predictions)
    assert metrics.micro_f1(predictions, labels) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("digits", [1, 9])
def test_average_precision_is_scikit_learns(digits):
    rng = np.random.default_rng(0)
    labels = (rng.random(80) < 0.2).astype(int)
    scores = np.round(rng.normal(size=(2, 3, 80)) + labels, digits)  # with ties, and without
    scores[0, 0] = 0.5
    expected = each(lambda s: sk.average_precision_score(labels, s), scores)
    assert metrics.average_precision(scores, labels) == pytest.approx(np.array(expected))
    assert metrics.average_precision(scores, np.zeros(80)).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("digits", [0, 9])
def test_correlations_are_scipys(digits):
    rng = np.random.default_rng(0)
    labels = np.round(rng.normal(size=50), digits)
    predictions = np.round(1e6 + labels + rng.normal(size=(2, 3, 50)), digits)
    for name, oracle in (("pearson", scipy.stats.pearsonr), ("spearman", scipy.stats.spearmanr)):
        expected = each(lambda p: oracle(p, labels).statistic, predictions)
        assert METRICS[name].score(predictions, labels) == pytest.approx(np.array(expected), abs=1e-9)
    expected = each(lambda p: sk.root_mean_squared_error(labels, p), predictions)
    assert metrics.rmse(predictions, labels) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 3, 40, 1000])
def test_correlations_of_few_and_many_are_scipys(n, ties):
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    if ties:
        x, y = np.round(x, 1), np.round(y)
    if ties and n < 4:
        x, y = np.array([0.0, 1.0, 1.0])[:n], np.array([3.0, 1.0, 2.0])[:n]
    assert metrics.pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
    assert metrics.spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize(
    "scale, offset", [(1e-200, 0), (1e-30, 0), (1e-8, 0), (1.0, 1e6), (1e12, -1e3), (1e200, 0)]
)
def test_correlations_know_no_scale(scale, offset):
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    of_pearson, of_spearman = scipy.stats.pearsonr(x, y).statistic, scipy.stats.spearmanr(x, y).statistic
    assert metrics.pearson(scale * x + offset, y) == pytest.approx(of_pearson, abs=1e-8)
    assert metrics.spearman(scale * x + offset, y) == pytest.approx(of_spearman, abs=1e-12)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constant_predictions_correlate_with_nothing(name):
    labels = np.arange(6.0)
    constant = np.full((2, 6), 0.1)
    assert METRICS[name].score(constant, labels).tolist() == [0, 0]
    assert METRICS[name].score(np.stack([labels, labels]), np.full(6, 3.0)).tolist() == [0, 0]


def test_half_precision_predictions_are_scored_in_double():
    labels = np.linspace(1000, 1001, 40)
    predictions = np.stack([labels, labels[::-1]]).astype(np.float16)
    assert metrics.rmse(predictions, labels).dtype == np.float64
    assert metrics.pearson(predictions, labels).dtype == np.float64


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    rng = np.random.default_rng(0)
    labels, found = rng.integers(3, size=200), rng.integers(3, size=(2, 200))
    confidence = rng.uniform(0.34, 1, size=(2, 200))
    confidence[0, :2] = [1.0, 0.4]  # the last bin's end, and an end between two bins
    expected = []
    for c, p in zip(confidence, found):
        bins = np.digitize(c, np.linspace(0, 1, 16), right=True)
        gaps = [abs(np.mean(c[bins == b]) - np.mean(p[bins == b] == labels[bins == b])) * np.mean(bins == b)
                for b in np.unique(bins)]  # fmt: skip
        expected.append(sum(gaps))
    assert metrics.ece(np.stack([found, confidence], axis=-1), labels) == pytest.approx(expected)


def entities(tags):
    """Entities (type, first, end) of tags, read one after another as conlleval does."""
    found, kind, start = set(), None, 0
    for i, tag in enumerate([*tags, 0]):
        now = (tag + 1) // 2
        if kind and not (tag and tag % 2 == 0 and now == kind):
            found.add((kind, start, i))
            kind = None
        if tag and not kind:
            kind, start = now, i
    return found


def test_entities_are_found_as_by_a_loop_over_the_tags():
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=(30, 8))
    predictions = np.where(rng.random((2, 3, 30, 8)) < 0.7, labels, rng.integers(5, size=(2, 3, 30, 8)))
    lengths = rng.integers(1, 9, size=30)
    labels[(np.arange(8) >= lengths[:, None]) | (rng.random((30, 8)) < 0.2)] = metrics.IGNORED

    def oracle(predicted):  # of the labelled tokens alone: the second half of a word ends no entity
        words = [(p[y != metrics.IGNORED], y[y != metrics.IGNORED]) for p, y in zip(predicted, labels)]
        pairs = [(entities(p), entities(y)) for p, y in words]
        return 2 * sum(len(p & y) for p, y in pairs) / sum(len(p) + len(y) for p, y in pairs)

    assert metrics.entity_f1(predictions, labels) == pytest.approx(np.array(each(oracle, predictions)))
    kept = labels != metrics.IGNORED
    expected = each(lambda p: sk.accuracy_score(labels[kept], p[kept]), predictions)
    assert metrics.tag_accuracy(predictions, labels) == pytest.approx(np.array(expected))


def test_an_entity_goes_on_over_the_rest_of_a_word():
    labels = np.array([[1, metrics.IGNORED, 2, 0]])  # two words, the first of two tokens
    assert metrics.entity_f1(np.array([[[1, 0, 2, 0]], [[1, 2, 0, 0]]]), labels).tolist() == [1, 0]


NAMES = {
    "classes": ("classes", "abc", ["accuracy", "macro_f1", "mcc"]),
    "two classes": ("classes", "ab", ["accuracy", "macro_f1", "f1", "mcc"]),
    "several labels": ("labels", "ab", ["micro_f1"]),
    "entities": ("tags", ["O", "B-loc", "I-loc", "B-per", "I-per"], ["entity_f1", "tag_accuracy"]),
    "parts of speech": ("tags", ["ADJ", "NOUN", "VERB"], ["tag_accuracy"]),
    "numbers": ("numbers", [], ["pearson", "spearman", "rmse"]),
}


@pytest.mark.parametrize("kind, names, expected", NAMES.values(), ids=NAMES)
def test_metrics_that_fit_the_default_first(kind, names, expected):
    assert metrics.fitting(kind, names) == expected


def test_no_entity_anywhere_scores_zero():
    assert metrics.entity_f1(np.zeros((2, 3, 4), int), np.zeros((3, 4), int)).tolist() == [0, 0]


def test_examples_average_to_the_score():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(3, size=20), rng.integers(3, size=(2, 20))
    for metric in METRICS.values():
        if metric.of_examples:
            assert metric.of_examples(predictions, labels).mean(axis=-1) == pytest.approx(
                metric.score(predictions, labels)
            )


def test_guessing_scores_as_scikit_learns_dummies_on_average():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, p=[0.6, 0.3, 0.1], size=500)
    shares = np.bincount(labels) / 500
    assert METRICS["accuracy"].guess(labels) == pytest.approx((shares**2).sum(), abs=0.005)
    assert METRICS["macro_f1"].guess(labels) == pytest.approx(1 / 3, abs=0.005)
    assert METRICS["mcc"].guess(labels) == pytest.approx(0, abs=0.005)
    rare = (labels == 2).astype(int)
    assert METRICS["f1"].guess(rare) == pytest.approx(rare.mean(), abs=0.01)
    many = (rng.random((400, 3)) < [0.5, 0.2, 0.1]).astype(int)
    expected = (many.mean(axis=0) ** 2).sum() / many.mean(axis=0).sum()
    assert METRICS["micro_f1"].guess(many) == pytest.approx(expected, abs=0.01)
    numbers = rng.normal(3, 2, size=300)
    assert METRICS["rmse"].guess(numbers) == pytest.approx(numbers.std())
    assert METRICS["pearson"].guess(numbers) == 0


def test_guessed_tags_are_drawn_from_those_that_are_no_padding():
    labels = np.full((50, 6), metrics.IGNORED)
    labels[:, :3] = [0, 0, 1]
    assert METRICS["tag_accuracy"].guess(labels) == pytest.approx(5 / 9, abs=0.02)
    assert 0 < METRICS["entity_f1"].guess(labels) < 0.5
