"""What a build writes when something changed since the last one, in a book of three pages."""

import re
import subprocess
import sys

import pytest

from .conftest import ROOT

CONF = """
import sys
sys.path.insert(0, "_ext")
extensions = ["sphinx_sitemap", "write_dependents"]
html_baseurl, sitemap_url_scheme = "https://a.example/", "{link}"
sitemap_excludes = ["search.html", "genindex.html"]
"""


@pytest.fixture
def book(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_ext").mkdir()
    files = {
        "conf.py": CONF,
        "index.rst": "Book\n====\n\n.. toctree::\n\n   a\n   b\n",
        "a.rst": "First\n=====\n\nText.\n",
        "b.rst": "Second\n======\n\nText.\n",
        "_static/book.css": "p {}",
        "references.bib": "",
        "_ext/write_dependents.py": (ROOT / "_ext" / "write_dependents.py").read_text("utf-8"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def build(book) -> set[str]:
    """The pages that are written by a build."""
    before = {page: page.stat().st_mtime_ns for page in book.glob("out/*.html")}
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", ".", "out"], cwd=book, check=True)
    listed = re.findall("<loc>https://a.example/(.*?)</loc>", (book / "out" / "sitemap.xml").read_text())
    assert listed == ["a.html", "b.html", "index.html"]
    return {page.stem for page in book.glob("out/*.html") if page.stat().st_mtime_ns != before.get(page)} & {
        "a",
        "b",
        "index",
    }


@pytest.mark.parametrize(
    "name, text, written",
    [
        ("a.rst", "First\n=====\n\nAnother text.\n", {"a", "index"}),  # Sphinx always writes the first page
        ("a.rst", "Another title\n=============\n\nText.\n", {"a", "b", "index"}),
        ("a.rst", "First\n=====\n\nText.\n\nA section\n---------\n", {"a", "b", "index"}),
        ("_static/book.css", "p {color: red}", {"a", "b", "index"}),
    ],
)
def test_what_a_change_writes(book, name, text, written):
    assert build(book) == {"a", "b", "index"}
    (book / name).write_text(text)
    assert build(book) == written


def test_nothing_is_written_when_nothing_changed(book):
    assert build(book) == {"a", "b", "index"}
    assert build(book) == set()
