"""What a chapter says of its model and its texts holds in both profiles, or says in which."""

import re

import nbformat
import pytest

from tests.full.runner import NOTEBOOKS

OF_MINI = re.compile(r"\bmini_\w+|\bguest notes?\b", re.IGNORECASE)
OTHER_TEXTS = re.compile(r'"en_\w+"')  # a data set of the hub, in place of the guest notes
NAMES_A_PROFILE = re.compile(r"\bprofile\b|`full`")
SAME_IN_BOTH = ("Evidence", "References")  # records and papers
OF_RECORDS = "> | Measured on |"  # in the table at a chapter's top


def unqualified(notebook) -> list[str]:
    """Paragraphs that speak of what only profile ``mini`` loads, and of no profile."""
    found, section = [], ""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    if not OTHER_TEXTS.search(code):
        return found
    for cell in notebook.cells:
        for paragraph in cell.source.split("\n\n") if cell.cell_type == "markdown" else ():
            if heading := re.match(r"## (.*)", paragraph):
                section = heading[1]
            if section not in SAME_IN_BOTH and OF_MINI.search(paragraph):
                lines = [line for line in paragraph.splitlines() if not line.startswith(OF_RECORDS)]
                named = NAMES_A_PROFILE.search(paragraph) or not OF_MINI.search("\n".join(lines))
                found += [] if named else [paragraph]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_only_one_profile_loads_is_said_with_its_profile(path):
    assert unqualified(nbformat.read(path, as_version=4)) == []


LOADS = 'name = {"mini": "guest_notes/topic", "full": "en_mrpc"}[lab.profile()]'


@pytest.mark.parametrize(
    "code, text, refused",
    [
        (LOADS, "One step on `mini_bert`:", True),
        (LOADS, "Guest notes by topic:", True),
        (LOADS, "Guest notes by topic (in `full`: MRPC):", False),
        (LOADS, "In profile `mini` it is mini_bert.", False),
        (LOADS, "## Evidence\n\n`mini_bert`, fine-tuned whole", False),
        (LOADS, "> | Measured on | `mini_bert`, 40 steps |", False),
        (LOADS, "> | Buys | what `mini_bert` has |\n> | Measured on | `mini_bert` |", True),
        ('tasks.load_task("guest_notes/topic")', "Guest notes by topic:", False),
    ],
)
def test_the_rule_finds_it(code, text, refused):
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_markdown_cell(text)]
    assert bool(unqualified(nbformat.v4.new_notebook(cells=cells))) == refused
