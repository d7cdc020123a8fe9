"""Runs the chapters in an environment as near to Colab's image as builds for CPU allow.

    python3.13 scripts/colab.py [FREEZE]

FREEZE is a file or an address with the image's `pip freeze`; by default the list that Colab publishes. Every
version in it is held (torch in the build that the index has), the package's wheel is installed beside, and
each chapter, and "Try it on your data", runs in a folder that holds nothing but the notebook, in profile
mini. Use the Python of the image: 3.13 since August 2026. The exact image runs in
.github/workflows/colab.yml.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = "https://raw.githubusercontent.com/googlecolab/backend-info/main/pip-freeze.txt"
HELD = ("torch", "numpy", "transformers")  # what the wheel must leave as it is
# Of the image, what a notebook needs before it installs anything.
THERE = [
    "torch",
    "numpy",
    "transformers",
    "accelerate",
    "datasets",
    "matplotlib",
    "pandas",
    "scipy",
    "scikit-learn",
    "ipykernel",
    "nbconvert",
]
SETTINGS = {
    "TRICKS_PROFILE": "mini",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}


def constraints(freeze: str) -> list[str]:
    """``name==version`` for each line that pins one; a wheel from PyTorch's index counts as its version,
    without the CUDA build.
    """
    pins = dict(re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)==([^\s+;]+)", freeze))
    pins |= dict(re.findall(r"(?m)^(torch\w*) @ \S*/torch\w*-([0-9.]+)", freeze))
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def main(argv: list[str]) -> int:
    if len(argv) > 1 or argv and argv[0].startswith("-"):
        print(
            f"error: {' '.join(argv)} given; accepted is one file or address of a pip freeze, {PUBLISHED} "
            f"by default",
            file=sys.stderr,
        )
        return 2
    source = argv[0] if argv else PUBLISHED
    freeze = (
        urllib.request.urlopen(source).read().decode()
        if source.startswith("https://")
        else Path(source).read_text("utf-8")
    )
    pins = constraints(freeze)
    if missing := [name for name in HELD if not any(pin.startswith(f"{name}==") for pin in pins)]:
        print(f"error: {source} has no version of {', '.join(missing)}", file=sys.stderr)
        return 2
    folder = ROOT / "_build" / "colab"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    (folder / "constraints.txt").write_text("\n".join(pins) + "\n", "utf-8")
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", folder / "constraints.txt", *THERE], check=True)

    def versions() -> str:
        listed = subprocess.run(
            [python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True
        ).stdout
        return "\n".join(line for line in listed.splitlines() if line.partition("==")[0] in HELD)

    before = versions()
    subprocess.run(
        [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "dist", ROOT],
        check=True,
    )
    subprocess.run([*install, f"{next((folder / 'dist').glob('*.whl'))}[lab]"], check=True)
    print(f"Python {sys.version.split()[0]}\n{versions()}", flush=True)
    if versions() != before:
        print(f"error: the wheel replaced what was there:\n{before}", file=sys.stderr)
        return 1
    failed = []
    chapters = ROOT / "chapters"
    for chapter in [*sorted(chapters.glob("[0-9][0-9]_*.ipynb")), chapters / "try_it.ipynb"]:
        alone = folder / chapter.stem
        alone.mkdir()
        shutil.copy2(chapter, alone)
        command = [
            python,
            "-m",
            "nbconvert",
            "--to",
            "notebook",
            "--execute",
            "--ExecutePreprocessor.timeout=1800",
            "--output",
            "out.ipynb",
            chapter.name,
        ]
        done = subprocess.run(
            command, cwd=alone, env=os.environ | SETTINGS, capture_output=True, text=True, check=False
        )
        print(f"{chapter.stem}: {'ran' if done.returncode == 0 else 'failed'}", flush=True)
        if done.returncode:
            failed.append(chapter.stem)
            print(done.stderr[-3000:], file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
