"""``python -m tests.covered`` (``make coverage``): how much of the package its unit tests run.

Lines of ``tricks_lib`` outside ``lab``, by the tests of the tricks and the trainer, slow ones too. They go to
``chapters/evidence/coverage.json``, which the page "Status" shows. What other processes run, as in
tests/test_distributed.py, is not counted.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tricks_lib.lab import records

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "chapters" / "evidence" / "coverage.json"
LEAST = 95  # percent
# The tests of the book and of the lab run the tricks too; a trick is to be held by its own.
NOT_COUNTED = ["lab", "site", "benchmarks", "full"]


def module_of(file: str) -> str:
    """tricks_lib/ema/state.py -> ema; tricks_lib/_head.py -> shared."""
    name = Path(file).parts[1].removesuffix(".py")
    return "shared" if name.startswith("_") else name


def summary(report: dict) -> dict:
    """Module -> lines and lines run, of the JSON report of coverage.py."""
    found: dict[str, dict] = defaultdict(lambda: {"lines": 0, "run": 0})
    for file, one in sorted(report["files"].items()):
        found[module_of(file)]["lines"] += one["summary"]["num_statements"]
        found[module_of(file)]["run"] += one["summary"]["covered_lines"]
    return dict(found)


def percent(modules: dict) -> float:
    """Of all modules together."""
    return 100 * sum(one["run"] for one in modules.values()) / sum(one["lines"] for one in modules.values())


def missing(report: dict) -> list[str]:
    """``file: lines`` of what no test runs."""
    return [
        f"{file}: {one['missing_lines']}" for file, one in report["files"].items() if one["missing_lines"]
    ]


def measure(jobs: int) -> dict:
    """The report of a run of the unit tests."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        command = [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", "-n", jobs]
        command += ["-m", "not browser and not full", *(f"--ignore=tests/{name}" for name in NOT_COUNTED)]
        command += ["--cov=tricks_lib", f"--cov-report=json:{report}"]
        environment = {**os.environ, "COVERAGE_FILE": str(Path(folder) / "data")}
        if code := subprocess.run(list(map(str, command)), cwd=ROOT, env=environment).returncode:
            sys.exit(code)
        return json.loads(report.read_text("utf-8"))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.covered", description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--report", type=Path, help="a JSON report of coverage.py to take in place of a run")
    parser.add_argument("--by", default="all unit tests", help="which of the tests the report is of")
    given = parser.parse_args(argv)
    report = json.loads(given.report.read_text("utf-8")) if given.report else measure(given.jobs)
    modules = summary(report)
    today = datetime.date.today().isoformat()
    records.write(FILE, {"modules": modules, "date": today, "by": given.by})
    print(*missing(report), sep="\n")
    print(f"{percent(modules):.1f} % of tricks_lib outside lab; at least {LEAST} % is asked for")
    return int(percent(modules) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
