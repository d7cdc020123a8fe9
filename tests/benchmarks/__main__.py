"""``python -m tests.benchmarks [row ...]``: time ratios, ours / theirs, both sides in one process.

One thread on CPU, one process a row. The two sides alternate, each sample is as many calls as take about 0.2 s, and the median of the
paired ratios is reported with its quartiles. Only samples whose CPU time is at least 95 % of their wall time count:
on a shared machine the others measure the neighbours. Results go to ``chapters/evidence/bench_<device>.json``.
"""

import argparse
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import torch

from tests import benchmarks
from tests.benchmarks.peers import declare_operators_of_torchvision, versions
from tests.benchmarks.row import Row
from tests.benchmarks.timing import measure
from tricks_lib.lab import experiment, records

REPEATS = 1.15  # two runs of one row on one machine: the larger ratio over the smaller


def rows() -> dict[str, Row]:
    modules = [importlib.import_module(f"tests.benchmarks.{m.name}") for m in pkgutil.iter_modules(benchmarks.__path__) if m.name.startswith("bench_")]
    return {row.name: row for module in modules for row in module.ROWS}


def check_same(row: Row, ours, functions) -> None:
    """Raise unless every function that returns a tensor returns ours: a faster way to another number is no peer."""
    given = ours()
    for name, function in functions.items():
        theirs = function()
        if isinstance(given, torch.Tensor) and isinstance(theirs, torch.Tensor):
            cause = f"row {row.name!r}: {name} gives another result"
            torch.testing.assert_close(row.same(theirs), row.same(given), rtol=1e-3, atol=1e-4, msg=lambda text, cause=cause: f"{cause}; {text}")


def run(row: Row, device: torch.device) -> dict:
    """One row of the file."""
    packages = versions(row)
    ours, peers, limit = row.make(device)
    check_same(row, ours, peers)
    measured = {peer: {**measure(ours, theirs), "bar": row.bars.get(peer), "package": packages.get(peer)} for peer, theirs in peers.items()}
    ((what, function),) = limit.items()
    m = measured.get(what) or measure(ours, function)
    share, (low, high) = 1 / m["ratio"], m["quartiles"]
    bound = {"what": what, "ms": m["theirs_ms"], "share": round(share, 4), "quartiles": [round(1 / high, 4), round(1 / low, 4)]}
    return {"size": row.size, "peers": measured, "limit": bound}


def show(name: str, measured: dict) -> None:
    for peer, m in measured["peers"].items():
        verdict = "" if m["bar"] is None else "ok" if m["ratio"] <= m["bar"] else "MISSED"
        print(f"{name:24} {measured['size']:24} / {peer:32} {m['ratio']:.3f} [{m['quartiles'][0]:.3f}, {m['quartiles'][1]:.3f}] bar {m['bar']} {verdict}")
    print(f"{name:24} {measured['limit']['share']:.0%} of: {measured['limit']['what']}")


def compare(first: Path, second: Path) -> int:
    """Print the rows of two files whose ratios differ by more than 15 %; then the exit status is 1."""
    a, b = (json.loads(file.read_text())["rows"] for file in (first, second))
    differ = 0
    for name in [name for name in a if name in b]:
        for peer in [peer for peer in a[name]["peers"] if peer in b[name]["peers"]]:
            x, y = a[name]["peers"][peer]["ratio"], b[name]["peers"][peer]["ratio"]
            if max(x / y, y / x) > REPEATS:
                differ += 1
                print(f"{name} / {peer}: {x:.3f} and {y:.3f}, {max(x / y, y / x) - 1:.0%} apart")
    if alone := set(a) ^ set(b):
        print(f"only in one file: {', '.join(sorted(alone))}")
    print(f"{differ} ratios differ by more than {REPEATS - 1:.0%}")
    return int(differ > 0)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="two results of this command: where do their ratios differ by more than 15 %%")
    declare_operators_of_torchvision()
    known = rows()
    parser.add_argument("rows", nargs="*", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=records.folder(), help="folder of bench_<device>.json")
    args = parser.parse_args(argv)
    if args.compare:
        return compare(*args.compare)
    if unknown := set(args.rows) - set(known):
        parser.error(f"rows: {', '.join(sorted(unknown))} given; accepted are {', '.join(known)}")
    args.out.mkdir(parents=True, exist_ok=True)  # not after half an hour
    names = args.rows or list(known)
    if len(names) > 1:
        for name in names:
            versions(known[name])  # not after half an hour
        # each row in a process of its own: what one leaves in the allocator is not the next one's business
        each = [subprocess.run([sys.executable, "-m", "tests.benchmarks", name, "--out", args.out], check=False).returncode for name in names]
        return max(each)
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    file = args.out / f"bench_{device.type}.json"
    content = json.loads(file.read_text()) if file.is_file() else {"rows": {}}
    content["rows"][names[0]] = run(known[names[0]], device)
    content["rows"] = {name: content["rows"][name] for name in known if name in content["rows"]}
    content["environment"] = experiment.environment()
    records.write(file, content)
    show(names[0], content["rows"][names[0]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
