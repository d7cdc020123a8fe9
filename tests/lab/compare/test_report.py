"""What the terminal and the page say of a record."""

import copy
import html.parser
import re

import numpy as np
import pytest

from tricks_lib.lab import show
from tricks_lib.lab.compare import metrics, page, records, report, run, statistics
from tricks_lib.lab.compare.summary import NOT_LEARNED

from .conftest import small

RATES = [1e-4, 2e-4, 4e-4, 8e-4]
ARMS = {  # accuracy, settings, trick, rival, passes
    "baseline": (0.70, {}, None, None, 1),
    "dropout, tuned": (0.71, {"dropout": 0.2}, None, None, 1),
    "R-Drop": (0.72, {"rdrop_alpha": 1.0}, "rdrop", "dropout, tuned", 2),
    "random direction": (0.70, {"adversarial": "random"}, None, None, 2),
    "FGM": (0.86, {"adversarial": "fgm"}, "fgm", "random direction", 2),
    "EMA": (0.55, {"ema_decay": 0.99}, "ema", "best checkpoint", 1),
    "best checkpoint": (0.70, {"weights": "best checkpoint"}, None, None, 1),
    "2x steps": (0.73, {"times": 2}, None, None, 2),
}


def example(seeds=10, metric="accuracy", data="reviews.csv"):
    """A record as a run would leave it, of invented predictions."""
    rng = np.random.default_rng(0)
    numbers = metric == "rmse"
    labels = rng.normal(size=120) if numbers else rng.integers(3, size=120)
    found, arms = {}, {}
    for name, (accuracy, settings, trick, rival, passes) in ARMS.items():
        if numbers:
            found[name] = labels + (1.3 - accuracy) * rng.normal(size=(seeds, 120))
        else:
            right = rng.random((seeds, 120)) < accuracy + 0.02 * rng.normal(size=(seeds, 1))
            found[name] = np.where(right, labels, (labels + 1) % 3)
        scores = metrics.METRICS[metric].score(found[name], labels)
        arms[name] = {
            "settings": settings, "candidates": [{}], "trick": trick, "rival": rival, "passes": passes,
            "shares": "baseline" if name in ("EMA", "best checkpoint") else None,
            "tuning": [{"candidate": {}, "learning_rate": r, "scores": [0.7] * 3} for r in RATES],
            "chosen": {"candidate": {}, "learning_rate": 2e-4}, "edge": None,
            "runs": [
                {"seed": i, "score": float(s), "failed": False, "seconds": 3.0 * passes, "code": "2" * 12}
                for i, s in enumerate(scores)
            ],
            "arguments": f"args = TricksArguments('out', max_steps=400, learning_rate=0.0002, **{settings})",
        }  # fmt: skip
    better = metrics.METRICS[metric].higher_is_better

    def compared(pairs):
        scored = metrics.METRICS[metric]
        parts = {name: statistics.contributions(scored, own, labels) for name, own in found.items()}
        differences = {(a, b): parts[a] - parts[b] for a, b in pairs}
        return list(statistics.family(differences, better).values())

    others, rivals = list(ARMS)[1:], [(n, a[3]) for n, a in ARMS.items() if a[3]]
    against = dict(zip(others, compared([(n, "baseline") for n in others])))
    return {
        "schema": 2, "name": "compare/reviews", "kind": "numbers" if numbers else "classes", "metric": metric,
        "higher_is_better": better, "guess": 0.341,
        "data": {
            "name": data, "sha256": {"reviews.csv": "0" * 64}, "rows": {},
            "sizes": {"train": 280, "validation": 40, "test": 120}, "warnings": ["one text stands twice"],
        },
        "model": {
            "name": "mini_bert", "source": "embedded", "sha256": "1" * 64, "parameters": 3_600_000,
            "precision": "fp32",
        },
        "training": {"batch_size": 16, "max_length": 128, "warmup": 0.1, "weight_decay": 0.01},
        "baseline": "baseline", "arms": arms,
        "steps": {"chosen": 400, "start": 200, "settled": [], "still_improving": False},
        "seeds": list(range(seeds)), "tuning_seeds": [1001, 1002, 1003], "rates": RATES,
        "families": {"baseline": others, "rivals": [list(pair) for pair in rivals]},
        "statistics": {
            "arms": {
                n: {
                    "mean": float(np.mean([r["score"] for r in a["runs"]])), "sd": 0.012, "failed": 0,
                    "baseline": against.get(n),
                }
                for n, a in arms.items()
            },
            "rivals": [{"arm": a, "rival": b, **own} for (a, b), own in zip(rivals, compared(rivals))],
        },
        "hours": None, "code": "2" * 64, "git_commit": "3" * 40,
        "environment": {
            "device": "AMD EPYC 9654", "cuda": None, "python": "3.11.2", "torch": "2.13.0",
            "transformers": "5.23.0",
        },
        "command": "python -m tricks_lib.lab compare --data reviews.csv --model mini_bert",
        "wall_seconds": 4271.3, "date": "2026-01-31",
    }  # fmt: skip


@pytest.fixture(scope="module")
def usual():
    return example()


