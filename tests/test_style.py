"""The house style, as tools check it: ruff lints and formats the code, codespell reads code and prose."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent


def said(*command, cwd=ROOT):
    done = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=cwd, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr or "failed"


@pytest.mark.parametrize(
    "arguments", [["check", "--output-format", "concise"], ["format", "--diff"]], ids=str
)
def test_ruff_has_nothing_to_say(arguments):
    assert not said("ruff", *arguments, "--no-cache", ".")


def test_codespell_has_nothing_to_say_of_the_code_and_the_pages():
    assert not said("codespell_lib")


def test_codespell_has_nothing_to_say_of_the_notebooks(tmp_path):
    """Of what is written there; the stored pictures are full of words that are none."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    for path in (ROOT / "chapters").glob("*.ipynb"):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        (tmp_path / f"{path.stem}.md").write_text(text, "utf-8")
    assert not said("codespell_lib", cwd=tmp_path)
