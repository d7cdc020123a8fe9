"""The commands and the files that the pages name are there."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tricks_lib.lab import fetch
from tricks_lib.lab.__main__ import comparisons
from tricks_lib.lab.experiment import registry

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "index.md")),
    *sorted((ROOT / "chapters").glob("*.md")),
    *sorted((ROOT / "chapters").glob("*.ipynb")),
]
MODULE = re.compile(r"python -m ([\w.]+)((?: +[\w./-]+)*)")
SOURCE = re.compile(r"\b((?:tricks_lib|scripts|tests)/[\w/]*\w\.py)\b")
TARGET = re.compile(r"(?m)(?:^|`)make ([a-z][\w-]*)")
PLACEHOLDER = re.compile(r"[A-Z]+|owner/name|-.*")


def text_of(page: Path) -> str:
    text = page.read_text("utf-8")
    if page.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def wrong(text: str) -> list[str]:
    """What a text names and is not there."""
    found = []
    known = {"run": {*registry(), *comparisons()}, "fetch": {*fetch.names()}}
    known["show"] = known["run"]
    for module, words in MODULE.findall(text):
        if importlib.util.find_spec(module) is None:
            found.append(f"python -m {module}")
        command, *names = words.split() or [""]
        names = names if command == "fetch" else names[:1]  # what follows is an option
        if module == "tricks_lib.lab" and command in known:
            asked = [name for name in names if not PLACEHOLDER.fullmatch(name)]
            found += [f"{command} {name}" for name in asked if name not in known[command]]
    found += [name for name in SOURCE.findall(text) if not (ROOT / name).is_file()]
    targets = {*re.findall(r"(?m)^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"))}
    return found + [f"make {name}" for name in TARGET.findall(text) if name not in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_is_there(page):
    assert not wrong(text_of(page))


@pytest.mark.parametrize(
    "text",
    [
        "python -m tricks_lib.lab.pretrain bert",
        "python -m tricks_lib.lab run rdrop/nowhere --jobs 2",
        "python -m tricks_lib.lab fetch en_trec en_nowhere",
        "in `tricks_lib/lab/objectives.py`",
        "```bash\nmake everything\n```",
    ],
)
def test_what_is_not_there_is_found(text):
    assert len(wrong(text)) == 1
