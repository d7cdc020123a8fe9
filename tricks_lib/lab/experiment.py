"""Run an experiment: equal tuning for each arm, then fresh seeds on the test split, nothing lost on the way.

Protocol: each arm gets the same small grid, chosen on the validation split with tuning seeds of its own;
then every arm runs on the test split with the same fresh seeds. Where nothing is trained an arm gives one
prediction for each test example, and the intervals come from a bootstrap over the examples.
"""

import datetime
import importlib
import itertools
import json
import os
import pkgutil
import platform
import statistics as st
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from tricks_lib.lab import models, records, tasks


@dataclass(frozen=True)
class Experiment:
    """One table row of the book's evidence.

    Attributes:
        trick, task: its name is ``trick/task``.
        setting: one sentence: what is trained on what.
        model: name for :mod:`tricks_lib.lab.models`; data: name for :mod:`tricks_lib.lab.tasks`.
        arms: settings that define each arm. baseline: the arm the others are compared with.
        metric: name of the score in what ``run`` returns (``kind="seeds"``), or of the function of
            :mod:`tricks_lib.lab.stats` that scores predictions (``kind="examples"``).
        run: ``run(experiment, settings, seed, split) -> {metric: score, ...}``; with ``kind="examples"``
            ``run(experiment, settings, 0, "test") -> {"predictions": [...], "labels": [...]}``.
        grid: the values tuned for every arm, the same for all.
        tuning_seeds, seeds: never the same ones.
    """

    trick: str
    task: str
    setting: str
    model: str
    data: str
    arms: dict[str, dict]
    baseline: str
    metric: str
    run: Callable
    grid: dict[str, list] = field(default_factory=dict)
    kind: str = "seeds"
    tuning_seeds: tuple[int, ...] = (101, 102, 103)
    seeds: tuple[int, ...] = tuple(range(20))

    @property
    def name(self) -> str:
        return f"{self.trick}/{self.task}"

    def points(self) -> list[dict]:
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())]


def registry() -> dict[str, Experiment]:
    """All experiments by name: every ``EXPERIMENTS`` list of the modules in ``tricks_lib.lab.studies``."""
    from tricks_lib.lab import studies

    modules = [importlib.import_module(f"{studies.__name__}.{m.name}") for m in pkgutil.iter_modules(studies.__path__)]
    return {e.name: e for module in modules for e in module.EXPERIMENTS}


