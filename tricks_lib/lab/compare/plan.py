"""What a comparison costs and what it could show, before it runs; and how hours buy it down."""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tricks_lib.lab import show
from tricks_lib.lab.compare import arms, statistics, tokens, train
from tricks_lib.lab.compare.comparison import LEAST_TUNING_SEEDS, Comparison

WARM_UP, TIMED = 3, 12  # steps, before and while they are timed
DISAGREE = 0.1  # of the test examples, on which two arms differ in a seed: what "could show" supposes
OF_ROWS = 0.2  # of the variance of that, what a test example keeps in every seed
SEED_SD = 0.005  # of the difference between two arms from seed to seed, likewise


def trainings(c: Comparison) -> dict[str, float]:
    """Each distinct training that is tested -> its passes; of several candidates those of the dearest."""
    found = {}
    for name, arm in c.arms.items():
        of_arm = [arms.training_of({**arm.settings, **candidate}) for candidate in arm.candidates]
        found[name if arm.together else arms.key(of_arm)] = passes(c, arm)
    return found


def tried(c: Comparison) -> dict[str, float]:
    """Each distinct training that is tuned -> its passes; the baseline at twice the steps is always one."""
    alone = [arm for arm in c.arms.values() if not arm.together]
    every = [{"times": 2}, *({**arm.settings, **more} for arm in alone for more in arm.candidates)]
    found = {arms.key(training): arms.passes(training) for training in map(arms.training_of, every)}
    return found | {name: passes(c, arm) for name, arm in c.arms.items() if arm.together}


def passes(c: Comparison, arm: arms.Arm) -> float:
    """Of its dearest candidate; of the winners together, whose settings are not known yet, those of the
    dearest trick.
    """
    if arm.together:
        return max(passes(c, other) for other in c.arms.values() if not other.together)
    return max(arms.passes({**arm.settings, **candidate}) for candidate in arm.candidates)


def work(c: Comparison) -> float:
    """Steps of all runs, in those of the baseline, if doubling them once shows no gain."""
    trials = len(c.rates) * len(c.tuning_seeds) if c.trained else 0
    return c.steps * (trials * sum(tried(c).values()) + len(c.seeds) * sum(trainings(c).values()))


