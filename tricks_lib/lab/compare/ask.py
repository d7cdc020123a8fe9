"""The question of a reader: a comparison of the book's tricks on a table of their own."""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from tricks_lib._checks import number
from tricks_lib._documents import positions
from tricks_lib.lab.compare import plan, run, tokens, tricks
from tricks_lib.lab.compare.comparison import TRAINING, Comparison
from tricks_lib.lab.compare.metrics import fitting

SMALL, RATES = 50e6, {True: (1e-4, 2e-4, 4e-4, 8e-4), False: (1e-5, 2e-5, 4e-5, 8e-5)}  # parameters: rates
EPOCHS, LEAST_STEPS = 4, 100  # of the training that doubling starts from
RECORD = "record.json"


def comparison(
    source: tokens.Source,
    model: str,
    names: Sequence[str] = ("all",),
    *,
    metric: str | None = None,
    steps: int | None = None,
    batch_size: int = 16,
    max_length: int = 128,
    command: str = "",
) -> Comparison:
    """The comparison that answers the question.

    Args:
        source: how the table is read. model: name for :func:`tricks_lib.lab.models.load_encoder`.
        names: of tricks, or "all" that fit. metric: default: what fits the labels.
        steps: that doubling starts from; default: four epochs, at least 100. batch_size, max_length: of all
            arms.

    Raises:
        ValueError: as the reader of the table; a trick or a metric that there is not, or that does not fit
            the labels.
    """
    first = 1 if steps is None else steps
    for name, value in (("batch_size", batch_size), ("max_length", max_length), ("steps", first)):
        number(name, value, 1, accepted="a positive integer", integer=True)
    task = tokens.prepare(source, model, max_length)
    if max_length > (most := positions(task.encoder)):
        raise ValueError(f"max_length: {max_length} given, at most the model's {most} positions are accepted")
    metrics = fitting(task.kind, task.names)
    if metric not in (None, *metrics):
        raise ValueError(f"metric: {metric!r} given for {task.kind}; accepted are {', '.join(metrics)}")
    chosen = wanted(names, task.kind)
    epochs = EPOCHS * len(task.rows["train"]) // batch_size
    return Comparison(
        f"compare/{task.name}", source, model, tricks.arms_of(chosen, task.kind, task.num_labels),
        metric or metrics[0], TRAINING | {"batch_size": batch_size, "max_length": max_length},
        RATES[task.parameters < SMALL], steps or max(LEAST_STEPS, epochs), command=command,
    )  # fmt: skip


def wanted(names: str | Sequence[str], kind: str) -> list[str]:
    """Names of tricks, in the order of importance; "all" are those that fit the kind of data."""
    return tricks.fitting(kind) if listed(names) == ["all"] else listed(names)


def listed(names: str | Sequence[str]) -> list[str]:
    """One name is a list of one."""
    return [names] if isinstance(names, str) else [*names]


def planned(
    source, model, names=("all",), hours: float | None = None, out: Path | None = None, **options
) -> plan.Plan:
    """The plan of :func:`comparison`, cut to so many hours; what has been cut before, in ``out``, is not cut
    anew: how long a step takes is never measured twice alike.
    """
    if hours is not None:
        number("hours", hours, 1e-6, accepted="a positive number")

    def make(some):
        return comparison(source, model, some, **options)

    whole = make(names)
    made = plan.measured(whole)
    if hours is None:
        return made
    given = hours, wanted(names, whole.prepared().kind), make
    if out is not None and (there := run.there(out / RECORD)) is not None:
        for cut in (whole, *plan.cuts(*given)):
            if run.digest(cut) == there:
                return dataclasses.replace(made, comparison=cut)
    return made if made.seconds <= 3600 * hours else plan.bought_down(made, *given)


def compare(
    data: str | os.PathLike | Sequence[str | os.PathLike],
    model: str,
    tricks: str | Sequence[str] = "all",
    *,
    text: str = "text",
    text_b: str | None = None,
    label: str = "label",
    split: str = "split",
    kind: str | None = None,
    encoding: str = "utf-8-sig",
    rare: str | None = None,
    hours: float | None = None,
    out: str | Path = "report",
    jobs: int = 1,
    progress: bool = True,
    plan_only: bool = False,
    **options,
) -> dict | plan.Plan:
    """Which of the book's tricks help on this data: plan, run and report; the same call goes on after a stop.

    Args:
        data, text, text_b, label, split, kind, encoding: as :func:`tricks_lib.lab.compare.data.read`.
        rare: name of the class that f1, average precision and thresholds are of, against all others; default:
            of two classes the later one by name or size.
        model: embedded, local or on the hub. tricks: names, or "all" that fit the labels.
        hours: to which the plan is cut, those of one process. out: folder of the report. jobs: processes.
        progress: print the plan, and show a bar. plan_only: print the plan, and stop.
        options: ``metric``, ``steps``, ``batch_size``, ``max_length``.

    Returns:
        the record, as it stands in ``out``; with ``plan_only`` the plan.

    Raises:
        TypeError, ValueError, OSError: bad data, columns, model, trick or number; each is named.
    """
    spec = str(data) if isinstance(data, (str, os.PathLike)) else tuple(map(str, data))
    tricks = listed(tricks)
    source = tokens.Source(spec, text, text_b, label, split, kind, encoding, rare)
    command = terminal(source, model, tricks, hours=hours, out=out, jobs=jobs, **options)
    made = planned(source, model, tricks, hours, Path(out), command=command, **options)
    if progress or plan_only:
        print(made.text())
    return made if plan_only else run_and_report(made, Path(out), jobs, progress)


def terminal(source: tokens.Source, model: str, tricks: Sequence[str], **options) -> str:
    """The same question as a command."""
    usual = {field.name: field.default for field in dataclasses.fields(source)}
    usual |= {"tricks": ["all"], "out": "report", "jobs": 1, "hours": None}
    spec = [source.spec] if isinstance(source.spec, str) else source.spec
    asked = {"data": spec, **dataclasses.asdict(source), "model": model, "tricks": [*tricks], **options}
    words = ["python", "-m", "tricks_lib.lab", "compare"]
    for name, value in asked.items():
        if name != "spec" and value is not None and value != usual.get(name):
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def run_and_report(made: plan.Plan, out: Path, jobs: int, progress: bool) -> dict:
    """Run a plan unless its record is in ``out`` already, write its report, and return its record."""
    from tricks_lib.lab.compare import records, report

    if run.is_finished(made.comparison, out / RECORD):
        print(f"{out / RECORD} is the record of this comparison; move it away to train anew")
    else:
        run.run(made.comparison, out / RECORD, jobs, progress)
    record, _ = records.load_file(out / RECORD)
    report.write(record, out)
    return record
