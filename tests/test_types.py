"""The types: mypy reads the tricks and the trainer, with the settings in ``pyproject.toml``, and code of a
reader who installs them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USER = """
import torch
from torch import nn

from tricks_lib.ema import EMA
from tricks_lib.fgm import FGM
from tricks_lib.focal_loss import FocalLoss
from tricks_lib.mean_pooling import mean_pool

ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
model = nn.Embedding(9, 4)
average, attack, loss = EMA(model, 0.9), FGM(model), FocalLoss(gamma=1.0)
value: torch.Tensor = loss(mean_pool(model(ids), torch.ones_like(ids)), torch.tensor([0, 1]))
torch.autograd.backward(value)
attack.attack()
attack.restore()
average.update()
"""


def mypy_says(cwd, *arguments):
    """Its errors. What is on PYTHONPATH counts as installed, and mypy says nothing of it."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *map(str, arguments)],
        cwd=cwd,
        env=clean,
        capture_output=True,
        text=True,
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if ": note: " not in line]


def test_mypy_has_nothing_to_say_of_the_tricks_and_the_trainer():
    assert mypy_says(ROOT) == []


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """An environment of a reader: the package as files in site-packages, beside what this one has."""
    folder = tmp_path_factory.mktemp("reader")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here, there = (
        Path(subprocess.run([one, "-c", packages], check=True, capture_output=True, text=True).stdout.strip())
        for one in (sys.executable, python)
    )
    for file in (ROOT / "tricks_lib").rglob("*"):
        if file.suffix == ".py" or file.name == "py.typed":
            copy = there / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    (there / "book.pth").write_text(f"import site; site.addsitedir({str(here)!r})\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, said",
    [
        (("", ""), None),
        (("gamma=1.0", 'gamma="1"'), 'Argument "gamma" to "FocalLoss" has incompatible type'),
    ],
    ids=["right", "wrong"],
)
def test_strict_code_of_a_reader(reader, change, said):
    (reader / "user.py").write_text(USER.replace(*change) if said else USER)
    found = mypy_says(
        reader, "--strict", "--python-executable", reader / "venv" / "bin" / "python", "user.py"
    )
    assert len(found) == (said is not None) and all(said in line for line in found)
