"""``pytest --nbval``, typed as it is: it collects every cell, and nothing has to be set for it to pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
SET = ("TRICKS_", "OMP_", "HF_", "TOKENIZERS_", "PYTEST_", "PYTHONPATH", "PYTHONHASHSEED", "PYDEVD_")
PYTEST = Path(sys.executable).with_name("pytest")


def pytest_in(folder, *arguments, **environment):
    """pytest in a folder, with none of the variables that this run has set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SET)}
    done = subprocess.run(
        [PYTEST, *map(str, arguments), "-p", "no:cacheprovider"],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def collected(output):
    return sum(".ipynb::" in line for line in output.splitlines())


def cells(path):
    return sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("without", [[], ["-p", "no:xdist", "-p", "no:timeout"]], ids=["as it is", "bare"])
def test_the_plain_command_collects_every_cell_and_the_unit_tests(without):
    code, output = pytest_in(ROOT, "--nbval", "--collect-only", "-q", *without)
    assert code == 0 and collected(output) == sum(map(cells, NOTEBOOKS)) > 0
    assert f"tests/{Path(__file__).name}::" in output


@pytest.mark.parametrize("option", ["--nbval", "--nbval-lax"])
@pytest.mark.parametrize("folder", ["root", "chapters", "elsewhere"])
def test_one_notebook_from_any_folder(option, folder, tmp_path):
    where = {"root": ROOT, "chapters": ROOT / "chapters", "elsewhere": tmp_path}[folder]
    name = os.path.relpath(NOTEBOOKS[0], where) if folder != "elsewhere" else NOTEBOOKS[0]
    code, output = pytest_in(where, option, name, "--collect-only", "-q")
    assert code == 0 and collected(output) == cells(NOTEBOOKS[0])


PROBE = """
import os, platform, sys, tricks_lib
print(os.environ["TRICKS_PROFILE"], os.environ["OMP_NUM_THREADS"], os.environ["HF_HUB_OFFLINE"])
print(f"Python {platform.python_version()}, torch 2.13.0+cpu, transformers 5.23.0")
print(os.path.realpath(sys.executable) == os.environ["INTERPRETER"])
print(tricks_lib.__file__ == os.environ["FILE"])
"""


def test_a_notebook_runs_in_this_interpreter_in_profile_mini_whatever_the_versions(tmp_path):
    """The stored outputs name other versions; two workers do not tear the cells apart."""
    for name in ("conftest.py", "pyproject.toml", "tests/nbval_sanitize.cfg", "tricks_lib/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    stored = [
        "mini 1 1\n",
        "Python 3.99.1rc2, torch 9.9.9+cu999, transformers 9.1.0.dev0\n",
        "True\nTrue\n",
    ]
    first = nbformat.v4.new_code_cell(
        PROBE.strip(), execution_count=1, outputs=[nbformat.v4.new_output("stream", text="".join(stored))]
    )
    rest = [
        nbformat.v4.new_code_cell("tricks_lib.__name__ and 1", execution_count=n, outputs=[])
        for n in range(2, 8)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (tmp_path / "chapters").mkdir()
    for cell in rest:
        cell.outputs = [
            nbformat.v4.new_output(
                "execute_result", {"text/plain": "1"}, execution_count=cell.execution_count
            )
        ]
    nbformat.write(
        nbformat.v4.new_notebook(cells=[first, *rest], metadata=kernel), tmp_path / "chapters" / "01.ipynb"
    )
    code, output = pytest_in(
        tmp_path,
        "--nbval",
        "-n",
        "2",
        INTERPRETER=os.path.realpath(sys.executable),
        FILE=str(tmp_path / "tricks_lib" / "__init__.py"),
    )
    assert code == 0 and re.search(
        r"7 notebook cells and 0 unit tests passed in \d+\.\d minutes\nlongest: chapters/01\.ipynb \d+ s",
        output,
    ), output


def test_variables_set_by_hand_win(tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "test_it.py").write_text(
        "import os\ndef test_it(): assert os.environ['TRICKS_PROFILE'] == 'full'\n"
    )
    assert pytest_in(tmp_path, TRICKS_PROFILE="full")[0] == 0
    assert pytest_in(tmp_path)[0] == 1
