"""The house style, as tools check it: ruff lints and formats the code, codespell reads code and prose; no
module of the lab is long, and no six lines of code stand twice in the package.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "tricks_lib").rglob("*.py"))
LONGEST, REPEATED = 300, 6  # lines of a module of the lab; lines of code that may not stand twice


def said(*command, cwd=ROOT):
    done = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=cwd, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr or "failed"


@pytest.mark.parametrize(
    "arguments", [["check", "--output-format", "concise"], ["format", "--diff"]], ids=str
)
def test_ruff_has_nothing_to_say(arguments):
    assert not said("ruff", *arguments, "--no-cache", ".")


def test_every_name_of_a_notebook_is_known_and_used():
    """But for the package itself, which the first cell imports to see whether it is there."""
    notebooks = sorted((ROOT / "chapters").glob("*.ipynb"))
    options = ["--isolated", "--no-cache", "--select", "F401,F811,F821", "--output-format", "concise"]
    found = [line for line in said("ruff", "check", *options, *notebooks).splitlines() if ".ipynb:" in line]
    assert len(found) >= len(notebooks), "the first cells, so that something was read"
    assert [line for line in found if "`tricks_lib` imported but unused" not in line] == []


def test_codespell_has_nothing_to_say_of_the_code_and_the_pages():
    assert not said("codespell_lib")


def test_codespell_has_nothing_to_say_of_the_notebooks(tmp_path):
    """Of what is written there; the stored pictures are full of words that are none."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    for path in (ROOT / "chapters").glob("*.ipynb"):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        (tmp_path / f"{path.stem}.md").write_text(text, "utf-8")
    assert not said("codespell_lib", cwd=tmp_path)


# ---- Modules are short, and nothing stands twice ----


def code_lines(text: str) -> list[tuple[int, str]]:
    """Lines that do something, with their numbers: no blanks, comments, docstrings, imports or signatures.

    A signature is an interface: a function and the class around it have the same parameters on purpose.
    """
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            left_out.update(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out.update(range(node.lineno, node.body[0].lineno))
    lines = [(number, " ".join(line.split())) for number, line in enumerate(text.splitlines(), start=1)]
    return [(n, line) for n, line in lines if line and n not in left_out and not line.startswith("#")]


def standing_twice(texts: dict[str, str]) -> list[str]:
    """Every run of ``REPEATED`` lines of code that is there more than once: ``a.py:3 = b.py:40``."""
    places = defaultdict(list)
    for name, text in texts.items():
        lines = code_lines(text)
        for i in range(len(lines) - REPEATED + 1):
            run = tuple(line for _, line in lines[i : i + REPEATED])
            places[run].append(f"{name}:{lines[i][0]}")
    return [" = ".join(found) for found in places.values() if len(found) > 1]


def test_no_run_of_six_lines_stands_twice_in_the_package():
    assert not standing_twice({str(f.relative_to(ROOT)): f.read_text("utf-8") for f in PACKAGE})


def test_no_module_of_the_lab_is_long():
    lines = {f.relative_to(ROOT / "tricks_lib").as_posix(): f.read_text("utf-8").count("\n") for f in PACKAGE}
    long = {name for name, count in lines.items() if name.startswith("lab/") and count > LONGEST}
    assert not long


BODY = "\n".join(f"    a{i} = {i}" for i in range(REPEATED))
SIGNATURE = "def f(\n" + "".join(f"    a{i}=0,\n" for i in range(REPEATED)) + "):\n    return {}\n"
TWICE = {
    "the same body": (f"def f():\n{BODY}\n", f"class C:\n  def g(self):\n{BODY}\n    b = 1\n", True),
    "spaces, comments and blank lines between": (
        f"def f():\n{BODY}\n",
        BODY.replace("    ", "") + "\n",
        True,
    ),
    "one line fewer": (f"def f():\n{BODY}\n", "\n".join(BODY.split("\n")[1:]).replace("    ", ""), False),
    "another line within": (
        f"def f():\n{BODY}\n",
        BODY.replace("    ", "").replace("a3 = 3", "a3 = 4"),
        False,
    ),
    "one signature": (SIGNATURE.format(1), SIGNATURE.format(2), False),
    "imports": ("".join(f"import a{i}\n" for i in range(REPEATED)),) * 2 + (False,),
}


@pytest.mark.parametrize("one, other, found", TWICE.values(), ids=TWICE)
def test_what_stands_twice_is_found(one, other, found):
    commented = other.replace("a2 = 2", "a2 =  2\n\n# why\n") if "\n    " not in other else other
    assert bool(standing_twice({"one.py": one, "other.py": commented})) == found
