"""What a pytest run of this checkout needs, so that ``pytest --nbval`` can be typed alone, from any folder.

Notebooks run in profile ``mini``: on the CPU, on one thread, offline, with the package of this checkout and
the interpreter of pytest. What differs from machine to machine is sanitized. An option or variable that is
set by hand wins. pytest-xdist keeps the cells of a notebook together, and pytest-timeout stops what hangs;
neither has to be installed.
"""

import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
STARTED = time.time()
SECONDS = 600  # a test or a cell: what hangs is stopped, named and shown where it stood
ENVIRONMENT = {
    "TRICKS_PROFILE": "mini",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "PYTHONHASHSEED": "0",  # of the kernels and other processes started from here
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a warning of the kernel's debugger
    "PYTEST_TIMEOUT": str(SECONDS),
}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
if str(ROOT) not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    given = config.option
    if getattr(given, "nbval", False) or getattr(given, "nbval_lax", False):
        given.nbval_sanitize_with = given.nbval_sanitize_with or str(ROOT / "tests" / "nbval_sanitize.cfg")
        given.nbval_current_env = given.nbval_current_env or given.nbval_kernel_name is None
        given.nbval_cell_timeout = min(given.nbval_cell_timeout, SECONDS)
    if getattr(given, "dist", None) == "load":  # xdist's default, which tears notebooks apart
        given.dist = "loadscope"
    if hasattr(given, "timeout_method"):
        given.timeout_method = given.timeout_method or "thread"


def pytest_terminal_summary(terminalreporter):
    """What ran: how many notebook cells and unit tests, how many minutes, and the files that took longest."""
    passed = [report.nodeid for report in terminalreporter.getreports("passed")]
    cells = sum(".ipynb::" in name for name in passed)
    if not cells:
        return
    minutes = (time.time() - STARTED) / 60
    terminalreporter.write_line(
        f"{cells} notebook cells and {len(passed) - cells} unit tests passed in {minutes:.1f} minutes"
    )
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):  # of setup, call and teardown alike
                seconds[report.nodeid.split("::")[0]] += report.duration
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]
    terminalreporter.write_line("longest: " + ", ".join(f"{name} {seconds[name]:.0f} s" for name in slowest))