@pytest.fixture
def record(usual):
    return copy.deepcopy(usual)


@pytest.fixture
def doubtful():
    """A record about which there is much to be told."""
    r = example(seeds=4, metric="rmse")
    r["arms"]["EMA"]["edge"], r["steps"]["still_improving"], r["hours"] = "high", True, 2
    r["statistics"]["arms"]["EMA"]["baseline"]["verdict"] = "no verdict: at the edge of its grid"
    r["statistics"]["arms"]["FGM"]["failed"] = 1
    return r


class Outline(html.parser.HTMLParser):
    """Tags in their order, checked to be closed; attributes; and the text of the page."""

    VOID = ("meta", "link", "line", "circle", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)

    def all(self, *names):
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


# ---- Terminal ----


def test_the_invented_record_has_the_fields_of_a_record(record):
    records.check_fields(record, "reviews.json")


def test_the_record_of_a_run_is_reported(fake, tmp_path):
    run.run(small(), tmp_path / "record.json", progress=False)
    found, _ = records.load_file(tmp_path / "record.json")
    text = " ".join(Outline(report.html(found)).text)
    for row in sum(report.cells(found), []):
        assert all(cell in text for cell in row) and row[0] in report.table(found)
    assert all(arm["arguments"] in text for arm in found["arms"].values())


def test_the_table_says_what_the_statistics_say(record):
    lines = report.table(record).split("\n")
    assert lines[0] == "mini_bert on reviews.csv: accuracy, 400 steps, 10 seeds"
    for name, own in record["statistics"]["arms"].items():
        (line,) = [x for x in lines if re.match(rf"{re.escape(name)} +\d", x)]
        assert f"{100 * own['mean']:.1f} ± 1.2" in line
        if d := own["baseline"]:
            assert f"{100 * d['low']:+.1f} to {100 * d['high']:+.1f}" in line and line.endswith(d["verdict"])
            assert f"{d['holm']:.3f}" in line and f"{10 * d['won']:g} of 10" in line
    for d in record["statistics"]["rivals"]:
        assert any(line.startswith(f"{d['arm']} against {d['rival']}  ") for line in lines)
    assert lines[-1] == "! one text stands twice"


def test_errors_are_given_in_their_own_unit_and_lower_is_won(doubtful):
    text = report.table(doubtful)
    own = doubtful["statistics"]["arms"]["FGM"]["baseline"]
    assert "RMSE (lower is better)" in text and " change " in text and " gain " not in text
    assert f"{own['mean']:+.3f}  {own['low']:+.3f} to {own['high']:+.3f}" in text
    assert own["won"] == 0 and re.search(r"FGM .* 4 of 4 +counts only", text)


def test_a_number_that_rounds_to_zero_keeps_its_sign_and_zero_has_none(record):
    own = record["statistics"]["arms"]["R-Drop"]["baseline"]
    own |= {"mean": -0.0, "low": -0.0001, "high": 0.0001}
    assert re.search(r"R-Drop .* \+0\.0 +-0\.0 to \+0\.0", report.table(record))


def test_what_casts_doubt_is_told(record, doubtful):
    assert report.warnings(record) == ["one text stands twice"]
    assert report.warnings(doubtful) == [
        "one text stands twice",
        "twice the steps were still better: the baseline is not trained to its end",
        "FGM: 1 of 4 runs ended near guessing; the mean includes them",
        "EMA: its best learning rate is the highest that was tried, so no verdict is given",
        "the plan was cut to 2 hours",
    ]
    for sentence in report.warnings(doubtful):
        assert sentence in report.html(doubtful) and f"! {sentence}" in report.table(doubtful)


def test_a_baseline_that_has_not_learned_is_told_first_of_all(record):
    for own in record["statistics"]["arms"].values():
        if own["baseline"]:
            own["baseline"]["verdict"] = NOT_LEARNED
    told = report.warnings(record)[1]
    assert told.startswith("the baseline has not learned: ") and told in report.html(record)
    assert report.summary(record).startswith("Better than the baseline: none. Worse: none.")


def test_the_summary_names_what_is_better_and_what_is_more_than_its_rival(record):
    assert report.summary(record) == (
        "Better than the baseline: FGM. Worse: EMA. No difference shown, or no verdict: 5 of 7. "
        "Better than the baseline and than its rival: FGM."
    )
    record["statistics"]["rivals"][1]["verdict"] = "no difference shown"
    assert report.summary(record).endswith("than its rival: none.")


# ---- Page ----


def test_the_page_is_written_where_it_is_asked(record, tmp_path):
    file = report.write(record, tmp_path / "deep" / "report")
    assert file == tmp_path / "deep" / "report" / "index.html"
    assert file.read_text(encoding="utf-8") == report.html(record)


@pytest.mark.parametrize("which", ["record", "doubtful"])
def test_the_page_is_whole_and_asks_nothing_of_others(which, request):
    text = report.html(request.getfixturevalue(which))
    outline = Outline(text)
    assert not re.search(r"https?://|@import|url\(", text)
    assert [a.get("href", a.get("src")) for _, a in outline.tags if {"href", "src"} & a.keys()] == ["data:,"]
    assert not outline.all("script", "iframe", "img", "object", "form")
    assert dict(outline.all("html")[0][1]) == {"lang": "en"} and outline.all("title")
    assert any(a.get("name") == "viewport" for _, a in outline.all("meta"))


