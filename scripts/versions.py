"""Runs the package's tests at both ends of its version ranges (`make test-versions`).

`lowest` holds every dependency at the lower bound that pyproject.toml states; `newest` takes what
the index has today. Each gets an environment of its own in _build; torch is downloaded for both.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
# Tests of the book, which needs its own locked environment.
NOT_THE_PACKAGE = [
    "tests/site",
    "tests/benchmarks",
    "tests/full",
    *(
        f"tests/test_{name}.py"
        for name in (
            "colab",
            "commands",
            "links",
            "make",
            "notebook_rules",
            "page_html",
            "picture",
            "plain_pytest",
            "plain_sphinx",
            "recipes",
            "status",
            "style",
            "types",
            "wheel",
            "workflows",
        )
    ),
]


def lower_bounds() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ranges = project["dependencies"] + project["optional-dependencies"]["lab"]
    return [re.sub(r">=([\d.]+).*", r"==\1", one) for one in ranges]


def check(end: str, constraints: list[str]) -> int:
    folder = ROOT / "_build" / "versions" / end
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    (folder / "constraints.txt").write_text("\n".join(constraints) + "\n")
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--constraint",
            folder / "constraints.txt",
            f"{ROOT}[lab,test]",
        ],
        check=True,
    )
    print(f"--- {end}", flush=True)
    settings = {"TRICKS_PROFILE": "mini", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "tests",
            *(f"--ignore={path}" for path in NOT_THE_PACKAGE),
            # A deprecation in a version nobody locked is not a failure of the package.
            "-W",
            "default",
        ],
        cwd=ROOT,
        env=os.environ | settings,
    ).returncode


ENDS = {"lowest": lower_bounds, "newest": list}  # name: constraints

if __name__ == "__main__":
    asked = sys.argv[1:] or list(ENDS)
    if unknown := set(asked) - set(ENDS):
        sys.exit(
            f"error: {' '.join(sorted(unknown))} given, {' or '.join(ENDS)} is accepted, both by default"
        )
    sys.exit(max(check(end, ENDS[end]()) for end in asked))
