"""One look for all figures: opaque white, colour-blind safe (Okabe & Ito), readable at 390 px wide, PNG."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from tricks_lib.lab import stats

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#666666",
)

STYLE = {
    "figure.figsize": (6.4, 3.4),
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY]),
}


DATA = {  # as figures and tables call them
    "en_banking77": "Banking77",
    "en_cola": "CoLA",
    "en_hate_davidson": "hate speech",
    "en_hyperpartisan": "news",
    "en_moviereview2k": "film reviews",
    "en_mrpc": "MRPC",
    "en_rte": "RTE",
    "en_sst2": "SST-2",
    "en_stsb": "STS-B",
    "en_tinyshakespeare": "Tiny Shakespeare",
    "en_trec": "TREC",
    "en_wnut17": "WNUT-17",
}


def data_name(name: str) -> str:
    """A data set as readers know it, ``TREC`` for ``en_trec``; else as it is given."""
    return DATA.get(name, name)


def use_style() -> None:
    """Set the book's look for this session: figures, and tables that show their cells whole."""
    import pandas

    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)
    pandas.set_option("display.max_colwidth", None)


def intervals(rows: dict[str, dict], xlabel: str, ax=None):
    """Interval plot: one line a row, its mean and 95 % interval, zero marked; see :func:`colour`.

    Args:
        rows: label -> ``{"mean", "low", "high"}`` in points, drawn from top to bottom; ``"p"`` and
            ``"n"`` too where they are known.
        xlabel: what is drawn, with its unit.

    Raises:
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("rows: none given, at least one is accepted")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 1.1 + 0.42 * len(rows)))
    ax.axvline(0, color="#444444", linewidth=1)
    for y, (label, r) in enumerate(rows.items()):
        ax.plot([r["low"], r["high"]], [y, y], color=colour(r), linewidth=3, solid_capstyle="butt")
        ax.plot(r["mean"], y, "o", color=colour(r), markersize=8)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    return ax


def pairs(rows: list, xlabel: str):
    """What each gained with its 95 % interval and, beneath it, hollow, what its control gained; the axis is
    compressed away from zero.

    Args:
        rows: (label, difference, control) each, drawn from top to bottom; differences are in points, see
            :func:`colour`; a control is (label, difference), or None.
        xlabel: what is drawn, with its unit.

    Raises:
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("rows: none given, at least one is accepted")
    _, ax = plt.subplots(figsize=(6.4, 1.2 + 0.54 * len(rows)))
    ax.set_xscale("function", functions=(compressed, expanded))
    ax.axvline(0, color="#444444", linewidth=1)
    beside = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center", "clip_on": False}
    for y, (label, d, control) in enumerate(rows):
        ax.plot([d["low"], d["high"]], [y - 0.16] * 2, color=colour(d), linewidth=3.5, solid_capstyle="butt")
        ax.plot(d["mean"], y - 0.16, "o", color=colour(d), markersize=8)
        ax.text(-0.02, y - 0.16, label, **beside)
        if control:
            name, own = control
            ax.plot([own["low"], own["high"]], [y + 0.2] * 2, color="#777777", linewidth=1.2)
            ax.plot(
                own["mean"], y + 0.2, "o", markerfacecolor="white", markeredgecolor="#777777", markersize=6
            )
            ax.text(-0.02, y + 0.2, name, color="#777777", fontsize=10, **beside)
    ax.set_yticks([])
    ax.set_xticks([-30, -10, -2, 0, 2, 10, 30], ["−30", "−10", "−2", "0", "+2", "+10", "+30"], fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(xlabel, fontsize=10)
    return ax


def compressed(x):
    return np.sign(x) * np.sqrt(np.abs(x))


def expanded(x):
    return np.sign(x) * np.square(x)


def label_lines(ax, gap: float = 0.08) -> None:
    """Write the label of each line at its right end, in its colour: in place of a legend, once all is drawn.

    Args:
        gap: least distance between two labels, as a share of the axis's height; nearer ones are moved apart.
    """
    to_axis = ax.transData + ax.transAxes.inverted()
    ends = {
        line: to_axis.transform((line.get_xdata()[-1], line.get_ydata()[-1]))[1]
        for line in ax.get_lines()
        if not line.get_label().startswith("_")
    }
    lowest, moved = float("-inf"), {}
    for line in sorted(ends, key=ends.get):
        moved[line] = lowest = max(ends[line], lowest + gap)
    shift = sum(moved.values()) / len(moved) - sum(ends.values()) / len(ends)
    for line, height in moved.items():
        place = {"transform": ax.transAxes, "va": "center", "color": line.get_color()}
        ax.text(1.02, height - shift, line.get_label(), **place)


def points(difference: dict) -> dict:
    """A difference in hundredths, as :func:`intervals` draws it; its p-value and count stay."""
    return {k: 100 * v if k in ("mean", "low", "high") else v for k, v in difference.items()}


def colour(difference: dict) -> str:
    """Blue where a difference is shown to be positive, red where it is shown to be negative, else grey.

    Where ``p`` and ``n`` stand beside the interval, the rule is :func:`tricks_lib.lab.stats.direction`'s; an
    interval alone must exclude zero. Where the ``verdict`` of a comparison stands there too, it must be
    better or worse.
    """
    d = difference
    if d.get("verdict", "better") not in ("better", "worse"):
        return GREY
    shown = stats.direction(d) if {"p", "n"} <= d.keys() else int(d["low"] > 0) - int(d["high"] < 0)
    return {1: BLUE, -1: RED, 0: GREY}[shown]


def seeds(scores: dict[str, list], ylabel: str, ax=None):
    """Every seed as a dot, every arm a column, the mean as a bar: paired seeds are joined by thin lines.

    Args:
        scores: arm -> one score a seed, seeds in the same order in every arm.
    """
    if ax is None:
        _, ax = plt.subplots()
    arms = list(scores)
    for paired in zip(*scores.values()):
        ax.plot(range(len(arms)), paired, color="#cccccc", linewidth=0.8, zorder=1)
    for x, arm in enumerate(arms):
        ax.plot(
            [x] * len(scores[arm]),
            scores[arm],
            "o",
            color=STYLE["axes.prop_cycle"].by_key()["color"][x],
            alpha=0.6,
            markersize=6,
        )
        mean = sum(scores[arm]) / len(scores[arm])
        ax.plot([x - 0.25, x + 0.25], [mean, mean], color="#222222", linewidth=2.5)
    ax.set_xticks(range(len(arms)), [arm.replace(" over ", "\nover ") for arm in arms])
    ax.set_xlim(-0.5, len(arms) - 0.5)
    ax.grid(axis="x", visible=False)
    ax.set_ylabel(ylabel)
    return ax


def ratios(groups: dict[str, dict[str, list]]):
    """Time ratios of the bench with their quartiles on a logarithmic axis, and the bar of each as a tick.

    Args:
        groups: trick -> peer -> pairs of measurements (memory as it comes, freed memory kept), each
            ``{"ratio", "quartiles", "bar"}``.
    """
    lines = []  # from top to bottom: a trick's name alone, or a peer and its numbers
    for trick, peers in groups.items():
        lines += [(trick, []), *peers.items()]
    _, ax = plt.subplots(figsize=(6.4, 0.6 + 0.26 * len(lines)))
    ax.axvline(1, color="#444444", linewidth=1)
    for y, (_, measured) in enumerate(lines):
        if not measured:
            ax.axhline(y, color="#eeeeee", linewidth=17, zorder=0)
        for both in measured:
            for m, dy, face in zip(both, (-0.17, 0.17), (None, "white")):
                missed = m["bar"] and m["ratio"] > m["bar"]
                colour_of = RED if missed else BLUE if m["ratio"] < 1 else GREY
                ax.plot(m["quartiles"], [y + dy] * 2, color=colour_of, linewidth=2.5)
                ax.plot(m["ratio"], y + dy, "o", color=colour_of, mfc=face or colour_of, ms=6)
            if both[0]["bar"]:
                ax.plot(both[0]["bar"], y, "|k", markersize=16, markeredgewidth=2)
    ax.set_yticks(range(len(lines)), [label for label, _ in lines], fontsize=11)
    for tick, (_, measured) in zip(ax.get_yticklabels(), lines):
        tick.set_fontweight("normal" if measured else "bold")
    ax.set(xscale="log", ylim=(len(lines) - 0.4, -0.8), xlabel="time, ours / theirs")
    ax.set_xticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    return ax
