"""The record of a comparison whose runs are all done."""

import datetime

import numpy as np

from tricks_lib.lab import machine, models
from tricks_lib.lab.compare import arms, protocol, records, summary
from tricks_lib.lab.compare.comparison import Comparison
from tricks_lib.lab.compare.metrics import METRICS

ARRAYS = ("predictions", "confidence")


def assemble(comparison: Comparison, steps: dict, rows: dict, settings: dict, tested: dict, state: dict):
    """The record and its predictions.

    Args:
        steps, rows, settings, tested: what :mod:`.protocol` has asked for. state: of the run: code, seconds.
    """
    c = comparison
    table = c.source.read()
    task = c.prepared()
    labels = task.labels["test"]
    guess = METRICS[c.metric].guess(labels)

    def kept(name, axis):  # of every run, arms and seeds last
        by_arm = [np.stack([records.unpack(result[name]) for result in tested[arm]], axis) for arm in c.arms]
        return np.stack(by_arm, axis - 1)

    predictions = {"labels": labels, "predictions": kept("predictions", -1)}  # (N, ..., A, S)
    if c.training.get("calibration"):
        predictions["confidence"] = kept("confidence", -2)  # (N, A, S, 2)
    first: dict[str, str] = {}  # training -> the first arm that reads it
    record = {
        "schema": records.SCHEMA, "name": c.name, "kind": task.kind, "metric": c.metric,
        "higher_is_better": c.higher_is_better, "guess": round(guess, 6),
        "data": {
            "name": table.name, "sha256": table.sha256, "sizes": table.sizes, "rows": c.training["rows"],
            "warnings": list(task.warnings), **c.beside(),
        },
        "model": {
            **models.describe(c.model), "parameters": task.parameters,
            "precision": c.training["precision"],
        },
        "training": {k: v for k, v in c.training.items() if k not in ("rows", "precision")},
        "baseline": c.baseline, "arms": {}, "steps": steps, "seeds": list(c.seeds),
        "tuning_seeds": list(c.tuning_seeds), "rates": list(c.rates), "families": c.families(),
        "hours": c.hours, "code": state["code"],
    }  # fmt: skip
    for name, arm in c.arms.items():
        best = protocol.choose(rows[name], c.higher_is_better)
        own = {**settings[name], **best["candidate"]}
        training = arms.key([arms.training_of(own), best["learning_rate"]])
        record["arms"][name] = {
            "settings": settings[name],
            "candidates": list(arm.candidates),
            "trick": arm.trick,
            "rival": arm.rival,
            "passes": arms.passes(own),
            "shares": first.get(training),
            "tuning": rows[name],
            "chosen": {"candidate": best["candidate"], "learning_rate": best["learning_rate"]},
            "edge": protocol.edge(rows[name], best),
            "runs": [
                {
                    "seed": seed,
                    **{k: v for k, v in result.items() if k not in ARRAYS},
                    "code": state["code"][:12],
                }
                for seed, result in zip(c.seeds, tested[name])
            ],
            "arguments": c.pasted(task, own, best["learning_rate"], steps["chosen"]),
        }
        first.setdefault(training, name)
    for name, content in record["arms"].items():
        for run, has_failed in zip(content["runs"], summary.failures(record, name)):
            run["failed"] = bool(has_failed)
    record["statistics"] = summary.summarize(record, predictions)
    record |= {
        "git_commit": machine.git_commit(),
        "environment": machine.environment(),
        "command": c.command,
        "wall_seconds": state["seconds"],
        "date": datetime.date.today().isoformat(),
    }
    return record, predictions
