"""What the chapters print."""

import pytest
import torch
from statsmodels.stats.multitest import multipletests

from tricks_lib.lab import records, show


@pytest.mark.parametrize(
    "low, mean, high, p, follows",
    [
        (0.002, 0.015, 0.03, 0.05, "R-Drop is better than plain:"),
        (-0.03, -0.015, -0.002, 0.002, "R-Drop is worse than plain:"),
        (-0.002, 0.015, 0.03, 0.04, "no difference between R-Drop and plain is shown:"),
        (0.0, 0.015, 0.03, 0.04, "no difference between R-Drop and plain is shown:"),  # it touches zero
        (-0.03, -0.015, 0.0, 0.04, "no difference between R-Drop and plain is shown:"),
        (0.002, 0.015, 0.03, 0.051, "no difference between R-Drop and plain is shown:"),
    ],
)
def test_a_verdict_follows_from_interval_and_p_value(low, mean, high, p, follows):
    difference = {"low": low, "mean": mean, "high": high, "p": p, "n": 10}
    first, second = show.verdict("R-Drop", "plain", difference).split("\n")
    assert first == follows
    low, mean, high = (f"{100 * x:+.1f}" for x in (low, mean, high))
    assert second == f"    {mean} points, 95 % interval {low} to {high}, p = {p:.3f} (n = 10)"


SHOWN = {"low": 0.002, "mean": 0.015, "high": 0.03, "p": 0.01, "n": 10}


def test_a_verdict_takes_holms_p_value_where_it_is_given():
    assert "is better" in show.verdict("a", "b", SHOWN)
    corrected = show.verdict("a", "b", SHOWN | {"holm": 0.0612})
    assert "no difference" in corrected and "p = 0.061" in corrected


def test_the_smallest_difference_stands_beside_no_difference_alone():
    smallest = {"smallest": 0.0234}
    assert "would have" not in show.verdict("a", "b", SHOWN | smallest)
    assert show.verdict("a", "b", SHOWN | smallest | {"p": 0.2}).endswith(
        "; a difference of 2.3 points would have been shown"
    )
    assert "would have" not in show.verdict("a", "b", SHOWN | {"smallest": None, "p": 0.2})


@pytest.mark.parametrize(
    "won, counted",
    [
        (0.0, "lower on 4 of 4"),
        (1.0, "higher on 4 of 4"),
        (0.25, "lower on 3 of 4"),
        (0.625, "higher on 2.5 of 4"),
    ],
)
def test_under_six_seeds_they_are_counted(won, counted):
    difference = SHOWN | {"n": 4, "p": 0.125, "won": won}
    assert show.verdict("R-Drop", "plain", difference) == (
        f"R-Drop against plain, counts only:\n    {counted} seeds, p = 0.125 (a verdict needs 6 seeds)"
    )


def test_seeds_that_were_not_kept_are_not_counted():
    assert show.size(SHOWN | {"n": 5, "p": 0.0625}) == "5 seeds, p = 0.062 (a verdict needs 6 seeds)"


def test_where_lower_is_better_a_negative_difference_is():
    difference = {"low": -3.4, "mean": -2.123, "high": -1.0, "p": 0.0004, "n": 10}
    text = show.verdict("a", "b", difference, digits=2, unit="seconds", higher_is_better=False)
    assert text == "a is better than b:\n    -2.12 seconds, 95 % interval -3.40 to -1.00, p < 0.001 (n = 10)"
    assert show.size(difference, unit="").startswith("-2.1, 95 %")


@pytest.mark.parametrize("p, printed", [(0.0499, "p ≤ 0.05"), (0.0501, "p > 0.05")])
def test_without_digits_p_has_none_either(p, printed):
    assert f"+2 points, 95 % interval +0 to +3, {printed} (n = 10)" in show.verdict(
        "a", "b", SHOWN | {"p": p}, digits=0
    )


def test_a_verdict_has_no_negative_zero_and_as_many_digits_as_asked():
    difference = {"low": -0.0002, "mean": -0.0001, "high": 0.01234, "p": 0.5, "n": 9}
    assert "+0.0 points, 95 % interval +0.0 to +1.2, p = 0.500 (n = 9)" in show.verdict("a", "b", difference)
    assert "-0.01 points, 95 % interval -0.02 to +1.23" in show.verdict("a", "b", difference, digits=2)


class Documented:
    """Of the class."""

    def method(self):
        """Of the method.

        Over lines.
        """
        return "kept"  # and this


def test_source_is_the_code_without_docstrings():
    assert (
        show.source(Documented, Documented.method).data
        == """```python
class Documented:
    def method(self):
        return "kept"  # and this


def method(self):
    return "kept"  # and this
```"""
    )


def test_allocated_counts_new_tensors_and_no_views():
    x = torch.zeros(2**18)  # 1 MB
    assert show.allocated(lambda: x + 1, cuda=False) == 1
    assert show.allocated(lambda: (x + 1) * 2, cuda=False) == 2
    assert show.allocated(lambda: x.view(2, -1)[0].add_(1), cuda=False) == 0
    assert show.allocated(lambda: torch.cat([x, x]), cuda=False) == 2


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.456, "0.46 seconds"), (45.3, "45 seconds"), (753.2, "0:12:33 h"), (7200, "2:00:00 h")],
)
def test_a_duration_is_said_with_its_unit(seconds, said):
    assert show.duration(seconds) == said


def test_cost_has_a_row_for_each_function_and_compares_with_the_first():
    calls = []
    table = show.cost({"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}, samples=3)
    assert list(table.index) == ["one", "two"] and list(table.columns) == ["ms", "ratio", "MB allocated"]
    assert table["ratio"]["one"] == "1.00"
    assert calls[:6] == ["one", "two"] * 3  # in turn


def test_ratios_are_those_of_the_bench():
    bench = records.bench("cpu")
    measured, kept = bench["rows"], bench["rows_memory_kept"]
    table = show.ratios(*measured)
    assert len(table) == sum(len(row["peers"]) for row in measured.values())
    for name, row in measured.items():
        for peer, m in row["peers"].items():
            line = table.loc[f"{name} / {peer}"]
            assert float(line["time ratio"]) == pytest.approx(m["ratio"], abs=0.005 + 1e-9)
            assert [float(q) for q in line["quartiles"].split(" to ")] == pytest.approx(
                m["quartiles"], abs=0.005 + 1e-9
            )
            assert float(line["time ratio, cached"]) == pytest.approx(
                kept[name]["peers"][peer]["ratio"], abs=0.005 + 1e-9
            )
            assert line["size"] == row["size"]


def test_a_row_that_was_not_measured_is_named():
    with pytest.raises(ValueError, match="rows: no dice was measured; there are greedy batch 1"):
        show.ratios("dice")


def test_verdicts_adjust_p_by_holm_over_all_comparisons():
    against = {"plain": SHOWN | {"p": 0.03}, "rival": SHOWN | {"p": 0.04}}
    text = show.verdicts("trick", against)
    expected = multipletests([0.03, 0.04], method="holm")[1]
    parts = [show.verdict("trick", o, against[o] | {"holm": p}) for o, p in zip(against, expected)]
    assert text == "\n".join(parts) and "no difference between trick and plain" in text


def test_tensors_counts_what_is_new_and_the_largest():
    with show.Tensors() as counted:
        product = torch.ones(3, 5) @ torch.ones(5, 7)
        product.view(7, 3)  # in the same storage
    assert counted.new == 4 * (3 * 5 + 5 * 7 + 3 * 7) and counted.largest == 4 * 5 * 7
