"""The page "Status" speaks of the notebooks as they are."""

import json
import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

from tests import covered, status
from tricks_lib.lab import records

AGAIN = "run: make status"


def test_every_notebook_of_the_book_is_there_and_no_other():
    assert list(records.read(status.FILE)["notebooks"]) == list(status.notebooks()), AGAIN


@pytest.mark.parametrize("name", status.notebooks())
def test_counts_are_those_of_the_notebook(name):
    found = records.read(status.FILE)["notebooks"][name]
    assert {key: found[key] for key in ("cells", "with_text", "compared")} == status.counts(
        status.notebooks()[name]
    ), AGAIN


def test_record_names_hardware_and_versions():
    assert all(
        records.read(status.FILE)["environment"][key] for key in ("device", "python", "torch", "transformers")
    )


def test_the_tests_run_nearly_all_of_the_package():
    """As it was measured last; the modules are those of today."""
    if not covered.FILE.is_file():
        pytest.skip("not measured; run: make coverage")
    modules = records.read(covered.FILE)["modules"]
    package = covered.ROOT / "tricks_lib"
    there = {covered.module_of(str(file.relative_to(covered.ROOT))) for file in package.rglob("*.py")}
    assert {*modules} == there - {"lab"}, "run: make coverage"
    assert covered.percent(modules) >= covered.LEAST


def test_coverage_by_hand():
    lines = [("_head.py", 10, 5), ("ema/state.py", 6, 6), ("ema/weights.py", 4, 4)]
    files = {
        f"tricks_lib/{name}": {"summary": {"num_statements": n, "covered_lines": run}}
        for name, n, run in lines
    }
    found = covered.summary({"files": files})
    assert found == {"shared": {"lines": 10, "run": 5}, "ema": {"lines": 10, "run": 10}}
    assert covered.percent(found) == 75


def test_no_experiment_reads_it():
    assert not [name for name in records.names() if "status" in name]


def notebook(path, *cells):
    """A notebook whose cells print what stands beside them."""
    cells = [
        v4.new_code_cell(
            source,
            execution_count=number,
            outputs=[v4.new_output("stream", name="stdout", text=text)] if text else [],
        )
        for number, (source, text) in enumerate(cells, start=1)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_counts_by_hand(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb",
        ("a = 1", ""),
        ("print(a)", "1\n"),
        ("# NBVAL_IGNORE_OUTPUT\nprint(id(a))", "7\n"),
    )
    assert status.counts(path) == {"cells": 3, "with_text": 2, "compared": 1}


@pytest.mark.slow
def test_what_fails_is_not_recorded_and_what_holds_is(tmp_path, monkeypatch, capsys):
    pages = {
        "right": notebook(tmp_path / "right.ipynb", ("print(1)", "1\n")),
        "wrong": notebook(tmp_path / "wrong.ipynb", ("print(2)", "1\n")),
    }
    monkeypatch.setattr(status, "FILE", tmp_path / "status.json")
    monkeypatch.setattr(status, "notebooks", lambda: pages)
    assert status.main([]) == 1
    found = json.loads((tmp_path / "status.json").read_text("utf-8"))["notebooks"]
    assert (
        list(found) == ["right"] and found["right"]["compared"] == 1 and found["right"]["cpu_seconds"] > 0.1
    )
    assert "error: wrong: not as stored" in capsys.readouterr().err


def test_unknown_name_says_what_is_accepted():
    done = subprocess.run(
        [sys.executable, "-m", "tests.status", "12_nothing"],
        cwd=status.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 2
        and f"12_nothing given; accepted are {', '.join(status.notebooks())}" in done.stderr
    )
