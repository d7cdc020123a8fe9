"""``python -m tests.status [NAME ...]`` (``make status``): every notebook of the book under nbval, one after
another.

What the page "Status" shows goes to ``chapters/evidence/status.json``: the time of each, how many of its
cells are compared, the hardware and the versions. A notebook that fails is not recorded. Run it on a quiet
machine; the times are one run's.
"""

import argparse
import datetime
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import yaml

from tests.test_notebook_rules import code_cells, is_compared, texts
from tricks_lib.lab import machine, records

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "chapters" / "evidence" / "status.json"


def notebooks() -> dict[str, Path]:
    """Name -> file of each notebook in the table of contents, in its order."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    pages = [ROOT / f"{chapter['file']}.ipynb" for part in contents["parts"] for chapter in part["chapters"]]
    return {page.stem: page for page in pages if page.is_file()}


def counts(path: Path) -> dict:
    """Code cells of a notebook; those with text output, the only ones that nbval could compare; those that it
    does compare.
    """
    cells = code_cells(nbformat.read(path, as_version=4))
    with_text = [cell for cell in cells if any(text for output in cell.outputs for text in texts(output))]
    return {"cells": len(cells), "with_text": len(with_text), "compared": sum(map(is_compared, with_text))}


def run(path: Path) -> dict:
    """The counts of a notebook, and the seconds that its comparison took.

    Raises:
        ValueError: a cell printed something else than is stored.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ValueError(f"{path.name}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**counts(path), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}


def main(argv=None) -> int:
    known = notebooks()
    parser = argparse.ArgumentParser(prog="python -m tests.status", description=__doc__.split("\n")[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"default: all of {', '.join(known)}; what is recorded of the others stays",
    )
    names = parser.parse_args(argv).names or list(known)
    if unknown := set(names) - set(known):
        parser.error(f"NAME: {', '.join(sorted(unknown))} given; accepted are {', '.join(known)}")
    content = records.read(FILE) if FILE.is_file() else {"notebooks": {}}
    failed = []
    for name in names:
        try:
            content["notebooks"][name] = found = run(known[name])
        except ValueError as error:
            failed.append(name)
            print(error, file=sys.stderr)
            continue
        print(
            f"{name:20} {found['compared']} of {found['with_text']} cells with text compared, "
            f"{found['cpu_seconds']:.0f} s of CPU",
            flush=True,
        )
        content["notebooks"] = {
            each: content["notebooks"][each] for each in known if each in content["notebooks"]
        }
        content |= {
            "environment": machine.environment(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "date": datetime.date.today().isoformat(),
        }
        records.write(FILE, content)  # after each, so that an interruption loses nothing
    if failed:
        print(f"error: {', '.join(failed)}: not as stored, and not recorded", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
