"""The evidence page: which arm stands for a trick, what it is held against, and what is drawn of it."""

import copy
import json
import re
from pathlib import Path

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats as scipy_stats

from tricks_lib.lab import experiment as experiments
from tricks_lib.lab import gains, plots, records

from .test_records import COMMON, put

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"
MODULES = [trick.module for trick in gains.TRICKS]


def made(module, task, scores, baseline="plain", data="d"):
    """A record whose arms have these scores, one a seed."""
    seeds = list(range(len(next(iter(scores.values())))))
    arms = {
        arm: {
            "settings": {},
            "chosen": {},
            "tuning": [],
            "runs": [{"seed": s, "accuracy": v} for s, v in zip(seeds, values)],
        }
        for arm, values in scores.items()
    }
    record = {
        **copy.deepcopy(COMMON),
        "trick": module,
        "task": task,
        "kind": "seeds",
        "metric": "accuracy",
        "baseline": baseline,
        "arms": arms,
    }
    record |= {
        "grid": {},
        "tuning_seeds": [],
        "seeds": seeds,
        "data": {"name": data, "sha256": {}, "sizes": {"test": 500}},
    }
    return {**record, "statistics": records.summarize(record)}


@pytest.fixture(scope="module")
def book():
    return gains.gains()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    plain = rng.normal(0.6, 0.01, 8)
    more, less, same = (
        plain + 0.05 + rng.normal(0, 0.003, 8),
        plain - 0.1 + rng.normal(0, 0.003, 8),
        plain + rng.normal(0, 0.02, 8),
    )
    put(
        tmp_path,
        made(
            "rdrop",
            "d",
            {
                "baseline": plain.tolist(),
                "twice the steps": more.tolist(),
                "R-Drop, alpha 0.5": same.tolist(),
            },
            "baseline",
        ),
    )
    put(
        tmp_path,
        made(
            "fgm",
            "hard",
            {"plain": plain.tolist(), "FGM, epsilon 1": less.tolist(), "random, epsilon 1": same.tolist()},
        ),
    )
    put(tmp_path, made("layer_decay", "d", {"flat": plain.tolist(), "0.95": more.tolist()}, "flat"))
    put(tmp_path, made("mini_bert", "d", {"plain": plain.tolist(), "mini_bert": more.tolist()}))
    return tmp_path


def test_every_trick_has_a_chapter_and_a_record(book):
    chapters = [path.stem[3:] for path in sorted(CHAPTERS.glob("[01][0-9]_*.ipynb"))]
    assert [name for name in chapters if name in MODULES] == MODULES, "in their order"
    assert {g.record["trick"] for g in book} == set(MODULES)


def test_every_trick_stands_beside_a_control(book):
    assert {g.record["trick"] for g in book if g.controls} == set(MODULES)


def test_every_experiment_can_be_read():
    """So that a record that is made tomorrow has its row."""
    unused = {(trick.module, arm) for trick in gains.TRICKS for arm in (trick.arm, *trick.controls)}
    for experiment in experiments.registry().values():
        arms = [trick.arm for trick in gains.TRICKS if trick.module == experiment.trick]
        assert not arms or set(arms) & set(experiment.arms), experiment.name
        unused -= {(experiment.trick, arm) for arm in experiment.arms}
    assert not unused


