"""The record of a comparison: one JSON file, and its predictions in an ``.npz`` of the same name beside it.

Schema 2. Every number that a page shows is recomputed from these two files::

    schema            2
    name              "tournament/en_banking77"; the files are tournament__en_banking77.json and .npz
    kind              of the data: "classes", "labels", "tags" or "numbers"
    metric            a key of metrics.METRICS; higher_is_better: bool
    guess             score of guessing by class frequencies (numbers: of the mean)
    data              name, sha256, sizes {"train", "validation", "test"}, rows (what a seed draws of the training
                      rows: {}, {"rows": n}, {"per_class": n} or {"tail": [most, least]}), warnings [str]
    model             name, source, sha256, parameters, precision ("fp32", "bf16" or "fp16")
    training          what all arms share: batch_size, max_length, warmup, weight_decay, ...
    baseline          name of an arm
    arms              {name: arm}, in the order in which they are shown; an arm is
        settings      {field: value} beyond the baseline's: fields of TricksArguments and of the classifier
        candidates    [{field: value}], from which validation chooses beside the rate; [{}] where there is no choice
        trick, rival  name of the trick (null: a control), and the arm that is its cheap rival (null: none)
        passes        forward and backward passes of its training, in those of the baseline
        shares        the first arm whose training it reads (null: it has one of its own)
        tuning        [{"candidate": {...}, "learning_rate": r, "scores": [one a tuning seed]}]
        chosen        {"candidate": {...}, "learning_rate": r}: the best mean, the first of equals
        edge          null, "low" or "high": the chosen rate is still the last of its grid
        runs          [{"seed", "score", "failed", "seconds", further metrics}], one a seed, "score" by metric
        arguments     what to paste
    steps             chosen; start; settled [{"steps", "learning_rate", "scores", "tuning"}] at N, 2N, ...;
                      still_improving: the last doubling allowed was still worth its steps
    seeds, tuning_seeds
    families          {"baseline": [arms], "rivals": [[arm, rival]]}, fixed before the runs
    statistics        see :func:`tricks_lib.lab.compare.summary.summarize`
    hours             null, or the time that the plan was cut to
    code              sha256 of the sources that every run was made by
    git_commit, environment, command, wall_seconds, date

The ``.npz`` holds ``labels`` (N, ...) and ``predictions`` (N, ..., arms, seeds) of the test rows: class indices
(-100 pads the tags of a text), 0 and 1 for several labels a text, float16 for numbers. Where calibration is
measured, ``confidence`` (N, arms, seeds, 2), float16, is that of the predicted class before and after the
temperature.
"""

import json
import math
import os
from pathlib import Path

import numpy as np

SCHEMA = 2
PREDICTIONS_KB, CALIBRATION_KB = 300, 1000  # at most, of the .npz
FIELDS = {  # name: type(s)
    "schema": int, "name": str, "kind": str, "metric": str, "higher_is_better": bool, "guess": (int, float),
    "data": dict, "model": dict, "training": dict, "baseline": str, "arms": dict, "steps": dict, "seeds": list,
    "tuning_seeds": list, "families": dict, "statistics": dict, "hours": (int, float, type(None)), "code": str,
    "git_commit": (str, type(None)), "environment": dict, "command": str, "wall_seconds": (int, float), "date": str,
}  # fmt: skip
PARTS = {
    "data": ("name", "sha256", "sizes", "rows", "warnings"),
    "model": ("name", "source", "sha256", "parameters", "precision"),
    "steps": ("chosen", "start", "settled", "still_improving"),
    "families": ("baseline", "rivals"),
    "environment": ("device", "cuda", "python", "torch", "transformers"),
}
OF_AN_ARM = ("settings", "candidates", "trick", "rival", "passes", "shares", "tuning", "chosen", "edge", "runs", "arguments")
