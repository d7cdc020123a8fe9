"""The wheel, installed outside the checkout, as a reader in Colab has it: assets and evidence inside, nothing
replaced.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that the checkout keeps no build folder."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "tricks_lib", "chapters"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(copy / "dist"),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next((copy / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder that holds nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )
    return target


def run(site, code):
    """Python outside the checkout, with the installed package first."""
    environment = {**os.environ, "PYTHONPATH": str(site), "TRICKS_PROFILE": "mini", "HF_HUB_OFFLINE": "1"}
    environment.pop("TRICKS_MODELS", None), environment.pop("TRICKS_DATA", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_assets_and_evidence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "tricks_lib" / "assets").rglob("*"):
        if file.is_file():
            assert str(file.relative_to(ROOT)) in names
    for record in (ROOT / "chapters" / "evidence").glob("*.*"):
        under_way = record.name.endswith(".partial.json")
        assert (f"tricks_lib/evidence/{record.name}" in names) == (not under_way)
    assert "tricks_lib/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "scripts", "chapters"))]


def test_assets_are_at_most_32_mb_and_each_checkpoint_at_most_8():
    sizes = {
        file: file.stat().st_size for file in (ROOT / "tricks_lib" / "assets").rglob("*") if file.is_file()
    }
    assert sum(sizes.values()) <= 32e6
    assert all(size <= 8e6 for file, size in sizes.items() if file.suffix == ".safetensors")


def test_installed_package_works_outside_the_checkout(site):
    out = run(site, (
        "import tricks_lib; from tricks_lib.lab import models, records, tasks\n"
        "print(tricks_lib.__file__)\n"
        "models.load_encoder('mini_bert'); print(len(tasks.load_task('guest_notes/topic')['train'])); "
        "print(records.names())"
    ))  # fmt: skip
    assert str(site) in out and "mini_bert: " in out and "embedded" in out and "mini_bert/en_trec" in out


def test_a_trick_imports_torch_and_not_transformers(site):
    code = "import sys, tricks_lib.mean_pooling; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert run(site, code).split() == ["True", "False"]


def requirements(wheel):
    """Requirements of the wheel by extra; "" for those without."""
    with zipfile.ZipFile(wheel) as archive:
        file = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(file).decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("Requires-Dist: "):
            requirement, _, marker = line.removeprefix("Requires-Dist: ").partition("; extra == ")
            found.setdefault(marker.strip("\"'"), []).append(requirement.strip())
    return found


def test_requirements_are_ranges_that_hold_what_colab_has(wheel):
    """An exact pin would replace Colab's torch or transformers."""
    needed = requirements(wheel)
    assert {*needed[""]} == {"torch>=2.6", "transformers<6,>=4.56", "numpy>=2.0", "safetensors>=0.5"}
    every = [each for extra in needed.values() for each in extra]
    assert not [each for each in every if "==" in each or "~=" in each]


# Hides from Python every module of a distribution that neither torch nor transformers requires.
HIDE_THE_EXTRAS = r"""
import importlib.metadata as metadata, re, sys
there = {d.metadata["Name"].lower().replace("_", "-") for d in metadata.distributions()}
def required(name, seen):
    if name not in seen:
        seen.add(name)
        for line in metadata.requires(name) or []:
            one = re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")
            if "extra ==" not in line and one in there:
                required(one, seen)
    return seen
kept = set()
for name in ("torch", "transformers", "numpy", "safetensors", "tricks-lib"):
    required(name, kept)
hidden = {module for module, of in metadata.packages_distributions().items()
          if not kept & {name.lower().replace("_", "-") for name in of}}
assert {"accelerate", "datasets", "matplotlib", "pandas"} <= hidden and not {"numpy", "tqdm"} & hidden
class Hide:
    def find_spec(self, name, *_):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
"""


MODULES = sorted(
    p.stem
    for p in (ROOT / "tricks_lib").iterdir()
    if not p.name.startswith("_") and (p.suffix == ".py" or (p / "__init__.py").is_file())
)
TRICKS = [name for name in MODULES if name not in ("lab", "trainer", "assets")]


def test_the_eleven_modules_import_with_torch_and_transformers_alone(site):
    assert len(TRICKS) == 11
    run(site, HIDE_THE_EXTRAS + "".join(f"import tricks_lib.{name}\n" for name in TRICKS))


@pytest.mark.parametrize("module, extra", [("trainer", "trainer"), ("lab", "lab")])
def test_a_missing_extra_is_named(site, module, extra):
    code = (
        HIDE_THE_EXTRAS
        + f"try: import tricks_lib.{module}\nexcept ImportError as error: print(error)\nelse: print()"
    )
    assert f"pip install 'tricks_lib[{extra}]'" in run(site, code)


@pytest.fixture
def would_install(wheel, tmp_path):
    """``would_install({name: version})``: what pip would install for the wheel where these distributions are,
    from pip's report; None: refused.
    """
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next(environment.glob("lib/python*/site-packages"))

    def ask(there):
        for name, version in there.items():  # to pip, a distribution is its metadata
            folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (folder / "RECORD").touch()
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            environment / "bin" / "python",
            "install",
            "--quiet",
            "--dry-run",
            "--no-index",
            "--report",
            "-",
            wheel,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
            | {"PIP_CONFIG_FILE": os.devnull},
        )
        return (
            {one["metadata"]["name"] for one in json.loads(done.stdout)["install"]}
            if done.returncode == 0
            else None
        )

    return ask


def lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return dict(
        re.match(r"([\w-]+)>=([\d.]+)", requirement).groups() for requirement in project["dependencies"]
    )


def test_the_wheel_leaves_the_torch_and_transformers_that_are_there(would_install):
    assert lower_bounds()["torch"] == "2.6" and lower_bounds()["transformers"] == "4.56"
    assert would_install(lower_bounds()) == {"tricks_lib"}


def test_the_wheel_leaves_this_environment_as_it_is(would_install):
    assert would_install({name: importlib.metadata.version(name) for name in lower_bounds()}) == {
        "tricks_lib"
    }


def test_the_report_sees_a_torch_that_would_be_replaced(would_install):
    """Without an index pip has no other torch to offer, and says so."""
    assert would_install(lower_bounds() | {"torch": "2.5"}) is None
