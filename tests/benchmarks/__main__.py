"""``python -m tests.benchmarks [row ...]``: time ratios, ours / theirs, both sides in one process.

One thread on CPU, one process a row. The two sides alternate, each sample is as many calls as take about 0.2 s, and the median of the
paired ratios is reported with its quartiles. Only samples whose CPU time is at least 95 % of their wall time count:
on a shared machine the others measure the neighbours. Results go to ``chapters/evidence/bench_<device>.json``.
"""

import argparse
import importlib
import json
import pkgutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests import benchmarks
from tests.benchmarks.row import Row
from tricks_lib.lab import experiment, records


def rows() -> dict[str, Row]:
    modules = [importlib.import_module(f"tests.benchmarks.{m.name}") for m in pkgutil.iter_modules(benchmarks.__path__) if m.name.startswith("bench_")]
    return {row.name: row for module in modules for row in module.ROWS}


def sample(function, calls) -> tuple[float, bool]:
    """Seconds a call, and whether the machine was ours meanwhile."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / calls, torch.cuda.is_available() or cpu >= 0.95 * wall


def measure(ours, theirs, samples=15) -> dict:
    """Median and quartiles of the ratio ours / theirs over paired, alternating samples."""
    for function in (ours, theirs):
        function()
    calls = [max(1, round(0.2 / sample(function, 1)[0])) for function in (ours, theirs)]
    ratios, seconds, tried = [], [], 0
    while len(ratios) < samples and tried < 4 * samples:
        tried += 1
        (a, clean_a), (b, clean_b) = sample(ours, calls[0]), sample(theirs, calls[1])
        if (clean_a and clean_b) or tried > 3 * samples:  # a machine that is never quiet still gives a number
            ratios.append(a / b)
            seconds.append((a, b))
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(median, 4), "quartiles": [round(low, 4), round(high, 4)], "samples": len(ratios), "tried": tried,
            "ours_ms": round(1e3 * statistics.median(a for a, _ in seconds), 4), "theirs_ms": round(1e3 * statistics.median(b for _, b in seconds), 4)}  # fmt: skip


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.split("\n")[0])
    known = rows()
    parser.add_argument("rows", nargs="*", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=records.folder(), help="folder of bench_<device>.json")
    args = parser.parse_args(argv)
    if unknown := set(args.rows) - set(known):
        parser.error(f"rows: {', '.join(sorted(unknown))} given; accepted are {', '.join(known)}")
    names = args.rows or list(known)
    if len(names) > 1:  # each row in a process of its own: what one leaves in the allocator is not the next one's business
        each = [subprocess.run([sys.executable, "-m", "tests.benchmarks", name, "--out", args.out]).returncode for name in names]
        return max(each)
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    file = args.out / f"bench_{device.type}.json"
    content = json.loads(file.read_text()) if file.is_file() else {"rows": {}}
    name, row = names[0], known[names[0]]
    ours, peers = row.make(device)
    measured = {peer: {**measure(ours, theirs), "bar": row.bars.get(peer)} for peer, theirs in peers.items()}
    content["rows"][name] = {"size": row.size, "peers": measured}
    content["environment"] = experiment.environment()
    records.write(file, content)
    for peer, m in measured.items():
        verdict = "" if m["bar"] is None else "ok" if m["ratio"] <= m["bar"] else "MISSED"
        print(f"{name:24} {row.size:24} / {peer:32} {m['ratio']:.3f} [{m['quartiles'][0]:.3f}, {m['quartiles'][1]:.3f}] bar {m['bar']} {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
