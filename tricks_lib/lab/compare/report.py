"""A comparison as it is read: a table in the terminal, and a page that stands by itself.

Both say what the record says and nothing else; see :mod:`.records` for its fields.
"""

from pathlib import Path

from tricks_lib.lab import show
from tricks_lib.lab.compare import page
from tricks_lib.lab.compare.metrics import named
from tricks_lib.lab.compare.summary import learned_nothing

OWN_UNIT = {"rmse": ("", 1, 3), "log_prob_gap": ("nats", 1, 2)}  # differences that are not in hundredths
SPEAKS = ("better", "worse", "no difference shown", "counts only")  # verdicts; others say why there is none


def write(record: dict, folder: Path) -> Path:
    """Write ``index.html`` into a folder, and return its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    file.write_text(html(record), encoding="utf-8")
    return file


def table(record: dict) -> str:
    """Every arm against the baseline, every trick against its rival, and what to know before believing it."""
    arms, rivals = cells(record)
    header = columns(record)
    lines = [heading(record), "", *aligned([header, *arms])]
    if rivals:
        lines += ["", *aligned([["trick against its rival", *header[2:]], *rivals])]
    told = warnings(record)
    return "\n".join([*lines, *([""] if told else []), *(f"! {sentence}" for sentence in told)])


def aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def heading(record: dict) -> str:
    return (
        f"{record['model']['name']} on {record['data']['name']}: {metric(record)}, "
        f"{record['steps']['chosen']:,} {record['training'].get('unit', 'steps')}, "
        f"{len(record['seeds'])} seeds"
    )


def metric(record: dict) -> str:
    return named(record["metric"]) + ("" if record["higher_is_better"] else " (lower is better)")


def columns(record: dict) -> list[str]:
    """Of the table of arms; that of rivals has the same from the third on."""
    return ["arm", "score", gain(record), "95 % interval", "p (Holm)", "won", "verdict"]


def gain(record: dict) -> str:
    return "gain" if record["higher_is_better"] else "change"


def unit(record: dict) -> tuple[str, int, int]:
    """Unit of a difference, its factor, and digits."""
    return OWN_UNIT.get(record["metric"], ("points", 100, 1))


def cells(record: dict) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of both tables, as text."""
    statistics = record["statistics"]
    _, factor, digits = unit(record)
    arms = []
    for name, own in statistics["arms"].items():
        score = f"{factor * own['mean']:.{digits}f} ± {factor * own['sd']:.{digits}f}"
        compared = own["baseline"]
        rest = of_comparison(compared, record) if compared else [""] * 4 + ["baseline"]
        arms.append([name, score, *rest])
    rivals = [[f"{d['arm']} against {d['rival']}", *of_comparison(d, record)] for d in statistics["rivals"]]
    return arms, rivals


def of_comparison(difference: dict, record: dict) -> list[str]:
    mean, low, high = signed(difference, record)
    p = difference["holm"]
    p = "<0.001" if p < 0.001 else f"{p:.3f}"
    return [mean, f"{low} to {high}", p, won(difference, record), difference["verdict"]]


def won(difference: dict, record: dict) -> str:
    """On how many seeds (or examples, where there is one seed) the arm is the better one."""
    share = difference["won"] if record["higher_is_better"] else 1 - difference["won"]
    return f"{round(difference['n'] * share, 1):g} of {difference['n']}"


def signed(difference: dict, record: dict) -> list[str]:
    """Mean, low and high with their signs: ``-0.0`` is just below zero."""
    _, factor, digits = unit(record)
    values = (factor * difference[key] + 0.0 for key in ("mean", "low", "high"))
    return [f"{value:+.{digits}f}" for value in values]


# ---- What both say ----


