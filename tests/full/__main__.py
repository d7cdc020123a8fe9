"""``python -m tests.full [--fake-cuda] [--jobs 2] [--into FOLDER] [NAME ...]``; see :mod:`tests.full`."""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.full import hub, repositories, runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.full", description="The notebooks in profile full")
    parser.add_argument("names", nargs="*", help="notebooks, such as 03_last_four; default: all")
    parser.add_argument("--fake-cuda", action="store_true", help="as if there were a GPU (slower)")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    parser.add_argument(
        "--into", type=Path, default=runner.ROOT / "_build" / "full", help="for what they print"
    )
    asked = parser.parse_args()
    known = {path.stem: path for path in runner.NOTEBOOKS}
    if unknown := [name for name in asked.names if name not in known]:
        parser.error(f"no notebook {unknown[0]}; accepted: {', '.join(known)}")
    chosen = [known[name] for name in asked.names] or list(known.values())
    with tempfile.TemporaryDirectory() as folder:
        repositories.make(Path(folder))
        with hub.serve(Path(folder)) as address, ThreadPoolExecutor(asked.jobs) as pool:
            options = (asked.into.resolve(), address, asked.fake_cuda)
            running = [pool.submit(runner.run, path, *options) for path in chosen]
            reports = []
            for done in as_completed(running):
                reports.append(done.result())
                print(reports[-1], flush=True)
    return 1 if any(report.errors for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