def run(experiment: Experiment, folder: Path, jobs: int = 1, progress: bool = True) -> Path:
    """Run to the end, or go on where an interrupted run stopped; returns the record's path.

    Each finished run is on disk, in ``<record>.partial.json``, before the next result is taken; the record itself
    appears whole, at the end, and an older one stays until then.

    Args:
        folder: where the record goes. jobs: processes (joblib). progress: show a bar with the time left.

    Raises:
        ValueError: the partial file there is damaged, or belongs to another definition, model or data set.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    file = records.path(experiment.name, folder)
    partial = file.with_suffix(".partial.json")
    definition = define(experiment)
    state = {"definition": definition, "seconds": 0.0, "results": {}}
    if partial.exists():
        state = read_partial(partial, definition)
    before = state["seconds"]

    def advance(pending, label):
        for key, result in execute(experiment, pending, state["results"], jobs, progress, label):
            state["results"][key] = result
            state["seconds"] = before + time.perf_counter() - started
            records.write(partial, state)

    results = state["results"]
    tuning = {} if experiment.kind == "examples" or len(experiment.points()) == 1 else {
        key("tune", arm, point, seed): ({**settings, **point}, seed, "validation")
        for arm, settings in experiment.arms.items() for point in experiment.points() for seed in experiment.tuning_seeds
    }  # fmt: skip
    advance(tuning, "tuning")
    chosen = {arm: choose(experiment, arm, results) if tuning else (experiment.points() or [{}])[0] for arm in experiment.arms}
    seeds = experiment.seeds if experiment.kind == "seeds" else (0,)
    final = {
        key("test", arm, chosen[arm], seed): ({**settings, **chosen[arm]}, seed, "test")
        for arm, settings in experiment.arms.items() for seed in seeds
    }  # fmt: skip
    advance(final, "test")
    record = assemble(experiment, definition, chosen, results, state["seconds"])
    records.check(record, file.name)
    records.write(file, record)
    partial.unlink(missing_ok=True)
    return file


def key(phase: str, arm: str, point: dict, seed: int) -> str:
    return f"{phase} | {arm} | {json.dumps(point, sort_keys=True)} | {seed}"


def execute(experiment, wanted, done, jobs, progress, label):
    """Yield (key, result) of every wanted run that is not done yet, as they finish."""
    import joblib
    from tqdm.auto import tqdm

    pending = [(k, job) for k, job in wanted.items() if k not in done]
    calls = (joblib.delayed(timed)(experiment, k, *job) for k, job in pending)
    finished = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
    yield from tqdm(finished, total=len(wanted), initial=len(wanted) - len(pending), desc=f"{experiment.name} {label}", disable=not progress)


def timed(experiment, name, settings, seed, split):
    import torch

    start = time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    result = dict(experiment.run(experiment, settings, seed, split))
    result["seconds"] = round(time.perf_counter() - start, 3)
    if torch.cuda.is_available():
        result["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return name, result


def choose(experiment, arm, results) -> dict:
    """The grid point with the best mean on validation; the first of equals."""
    metric = experiment.metric
    means = [(st.fmean(results[key("tune", arm, p, s)][metric] for s in experiment.tuning_seeds), p) for p in experiment.points()]
    return max(means, key=lambda pair: pair[0])[1]


def define(experiment) -> dict:
    """All that a result depends on; a partial file made under another definition is refused."""
    content = {
        "schema": records.SCHEMA, "trick": experiment.trick, "task": experiment.task, "setting": experiment.setting,
        "kind": experiment.kind, "metric": experiment.metric, "baseline": experiment.baseline,
        "arms": experiment.arms, "grid": experiment.grid, "tuning_seeds": experiment.tuning_seeds, "seeds": experiment.seeds,
        "data": tasks.describe(experiment.data), "model": models.describe(experiment.model),
    }  # fmt: skip
    return json.loads(json.dumps(content))


def read_partial(partial: Path, definition: dict) -> dict:
    try:
        state = json.loads(partial.read_text(encoding="utf-8"))
        found = state["definition"]
        state["results"], state["seconds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{partial}: not a readable interrupted run ({error}); move it away to start anew") from error
    if found != definition:
        changed = [k for k in definition if found.get(k) != definition[k]]
        raise ValueError(f"{partial}: belongs to another definition ({', '.join(changed)} changed); move it away to start anew")
    return state


def assemble(experiment, definition, chosen, results, seconds) -> dict:
    record = {**definition, "arms": {}}
    for arm, settings in experiment.arms.items():
        content = {"settings": settings, "chosen": chosen[arm]}
        if experiment.kind == "seeds":
            tuned = {p: [results.get(key("tune", arm, json.loads(p), s)) for s in experiment.tuning_seeds] for p in map(json.dumps, experiment.points())}
            content["tuning"] = [{"point": json.loads(p), experiment.metric: [r[experiment.metric] for r in rs]} for p, rs in tuned.items() if None not in rs]
            content["runs"] = [{"seed": s, **results[key("test", arm, chosen[arm], s)]} for s in experiment.seeds]
        else:
            result = results[key("test", arm, chosen[arm], 0)]
            content["predictions"], record["labels"] = result["predictions"], result["labels"]
        record["arms"][arm] = content
    record |= {
        "environment": environment(), "git_commit": git_commit(), "command": f"python -m tricks_lib.lab run {experiment.name}",
        "wall_seconds": round(seconds, 1), "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    record["statistics"] = records.summarize(record)
    return record


def environment() -> dict:
    """Hardware and versions, for a record."""
    import torch
    import transformers

    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "") if Path("/proc/cpuinfo").exists() else ""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "device": gpu or f"CPU ({cpu or platform.processor()}, {os.cpu_count()} cores)", "cuda": torch.version.cuda if gpu else None,
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip


def git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


