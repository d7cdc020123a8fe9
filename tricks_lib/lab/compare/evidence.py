"""What the book's records say: of a trick, for its chapter; of a record, and of all tricks, for the pages.

Everything is read from the records of comparisons in ``chapters/evidence`` (or another folder), so that no
number on a page is typed.
"""

import statistics as st
import textwrap
from pathlib import Path

from tricks_lib.lab import plots
from tricks_lib.lab.compare import records, report, summary
from tricks_lib.lab.compare.figures import figure, labelled
from tricks_lib.lab.compare.metrics import named
from tricks_lib.lab.compare.tricks import BASELINE

WIDTH = 80
BESIDE = (  # shown beside the score, where a record has them
    "average_precision", "spearman", "rmse", "ece", "ece_scaled", "temperature", "log_prob", "distinct_2",
    "repetition",
)  # fmt: skip
COLUMNS = (
    "The interval is over seeds and test rows, p over seeds alone: a verdict needs both. Won: seeds ahead, a "
    "tie is a half. Could show: the smallest difference that would be shown with 80 % power."
)
# Where the trick is the baseline, the arms that do without it.
WITHOUT = {"mean_pooling": ("first token", "max over tokens")}
TRAINED = (  # whose tables come first in a chapter
    "tournament", "rare", "rare_frozen", "tail", "tail_frozen", "regression",
)  # fmt: skip


def book(where: Path | None = None) -> list[dict]:
    """The records of comparisons, those of trainings first, else by name."""
    made = [records.load(name, where)[0] for name in records.names(where, records.SCHEMA)]
    kinds = {name: i for i, name in enumerate(TRAINED)}
    return sorted(made, key=lambda r: (kinds.get(r["name"].split("/")[0], len(kinds)), r["name"]))


def arms_of(record: dict, trick: str, arms=None) -> list[str]:
    """Arms of a trick, each followed by its rival; where the trick is the baseline, those without it.

    Args:
        arms: names to take in their place, where the record has them.
    """
    if arms is None:
        arms = [name for name, arm in record["arms"].items() if arm["trick"] == trick] or WITHOUT.get(
            trick, ()
        )
    with_rivals = [
        each for name in arms if name in record["arms"] for each in (name, record["arms"][name]["rival"])
    ]
    return [name for name in dict.fromkeys(with_rivals) if name not in (None, record["baseline"])]


def shown(trick: str, arms=None, only: str = "", where: Path | None = None) -> None:
    """What the records say of a trick: what was measured, and a table of each. For a chapter.

    Args:
        trick: "rdrop", as the tricks are named. arms: names of arms to show in place of the trick's own.
        only: the records whose name begins so. where: the folder of the records; default: the book's.
    """
    from IPython.display import display

    found = of_trick(trick, arms, only, where)
    if not found:
        print(
            f"There is no record yet that compares {trick.replace('_', ' ')} on a real pretrained\n"
            "model; python -m tricks_lib.lab list names the comparisons that can be run."
        )
    for record, names in found:
        print("\n".join(wrapped(measured(record)) + wrapped(COLUMNS)))
        display(table(record, names))


def drawn(trick: str, arms=None, only: str = "", where: Path | None = None) -> None:
    """The same as figures, one for each record; in a cell of their own, where only figures have a caption."""
    for record, names in of_trick(trick, arms, only, where):
        figure(record, names)


def of_trick(trick: str, arms=None, only: str = "", where: Path | None = None) -> list:
    """Records, each with the arms of it that belong to the trick."""
    made = [record for record in book(where) if record["name"].startswith(only)]
    return [(record, names) for record in made if (names := arms_of(record, trick, arms))]


def table(record: dict, names: list[str] | None = None):
    """Arms against the baseline, and below each the same arm against its rival.

    Args:
        names: of arms; default: all.

    Returns:
        ``pandas.DataFrame``; "could show" is the smallest difference that would have been shown.
    """
    import pandas

    against = report.against_baseline(record)
    others = [key for key in BESIDE if all(key in arm["runs"][0] for arm in record["arms"].values())]
    rows = {}
    for name in against if names is None else names:
        rows[labelled(record, name)] = [*of_difference(against[name], record), *means(record, name, others)]
        for d in rivals_of(record, [name]):
            rows[f"{name} vs {d['rival']}"] = [*of_difference(d, record), *[""] * len(others)]
    _, gain, *rest = report.columns(record)[1:]
    columns = [gain, *rest[:-1], "could show", rest[-1], *map(named, others)]
    return pandas.DataFrame.from_dict(rows, orient="index", columns=columns)


def calibrated(record: dict, error: str, where: Path | None = None) -> dict:
    """The record with its calibration error, "ece" or "ece_scaled", as the score: for :func:`table`,
    :func:`figure` and :func:`measured`.
    """
    return summary.calibrated(record, records.load(record["name"], where)[1], error)


def of_difference(difference: dict, record: dict) -> list[str]:
    _, factor, digits = report.unit(record)
    least = difference["smallest"]
    could = "" if least is None else f"{factor * least:.{digits}f}"
    *numbers, verdict = report.of_comparison(difference, record)
    return [*numbers, could, verdict]


def means(record: dict, name: str, keys: list[str]) -> list[str]:
    """Over seeds, of what was measured beside the score."""
    runs = record["arms"][name]["runs"]
    return [f"{st.fmean(run[key] for run in runs):.3f}" for key in keys]


def rivals_of(record: dict, names: list[str]) -> list[dict]:
    """Comparisons of some arms with a rival that is not the baseline."""
    found = record["statistics"]["rivals"]
    return [d for d in found if d["arm"] in names and d["rival"] != record["baseline"]]