def test_headings_are_in_order_and_tables_have_scopes(record):
    outline = Outline(report.html(record))
    levels = [int(tag[1]) for tag, _ in outline.all("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    assert {a.get("scope") for _, a in outline.all("th")} == {"col", "row"}
    assert len(outline.all("caption")) == len(outline.all("table")) == 3
    scrolled = [a for _, a in outline.all("div") if a.get("class") == "scroll"]
    assert len(scrolled) == 3 and all(a["tabindex"] == "0" and a["aria-label"] for a in scrolled)


def test_the_page_has_every_number_of_the_table_and_every_argument(record):
    text = " ".join(Outline(report.html(record)).text)
    arms, rivals = report.cells(record)
    for row in arms + rivals:
        assert all(cell in text for cell in row)
    for arm in record["arms"].values():
        assert arm["arguments"] in text
    for known in (
        "280 train",
        "120 test",
        "3.6 M",
        "fp32",
        "1:11:11 h",
        "AMD EPYC",
        "torch 2.13.0",
        "3" * 40,
    ):
        assert known in text


def test_verdicts_are_those_of_show_with_what_is_shown_first(record):
    found = report.sentences(record)
    own = record["statistics"]["arms"]["FGM"]["baseline"]
    assert found[0] == (show.verdict("FGM", "baseline", own).replace(":\n    ", ": ") + ".", "better")
    assert [kind for _, kind in found] == sorted((k for _, k in found), key=lambda k: k == "none")
    assert len(found) == 10 and "would have been shown" in found[-1][0]


def test_an_arm_at_its_edge_has_a_reason_in_place_of_a_verdict(doubtful):
    (sentence,) = [text for text, _ in report.sentences(doubtful) if text.startswith("EMA against baseline")]
    assert sentence.startswith("EMA against baseline, no verdict: at the edge of its grid: ")
    assert report.class_of(doubtful["statistics"]["arms"]["EMA"]["baseline"]) == "none"


def test_what_comes_from_the_data_cannot_become_markup(record):
    evil = "<script>alert('1')</script>\"&"
    record["data"]["name"] = record["data"]["warnings"][0] = record["command"] = evil
    record["arms"][evil] = record["arms"].pop("FGM") | {"arguments": evil}
    record["statistics"]["arms"][evil] = record["statistics"]["arms"].pop("FGM")
    record["statistics"]["rivals"][1]["arm"] = evil
    outline = Outline(report.html(record))
    assert not outline.all("script") and "".join(outline.text).count(evil) >= 5


def test_a_record_without_rivals_or_warnings_has_no_empty_sections(record):
    record["statistics"]["rivals"], record["data"]["warnings"] = [], []
    text = report.html(record)
    assert "Warnings" not in text and "rival" not in text and "rival" not in report.table(record)


# ---- Figure ----


def rows(*intervals):
    return {
        f"arm {i}": {"low": low, "mean": (low + high) / 2, "high": high, "text": f"{low}", "class": "none"}
        for i, (low, high) in enumerate(intervals)
    }


@pytest.mark.parametrize("scale", [0.001, 1, 40])
def test_intervals_stand_where_the_axis_says(scale):
    given = rows((-0.8 * scale, 0.3 * scale), (0.2 * scale, 1.4 * scale))
    outline = Outline(page.intervals(given, "points", "gain"))
    texts = [(a, t) for (tag, a), t in zip(outline.all("text"), outline.text)]
    ticks = {
        float(t): float(a["x"][:-1]) for a, t in texts if a.get("class") == "quiet middle" and t != "points"
    }
    assert 3 <= len(ticks) <= 8 and 0 in ticks
    slope, start = np.polyfit(list(ticks), list(ticks.values()), 1)
    drawn = [a for _, a in outline.all("line") if a.get("class") == "none"]
    dots = [a for _, a in outline.all("circle")]
    for line, dot, r in zip(drawn, dots, given.values(), strict=True):
        found = [float(x[:-1]) for x in (line["x1"], dot["cx"], line["x2"])]
        assert found == pytest.approx([start + slope * r[k] for k in ("low", "mean", "high")], abs=0.02)
        assert all(0 <= x <= 100 for x in found)


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (-3.2, 4.1, [-4, -2, 0, 2, 4, 6]),
        (0, 0.9, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-12, 0, [-15, -10, -5, 0]),
        (0, 0, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_hold_all(low, high, expected):
    assert page.ticks_of(low, high) == pytest.approx(expected)
    assert page.ticks_of(low, high)[0] <= low and page.ticks_of(low, high)[-1] >= high


def test_the_figure_says_in_words_what_it_draws(record):
    (svg,) = Outline(report.html(record)).all("svg")
    assert svg[1]["role"] == "img" and "FGM: +" in svg[1]["aria-label"]