def warnings(record: dict) -> list[str]:
    """What is to be known before a verdict is believed."""
    told = list(record["data"]["warnings"])
    arms = record["statistics"]["arms"]
    if learned_nothing(record["statistics"]):
        told.append(
            "the baseline has not learned: it is not shown to be better than one answer for all rows, or "
            "most of its runs are near guessing; more steps, rows or a better model are needed"
        )
    if record["steps"]["still_improving"]:
        told.append("twice the steps were still better: the baseline is not trained to its end")
    for name, own in arms.items():
        if own["failed"]:
            told.append(
                f"{name}: {own['failed']} of {len(record['seeds'])} runs ended near guessing; the mean "
                "includes them"
            )
    for name, content in record["arms"].items():
        if content["edge"]:
            end = {"low": "lowest", "high": "highest"}[content["edge"]]
            rate = rate_of(record)
            told.append(f"{name}: its best {rate} is the {end} that was tried, so no verdict is given")
    if record["hours"] is not None:
        told.append(f"the plan was cut to {record['hours']:g} hours")
    return told


def rate_of(record: dict) -> str:
    """What a rate of this record is."""
    return record["training"].get("rate", "learning rate")


def sentences(record: dict) -> list[tuple[str, str]]:
    """A sentence for every comparison, and its class in the page; those that are shown come first."""
    found = []
    pairs = [
        (name, record["baseline"], own["baseline"]) for name, own in record["statistics"]["arms"].items()
    ]
    pairs += [(d["arm"], d["rival"], d) for d in record["statistics"]["rivals"]]
    for arm, other, difference in pairs:
        if difference is not None:
            found.append((sentence(arm, other, difference, record), class_of(difference)))
    return sorted(found, key=lambda pair: pair[1] == "none")


def sentence(arm: str, other: str, difference: dict, record: dict) -> str:
    """What follows from a comparison, or why nothing does, and its size."""
    measure, _, digits = unit(record)
    if difference["verdict"] in SPEAKS:
        first = show.follows(arm, other, difference, record["higher_is_better"])
    else:
        first = f"{arm} against {other}, {difference['verdict']}"
    return f"{first[0].upper()}{first[1:]}: {show.size(difference, digits, measure)}."


def against_baseline(record: dict) -> dict[str, dict]:
    """Statistics of every arm but the baseline."""
    arms = record["statistics"]["arms"]
    return {name: own["baseline"] for name, own in arms.items() if own["baseline"]}


def class_of(difference: dict) -> str:
    return difference["verdict"] if difference["verdict"] in ("better", "worse") else "none"


def summary(record: dict) -> str:
    """Which arms are better or worse than the baseline, and which tricks better than their rival as well."""
    verdicts = {name: d["verdict"] for name, d in against_baseline(record).items()}
    names = {v: [name for name, own in verdicts.items() if own == v] for v in ("better", "worse")}
    undecided = len(verdicts) - sum(map(len, names.values()))
    text = [
        f"Better than the baseline: {', '.join(names['better']) or 'none'}.",
        f"Worse: {', '.join(names['worse']) or 'none'}.",
        f"No difference shown, or no verdict: {undecided} of {len(verdicts)}.",
    ]
    if record["statistics"]["rivals"]:
        both = [
            d["arm"] for d in record["statistics"]["rivals"] if d["verdict"] == verdicts[d["arm"]] == "better"
        ]
        text.append(f"Better than the baseline and than its rival: {', '.join(both) or 'none'}.")
    return " ".join(text)


# ---- Page ----


def html(record: dict) -> str:
    """The page: verdicts, figure, tables, warnings, arguments to paste, cost, and how it was measured."""
    arms, rivals = cells(record)
    measure, factor, _ = unit(record)
    compared = against_baseline(record)
    drawn = {
        name: {key: factor * d[key] for key in ("low", "mean", "high")}
        | {"text": "{} ({} to {})".format(*signed(d, record)), "class": class_of(d)}
        for name, d in compared.items()
    }
    told, title = warnings(record), f"Which tricks help on {record['data']['name']}"
    axis = f"{gain(record)} against {record['baseline']}" + (f" ({measure})" if measure else "")
    body = [
        f"<h1>{page.escape(title)}</h1>",
        page.paragraph(heading(record), "quiet"),
        page.paragraph(summary(record)),
        *([page.section("Warnings and notes", page.bullets(told, "told"))] if told else []),
        page.section(
            "Against the baseline",
            page.intervals(drawn, axis, f"Mean difference in {metric(record)} {READING}"),
            page.table(f"Each arm, {len(record['seeds'])} seeds", columns(record), arms, words=("verdict",)),
        ),
    ]
    if rivals:
        header = ["comparison", *columns(record)[2:]]
        compared = page.table(
            "Each trick against a cheaper way to the same end", header, rivals, ("verdict",)
        )
        body.append(page.section("Against the rivals", compared))
    body += [
        page.section("Verdicts", page.bullets(sentences(record)), page.paragraph(RULE, "quiet")),
        page.section("Arguments to paste", *pasted(record)),
        page.section("Cost", *cost(record)),
        page.section("How it was measured", page.facts(measured(record))),
    ]
    return page.document(title, body)


