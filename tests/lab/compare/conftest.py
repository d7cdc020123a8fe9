"""A comparison whose trainings are invented: scores by a formula, so that the rest is tested in seconds."""

import hashlib
import time

import numpy as np
import pytest
import torch

from tricks_lib.lab import models
from tricks_lib.lab.compare import calibration, comparison, tokens, train
from tricks_lib.lab.compare.arms import Arm, key
from tricks_lib.lab.compare.metrics import METRICS

from ..conftest import tiny_config

LABELS = np.arange(40) % 4


class Task:
    """What the record needs of a prepared table."""

    kind, num_labels, parameters, labels = "classes", 4, 1000, {"train": LABELS, "test": LABELS}
    warnings = ("one text stands twice",)
    encoder = torch.nn.Module()
    encoder.config = tiny_config()


class Table:
    name, sha256, warnings = "letters", "0" * 64, ["one text stands twice"]
    sizes = {"train": 100, "validation": 40, "test": 40}


def invented(job: train.Job) -> dict[str, dict]:
    """A result that depends on the job alone; the best rate is 4e-4, and more than 200 steps gain nothing."""
    out = {}
    for reading in job.readings:
        rng = np.random.default_rng(
            int(hashlib.sha256((job.key + key(reading)).encode()).hexdigest()[:8], 16)
        )
        good = 0.9 - 0.05 * abs(np.log2(job.learning_rate / 4e-4)) - 0.2 * (job.steps < 200)
        good += 0.05 * bool(job.settings.get("rdrop_alpha")) + 0.02 * (reading["weights"] == "ema")
        wrong = rng.random(len(LABELS)) > good
        predicted = np.where(wrong, (LABELS + 1) % 4, LABELS).astype(np.int8)
        score = round(float((predicted == LABELS).mean()), 6)
        out[key(reading)] = {"score": score, "accuracy": score, "seconds": 0.1}
        if job.split == "test":
            macro_f1 = float(METRICS["macro_f1"].score(predicted[None], LABELS)[0])
            out[key(reading)] |= {"macro_f1": round(macro_f1, 6), "predictions": predicted}
        if job.split == "test" and job.training.get("calibration"):
            logits = 3 * np.eye(4)[predicted] + rng.random((len(LABELS), 4))
            out[key(reading)] |= calibration.measured(logits, LABELS, logits, LABELS)
    return out


def small(**changes) -> comparison.Comparison:
    """Baseline, a trick, its rival with two candidates, two readings of one training, all together."""
    given = {
        "name": "rdrop/letters",
        "source": tokens.Source("letters"),
        "model": "mini_bert",
        "arms": {
            "baseline": Arm(),
            "dropout": Arm(candidates=({"dropout": 0.0}, {"dropout": 0.2})),
            "rdrop": Arm({"rdrop_alpha": 1.0}, "rdrop", rival="dropout"),
            "ema": Arm({"weights": "ema"}, "ema"),
            "2x steps": Arm({"times": 2}),
            "together": Arm(together=True),
        },
        "metric": "accuracy",
        "training": comparison.TRAINING | {"precision": "fp32"},
        "rates": (1e-4, 2e-4, 4e-4, 8e-4),
        "steps": 100,
    }
    return comparison.Comparison(**{**given, **changes})


def patched(patch, slowly: float = 0.0) -> list[train.Job]:
    """Trainings are invented, tables and models are not read. Returns the jobs that are performed."""
    jobs: list[train.Job] = []

    def perform(job):
        time.sleep(slowly)
        found = invented(job)
        jobs.append(job)
        return found

    patch.setattr(train, "perform", perform)
    patch.setattr(tokens, "prepare", lambda *args, **kwargs: Task)
    patch.setattr(tokens.Source, "read", lambda self: Table)
    patch.setattr(models, "describe", lambda name: {"name": name, "source": "embedded", "sha256": None})
    return jobs


def invent(slowly: float) -> None:
    """As :func:`patched`, for a process of its own."""
    patched(pytest.MonkeyPatch(), slowly)


@pytest.fixture
def fake(monkeypatch):
    """``fake.jobs``: those that were performed."""

    class Fake:
        jobs = patched(monkeypatch)

    return Fake
