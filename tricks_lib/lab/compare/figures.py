"""A record of a comparison as a figure, in the one look of :mod:`tricks_lib.lab.plots`."""

import matplotlib.pyplot as plt

from tricks_lib.lab import plots
from tricks_lib.lab.compare import report

ROW = 0.56  # inches


def figure(record: dict, names: list[str] | None = None):
    """Arms of a record against its baseline, the best first, each trick's rival below it.

    A dot is filled and coloured where a difference is shown, by the rule of every verdict; a thin line below
    it is the difference to the rival.

    Args:
        names: of the arms; default: all.

    Returns:
        the axes.
    """
    measure, factor, _ = report.unit(record)
    statistics, names = record["statistics"], ordered(record, names)
    _, ax = plt.subplots(figsize=(6.4, 1.2 + ROW * len(names)))
    ax.axvline(0, color="#444444", linewidth=1)
    rivals = {d["arm"]: d for d in statistics["rivals"] if d["rival"] != record["baseline"]}
    for y, name in enumerate(names):
        own = statistics["arms"][name]["baseline"]
        beside = [(rivals[name], 0.34, 1.5, 5)] if name in rivals else []
        for d, dy, width, size in [(own, 0.12, 3, 8), *beside]:
            colour = {"better": plots.BLUE, "worse": plots.RED}.get(d["verdict"], plots.GREY)
            face = colour if d["verdict"] in ("better", "worse") else "white"
            low, mean, high = (factor * d[k] for k in ("low", "mean", "high"))
            ax.plot([low, high], [y + dy] * 2, color=colour, linewidth=width, solid_capstyle="butt")
            ax.plot(mean, y + dy, "o", color=colour, markerfacecolor=face, markersize=size)
        ax.annotate(
            label(record, name), (0, y - 0.22), xycoords=("axes fraction", "data"), va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)
    data = plots.data_name(record["data"]["name"])
    ax.set_title(f"{record['model']['name']} on {data}", fontsize=12)
    ax.set_xlabel(
        f"{report.metric(record)}: {report.gain(record)} against {record['baseline']}"
        + f" ({measure})" * bool(measure)
    )
    return ax


def label(record: dict, name: str) -> str:
    rival = record["arms"][name]["rival"]
    beside = f"; thin: vs {rival}" if rival not in (None, record["baseline"]) else ""
    return labelled(record, name) + beside


def ordered(record: dict, names: list[str] | None = None) -> list[str]:
    """Arms with a comparison, the best mean first, and a trick's rival directly below the trick."""
    compared = report.against_baseline(record)
    names = [name for name in (compared if names is None else names) if name in compared]
    sign = 1 if record["higher_is_better"] else -1
    best = sorted(names, key=lambda name: -sign * compared[name]["mean"])
    rivals = {record["arms"][name]["rival"] for name in best}
    out: list[str] = []
    for name in best:
        if name not in rivals or record["arms"][name]["trick"]:
            out += [
                each for each in (name, record["arms"][name]["rival"]) if each in names and each not in out
            ]
    return out + [name for name in best if name not in out]


def labelled(record: dict, name: str) -> str:
    """An arm's name, what it chose, its compute, and what is to be known before it is believed."""
    arm, failed = record["arms"][name], record["statistics"]["arms"][name]["failed"]
    notes = []
    if len(arm["candidates"]) > 1:
        chosen = ", ".join(f"{k} {v}" for k, v in arm["chosen"]["candidate"].items())
        notes.append(f"chose {chosen or 'the default'}")
    notes += [f"{arm['passes']:g} x compute"] * (arm["passes"] != 1)
    notes += [f"{failed} of {len(record['seeds'])} failed"] * bool(failed)
    notes += ["at the edge of its grid"] * bool(arm["edge"])
    return f"{name} [{', '.join(notes)}]" if notes else name
