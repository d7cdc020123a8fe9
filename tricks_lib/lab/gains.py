"""What every trick gained in its records, beside the control that tests the same claim for less.

The arm that stands for a trick is the setting that circulates, the default of the paper, its code or the
snippet, whatever it gained; the best arm of a record would be a choice made after looking.
"""

from dataclasses import dataclass

from tricks_lib.lab import plots, records, show


@dataclass(frozen=True)
class Trick:
    """How the records of a chapter's trick are read.

    Attributes:
        module: of the trick. title: the chapter's name in figures. arm: the arm that is the trick.
        controls: arms that are not the trick and might do as well, the most telling first.
        claim, source: what a published source reports in its own setting, and its address; "" where there is
            no such number.
    """

    module: str
    title: str
    arm: str
    controls: tuple[str, ...] = ()
    claim: str = ""
    source: str = ""


TRICKS = [  # in the order of the chapters; of a record, the first whose arm it has
    Trick("rdrop", "R-Drop", "R-Drop, alpha 0.5", ("twice the steps",)),
    Trick("layer_decay", "Layer-wise rates", "0.95", ("snippet 0.95",)),
    Trick(
        "ema",
        "EMA of weights (0.999)",
        "linear, EMA 0.999",
        ("linear, EMA warm-up", "constant, EMA warm-up"),
        "SWA, WideResNet-28-10, CIFAR-100: 81.46 % in place of 80.82 at the same budget",
        "https://github.com/timgaripov/swa",
    ),
    Trick("dice_loss", "Dice loss", "Dice", ("cross-entropy, tuned threshold", "weighted")),
    Trick(
        "focal_loss",
        "Focal loss",
        "focal",
        ("class weights", "label smoothing"),
        "RetinaNet, COCO: 34.0 AP in place of 31.1 for balanced cross-entropy",
        "https://arxiv.org/abs/1708.02002",
    ),
    Trick(
        "fgm",
        "FGM (epsilon 1)",
        "FGM, epsilon 1",
        ("plain, twice the steps", "random, epsilon 1"),
        "FreeLB, BERT-base, GLUE: mean 79.4 in place of 78.3",
        "https://arxiv.org/abs/1909.11764",
    ),
]

METRICS = {
    "f1": "F1, rare class",
    "macro_f1": "macro F1",
}


@dataclass(frozen=True)
class Gain:
    """The differences of one record: what :func:`tricks_lib.lab.records.difference` returns, over the
    baseline and over each control.
    """

    record: dict
    trick: Trick
    over_baseline: dict
    controls: dict[str, dict]  # the control's own gain over the baseline
    over_controls: dict[str, dict]

    @property
    def name(self) -> str:
        return f"{self.record['trick']}/{self.record['task']}"

    @property
    def where(self) -> str:
        return plots.data_name(self.record["data"]["name"])

    @property
    def label(self) -> str:
        return f"{self.trick.title}, {self.where}"

    @property
    def score(self) -> str:
        return METRICS.get(self.record["metric"], self.record["metric"])


def gains(where=None) -> list[Gain]:
    """Every record of a chapter's trick, the largest gain first.

    Args:
        where: folder of the records; the book's own if None.

    Raises:
        ValueError: a record is damaged, or has none of the arms that are its trick.
    """
    found = []
    for name in records.names(where):
        readings = [t for t in TRICKS if t.module == name.split("/")[0]]
        if not readings:
            continue
        record = records.load(name, where)
        trick = next((t for t in readings if t.arm in record["arms"]), None)
        if trick is None:
            raise ValueError(
                f"{name}: has no arm {' or '.join(repr(t.arm) for t in readings)}, the one that is the "
                f"trick; there are {', '.join(record['arms'])}"
            )
        own, beside = (
            record["statistics"],
            [c for c in trick.controls if c in record["arms"] and c != record["baseline"]],
        )
        over = {c: records.difference(record, trick.arm, c) for c in beside}
        found.append(
            Gain(record, trick, own[trick.arm]["difference"], {c: own[c]["difference"] for c in beside}, over)
        )
    return sorted(found, key=lambda g: -g.over_baseline["mean"])


def words(found: list[Gain], module: str) -> str:
    """Verdicts on the trick of a module, record by record: against the baseline, then against each
    control.
    """
    lines = []
    for gain in sorted((g for g in found if g.record["trick"] == module), key=lambda g: g.name):
        lines.append(f"{gain.name}, {gain.score}")
        pairs = {gain.record["baseline"]: gain.over_baseline, **gain.over_controls}
        lines += [
            f"  {show.verdict(gain.trick.arm, other, difference)}" for other, difference in pairs.items()
        ]
    return "\n".join(lines)


def points(difference: dict) -> str:
    """``+1.7 (+0.4 to +2.9)``: a difference and its interval in hundredths of the score."""
    mean, low, high = (
        f"{round(100 * difference[k], 1) + 0.0:+.1f}" for k in ("mean", "low", "high")
    )  # + 0.0: no -0
    return f"{mean} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")  # stays on one line of a table


def table(found: list[Gain]):
    """One row a record, as a ``pandas.DataFrame``: gain of the trick, and what is left of it against the
    first control.
    """
    import pandas

    rows = {}
    for g in found:
        control = next(iter(g.controls), None)
        rows[g.label] = {
            "gain": points(g.over_baseline), "control": control or "",
            "gain over control": points(g.over_controls[control]) if control else "", "score": g.score,
        }  # fmt: skip
    return pandas.DataFrame.from_dict(rows, orient="index")


def plot(found: list[Gain]):
    """Gain of every trick with its 95 % interval, and beneath it, hollow, the gain of its first control.

    Raises:
        ValueError: nothing is given.
    """
    if not found:
        raise ValueError("found: no record given, at least one is accepted")
    rows = []
    for g in found:
        first = next(iter(g.controls.items()), None)
        control = first and (f"control: {first[0]}", plots.points(first[1]))
        rows.append((g.label, plots.points(g.over_baseline), control))
    return plots.pairs(rows, "gain over the baseline (points)")
