"""Temperature scaling against a grid, and the confidence that is kept."""

import numpy as np
import torch
import torch.nn.functional as F

from tricks_lib.lab.compare import calibration


def sample(n, seed):
    """Logits that are three times too sure of themselves."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(4, p=row) for row in p])
    return (3 * logits).astype(np.float32), labels


def test_the_temperature_is_that_of_the_least_cross_entropy():
    logits, labels = sample(2000, 0)
    grid = np.exp(np.linspace(-1, 2, 601))
    losses = [F.cross_entropy(torch.tensor(logits / t), torch.tensor(labels)).item() for t in grid]
    np.testing.assert_allclose(calibration.temperature(logits, labels), grid[np.argmin(losses)], rtol=0.01)


def test_scaling_by_it_makes_confidence_honest():
    found = calibration.measured(*sample(2000, 0), *sample(2000, 1))
    assert 2.7 < found["temperature"] < 3.3 and found["ece"] > 0.2 > 5 * found["ece_scaled"] / 2
    assert found["confidence"].shape == (2000, 2) and found["confidence"].dtype == np.float16
    assert (found["confidence"][:, 0] > found["confidence"][:, 1]).mean() > 0.95
