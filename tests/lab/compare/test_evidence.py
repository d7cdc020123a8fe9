"""What is said of a trick: from records of invented trainings, and of none."""

import matplotlib
import matplotlib.pyplot
import pytest
from matplotlib.colors import to_hex

from tricks_lib.lab import plots
from tricks_lib.lab.compare import evidence, figures, records, report, run
from tricks_lib.lab.studies import tournament

from .conftest import patched, small

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tournament, the same arms under another name, and a file of another kind."""
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patched(patch)
        for name in ("tournament/letters", "frozen/letters"):
            run.run(small(name=name), records.path(name, folder), progress=False)
    (folder / "bench_cpu.json").write_text("{}")
    return folder


@pytest.fixture
def record(folder):
    return records.load("tournament/letters", folder)[0]


def changed(record, name, **own):
    """The record with another comparison of an arm with the baseline."""
    arm = record["statistics"]["arms"][name]
    return arm["baseline"].update(own) or record


def test_the_book_is_read_with_trainings_first(folder):
    assert [each["name"] for each in evidence.book(folder)] == ["tournament/letters", "frozen/letters"]


def test_a_trick_stands_beside_its_rival(record):
    assert evidence.arms_of(record, "rdrop") == ["rdrop", "dropout"]
    assert evidence.arms_of(record, "ema") == ["ema"], "without a rival"
    assert evidence.arms_of(record, "fgm") == []
    assert evidence.arms_of(record, "fgm", ["2x steps", "no such arm"]) == ["2x steps"]
    record["arms"]["first token"] = record["arms"]["2x steps"]
    assert evidence.arms_of(record, "mean_pooling") == ["first token"], "where the trick is the baseline"


def test_every_number_of_the_table_is_the_records(record):
    table = evidence.table(record, ["rdrop", "dropout"])
    own, rival = record["statistics"]["arms"]["rdrop"]["baseline"], record["statistics"]["rivals"][0]
    dropout = figures.labelled(record, "dropout")
    assert [*table.index] == ["rdrop [2 x compute]", "rdrop vs dropout", dropout]
    for row, d in zip(table.itertuples(index=False), (own, rival)):
        mean, low, high = report.signed(d, record)
        p = f"{d['holm']:.3f}" if d["holm"] >= 0.001 else "<0.001"
        expected = (mean, f"{low} to {high}", p, report.won(d, record), f"{100 * d['smallest']:.1f}")
        assert tuple(row) == (*expected, d["verdict"])
    columns = ["gain", "95 % interval", "p (Holm)", "won", "could show", "verdict"]
    assert [*table.columns] == columns
    assert len(evidence.table(record)) == len(record["arms"]) - 1 + len(record["statistics"]["rivals"])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, "all 5,000 training rows"),
        ({"rows": 1000}, "1,000 training rows drawn from 5,000"),
        ({"per_class": 10}, "10 training rows per class drawn from 5,000"),
        ({"tail": [100, 5]}, "100 to 5 training rows per class drawn from 5,000"),
    ],
)
def test_how_many_rows_a_seed_draws_is_told(record, how, told):
    record["data"] |= {"rows": how, "sizes": {"train": 5000}}
    assert evidence.drawn_rows(record) == told
    record["training"]["pool"] = 3000
    assert evidence.drawn_rows(record) == told.replace("drawn from 5,000", "drawn from 3,000")


def test_what_was_measured_stands_beside_the_numbers(record):
    text = evidence.measured(record)
    assert "mini_bert (0.0 M parameters, fp32), all 100 training rows, 40 to test, 200 steps" in text
    assert f"{100 * record['statistics']['arms']['baseline']['mean']:.1f} ±" in text


def test_failures_and_edges_stand_beside_the_arm(record):
    record["statistics"]["arms"]["rdrop"]["failed"] = 2
    record["arms"]["rdrop"]["edge"] = "high"
    assert figures.labelled(record, "rdrop") == "rdrop [2 x compute, 2 of 10 failed, at the edge of its grid]"
    assert figures.labelled(record, "ema") == "ema"


def test_what_an_arm_chose_stands_beside_it(record):
    for candidate, chose in [({"dropout": 0.2}, "dropout 0.2"), ({}, "the default")]:
        record["arms"]["dropout"]["chosen"]["candidate"] = candidate
        assert figures.labelled(record, "dropout") == f"dropout [chose {chose}]"


def test_a_trick_without_a_record_is_said_to_have_none(folder, tmp_path, capsys):
    matplotlib.pyplot.close("all")
    for where in (folder, tmp_path):
        evidence.shown("fgm", where=where)
        evidence.drawn("fgm", where=where)
        assert "no record yet that compares fgm on a real" in capsys.readouterr().out
    evidence.shown("rdrop", only="regression/", where=folder)
    assert "no record yet" in capsys.readouterr().out
    assert not matplotlib.pyplot.get_fignums() and evidence.overview(tmp_path).empty


def test_text_table_and_figure_of_each_record(folder, capsys):
    matplotlib.pyplot.close("all")
    evidence.shown("rdrop", where=folder)
    assert not matplotlib.pyplot.get_fignums(), "tables and figures are two cells"
    evidence.drawn("rdrop", where=folder)
    out = capsys.readouterr().out
    assert out.index("tournament/letters: ") < out.index("rdrop vs dropout") < out.index("frozen/letters: ")
    assert max(map(len, evidence.wrapped(out))) <= evidence.WIDTH
    assert len(matplotlib.pyplot.get_fignums()) == 2
    evidence.shown("rdrop", only="frozen/", where=folder)
    evidence.drawn("rdrop", only="frozen/", where=folder)
    assert "tournament" not in capsys.readouterr().out and len(matplotlib.pyplot.get_fignums()) == 3
    matplotlib.pyplot.close("all")


def test_a_figure_has_the_best_first_and_a_rival_below_its_trick(record):
    for name, mean in {
        "dropout": -0.5,
        "rdrop": 0.02,
        "ema": 0.03,
        "2x steps": -0.1,
        "together": 0.01,
    }.items():
        changed(record, name, mean=mean)
    assert figures.ordered(record) == ["ema", "rdrop", "dropout", "together", "2x steps"]
    record["higher_is_better"] = False
    assert figures.ordered(record) == ["2x steps", "together", "rdrop", "dropout", "ema"]
    assert figures.ordered(record, ["rdrop"]) == ["rdrop"]


@pytest.mark.parametrize(
    "verdict, colour", [("better", plots.BLUE), ("worse", plots.RED), ("no difference shown", None)]
)
def test_a_figure_is_coloured_by_the_verdict(record, verdict, colour):
    changed(record, "2x steps", verdict=verdict, low=-0.02, mean=0.01, high=0.04)
    ax = figures.figure(record, ["2x steps"])
    line, dot = ax.lines[-2:]
    assert line.get_xdata() == pytest.approx([-2, 4]) and dot.get_xdata() == pytest.approx([1])
    assert to_hex(line.get_color()) == (colour or plots.GREY).lower()
    assert to_hex(dot.get_markerfacecolor()) == (colour or "#ffffff").lower()
    assert "gain against baseline (points)" in ax.get_xlabel()
    matplotlib.pyplot.close("all")


def test_the_overview_has_a_line_for_each_trick_and_record_by_the_arm_listed_first(folder, record):
    table = evidence.overview(folder)
    assert [*table.index] == ["ema", "ema", "rdrop", "rdrop"]
    row, arms = (
        table[table["arm"].str.startswith("rdrop [2 x compute] over ")].iloc[-1],
        record["statistics"]["arms"],
    )
    said = row.str.replace("\N{NO-BREAK SPACE}", " ")
    mean, low, high = report.signed(arms["rdrop"]["baseline"], record)
    assert said["arm"] == "rdrop [2 x compute] over baseline, letters (mini_bert)"
    assert said["gain"] == f"{mean} ({low} to {high}) {arms['rdrop']['baseline']['verdict']}"
    mean, low, high = report.signed(arms["dropout"]["baseline"], record)
    dropout = figures.labelled(record, "dropout")
    assert said["rival"] == f"{dropout}: {mean} ({low} to {high})"
    assert said["against it"] == record["statistics"]["rivals"][0]["verdict"]
    assert {*table.loc["ema", "rival"]} == {""} == {*table.loc["ema", "against it"]}


def test_the_picture_has_each_trick_above_its_rival_and_no_other_unit(folder, record):
    rows = evidence.at_a_glance(folder)
    assert [row[1]["mean"] for row in rows] == sorted((row[1]["mean"] for row in rows), reverse=True)
    arms = record["statistics"]["arms"]
    (label, gain, control), *_ = [row for row in rows if row[0].startswith("rdrop")]
    assert label == "rdrop, letters (mini_bert)" and control[0] == "rival: dropout"
    assert gain == plots.points(arms["rdrop"]["baseline"])
    assert control[1]["mean"] == 100 * arms["dropout"]["baseline"]["mean"]
    assert [row[2] for row in rows if row[0].startswith("ema")] == [None, None]
    ax = plots.pairs(rows, "gain")
    assert len([line for line in ax.lines if line.get_linewidth() == 3.5]) == len(rows)
    matplotlib.pyplot.close("all")


def test_the_picture_names_a_baseline_that_has_a_name(record, monkeypatch):
    record["baseline"] = "last layer"
    monkeypatch.setattr(evidence, "firsts", lambda where: [(record, "rdrop")])
    ((label, _, control),) = evidence.at_a_glance()
    assert label == "rdrop, letters (mini_bert)" and control[0] == "rival: dropout; both over last layer"


def test_a_loss_on_a_frozen_encoder_says_so(record):
    training = {**record["training"], **tournament.FROZEN}
    assert evidence.on({**record, "training": training}) == "letters (head, mini_bert)"
    assert "steps of a linear head on the frozen encoder" in report.heading({**record, "training": training})


@pytest.mark.parametrize(("key", "column"), [("ece", "ECE"), ("spearman", "Spearman's rho")])
def test_what_was_measured_beside_the_score_is_a_mean_over_seeds(record, key, column):
    for arm in record["arms"].values():
        for i, each in enumerate(arm["runs"]):
            each[key] = 0.1 * (i % 2)
    assert evidence.table(record, ["ema"])[column].tolist() == ["0.050"]


def test_calibration_is_read_beside_the_record(folder, record):
    with pytest.raises(ValueError, match="record: tournament/letters has no confidence"):
        evidence.calibrated(record, "ece", folder)
