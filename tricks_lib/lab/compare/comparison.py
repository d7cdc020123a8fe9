"""A comparison: what is trained on what, by which arms, and how much: all that its record depends on."""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from tricks_lib.lab import profiles
from tricks_lib.lab.compare import pasted, tokens, train
from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.metrics import METRICS
from tricks_lib.lab.compare.statistics import seeds_needed
from tricks_lib.lab.compare.tokens import Source

LEAST_RATES, LEAST_TUNING_SEEDS = 4, 3
TRAINING = {"batch_size": 16, "max_length": 128, "warmup": 0.1, "weight_decay": 0.01, "rows": {}}


@dataclass(frozen=True)
class Comparison:
    """One row of a table of evidence.

    Attributes:
        name: "tournament/en_banking77", say. source, model: what is trained on what.
        arms: the first is the baseline. metric: a key of :data:`.metrics.METRICS`.
        training: what all arms share: batch_size, max_length, warmup and weight_decay, rows (see
                :func:`.tokens.draw`) and precision (default: what the hardware here multiplies).
        rates: the learning rates that every arm starts with, each twice the one before; none where nothing
                is trained.
        steps: the number from which doubling settles it.
        tuning_seeds, seeds: never the same ones. hours: that the plan was cut to. command: repeats it.

    Raises:
        ValueError: one of these does not fit the others.
    """

    name: str
    source: Source
    model: str
    arms: dict[str, Arm]
    metric: str
    training: dict
    rates: tuple[float, ...]
    steps: int
    tuning_seeds: tuple[int, ...] = (1001, 1002, 1003)
    seeds: tuple[int, ...] = ()
    hours: float | None = None
    command: str = ""
    performs: ClassVar[type[train.Job]] = train.Job

    def __post_init__(self):
        training = {"precision": profiles.precision(), **self.training}
        object.__setattr__(self, "training", training)
        if not self.seeds:
            object.__setattr__(self, "seeds", tuple(range(seeds_needed(self.comparisons))))
        rivals = {arm.rival for arm in self.arms.values() if arm.rival}
        doubled = all(abs(b / a - 2) < 1e-9 for a, b in zip(self.rates, self.rates[1:]))
        for fits, message in [
            (len(self.arms) > 1, f"arms: {list(self.arms)} given, at least two are accepted"),
            (
                not self.arms[self.baseline].settings,
                f"arms: {self.baseline!r} is the baseline, it has no settings",
            ),
            (rivals <= {*self.arms}, f"arms: rivals {sorted(rivals - {*self.arms})} are not among them"),
            (
                self.metric in METRICS,
                f"metric: {self.metric!r} given, one of {', '.join(METRICS)} is accepted",
            ),
            (
                not self.rates or (doubled and len(self.rates) >= LEAST_RATES),
                f"rates: {self.rates} given, at least {LEAST_RATES}, each twice the one before, are accepted",
            ),
            (self.steps >= 1, f"steps: {self.steps} given, a positive integer is accepted"),
            (self.tuning_seeds or not self.rates, "tuning_seeds: none given, at least one is accepted"),
            (
                len({*self.seeds, *self.tuning_seeds}) == len(self.seeds) + len(self.tuning_seeds),
                "seeds, tuning_seeds: a seed stands there twice",
            ),
        ]:
            if not fits:
                raise ValueError(f"{self.name}: {message}")

    @property
    def trained(self) -> bool:
        """Whether anything is trained and tuned; without rates nothing is."""
        return bool(self.rates)

    def job(self, settings, readings, rate, steps, seed, split) -> train.Job:
        """One run: what it depends on, and how it is performed."""
        given = (self.source, self.model, self.metric, self.training)
        return self.performs(*given, settings, readings, rate, steps, seed, split)

    def prepared(self):
        """What is known of data and model; see :class:`.tokens.Prepared`."""
        return tokens.prepare(self.source, self.model, self.training["max_length"])

    def pasted(self, task, settings: dict, rate: float, steps: int) -> str:
        """An arm as code to paste."""
        return pasted.pasted(self, task, settings, rate, steps)

    def beside(self) -> dict:
        """What else a record keeps of its data."""
        return {}

    @property
    def baseline(self) -> str:
        return next(iter(self.arms))

    @property
    def comparisons(self) -> int:
        """Of the larger family."""
        return max(1, len(self.arms) - 1)

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric].higher_is_better

    def families(self) -> dict:
        """The two families of comparisons: arms against the baseline, tricks against their rivals."""
        return {
            "baseline": [arm for arm in self.arms if arm != self.baseline],
            "rivals": [[name, arm.rival] for name, arm in self.arms.items() if arm.rival],
        }

    def definition(self) -> dict:
        """As JSON; an interrupted run goes on under the same one only."""
        return {
            k: v for k, v in json.loads(json.dumps(asdict(self))).items() if k not in ("hours", "command")
        }
