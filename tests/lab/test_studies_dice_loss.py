"""Oracle: scikit-learn's F1."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from tricks_lib.dice_loss import DiceLoss
from tricks_lib.lab import heads
from tricks_lib.lab.studies import dice_loss as study


def scored(n=80, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.15).astype(int)
    return rng.random(n) * 0.8 + 0.2 * labels, labels


@pytest.mark.parametrize("digits", [1, 9])  # with one digit many scores are equal
def test_best_threshold_is_the_best_of_all_cuts(digits):
    for seed in range(10):
        scores, labels = scored(seed=seed)
        scores = scores.round(digits)
        cuts = np.r_[-1, np.unique(scores)]
        best = max(f1_score(labels, scores > cut) for cut in cuts)
        assert f1_score(labels, scores > study.best_threshold(scores, labels)) == pytest.approx(best)


def test_best_threshold_that_takes_all():
    cut = study.best_threshold(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
    assert (np.array([0.9, 0.8, 0.1]) > cut).all()


def test_splits_hold_everything_once_and_the_same_share():
    labels = np.arange(100) % 10 == 0
    parts = study.stratified(labels, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(100)) and [len(p) for p in parts] == [50, 24, 26]
    assert [labels[p].sum() for p in parts] == [5, 2, 3]
    assert all(map(np.array_equal, parts, study.stratified(labels, seed=1)))
    assert not np.array_equal(parts[0], study.stratified(labels, seed=2)[0])


def test_thinned_keeps_negatives_and_reaches_the_share_if_it_can():
    labels = np.arange(100) % 2
    kept = study.thinned(labels, 0.1)
    assert (labels[kept] == 0).sum() == 50 and labels[kept].sum() == 6 and list(kept) == sorted({*kept})
    assert len(study.thinned(labels, 0.9)) == 100


def test_losses_are_what_their_names_say():
    torch.manual_seed(0)
    x, y = torch.randn(20, 2), torch.arange(20) % 10 // 9  # 2 of 20
    losses = study.losses(y)
    ce, dice = F.cross_entropy(x, y), DiceLoss()(x, y)
    by_class = [F.cross_entropy(x[y == c], y[y == c]) for c in (0, 1)]
    expected = {"cross-entropy": ce, "weighted": sum(by_class) / 2, "Dice": dice}
    assert {*losses} == {*expected}
    for name, loss in losses.items():
        torch.testing.assert_close(loss(x, y), expected[name])


def test_training_finds_the_rare_class_and_a_seed_repeats():
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).expand(
        200, 32
    )  # much the same under dropout
    y = (x[:, 0] > 1.2).long()
    options = {"seed": 0, "steps": 60, "lr": 1e-2, "batch_size": 50, "device": "cpu"}
    one, again = (
        study.score(study.train(heads.with_labels(x, y), study.losses(y)["Dice"], **options), x)
        for _ in range(2)
    )
    assert np.array_equal(one, again) and f1_score(y, one > 0.5) > 0.8
