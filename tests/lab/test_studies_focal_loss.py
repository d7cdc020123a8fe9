"""Oracle: scikit-learn's calibration curve."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torch import nn

from tricks_lib.focal_loss import BinaryFocalLoss, FocalLoss
from tricks_lib.lab import fit, heads
from tricks_lib.lab.compare.calibration import temperature
from tricks_lib.lab.studies import focal_loss as study

COLLATE = torch.utils.data.default_collate
SIZE = {"steps": 4, "lr": 1e-2, "batch_size": 4, "device": "cpu"}


def drawn(n=400, C=4, scale=3.0):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, n)
    return (scale * (rng.standard_normal((n, C)) + np.eye(C)[labels])).astype(np.float32), labels


def trained(loss, labels=None, num_labels=2):
    """A head on random vectors."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        {"vectors": torch.randn(5, generator=generator), "labels": y}
        for y in (torch.arange(12) % 2 if labels is None else labels)
    ]
    return study.train(heads.Head(5, num_labels, dropout=0.0), rows, COLLATE, loss, seed=0, **SIZE), rows


def test_bins_equal_scikit_learn_and_their_shares_are_all_predictions():
    sure, right = study.confidence(*drawn())
    found = study.binned(sure, right, bins=10)
    full = found["share"] > 0
    expected = calibration_curve(right, sure, n_bins=10)
    assert found["right"][full] == pytest.approx(expected[0]) and found["confidence"][full] == pytest.approx(
        expected[1]
    )
    assert found["share"].sum() == pytest.approx(1) and not full.all()


def test_confidence_is_of_the_predicted_class():
    logits, labels = drawn()
    sure, right = study.confidence(logits, labels)
    p = torch.from_numpy(logits).double().softmax(1)
    assert (
        sure == pytest.approx(p.max(1).values.numpy()) and right.mean() == (logits.argmax(1) == labels).mean()
    )
    assert study.confidence(logits, labels, 100.0)[0].max() < 0.4


def test_score_before_and_after_a_temperature():
    logits, labels = drawn()
    T = temperature(logits.astype(np.float64), labels)
    scores, scaled = study.score(logits, labels, T), study.score(logits / T, labels)
    assert scores["accuracy"] == scaled["accuracy"] == (logits.argmax(1) == labels).mean()
    assert (
        scores["ece_scaled"] == pytest.approx(scaled["ece"], abs=1e-6)
        and scores["ece_scaled"] < scores["ece"]
    )
    assert T > 1 and scores["confidence"] > scores["accuracy"]


def test_training_takes_the_loss_it_is_given_and_its_seed():
    plain, zero, two = (
        trained(loss)[0].layers[1].weight
        for loss in (nn.CrossEntropyLoss(), FocalLoss(gamma=0.0), FocalLoss(gamma=2.0))
    )
    torch.testing.assert_close(plain, zero, rtol=1e-3, atol=1e-4)
    assert (plain - two).abs().max() > 1e-3
    assert torch.equal(plain, trained(nn.CrossEntropyLoss())[0].layers[1].weight)


def test_training_on_several_labels():
    model, rows = trained(BinaryFocalLoss(), torch.arange(36).view(12, 3).remainder(2).float(), 3)
    assert fit.predict(model, rows, COLLATE)[0].shape == (12, 3)