def measured(record: dict) -> str:
    """Model, data, rows, steps, seeds and the baseline: what stands beside every number."""
    model, data, own = record["model"], record["data"], record["statistics"]["arms"][record["baseline"]]
    _, factor, digits = report.unit(record)
    rows = f"{drawn_rows(record)}, " if record["rates"] else ""
    score = f"{factor * own['mean']:.{digits}f} ± {factor * own['sd']:.{digits}f}"
    others, score_of = beside(record, record["arms"][record["baseline"]]["runs"]), report.metric(record)
    told = (
        f"{record['name']}: {model['name']} ({model['parameters'] / 1e6:.1f} M parameters, "
        f"{model['precision']}), {rows}{data['sizes']['test']:,} to test, {record['steps']['chosen']:,} "
        f"{record['training'].get('unit', 'steps')}, {len(record['seeds'])} seeds. "
        f"{score_of[0].upper()}{score_of[1:]} of {record['baseline']}: {score}{', ' * bool(others)}{others}."
    )
    people = data.get("people")
    return f"{told} People's text: {beside(record, [people])}." if people else told


def drawn_rows(record: dict) -> str:
    """How many rows a seed trains on, and of how many it draws them."""
    how, total = record["data"]["rows"], record["data"]["sizes"]["train"]
    if not how:
        return f"all {total:,} training rows"
    ((kind, n),) = how.items()
    many = {"rows": "{:,} training rows", "per_class": "{} training rows per class",
            "tail": "{} to {} training rows per class"}[kind]  # fmt: skip
    drawn = many.format(*n) if kind == "tail" else many.format(n)
    return f"{drawn} drawn from {record['training'].get('pool') or total:,}"


def beside(record: dict, runs: list[dict]) -> str:
    """Means over seeds of what was measured beside the score."""
    found = {key: [run[key] for run in runs] for key in BESIDE if key in runs[0]}
    return ", ".join(f"{named(k)} {st.fmean(v):.3f}" for k, v in found.items())


def wrapped(line: str, indent: str = "", width: int = WIDTH) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)


# ---- All tricks ----


def firsts(where: Path | None = None) -> list[tuple[dict, str]]:
    """A record and an arm for each trick and record: the arm that is listed first, whatever its result."""
    found = {}
    for record in book(where):
        for name, arm in record["arms"].items():
            if arm["trick"]:
                found.setdefault((arm["trick"], record["name"]), (record, name))
    return [found[key] for key in sorted(found)]


def overview(where: Path | None = None):
    """A line for each trick and record: the gain of the arm of :func:`firsts` over the baseline, that of its
    rival over the same one, and the verdicts.

    Returns:
        ``pandas.DataFrame``, the trick as index; empty without records.
    """
    import pandas

    lines = []
    for record, name in firsts(where):
        arm, own = record["arms"][name], record["statistics"]["arms"][name]["baseline"]
        rival, rivals = arm["rival"], record["statistics"]["rivals"]
        against = next((d["verdict"] for d in rivals if d["arm"] == name), "")
        lines.append([
            arm["trick"], f"{labelled(record, name)} over {record['baseline']}, {on(record)}",
            f"{gained(record, name)} {own['verdict']}",
            f"{labelled(record, rival)}: {gained(record, rival)}" if rival else "", against,
        ])  # fmt: skip
    columns = ["trick", "arm", "gain", "rival", "against it"]
    return pandas.DataFrame(lines, columns=columns).set_index("trick")


def on(record: dict) -> str:
    """The data; the score where it is in points and no accuracy; in brackets the model where it is not the
    encoder of most records, or that only a head was trained: ``WNUT-17, entity F1``, ``TREC (SmolLM2)``.
    """
    data, model = plots.data_name(record["data"]["name"]), record["model"]["name"]
    accurate = record["metric"] == "accuracy" or report.unit(record)[0] != "points"
    told = ["head"] * ("head" in record["training"].get("unit", ""))
    told += [model.split("-")[0]] * (model != "all-MiniLM-L6-v2")
    data += "" if accurate else f", {report.metric(record)}"
    return f"{data} ({', '.join(told)})" if told else data


def gained(record: dict, name: str) -> str:
    """Difference to the baseline with its interval, the two on one line, and its unit where that is no point;
    the baseline has none.
    """
    difference = record["statistics"]["arms"][name]["baseline"]
    if difference is None:
        return "baseline"
    mean, low, high = report.signed(difference, record)
    measure = report.unit(record)[0] or report.metric(record)
    shown = f"{mean} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")
    return shown + f" {measure}" * (measure != "points")


def at_a_glance(where: Path | None = None) -> list[tuple]:
    """What :func:`tricks_lib.lab.plots.pairs` draws of :func:`firsts`, where the score is in points; the
    largest gain first. The name of a baseline that says more than "baseline" stands in the second line.
    """
    rows = []
    for record, name in firsts(where):
        if report.unit(record)[0] == "points":
            rival = record["arms"][name]["rival"]
            over = f"; both over {record['baseline']}" * (record["baseline"] != BASELINE)
            control = rival and (f"rival: {rival}{over}", in_points(record, rival))
            rows.append((f"{name}, {on(record)}", in_points(record, name), control))
    return sorted(rows, key=lambda row: -row[1]["mean"])


def in_points(record: dict, name: str) -> dict:
    """Of an arm over the baseline; the baseline itself has no difference."""
    found = record["statistics"]["arms"][name]["baseline"]
    return plots.points(found or dict.fromkeys(("mean", "low", "high"), 0.0))
