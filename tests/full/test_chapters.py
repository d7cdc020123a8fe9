"""All chapters and "Stacking" in profile ``full``, every cell, against the stand-in hub."""

import pytest

from tests.full import runner

AT_MOST = 300  # seconds of a T4, by count of tokens


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("notebook", runner.NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_in_time(notebook, address, tmp_path, record_property):
    report = runner.run(notebook, tmp_path, address)
    record_property("notebook", str(report))
    assert not report.errors, report
    assert 0 < sum(report.t4.values()) <= AT_MOST, report


def test_no_notebook_is_left_out():
    assert [path.stem[:2] for path in runner.NOTEBOOKS] == [*(f"{n:02}" for n in range(1, 12)), "st"]
