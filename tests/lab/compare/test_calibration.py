"""Temperature scaling against a grid, and the confidence that is kept."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tricks_lib.lab.compare import calibration, summary


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


def recorded(seeds=10, n=600):
    """A record of two arms on the same test rows: logits three times too large, and the honest ones."""
    rng, labels = np.random.default_rng(0), sample(n, 1)[1]
    sure, honest = [], []
    for _ in range(seeds):
        logits = sample(n, 1)[0] + rng.normal(size=(n, 4)).astype(np.float32)
        sure.append(calibration.measured(*sample(n, 0), logits, labels))
        honest.append(calibration.measured(*sample(n, 0), logits / 3, labels))
        sure[-1]["predicted"] = honest[-1]["predicted"] = logits.argmax(axis=1)
    arms = {"sure": sure, "honest": honest}
    record = {
        "name": "letters", "baseline": "sure", "families": {"baseline": ["honest"], "rivals": []},
        "arms": {
            arm: {"edge": None, "runs": [
                {"seed": i, "failed": i == 3, "score": 0.5, **{key: run[key] for key in calibration.ERRORS}}
                for i, run in enumerate(runs)
            ]}
            for arm, runs in arms.items()
        },
        "seeds": list(range(seeds)),
        "statistics": {"arms": {"sure": {"baseline": None}, "honest": {"baseline": {"verdict": "better"}}}},
    }  # fmt: skip
    kept = {
        "labels": labels,
        "predictions": np.stack([np.stack([r["predicted"] for r in runs], -1) for runs in arms.values()], -2),
        "confidence": np.stack([np.stack([r["confidence"] for r in runs], 1) for runs in arms.values()], 1),
    }
    return record, kept


def test_as_the_score_it_is_judged_by_the_same_rule_and_less_is_better():
    record, kept = recorded()
    seen = summary.calibrated(record, kept, "ece")
    mean = {arm: np.mean([r["ece"] for r in c["runs"]]) for arm, c in record["arms"].items()}
    found = seen["statistics"]["arms"]
    assert {arm: own["mean"] for arm, own in found.items()} == pytest.approx(mean, abs=1e-6)
    against = found["honest"]["baseline"]
    assert (
        against["mean"] == pytest.approx(mean["honest"] - mean["sure"], abs=1e-6) and against["mean"] < -0.1
    )
    assert against["verdict"] == "better" and against["won"] == 0 and found["sure"]["failed"] == 1
    record["arms"]["honest"]["edge"] = "high"
    again = summary.calibrated(record, kept, "ece")["statistics"]["arms"]["honest"]["baseline"]
    assert again["verdict"].startswith("no verdict") and record["arms"]["sure"]["runs"][0]["score"] == 0.5


def test_beside_a_baseline_that_has_not_learned_there_is_no_verdict_on_calibration():
    record, kept = recorded()
    record["statistics"]["arms"]["honest"]["baseline"]["verdict"] = summary.NOT_LEARNED
    seen = summary.calibrated(record, kept, "ece_scaled")
    assert seen["statistics"]["arms"]["honest"]["baseline"]["verdict"] == summary.NOT_LEARNED


def test_what_has_no_confidence_is_refused():
    record, kept = recorded(seeds=2)
    with pytest.raises(ValueError, match="error: 'brier' given, ece and ece_scaled are accepted"):
        summary.calibrated(record, kept, "brier")
    with pytest.raises(ValueError, match="record: letters has no confidence"):
        summary.calibrated(record, {"predictions": kept["predictions"]}, "ece")