@dataclass(frozen=True)
class Plan:
    """A comparison and what is known of its cost.

    Attributes:
        step: seconds of a training step of the baseline. evaluation: seconds per test row.
        rows: of the test and validation split. warnings: of the data.
    """

    comparison: Comparison
    step: float
    evaluation: float
    rows: dict[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def tuning_runs(self) -> int:
        """Trainings that choose."""
        c = self.comparison
        return len(c.rates) * len(c.tuning_seeds) * len(tried(c))

    @property
    def test_runs(self) -> int:
        """Trainings that are tested."""
        return len(self.comparison.seeds) * len(trainings(self.comparison))

    @property
    def seconds(self) -> float:
        """Of all runs one after another, see :func:`work`."""
        evaluated = self.tuning_runs * self.rows["validation"] + self.test_runs * self.rows["test"]
        return work(self.comparison) * self.step + evaluated * self.evaluation

    @property
    def smallest(self) -> float:
        """The smallest difference it could show with 80 % power, if two arms disagree as is supposed."""
        S, N, of_rows = len(self.comparison.seeds), self.rows["test"], OF_ROWS * DISAGREE
        residual = DISAGREE - of_rows
        supposed = statistics.Components(
            0.0, S, N, residual + N * SEED_SD**2, residual + S * of_rows, residual
        )
        return statistics.smallest_difference(supposed, statistics.LEVEL / self.comparison.comparisons)

    def text(self) -> str:
        """The plan as it is printed."""
        c = self.comparison
        width = max(map(len, c.arms))
        seconds = self.step, c.steps * self.step + self.rows["test"] * self.evaluation, self.seconds
        step, run, whole = map(show.duration, seconds)
        rates = ", ".join(f"{rate:g}" for rate in c.rates) or "none, nothing is trained"
        distinct = len(trainings(c))
        lines = [
            f"{c.name}: {c.model} on {c.source.spec}, {c.metric}, {c.training['precision']}",
            f"{'arm':{width}}  passes  rival",
        ]
        for name, arm in c.arms.items():
            lines += [f"{name:{width}}  {passes(c, arm):6g}  {arm.rival or ''}".rstrip()]
        lines += [
            f"{len(c.arms)} arms, read from {distinct} training{'s' * (distinct > 1)}; rates {rates}; "
            f"{len(c.tuning_seeds)} tuning seeds, {len(c.seeds)} seeds; "
            f"from {c.steps} steps" + (f" of {batch}" if (batch := c.training.get("batch_size")) else ""),
            f"{step} per step, {run} per run; {self.tuning_runs + self.test_runs} runs, {whole} of one core "
            f"in all (two or four times that if the baseline gains from more steps)",
        ]
        if c.metric == "accuracy":
            smallest = f"{100 * self.smallest:.1f} points" if math.isfinite(self.smallest) else "none"
            supposed = "if two arms disagree on a tenth of the test rows"
            lines += [f"smallest difference it could show: {smallest}, {supposed}"]
        return "\n".join(lines + [f"note: {each}" for each in self.warnings])


def measured(comparison: Comparison) -> Plan:
    """The plan, by a few steps of the baseline and a few evaluations."""
    c = comparison
    if c.performs is not train.Job:
        return timed(c)
    task = tokens.prepare(c.source, c.model, c.training["max_length"])
    rows = {split: len(task.rows[split]) for split in ("validation", "test")}
    took, clock = [], clock_of_a_core()
    for steps in (WARM_UP, WARM_UP + TIMED):
        job = train.Job(c.source, c.model, c.metric, c.training, {}, (), c.rates[0], steps, c.tuning_seeds[0])
        run = train.Run(job, task)
        start = clock()
        run.train()
        took.append(clock() - start)
    start = clock()
    run.outputs("validation", run.model)
    evaluation = (clock() - start) / rows["validation"]
    return Plan(c, max(1e-4, (took[1] - took[0]) / TIMED), evaluation, rows, task.warnings)


def clock_of_a_core():
    return time.perf_counter if torch.cuda.is_available() else time.process_time


def timed(c: Comparison) -> Plan:
    """The plan of another kind of runs, by one run of the baseline after a first one, which computes what all
    share: each process pays for that once more, and it is not in the plan.
    """
    settings, split = c.arms[c.baseline].settings, "validation" if c.trained else "test"
    reading = (arms.reading_of(settings),)
    # far apart: some kinds perform neighbouring seeds together
    first, second = c.tuning_seeds[:2] if c.trained else (c.seeds[0], c.seeds[-1])
    rate = c.rates[len(c.rates) // 2] if c.trained else None
    c.job(settings, reading, rate, c.steps, first, split).perform()
    clock = clock_of_a_core()
    start = clock()
    c.job(settings, reading, rate, c.steps, second, split).perform()
    rows = {split: len(labels) for split, labels in c.prepared().labels.items()}
    return Plan(c, (clock() - start) / c.steps, 0.0, rows, tuple(c.prepared().warnings))


def cuts(hours: float, tricks: list[str], make) -> Iterator[Comparison]:
    """What a comparison is cut to, the largest first: fewer seeds, then fewer tuning seeds, then fewer
    tricks.

    Args:
        tricks: in the order given. make: ``make(tricks) -> Comparison`` with the controls of so many.
    """
    for count in range(len(tricks), 0, -1):
        base = make(tricks[:count])
        least = statistics.seeds_for_a_verdict(base.comparisons)
        for seeds, tuning in [(len(base.seeds), LEAST_TUNING_SEEDS), (least, LEAST_TUNING_SEEDS), (least, 2)]:
            yield dataclasses.replace(
                base, seeds=tuple(range(seeds)), tuning_seeds=base.tuning_seeds[:tuning], hours=hours
            )


def bought_down(plan: Plan, hours: float, tricks: list[str], make) -> Plan:
    """The plan within so many hours: the first of :func:`cuts` that fits.

    Raises:
        ValueError: even one trick takes longer; the message says what it would take.
    """
    for cut in cuts(hours, tricks, make):
        tried = dataclasses.replace(plan, comparison=cut)
        if tried.seconds <= 3600 * hours:
            return tried
    raise ValueError(
        f"hours: {hours:g} given; {tricks[0]} alone with {len(cut.seeds)} seeds, the least that can give a "
        f"verdict, takes {tried.seconds / 3600:.2f}; fewer steps, fewer rows, shorter texts "
        f"(max_length) or a smaller model take less"
    )
