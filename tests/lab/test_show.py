"""What the chapters print."""

import pytest
import torch

from tricks_lib.lab import records, show


@pytest.mark.parametrize(
    "low, mean, high, follows",
    [
        (0.002, 0.015, 0.03, "R-Drop is better than plain:"),
        (-0.03, -0.015, -0.002, "R-Drop is worse than plain:"),
        (-0.002, 0.015, 0.03, "no difference between R-Drop and plain is shown:"),
        (
            0.0,
            0.015,
            0.03,
            "no difference between R-Drop and plain is shown:",
        ),  # an interval that touches zero
        (-0.03, -0.015, 0.0, "no difference between R-Drop and plain is shown:"),
    ],
)
def test_a_verdict_follows_from_the_interval_alone(low, mean, high, follows):
    first, second = show.verdict("R-Drop", "plain", {"low": low, "mean": mean, "high": high, "n": 10}).split(
        "\n"
    )
    assert first == follows
    assert (
        second
        == f"    {100 * mean:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f} (n = 10)"
    )


def test_a_verdict_has_no_negative_zero_and_as_many_digits_as_asked():
    difference = {"low": -0.0002, "mean": -0.0001, "high": 0.01234, "n": 3}
    assert "+0.0 points, 95 % interval +0.0 to +1.2 (n = 3)" in show.verdict("a", "b", difference)
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


def test_cost_has_a_row_for_each_function_and_compares_with_the_first():
    calls = []
    table = show.cost({"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}, samples=3)
    assert list(table.index) == ["one", "two"] and list(table.columns) == ["ms", "ratio", "MB"]
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
            assert float(line["memory kept"]) == pytest.approx(
                kept[name]["peers"][peer]["ratio"], abs=0.005 + 1e-9
            )
            assert line["size"] == row["size"]


def test_a_row_that_was_not_measured_is_named():
    with pytest.raises(ValueError, match="rows: no dice was measured; there are greedy batch 1"):
        show.ratios("dice")
