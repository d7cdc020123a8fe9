"""``python -m tests.benchmarks [row ...]``: time ratios, ours / theirs, both sides in one process.

One thread on CPU. The two sides alternate in pairs of samples of about 0.1 s; a pair counts if the process
had the processor for 95 % of
it: on a shared machine the others measure the neighbours. A machine also drifts, over minutes and from
process to process, so the pairs of a row are taken in five passes over all rows, each in a process of its
own; the median of the 25 ratios is reported with its quartiles.

On the CPU all is measured twice, since large tensors can cost more than what is done with them: once as
glibc's allocator settles after some large tensors, which still gives most of them back to the system and asks
for new pages, and once with freed memory kept, as the caching allocator of a GPU keeps it. Results go to
``chapters/evidence/bench_<device>.json``.
"""

import argparse
import importlib
import itertools
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests import benchmarks
from tests.benchmarks.peers import declare_operators_of_torchvision, versions
from tests.benchmarks.row import Row
from tests.benchmarks.timing import pairs, summary
from tricks_lib.lab import machine, records

PASSES = 5
REPEATS = 1.15  # two runs of one row on one machine: the larger ratio over the smaller

# Key of the file -> settings of glibc. Its own thresholds grow to 32 and 64 MB when a tensor of that size is
# freed, sooner or later in a
# process: they are set there from the start.
MEMORY = {
    "rows": {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"},
    "rows_memory_kept": {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "1099511627776",
        "MALLOC_TOP_PAD_": "67108864",
    },
}


def rows() -> dict[str, Row]:
    modules = [
        importlib.import_module(f"tests.benchmarks.{m.name}")
        for m in pkgutil.iter_modules(benchmarks.__path__)
        if m.name.startswith("bench_")
    ]
    return {row.name: row for module in modules for row in module.ROWS}


def samples(row: dict) -> int:
    """Pairs behind the ratios of a stored row; 0 where none is stored."""
    return min((peer["samples"] for peer in row.get("peers", {}).values()), default=0)


def check_same(row: Row, ours, functions) -> None:
    """Raise unless every function that returns a tensor returns ours: a faster way to another number is no
    peer.
    """
    given = ours()
    for name, function in functions.items():
        theirs = function()
        if isinstance(given, torch.Tensor) and isinstance(theirs, torch.Tensor):
            cause = f"row {row.name!r}: {name} gives another result"
            torch.testing.assert_close(
                row.same(theirs),
                row.same(given),
                rtol=1e-3,
                atol=1e-4,
                msg=lambda text, cause=cause: f"{cause}; {text}",
            )


def time_row(row: Row) -> dict[str, dict[str, list]]:
    """``{"peers": {peer: pairs}, "limit": {what: pairs}}``; a pair is the seconds of ours and of theirs."""
    torch.set_num_threads(1)
    ours, peers, limit = row.make(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    check_same(row, ours, peers)
    times = {peer: pairs(ours, theirs) for peer, theirs in peers.items()}
    ((what, function),) = limit.items()
    return {"peers": times, "limit": {what: times.get(what) or pairs(ours, function)}}


def in_new_process(row: Row, settings: dict[str, str]) -> dict[str, dict[str, list]]:
    """``time_row`` in a new process: what one row leaves in the allocator is not the next one's business.

    Raises:
        subprocess.CalledProcessError: it failed there, and has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.json"
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks", row.name, "--pairs", file],
            check=True,
            env={**os.environ, **settings},
        )
        return json.loads(file.read_text())


def summarized(row: Row, passes: list[dict[str, dict[str, list]]]) -> dict:
    """One row of the file, of what ``time_row`` gave in each pass."""

    def of(part, side):
        return summary([pair for times in passes for pair in times[part][side]])

    packages = versions(row)
    peers = {
        peer: {**of("peers", peer), "bar": row.bars.get(peer), "package": packages.get(peer)}
        for peer in passes[0]["peers"]
    }
    (what,) = passes[0]["limit"]
    m = of("limit", what)
    share, (low, high) = 1 / m["ratio"], m["quartiles"]
    bound = {
        "what": what,
        "ms": m["theirs_ms"],
        "share": round(share, 4),
        "quartiles": [round(1 / high, 4), round(1 / low, 4)],
    }
    return {"size": row.size, "peers": peers, "limit": bound}


def show(name: str, measured: dict) -> None:
    for peer, m in measured["peers"].items():
        verdict = "" if m["bar"] is None else "ok" if m["ratio"] <= m["bar"] else "MISSED"
        print(
            f"{name:24} {measured['size']:24} / {peer:32} {m['ratio']:.3f} [{m['quartiles'][0]:.3f}, "
            f"{m['quartiles'][1]:.3f}] bar {m['bar']} {verdict}"
        )
    print(f"{name:24} {measured['limit']['share']:.0%} of: {measured['limit']['what']}")


def compare(first: Path, second: Path) -> int:
    """Print the rows of two files whose ratios differ by more than 15 %; then the exit status is 1."""
    ratios = []
    for file in (first, second):
        content = json.loads(file.read_text())
        ratios.append(
            {
                (memory, name, peer): m["ratio"]
                for memory in MEMORY
                for name, row in content.get(memory, {}).items()
                for peer, m in row["peers"].items()
            }
        )
    a, b = ratios
    apart = {key: max(a[key] / b[key], b[key] / a[key]) for key in a if key in b}
    differ = [key for key, factor in apart.items() if factor > REPEATS]
    for key in differ:
        print(f"{' / '.join(key)}: {a[key]:.3f} and {b[key]:.3f}, {apart[key] - 1:.0%} apart")
    for key in a.keys() ^ b.keys():
        print(f"only in one file: {' / '.join(key)}")
    print(f"{len(differ)} of {len(apart)} ratios differ by more than {REPEATS - 1:.0%}")
    return int(bool(differ))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar="FILE",
        help="two results of this command: where do their ratios differ by more than 15 %%",
    )
    declare_operators_of_torchvision()
    known = rows()
    parser.add_argument("rows", nargs="*", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=records.folder(), help="folder of bench_<device>.json")
    parser.add_argument(
        "--pairs", type=Path, metavar="FILE", help=argparse.SUPPRESS
    )  # one row, once, as it is measured in a process of its own
    args = parser.parse_args(argv)
    if args.compare:
        return compare(*args.compare)
    if unknown := set(args.rows) - set(known):
        parser.error(f"rows: {', '.join(sorted(unknown))} given; accepted are {', '.join(known)}")
    names = args.rows or list(known)
    if args.pairs:
        args.pairs.write_text(json.dumps(time_row(known[names[0]])))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)  # not after half an hour
    for name in names:
        versions(known[name])  # nor this
    cuda = torch.cuda.is_available()
    file = args.out / f"bench_{'cuda' if cuda else 'cpu'}.json"
    content = json.loads(file.read_text()) if file.is_file() else {}
    memories = {"rows": {}} if cuda else MEMORY
    passes, failed = {memory: {name: [] for name in names} for memory in memories}, set()
    for k in range(PASSES):
        for name, memory in itertools.product(names, memories):
            if name in failed:
                continue
            try:
                passes[memory][name].append(in_new_process(known[name], memories[memory]))
            except subprocess.CalledProcessError:
                failed.add(name)
        for memory in memories:  # after each pass: a run that is stopped leaves what it has
            measured = content.get(memory, {})
            for name in (name for name in names if name not in failed):
                new = summarized(known[name], passes[memory][name])
                if samples(new) >= samples(measured.get(name, {})):  # else the stored ones are more
                    measured[name] = new
            content[memory] = {name: measured[name] for name in known if name in measured}
        content["environment"] = machine.environment()
        records.write(file, content)
        print(f"pass {k + 1} of {PASSES}", flush=True)
    for memory in memories:
        print(f"\n{memory}")
        for name in names:
            if name not in failed:
                show(name, content[memory][name])
    if failed:
        print(f"\nfailed: {', '.join(sorted(failed))}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
