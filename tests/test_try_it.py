"""The page "Try it on your data": its table lies beside it, or is written from the package."""

from pathlib import Path

import nbformat
import pandas as pd
import yaml

from tricks_lib.lab import tasks

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "chapters" / "try_it.ipynb"
TABLE = PAGE.with_suffix(".csv")


def test_the_table_is_400_rows_of_the_notes():
    table, notes = pd.read_csv(TABLE), tasks.load_task("guest_notes/topic")["train"]
    names = notes.features["label"].names
    known = dict(zip(notes["text"], notes["label"]))
    assert len(table) == 400 and [*table.columns] == ["text", "topic"]
    assert [names[known[text]] for text in table.text] == [*table.topic]


def test_opened_alone_the_notebook_writes_the_same_table(tmp_path, monkeypatch):
    cells = nbformat.read(PAGE, as_version=4).cells
    (cell,) = [each.source for each in cells if each.cell_type == "code" and ".to_csv(" in each.source]
    monkeypatch.chdir(tmp_path)
    exec(cell, {})  # noqa: S102
    assert (tmp_path / TABLE.name).read_bytes() == TABLE.read_bytes()


def test_it_stands_directly_after_the_start_page():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    assert contents["root"] == "index"
    assert contents["parts"][0]["chapters"][0] == {"file": "chapters/try_it"}
