"""What a chapter calls a recipe is a whole program: the fence with the reader's own lines, then the cells
tagged ``recipe``. Each is copied into an empty folder, with the checkpoint replaced by a folder, and runs
there without ``tricks_lib.lab``.
"""

import csv
import json
import os
import re
import subprocess
import sys

import pytest

from tests.test_notebook_rules import CHAPTERS, NOTEBOOKS, RECIPE
from tricks_lib.lab import models, tasks

ROOT = CHAPTERS[0].parent.parent
STANDS_IN = re.compile(r'ASSETS / "(\w+)"')
WITH_RECIPE = [path for path in NOTEBOOKS if '"recipe"' in path.read_text()]
NUMBERS = ("11",)  # chapters whose labels are numbers


def recipe(path) -> tuple[str, str]:
    """The program, and the embedded checkpoint that stands in for the one it names."""
    cells = json.loads(path.read_text())["cells"]
    sources = [
        ("".join(cell["source"]), cell["cell_type"], cell["metadata"].get("tags", [])) for cell in cells
    ]
    fence = next(
        RECIPE.search(text)[1] for text, kind, _ in sources if kind == "markdown" and RECIPE.search(text)
    )
    copied = [text for text, kind, tags in sources if kind == "code" and "recipe" in tags]
    stands_in = next(
        STANDS_IN.search(text)[1]
        for text, _, tags in sources
        if "hide-input" in tags and STANDS_IN.search(text)
    )
    return "\n\n".join([fence, *copied]), stands_in


def write_tables(folder, numbers: bool) -> None:
    notes = tasks.load_task("guest_notes/rating" if numbers else "guest_notes/topic")
    for split, rows in (("train", 32), ("validation", 16)):
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            found = notes[split].select(range(rows))
            table.writerows(zip(found["text"], found["label"]))


@pytest.mark.parametrize("path", WITH_RECIPE, ids=lambda path: path.stem)
def test_a_recipe_runs_in_an_empty_folder(path, tmp_path):
    program, stands_in = recipe(path)
    assert "tricks_lib.lab" not in program and "import lab" not in program
    program, replaced = re.subn(
        r'(?m)^checkpoint = ".*?"', f"checkpoint = {str(models.ASSETS / stands_in)!r}", program
    )
    assert replaced == 1
    (tmp_path / "recipe.py").write_text(program)
    write_tables(tmp_path, path.stem[:2] in NUMBERS)
    settings = {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "cache"), "PYTHONWARNINGS": "default"}
    result = subprocess.run(
        [sys.executable, "recipe.py"], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip(), "a recipe prints its validation score"


def test_every_chapter_has_one():
    assert set(CHAPTERS) <= set(WITH_RECIPE)