READING = (
    "with its 95 % interval over seeds and test examples. The dot is filled where a difference is shown, and "
    "hollow where it is not."
)
RULE = (
    "Better or worse: the 95 % interval excludes zero and the sign-flip p-value over seeds, after Holm, is "
    "at most 0.05. Elsewhere no difference is shown, and beside it stands the difference that would have "
    "been shown with 80 % power. Under six seeds there is no verdict."
)


def pasted(record: dict) -> list[str]:
    """The arguments of each arm."""
    out = [page.paragraph("What each arm was trained with, at the learning rate that validation chose.")]
    for name, arm in record["arms"].items():
        out += [f"<h3>{page.escape(name)}</h3>", page.code(arm["arguments"])]
    return out


def cost(record: dict) -> list[str]:
    """Time in all, and of each arm."""
    rows = []
    for name, arm in record["arms"].items():
        seconds = sum(run["seconds"] for run in arm["runs"]) / len(arm["runs"])
        trials = sum(len(row["scores"]) for row in arm["tuning"])
        with_ = arm["shares"] or ""
        rows.append([name, f"{arm['passes']:g}", f"{seconds:.1f}", f"{trials}", with_])
    took = show.duration(record["wall_seconds"])
    header = ["arm", "passes", "seconds per run", "tuning runs", "shares its training with"]
    return [
        page.paragraph(f"{took} in all, on {record['environment']['device']}."),
        page.table(
            "Passes: forward and backward passes of a training, in multiples of the baseline's", header, rows,
            words=("shares its training with",),
        ),
    ]  # fmt: skip


def measured(record: dict) -> dict[str, str]:
    """What stands beside every number: data, model, training, versions."""
    data, model, training, environment = (record[k] for k in ("data", "model", "training", "environment"))
    steps = record["steps"]
    versions = [f"{name} {environment[name]}" for name in ("python", "torch", "transformers")]
    return {
        "Data": f"{data['name']}, {', '.join(f'{n:,} {split}' for split, n in data['sizes'].items())}",
        "Rows per seed": ", ".join(f"{k} {v}" for k, v in data["rows"].items()) or "all of train",
        "Model": f"{model['name']} ({model['source']}), {model['parameters'] / 1e6:.1f} M parameters",
        "Precision": model["precision"],
        "Training": ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in training.items()),
        "Steps": f"{steps['chosen']:,}"
        + f", doubled from {steps['start']:,} while that was better" * bool(steps["settled"]),
        f"{rate_of(record).capitalize()}s": ", ".join(f"{r:g}" for r in record["rates"])
        + "; extended where the best was at the edge" * bool(record["rates"]),
        "Tuning seeds": ", ".join(map(str, record["tuning_seeds"])),
        "Seeds": ", ".join(map(str, record["seeds"])),
        "Score of guessing": f"{record['guess']:.3f}",
        "Hardware": environment["device"],
        "Versions": ", ".join(versions),
        "Data sha256": ", ".join(data["sha256"].values())
        if isinstance(data["sha256"], dict)
        else data["sha256"],
        "Model sha256": model["sha256"] or "",
        "Git commit": record["git_commit"] or "",
        "Command": record["command"],
        "Date": record["date"],
    }
