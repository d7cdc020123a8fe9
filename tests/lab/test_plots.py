"""What a figure colours."""

import matplotlib.pyplot as plt
import pytest

from tricks_lib.lab import plots


@pytest.mark.parametrize(
    "low, high, more, expected",
    [
        (0.1, 0.3, {}, plots.BLUE),
        (-0.3, -0.1, {}, plots.RED),
        (0.0, 0.3, {}, plots.GREY),
        (0.1, 0.3, {"p": 0.05, "n": 10}, plots.BLUE),
        (-0.3, -0.1, {"p": 0.05, "n": 10}, plots.RED),
        (0.1, 0.3, {"p": 0.06, "n": 10}, plots.GREY),
        (0.1, 0.3, {"p": 0.01, "n": 10, "holm": 0.06}, plots.GREY),
        (0.1, 0.3, {"p": 0.01, "n": 5}, plots.GREY),
        (-0.1, 0.3, {"p": 0.01, "n": 10}, plots.GREY),
    ],
)
def test_colours_follow_the_rule_of_the_verdicts(low, high, more, expected):
    row = {"low": low, "mean": (low + high) / 2, "high": high, **more}
    assert plots.colour(row) == expected
    ax = plots.intervals({"R-Drop": row}, "gain (points)")
    assert [line.get_color() for line in ax.lines][1:] == [expected, expected]
    plt.close(ax.figure)


@pytest.mark.parametrize(
    "verdict, expected",
    [
        ("better", plots.BLUE),
        ("no difference shown", plots.GREY),
        ("counts only", plots.GREY),
        ("no verdict: the baseline has not learned", plots.GREY),
    ],
)
def test_where_a_verdict_stands_it_decides(verdict, expected):
    row = {"low": 0.1, "mean": 0.2, "high": 0.3, "p": 0.001, "n": 10, "verdict": verdict}
    assert plots.colour(row) == expected


def test_no_row_is_refused():
    with pytest.raises(ValueError, match="rows: none given"):
        plots.intervals({}, "gain")


def test_labels_stand_at_the_ends_of_their_lines_apart_and_in_their_colours():
    ax = plt.subplots()[1]
    for label, y, colour in (("low", 0.0, plots.RED), ("b", 0.98, plots.BLUE), ("a", 1.0, plots.GREY)):
        ax.plot([0, 1], [0.5, y], label=label, color=colour)
    ax.axhline(0.5)
    ax.set(ylim=(0, 1))
    plots.label_lines(ax, gap=0.1)
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert list(heights) == ["low", "b", "a"] and heights["a"] - heights["b"] == pytest.approx(0.1)
    assert sum(heights.values()) == pytest.approx(1.98)
    assert [text.get_color() for text in ax.texts] == [plots.RED, plots.BLUE, plots.GREY]
    plt.close(ax.figure)


def test_a_cell_of_a_table_is_shown_whole():
    import pandas

    plots.use_style()
    assert "x" * 80 in pandas.DataFrame({"arm": ["x" * 80]})._repr_html_()


def test_points_are_hundredths_and_keep_what_the_rule_needs():
    difference = {"mean": 0.02, "low": 0.01, "high": 0.03, "p": 0.04, "n": 10, "won": 0.9}
    assert plots.points(difference) == {"mean": 2, "low": 1, "high": 3, "p": 0.04, "n": 10, "won": 0.9}
    assert plots.colour(plots.points(difference)) == plots.BLUE
    assert plots.colour(plots.points({**difference, "p": 0.06})) == plots.GREY


def test_a_ratio_is_red_where_it_misses_its_bar_and_grey_where_it_is_only_slower():
    def measured(ratio, bar):
        return {"ratio": ratio, "quartiles": [ratio, ratio], "bar": bar}

    groups = {
        "trick": {
            "a": [[measured(0.5, 0.4)] * 2],
            "b": [[measured(1.2, 1.5)] * 2],
            "c": [[measured(0.9, None)] * 2],
        }
    }
    ax = plots.ratios(groups)
    dots = [line.get_color() for line in ax.lines if line.get_marker() == "o"]
    assert dots == [plots.RED] * 2 + [plots.GREY] * 2 + [plots.BLUE] * 2
    assert [label.get_text() for label in ax.get_yticklabels()] == ["trick", "a", "b", "c"]
    plt.close("all")
