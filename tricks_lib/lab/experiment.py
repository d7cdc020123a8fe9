"""Run an experiment: equal tuning for each arm, then fresh seeds on the test split, nothing lost on the way.

Protocol: each arm gets the same small grid, chosen on the validation split with tuning seeds of its own;
then every arm runs on the test split with the same fresh seeds.
"""

import datetime
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tricks_lib._checks import number
from tricks_lib.lab import machine, models, parallel, records, tasks


@dataclass(frozen=True)
class Experiment:
    """Arms of a demonstration on the book's own checkpoints; the table of evidence has
    :class:`tricks_lib.lab.compare.comparison.Comparison`.

    Attributes:
        trick, task: its name is ``trick/task``.
        setting: one sentence: what is trained on what.
        model: name for :mod:`tricks_lib.lab.models`; data: name for :mod:`tricks_lib.lab.tasks`.
        arms: settings that define each arm. baseline: the arm the others are compared with.
        metric: name of the score in what ``run`` returns.
        run: ``run(experiment, settings, seed, split) -> {metric: score, ...}``.
        grid: the values tuned for every arm, the same for all.
        tuning_seeds, seeds: never the same ones.

    Raises:
        ValueError: one of these does not fit the others.
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
    tuning_seeds: tuple[int, ...] = (101, 102, 103)
    seeds: tuple[int, ...] = tuple(range(20))

    def __post_init__(self):
        given = {*self.seeds, *(self.tuning_seeds if len(self.points()) > 1 else ())}
        for fits, message in [
            (len(self.arms) > 1, f"arms: {list(self.arms)} given, at least two are accepted"),
            (
                self.baseline in self.arms,
                f"baseline: {self.baseline!r} given, one of {list(self.arms)} is accepted",
            ),
            (self.points(), f"grid: {self.grid} given, at least one value for each name is accepted"),
            (len(self.seeds) > 1, f"seeds: {self.seeds} given, at least two are accepted"),
            (
                len(given) == len(self.seeds) + (len(self.tuning_seeds) if len(self.points()) > 1 else 0),
                "seeds, tuning_seeds: a seed stands there twice",
            ),
            (self.tuning_seeds, "tuning_seeds: none given, at least one is accepted"),
        ]:
            if not fits:
                raise ValueError(f"{self.name}: {message}")

    @property
    def name(self) -> str:
        return f"{self.trick}/{self.task}"

    def points(self) -> list[dict]:
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())]


def registry() -> dict[str, Experiment]:
    """All experiments by name: what pretraining is worth."""
    from tricks_lib.lab.pretraining import worth

    return {experiment.name: experiment for experiment in worth.EXPERIMENTS}


def run(experiment: Experiment, folder: Path, jobs: int = 1, progress: bool = True) -> Path:
    """Run to the end, or go on where an interrupted run stopped; returns the record's path.

    Each finished run is on disk, in ``<record>.partial.json``, before the next result is taken; the record
    itself appears whole, at the end, and an older one stays until then.

    Args:
        folder: where the record goes. jobs: processes (joblib). progress: show a bar with the time left.

    Raises:
        ValueError: the partial file there is damaged, or belongs to another definition, model or data set;
            or a run gives no finite score.
    """
    number("jobs", jobs, 1, accepted="a positive integer", integer=True)
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    file = records.path(experiment.name, folder)
    partial = file.with_suffix(".partial.json")
    definition = define(experiment)
    state = {"definition": definition, "seconds": 0.0, "results": {}}
    if partial.exists():
        state = read_partial(partial, definition)
        for name, result in state["results"].items():
            check_result(experiment, f"{partial}: {name}", result)
    before = state["seconds"]

    def advance(pending, label):
        for key, result in execute(experiment, pending, state["results"], jobs, progress, label):
            check_result(experiment, f"{experiment.name}: {key}", result)
            state["results"][key] = result
            state["seconds"] = before + time.perf_counter() - started
            records.write(partial, state)

    results = state["results"]
    tuning = (
        {}
        if len(experiment.points()) == 1
        else {
            key("tune", arm, point, seed): ({**settings, **point}, seed, "validation")
            for arm, settings in experiment.arms.items()
            for point in experiment.points()
            for seed in experiment.tuning_seeds
        }
    )
    advance(tuning, "tuning")
    chosen = {
        arm: records.choose(tuned(experiment, arm, results), experiment.metric)
        if tuning
        else experiment.points()[0]
        for arm in experiment.arms
    }
    final = {
        key("test", arm, chosen[arm], seed): ({**settings, **chosen[arm]}, seed, "test")
        for arm, settings in experiment.arms.items() for seed in experiment.seeds
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
    calls = [joblib.delayed(timed)(experiment, k, *job) for k, job in pending]
    yield from tqdm(
        parallel.finished(calls, jobs),
        total=len(wanted),
        initial=len(wanted) - len(pending),
        desc=f"{experiment.name} {label}",
        disable=not progress,
    )


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


def check_result(experiment, name, result) -> None:
    """Refuse what no statistics can be made of, before it is kept."""
    if not isinstance(result, dict):
        raise ValueError(f"{name}: gave {result!r}, an object is accepted")
    if not records.is_number(result.get(experiment.metric)):
        given = repr(result[experiment.metric]) if experiment.metric in result else "none"
        raise ValueError(f"{name}: gave {given:.60} as {experiment.metric}, a finite number is accepted")


def tuned(experiment, arm, results) -> list[dict]:
    """An arm's scores on validation: every grid point with one for each tuning seed; none where nothing is
    chosen.
    """
    points = experiment.points() if len(experiment.points()) > 1 else []
    return [
        {
            "point": p,
            experiment.metric: [
                results[key("tune", arm, p, s)][experiment.metric] for s in experiment.tuning_seeds
            ],
        }
        for p in points
    ]


def define(experiment) -> dict:
    """All that a result depends on; a partial file made under another definition is refused."""
    content = {
        "schema": records.SCHEMA,
        "trick": experiment.trick,
        "task": experiment.task,
        "setting": experiment.setting,
        "kind": records.KIND,
        "metric": experiment.metric,
        "baseline": experiment.baseline,
        "arms": experiment.arms,
        "grid": experiment.grid,
        "tuning_seeds": experiment.tuning_seeds,
        "seeds": experiment.seeds,
        "data": tasks.describe(experiment.data),
        "model": models.describe(experiment.model),
    }
    return json.loads(json.dumps(content))


def read_partial(partial: Path, definition: dict | None = None) -> dict:
    """What an interrupted run has on disk; refused where it is damaged, or made under another definition than
    this.
    """
    try:
        state = records.read(partial)
        fields = [state["definition"], state["results"], *state["results"].values()]
        if not all(isinstance(field, dict) for field in fields) or not records.is_number(state["seconds"]):
            raise ValueError("a field has another type")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{partial}: not a readable interrupted run ({error}); move it away to start anew"
        ) from error
    if definition and (found := state["definition"]) != definition:
        changed = [k for k in {**definition, **found} if definition.get(k, k) != found.get(k, k)]
        raise ValueError(
            f"{partial}: belongs to another definition ({', '.join(changed)} changed); move it away to "
            f"start anew"
        )
    return state


def assemble(experiment, definition, chosen, results, seconds) -> dict:
    record = {**definition, "arms": {}}
    for arm, settings in experiment.arms.items():
        record["arms"][arm] = {
            "settings": settings,
            "chosen": chosen[arm],
            "tuning": tuned(experiment, arm, results),
            "runs": [{"seed": s, **results[key("test", arm, chosen[arm], s)]} for s in experiment.seeds],
        }
    record |= {
        "environment": machine.environment(),
        "git_commit": machine.git_commit(),
        "command": f"python -m tricks_lib.lab run {experiment.name}",
        "wall_seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
    }
    record["statistics"] = records.summarize(record)
    return record
