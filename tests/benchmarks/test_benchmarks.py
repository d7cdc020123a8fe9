"""The bench itself: that it refuses what it must, and that its two results can be compared."""

import itertools
import json
import subprocess
from pathlib import Path

import pytest
import torch

from tests.benchmarks import __main__ as bench
from tests.benchmarks import timing
from tests.benchmarks.__main__ import check_same, compare, in_new_process, rows
from tests.benchmarks.curves import CURVES
from tests.benchmarks.peers import versions
from tests.benchmarks.row import Row
from tests.benchmarks.timing import exponents
from tricks_lib.lab import records


def written(path, ratio, memory="rows", **others):
    steady = {"rows": {"a row": {"peers": {"a peer": {"ratio": 1.0}}}}}
    path.write_text(
        json.dumps({**steady, memory: {"a row": {"peers": {"a peer": {"ratio": ratio}}}, **others}})
    )
    return path


@pytest.mark.parametrize("memory", ["rows", "rows_memory_kept"])
@pytest.mark.parametrize("ratio, status", [(0.5, 0), (0.57, 0), (0.58, 1), (0.43, 1)])
def test_two_results_agree_within_15_percent(tmp_path, capsys, memory, ratio, status):
    assert (
        compare(written(tmp_path / "a.json", 0.5, memory), written(tmp_path / "b.json", ratio, memory))
        == status
    )
    assert ("a row / a peer" in capsys.readouterr().out) == bool(status)


def test_a_row_of_one_result_alone_is_named(tmp_path, capsys):
    compare(
        written(tmp_path / "a.json", 1.0),
        written(tmp_path / "b.json", 1.0, lost={"peers": {"a peer": {"ratio": 1.0}}}),
    )
    assert "only in one file: rows / lost / a peer" in capsys.readouterr().out


def test_a_missing_peer_is_an_error_that_names_it_not_a_silent_skip():
    row = Row("a row", "", None, packages={"their loss": "no-such-distribution"})
    with pytest.raises(ModuleNotFoundError, match="'a row'.*'their loss' needs no-such-distribution"):
        versions(row)


FIRST, SECOND = itertools.islice(rows(), 2)
TAKEN = {"peers": {"a peer": [[1.0, 2.0]] * 5}, "limit": {"what must be done": [[1.0, 0.5]] * 5}}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """``measured(in_new_process)``: the exit status and the written file of a run of two rows."""

    def call(in_new_process):
        monkeypatch.setattr(bench, "in_new_process", in_new_process)
        folder = tmp_path / "not" / "there"
        try:
            status = bench.main([FIRST, SECOND, "--out", str(folder)])
        except KeyboardInterrupt:
            status = "stopped"
        return status, json.loads((folder / "bench_cpu.json").read_text())

    return call


def test_the_pairs_of_a_row_are_spread_over_the_run(measured):
    calls = []
    status, content = measured(lambda row, settings: calls.append((row.name, settings)) or TAKEN)
    both = list(bench.MEMORY.values())
    assert (
        status == 0
        and calls == [(name, settings) for name in (FIRST, SECOND) for settings in both] * bench.PASSES
    )
    for memory in bench.MEMORY:
        assert list(content[memory]) == [FIRST, SECOND]
        m, limit = content[memory][FIRST]["peers"]["a peer"], content[memory][FIRST]["limit"]
        assert m["ratio"] == 0.5 and m["samples"] == 5 * bench.PASSES and m["ours_ms"] == 1000
        assert limit == {"what": "what must be done", "ms": 500, "share": 0.5, "quartiles": [0.5, 0.5]}


def test_a_row_that_fails_takes_no_other_with_it(measured, capsys):
    def fails(row, settings):
        if row.name == FIRST:
            raise subprocess.CalledProcessError(1, "")
        return TAKEN

    status, content = measured(fails)
    assert status == 1 and f"failed: {FIRST}" in capsys.readouterr().out
    assert all(list(content[memory]) == [SECOND] for memory in bench.MEMORY)


