"""What ``_ext/page_html.py`` makes of a page."""

import importlib.util
from pathlib import Path

import pytest
from docutils import nodes
from docutils.utils import new_document

FILE = Path(__file__).resolve().parent.parent / "_ext" / "page_html.py"


@pytest.fixture(scope="module")
def page_html():
    spec = importlib.util.spec_from_file_location("page_html", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_what_is_folded_in_the_exercises_is_called_a_solution(page_html):
    document, cells = new_document("page"), {}
    for name in ("code", "exercises"):
        section = nodes.section(ids=[name])
        for mode in ("all", "input"):
            cells[name, mode] = nodes.container("", hide_mode=mode, prompt_show="Show", prompt_hide="Hide")
            section += cells[name, mode]
        document += section
    page_html.name_solutions(None, document)
    called = {key for key, cell in cells.items() if cell["prompt_show"] == "Solution"}
    assert called == {("exercises", "all")}
