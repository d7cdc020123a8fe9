"""The bench itself: that it refuses what it must, and that its two results can be compared."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks import __main__ as bench
from tests.benchmarks import timing
from tests.benchmarks.__main__ import check_same, compare, rows
from tests.benchmarks.curves import CURVES
from tests.benchmarks.peers import versions
from tests.benchmarks.row import Row
from tests.benchmarks.timing import exponents
from tricks_lib.lab import records


def written(path, ratio, **others):
    path.write_text(json.dumps({"rows": {"a row": {"peers": {"a peer": {"ratio": ratio}}}, **others}}))
    return path


@pytest.mark.parametrize("ratio, status", [(0.5, 0), (0.57, 0), (0.58, 1), (0.43, 1)])
def test_two_results_agree_within_15_percent(tmp_path, capsys, ratio, status):
    assert compare(written(tmp_path / "a.json", 0.5), written(tmp_path / "b.json", ratio)) == status
    assert ("a row / a peer" in capsys.readouterr().out) == bool(status)


def test_a_row_of_one_result_alone_is_named(tmp_path, capsys):
    compare(written(tmp_path / "a.json", 1.0), written(tmp_path / "b.json", 1.0, lost={"peers": {}}))
    assert "only in one file: lost" in capsys.readouterr().out


def test_a_missing_peer_is_an_error_that_names_it_not_a_silent_skip():
    row = Row("a row", "", None, packages={"their loss": "no-such-distribution"})
    with pytest.raises(ModuleNotFoundError, match="'a row'.*'their loss' needs no-such-distribution"):
        versions(row)


def test_results_go_into_a_folder_that_is_made_first(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "there"

    def run(row, device):
        assert folder.is_dir(), "what is measured now could not be written"
        return {"size": "", "peers": {}, "limit": {"what": "", "share": 1.0}}

    monkeypatch.setattr(bench, "run", run)
    assert bench.main([name := next(iter(rows())), "--out", str(folder)]) == 0
    assert list(json.loads((folder / "bench_cpu.json").read_text())["rows"]) == [name]


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


def test_ratio_is_the_median_of_pairs_and_disturbed_samples_do_not_count(monkeypatch):
    times = {"ours": itertools.cycle([2.0, 2.0, 2.2, 9.0]), "theirs": itertools.cycle([1.0])}
    monkeypatch.setattr(timing, "sample", lambda function, calls: (t := next(times[function()]), t < 9))
    m = timing.measure(lambda: "ours", lambda: "theirs", samples=9)
    assert m["ratio"] == 2.0 and m["quartiles"] == [2.0, 2.2] and m["samples"] == 9 and m["tried"] > 9
    assert m["ours_ms"] == 2000 and m["theirs_ms"] == 1000


def test_the_stored_results_are_of_the_rows_and_curves_that_there_are():
    """A renamed row leaves an old number on the pages."""
    known = rows()
    stored = records.bench("cpu")["rows"]
    assert set(stored) == set(known)
    for name, row in known.items():
        bars = {peer: m["bar"] for peer, m in stored[name]["peers"].items() if m["bar"]}
        assert bars == row.bars and stored[name]["size"] == row.size, name
        assert stored[name]["limit"]["ms"] > 0, name
    assert list(records.bench("curves_cpu")["curves"]) == [curve.name for curve in CURVES]


def test_every_package_of_a_peer_is_pinned():
    pinned = (Path(__file__).parent / "requirements.txt").read_text()
    for row in rows().values():
        for distribution in row.packages.values():
            assert f"\n{distribution}==" in pinned, row.name
