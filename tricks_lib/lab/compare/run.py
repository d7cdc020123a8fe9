"""Run a comparison, or go on where it stopped: a finished run is on disk before the next result is taken."""

import functools
import hashlib
import json
import time
from pathlib import Path

import numpy as np

from tricks_lib._checks import number
from tricks_lib.lab import models, parallel
from tricks_lib.lab.compare import arms, assembly, plan, protocol, records, tokens, train
from tricks_lib.lab.compare.comparison import Comparison

APART = ("lab", "decoding")  # of tricks_lib: all else may train
LAB = ("fit", "models", "profiles", "registry", "tasks")
COMPARE = (
    "arms", "calibration", "classifier", "columns", "comparison", "data", "labels",
    "metrics", "protocol", "splits", "tokens", "train",
)  # fmt: skip


def sources() -> list[Path]:
    """The files that a run depends on, sorted."""
    root = Path(__file__).parents[2]
    files = {file for file in root.rglob("*.py") if file.relative_to(root).parts[0] not in APART}
    files |= {root / "lab" / f"{name}.py" for name in LAB}
    return sorted(files | {root / "lab" / "compare" / f"{name}.py" for name in COMPARE})


@functools.cache
def code(more: tuple[str, ...] = ()) -> str:
    """sha256 of :func:`sources` and of more files of the package, as they are when the process first asks."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for file in [*sources(), *(file for each in more for file in sorted(root.glob(each)))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def defined(comparison: Comparison) -> dict:
    """The definition with the digests of table and model; an interrupted run goes on under the same only."""
    return {**comparison.definition(), "sha256": digests(comparison.source, comparison.model)}


@functools.lru_cache(maxsize=2)
def digests(source: tokens.Source, model: str) -> dict:
    """sha256 of the table's files and of the model's weights, read once in a process as both are."""
    return {"data": source.read().sha256, "model": models.describe(model)["sha256"]}


def digest(comparison: Comparison) -> str:
    """sha256 of :func:`defined`: what a record says it is of."""
    return _digest(defined(comparison))


def _digest(definition: dict) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def there(file: Path) -> str | None:
    """The digest of what is at a record's place, interrupted or finished; None where there is nothing."""
    partial = file.with_suffix(".partial.json")
    if partial.exists():
        return _digest(records.read_partial(partial)["definition"])
    return records.read(file).get("definition") if file.exists() else None


def is_finished(comparison: Comparison, file: Path) -> bool:
    """Whether the record of this comparison is there."""
    return not file.with_suffix(".partial.json").exists() and there(file) == digest(comparison)


class Results:
    """What has been run, and what is still asked for.

    Attributes:
        done: key of a training -> key of a reading -> result. missing: key -> :class:`.train.Job`.
    """

    def __init__(self, comparison: Comparison, done: dict):
        self.comparison, self.done, self.missing = comparison, done, {}
        shared: dict[str, list[dict]] = {}
        for arm in comparison.arms.values():
            for candidate in arm.candidates:
                own = {**arm.settings, **candidate}
                shared.setdefault(arms.key(arms.training_of(own)), []).append(arms.reading_of(own))
        self.shared = shared

    def ask(self, settings: dict, steps: int, rate: float, seed: int, split: str) -> dict | None:
        """The result of a run; None if it is not done, and it is then among the missing."""
        training, reading = arms.training_of(settings), arms.reading_of(settings)
        others = self.shared.get(arms.key(training), []) if split == "validation" else []
        whole = round(steps * training.get("times", 1))
        own = {k: v for k, v in training.items() if k != "times"}
        job = self.comparison.job(own, (), rate, whole, seed, split)
        found = self.done.get(job.key, {}).get(arms.key(reading))
        if found is None:
            wanted = self.missing[job.key].readings if job.key in self.missing else ()
            more = [r for r in [reading, *others] if r not in wanted]
            readings = tuple({arms.key(r): r for r in [*wanted, *more]}.values())
            self.missing[job.key] = self.comparison.job(own, readings, rate, whole, seed, split)
        return found


def advance(results: Results):
    """One round of questions: steps, trials, settings, and test results by arm, as far as they are known."""
    results.missing = {}
    steps, rows, settings = protocol.tuned(results.comparison, results.ask)
    tested = (
        protocol.tested(results.comparison, results.ask, steps["chosen"], rows, settings) if steps else {}
    )
    return steps, rows, settings, tested


def run(comparison: Comparison, file: Path, jobs: int = 1, progress: bool = True) -> None:
    """Run to the end, or go on where an interrupted run stopped.

    Args:
        file: the record's; its folder is made. jobs: processes (joblib).
        progress: show a bar with the time left.

    Raises:
        TypeError, ValueError: ``jobs`` is not a positive integer.
        ValueError: the partial file there is damaged, of another definition, or made by other code.
    """
    number("jobs", jobs, 1, accepted="a positive integer", integer=True)
    started = time.perf_counter()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.json")
    state = {
        "definition": defined(comparison),
        "code": code(comparison.performs.more_code),
        "seconds": 0.0,
        "runs": {},
    }
    if partial.exists():
        state = records.read_partial(partial, state)
    before, results = state["seconds"], Results(comparison, state["runs"])
    while True:
        found = advance(results)
        if not results.missing:
            break
        for key, result in finished(results, jobs, progress):
            made_by = result.pop("code")
            if made_by != state["code"]:
                raise ValueError(f"{comparison.name}: the code has changed while it ran; start again")
            state["runs"][key] = {**state["runs"].get(key, {}), **result}
            state["seconds"] = round(before + time.perf_counter() - started, 1)
            records.write(partial, state)
    record, predictions = assembly.assemble(comparison, *found, state)
    record["definition"] = _digest(state["definition"])
    records.save(file, record, predictions)
    partial.unlink(missing_ok=True)


def finished(results: Results, jobs: int, progress: bool):
    """Yield (key, results of the readings and the code's hash) of every missing run, as they finish."""
    import joblib
    from tqdm.auto import tqdm

    c, pending = results.comparison, [*results.missing.values()]
    before = sum(work(key) for key in results.done)
    total = max(before + sum(work(job.key) for job in pending), plan.work(c))
    with tqdm(
        total=round(total), initial=round(before), desc=c.name, unit="step", disable=not progress
    ) as bar:
        for key, result in parallel.finished([joblib.delayed(perform)(job) for job in pending], jobs):
            yield key, result
            bar.update(round(work(key)))


def work(key: str) -> float:
    """Steps of a run by its key, in those of the baseline: what the bar counts."""
    _, settings, steps, *_ = key.split(" | ")
    return int(steps) * arms.passes(json.loads(settings))


def perform(job: train.Job) -> tuple[str, dict]:
    """A job in a process of its own: one thread on a CPU, and nothing printed."""
    import torch
    import transformers

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    now = code(job.more_code)
    found = job.perform()
    packed = {
        reading: {k: records.pack(v) if isinstance(v, np.ndarray) else v for k, v in result.items()}
        for reading, result in found.items()
    }
    return job.key, {**packed, "code": now}