def test_a_run_that_is_stopped_leaves_the_passes_it_has(measured):
    calls = itertools.count()

    def stopped(row, settings):
        if next(calls) == 2 * 4 + 1:
            raise KeyboardInterrupt
        return TAKEN

    status, content = measured(stopped)
    assert status == "stopped" and content["rows"][SECOND]["peers"]["a peer"]["samples"] == 10

    measured(lambda row, settings: TAKEN)
    calls = itertools.count()
    status, content = measured(stopped)  # fewer passes than are stored
    assert status == "stopped" and content["rows"][SECOND]["peers"]["a peer"]["samples"] == 5 * bench.PASSES


def test_a_row_in_a_process_of_its_own(capfd):
    row = rows()["min_p uniform"]
    taken = in_new_process(row, bench.MEMORY["rows_memory_kept"])
    assert [len(pairs) for part in taken.values() for pairs in part.values()] == [5, 5]
    assert list(taken["peers"]) == ["transformers MinPLogitsWarper"] and list(taken["limit"]) == [
        "one copy of the logits"
    ]
    with pytest.raises(subprocess.CalledProcessError):
        in_new_process(Row("no such row", "", None), {})
    assert "rows: no such row given" in capfd.readouterr().err


def test_a_peer_with_another_result_is_no_peer():
    ours, row = (lambda: torch.ones(3)), Row("a row", "", None)
    check_same(row, ours, {"same": ours, "no result": lambda: None})
    with pytest.raises(AssertionError, match="'a row': other gives another result"):
        check_same(row, ours, {"other": lambda: 2 * torch.ones(3)})


@pytest.mark.parametrize("name", [name for name, row in rows().items() if not row.packages])
def test_a_row_whose_peers_are_code_of_the_bench_passes_its_own_comparison(name):
    """The others' peers are installed for ``make bench`` alone."""
    row = rows()[name]
    ours, peers, limit = row.make(torch.device("cpu"))
    check_same(row, ours, peers)
    assert len(limit) == 1


def test_exponents_of_a_square_and_of_nothing():
    assert exponents([1, 2, 4], [3, 12, 48]) == [2.0, 2.0]
    assert exponents([1, 2, 4], [0, 0, 1]) == [None, None]


def test_the_two_sides_alternate_and_disturbed_samples_do_not_count(monkeypatch):
    times = {"ours": itertools.cycle([2.0, 2.0, 2.2, 9.0]), "theirs": itertools.cycle([1.0])}
    order = []
    monkeypatch.setattr(
        timing,
        "sample",
        lambda function, calls: (order.append(function()), t := next(times[function()]), t < 9)[1:],
    )
    assert timing.pairs(lambda: "ours", lambda: "theirs", samples=4) == [
        (2.0, 1.0),
        (2.2, 1.0),
        (2.0, 1.0),
        (2.0, 1.0),
    ]
    assert order == ["ours", "theirs"] * 6  # the calibration, four that count, one that does not


def test_a_machine_that_is_never_quiet_still_gives_a_number(monkeypatch):
    monkeypatch.setattr(timing, "sample", lambda function, calls: (1.0, False))
    assert timing.pairs(lambda: None, lambda: None, samples=3) == [(1.0, 1.0)] * 3


def test_ratio_is_the_median_of_the_pairs():
    m = timing.summary([[4.0, 2.0], [3.0, 1.0], [1.0, 1.0], [5.0, 1.0], [4.0, 1.0]])
    assert m == {"ratio": 3.0, "quartiles": [1.5, 4.5], "samples": 5, "ours_ms": 4000.0, "theirs_ms": 1000.0}


def test_the_stored_results_are_of_the_rows_and_curves_that_there_are():
    """A renamed row leaves an old number on the pages."""
    known = rows()
    for memory in bench.MEMORY:
        stored = records.bench("cpu")[memory]
        assert list(stored) == list(known)
        for name, row in known.items():
            bars = {peer: m["bar"] for peer, m in stored[name]["peers"].items() if m["bar"]}
            assert bars == row.bars and stored[name]["size"] == row.size, name
            assert stored[name]["limit"]["ms"] > 0, name
            # rows that came after the last whole run were taken in three passes
            assert all(m["samples"] in (15, 5 * bench.PASSES) for m in stored[name]["peers"].values()), name
    assert list(records.bench("curves_cpu")["curves"]) == [curve.name for curve in CURVES]


def test_every_package_of_a_peer_is_pinned():
    pinned = (Path(__file__).parent / "requirements.txt").read_text()
    for row in rows().values():
        for distribution in row.packages.values():
            assert f"\n{distribution}==" in pinned, row.name