@pytest.mark.parametrize("trick", [t for t in gains.TRICKS if t.claim], ids=lambda t: t.module)
def test_a_published_number_is_cited_in_its_chapter_with_the_same_source(trick):
    (file,) = CHAPTERS.glob(f"*_{trick.module}.ipynb")
    text = "\n".join(
        "".join(cell["source"])
        for cell in json.loads(file.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    assert trick.source in text
    for number in re.findall(r"\b\d+\.\d+\b", trick.claim):
        assert number in text, number


def test_gains_are_sorted_and_hold_baseline_and_controls(folder):
    found = gains.gains(folder)
    assert [g.name for g in found] == ["layer_decay/d", "rdrop/d", "fgm/hard"]  # mini_bert is no trick
    assert [list(g.controls) for g in found] == [[], ["twice the steps"], ["random, epsilon 1"]]
    rdrop = found[1]
    trick, control, plain = (
        [run["accuracy"] for run in rdrop.record["arms"][arm]["runs"]]
        for arm in ("R-Drop, alpha 0.5", "twice the steps", "baseline")
    )
    assert rdrop.over_baseline["mean"] == pytest.approx(np.subtract(trick, plain).mean(), abs=1e-6)
    assert rdrop.controls["twice the steps"]["mean"] == pytest.approx(
        np.subtract(control, plain).mean(), abs=1e-6
    )
    assert rdrop.over_controls["twice the steps"]["mean"] == pytest.approx(
        np.subtract(trick, control).mean(), abs=1e-6
    )
    exact = scipy_stats.permutation_test(
        (np.subtract(trick, control),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert rdrop.over_controls["twice the steps"]["p"] == pytest.approx(exact.pvalue, abs=1e-6)


def test_difference_of_two_arms_is_that_of_the_statistics(folder):
    record = records.load("fgm/hard", folder)
    stored = record["statistics"]["FGM, epsilon 1"]["difference"]
    assert records.difference(record, "FGM, epsilon 1", "plain") == stored | {"won": 0.0}
    with pytest.raises(ValueError, match="other: 'FGM' given, one of"):
        records.difference(record, "plain", "FGM")


def test_labels_say_trick_and_data(folder):
    assert [g.label for g in gains.gains(folder)] == [
        "Layer-wise rates, d",
        "R-Drop, d",
        "FGM (epsilon 1), d",
    ]


def test_a_record_without_the_arm_is_refused(folder):
    put(folder, made("dice_loss", "d", {"plain": [0.1, 0.2], "Jaccard": [0.1, 0.3]}))
    with pytest.raises(ValueError, match="dice_loss/d: has no arm 'Dice'.*there are plain, Jaccard"):
        gains.gains(folder)


def test_words_and_table_speak_of_baseline_and_control(folder):
    found = gains.gains(folder)
    assert re.fullmatch(
        r"rdrop/d, accuracy\n  no difference between R-Drop, alpha 0.5 and baseline is shown:\n.*\n  "
        r"R-Drop, alpha 0.5 is worse than twice the steps:\n.*",
        gains.words(found, "rdrop"),
    )
    table = gains.table(found)
    assert (
        table.loc["Layer-wise rates, d", "gain"].startswith("+4.7\N{NO-BREAK SPACE}(")
        and table.loc["Layer-wise rates, d", "control"] == ""
    )
    assert table.loc["R-Drop, d", "control"] == "twice the steps" and table.loc[
        "R-Drop, d", "gain over control"
    ].startswith("-")


def test_points_have_no_negative_zero():
    assert gains.points({"mean": -0.0002, "low": -0.01, "high": 0.012}).split() == [
        "+0.0",
        "(-1.0",
        "to",
        "+1.2)",
    ]


def test_plot_draws_every_interval_where_it_is(folder):
    found = gains.gains(folder)
    ax = gains.plot(found)
    lines = [line for line in ax.lines if line.get_linewidth() == 3.5]
    assert [line.get_color() for line in lines] == [plots.BLUE, plots.GREY, plots.RED]
    for line, g in zip(lines, found):
        assert list(line.get_xdata()) == [100 * g.over_baseline["low"], 100 * g.over_baseline["high"]]
    hollow = [line for line in ax.lines if matplotlib.colors.same_color(line.get_markerfacecolor(), "white")]
    assert [float(np.ravel(line.get_xdata())[0]) for line in hollow] == [
        100 * d["mean"] for g in found for d in g.controls.values()
    ]
    assert [t.get_text() for t in ax.texts] == [
        "Layer-wise rates, d",
        "R-Drop, d",
        "control: twice the steps",
        "FGM (epsilon 1), d",
        "control: random, epsilon 1",
    ]
    left, middle, right = ax.transData.transform([(-30, 0), (0, 0), (30, 0)])[:, 0]
    assert middle - left == pytest.approx(right - middle)
    plt.close(ax.figure)
    with pytest.raises(ValueError, match="found: no record given"):
        gains.plot([])
