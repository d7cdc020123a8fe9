"""The way out of Jupyter Book 1: ``_sphinx/conf.py`` says to plain Sphinx what Jupyter Book makes of
``_config.yml``, and the site comes out the same.
"""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from jupyter_book.config import get_final_config

ROOT = Path(__file__).resolve().parent.parent
# Jupyter Book's own, and what Sphinx looks for beside conf.py: paths.
OWN = {
    "comments_config",
    "use_jupyterbook_latex",
    "use_multitoc_numbering",
    "latex_engine",
    "nb_custom_formats",
}
PATHS = {
    "html_logo",
    "html_favicon",
    "bibtex_bibfiles",
    "html_static_path",
    "html_css_files",
    "html_js_files",
}
THEME = {"repository_url", "repository_branch", "extra_footer", "launch_buttons", "search_bar_text", "logo"}


@pytest.fixture(scope="module")
def plain():
    before = list(sys.path)
    yield runpy.run_path(str(ROOT / "_sphinx" / "conf.py"))
    sys.path[:] = before


@pytest.fixture(scope="module")
def book():
    before = list(sys.path)
    yield get_final_config(
        user_yaml=ROOT / "_config.yml", sourcedir=ROOT, cli_config={"latex_individualpages": False}
    )[0]
    sys.path[:] = before


def test_every_setting_of_jupyter_book_is_there(plain, book):
    extensions = [name for name in book["extensions"] if name not in ("jupyter_book", "sphinx_comments")]
    assert plain["extensions"] == extensions
    for name in set(book) & set(plain) - PATHS - {"extensions", "html_theme_options", "exclude_patterns"}:
        assert plain[name] == book[name] or Path(book[name]).name == plain[name], name
    assert set(book["exclude_patterns"]) - set(plain["exclude_patterns"]) <= {
        ".DS_Store",
        "Thumbs.db",
        "**.ipynb_checkpoints",
    }
    left = {name for name, value in book.items() if value} - OWN - set(plain)
    assert not [name for name in left if not name.startswith(("nb_execution", "latex", "pygments"))], left


def test_the_theme_is_told_the_same(plain, book):
    ours, theirs = plain["html_theme_options"], book["html_theme_options"]
    assert {key: ours[key] for key in THEME - {"launch_buttons"}} == {
        key: theirs[key] for key in THEME - {"launch_buttons"}
    }
    assert ours["launch_buttons"]["colab_url"] == theirs["launch_buttons"]["colab_url"]
    for key in theirs:
        if key.endswith("_button"):
            assert ours[key] == theirs[key], key


def test_it_does_not_import_jupyter_book():
    text = (ROOT / "_sphinx" / "conf.py").read_text("utf-8")
    assert not [
        line for line in text.splitlines() if line.startswith(("import", "from")) and "jupyter" in line
    ]


@pytest.mark.slow
def test_the_site_builds_strictly_without_jupyter_book(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-c", "_sphinx", "."]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    for page in [
        contents["root"],
        *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"]),
    ]:
        soup = BeautifulSoup((tmp_path / f"{page}.html").read_text("utf-8"), "html.parser")
        assert len(soup.select("article h1")) == 1, page
