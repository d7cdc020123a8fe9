"""``python -m tricks_lib.lab compare | fetch | run | list | show | verify``: the reader's comparison, what
the book's experiments need, the experiments and their records.
"""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import transformers

from tricks_lib.lab import experiment, fetch, records, studies
from tricks_lib.lab.compare import command, plan
from tricks_lib.lab.compare import run as compared
from tricks_lib.lab.compare.records import of_comparison


class Parser(argparse.ArgumentParser):
    def error(self, message):  # one line, without the usage that --help prints
        self.exit(2, f"error: {message}\n")


def parse(argv):
    parser = Parser(prog="python -m tricks_lib.lab", description=__doc__)
    names = "compare|fetch|run|list|show|verify"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    command.add_to(commands)
    get = commands.add_parser("fetch", help="download a data set or model from its publisher into the cache")
    get.add_argument("names", nargs="*", metavar="NAME", help=", ".join(fetch.names()))
    get.add_argument("--all", action="store_true", help="all of them")
    run = commands.add_parser(
        "run", help="run an experiment, or all that have no record; interrupted ones go on"
    )
    run.add_argument("name", nargs="?", help="trick/task; see list")
    run.add_argument(
        "--all", action="store_true", help="all experiments without a record, in the order of list"
    )
    run.add_argument("--jobs", type=int, default=1, help="processes side by side (default 1)")
    run.add_argument("--plan", action="store_true", help="print what a comparison would cost, and stop")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    commands.add_parser("list", help="all experiments, and which are recorded or interrupted")
    show = commands.add_parser("show", help="print one record, or what an interrupted run has")
    show.add_argument("name", help="trick/task, see list; or the record.json of a report")
    verify = commands.add_parser("verify", help="recompute every record's statistics from its raw numbers")
    verify.add_argument("name", nargs="?", help="trick/task, or a record.json (default: all records)")
    for each in ("run", "list", "show", "verify"):
        help = "folder of the records (default: chapters/evidence)"
        commands.choices[each].add_argument("--folder", type=Path, help=help)
    args = parser.parse_args(argv)
    if args.command in ("run", "compare") and args.jobs < 1:
        parser.error(f"--jobs: {args.jobs} given, a positive number is accepted")
    if args.command == "run" and (args.name is not None) == args.all:
        parser.error(
            f"name: {f'{args.name!r} and --all' if args.all else 'none'} given, the name of an experiment "
            f"or --all is accepted"
        )
    if args.command == "fetch" and bool(args.names) == args.all:
        given = f"{' '.join(args.names)!r} and --all" if args.all else "none"
        parser.error(f"NAME: {given} given, names or --all are accepted: {', '.join(fetch.names())}")
    if args.command in ("compare", "fetch"):
        return args
    if args.folder and args.command != "run" and not args.folder.is_dir():
        parser.error(f"--folder: {args.folder} given, an existing folder is accepted")
    args.folder = args.folder or records.folder()
    return args


def comparisons() -> dict:
    """The table of evidence: name -> function that makes the comparison."""
    modules = [
        importlib.import_module(f"{studies.__name__}.{m.name}")
        for m in pkgutil.iter_modules(studies.__path__)
    ]
    return {name: make for m in modules for name, make in getattr(m, "COMPARISONS", {}).items()}


def runnable() -> dict:
    """All that can be run, by name: the table of evidence first, then the experiments of the chapters."""
    return {**comparisons(), **experiment.registry()}


def run_one(name, folder, jobs, progress, only_plan=False):
    known = runnable()
    if name not in known:
        raise ValueError(f"name: {name!r} given; accepted are {', '.join(sorted(known))}")
    found = known[name]
    if isinstance(found, experiment.Experiment):
        if only_plan:
            raise ValueError(f"--plan: given for {name}; accepted are {', '.join(comparisons())}")
        print(f"wrote {experiment.run(found, folder, jobs, progress)}", flush=True)
        return
    if only_plan:
        print(plan.measured(found()).text())
        return
    file = records.path(name, folder)
    compared.run(found(), file, jobs, progress)
    print(f"wrote {file}", flush=True)


def run_all(folder, jobs, progress) -> int:
    """Run what has no record, one after the other; one that fails is named with its reason, and the others
    go on.
    """
    wanted = [name for name in runnable() if not records.path(name, folder).is_file()]
    failed = 0
    for name in wanted:
        try:
            run_one(name, folder, jobs, progress)
        except Exception as error:  # whatever it is, hours of other experiments do not depend on it
            failed += 1
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"error: {name}: {reason}", file=sys.stderr, flush=True)
    print(f"{len(wanted) - failed} of {len(wanted)} experiments without a record have one now")
    return 2 if failed else 0


def fetch_all(names) -> int:
    """Fetch one after the other; one that fails is named with its reason, and the others go on."""
    failed = 0
    for name in names:
        try:
            fetch.fetch(name)
        except (ValueError, OSError, ImportError) as error:
            failed += 1
            print(f"error: {name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return 2 if failed else 0


def list_all(folder):
    known = runnable()
    width = max([32, *map(len, [*known, *records.names(folder, None)])])
    for name in [*known, *(name for name in records.names(folder, None) if name not in known)]:
        file = records.path(name, folder)
        state = "recorded" if file.is_file() else "-"
        if file.with_suffix(".partial.json").is_file():
            state += ", interrupted run"
        print(f"{name:{width}} {state}")


def file_of(name: str, folder: Path) -> Path:
    """The file of a record: of its name, or the one that is given."""
    return Path(name) if name.endswith(".json") else records.path(name, folder)


def show(name, folder):
    file = file_of(name, folder)
    partial = file.with_suffix(".partial.json")
    if of_comparison(file):
        print(command.shown(file))
        return
    if not file.is_file() and partial.is_file():
        state = records.read(partial) if of_comparison(partial) else experiment.read_partial(partial)
        runs = state.get("runs", state.get("results"))
        print(f"{name}: interrupted, {len(runs)} runs finished; `run {name}` goes on")
        return
    record = records.load(name, folder)
    model, data, made = record["model"], record["data"], record["environment"]
    tested = f"{data['sizes']}, {len(record['seeds'])} seeds"
    print(f"{name}: {record['setting']}\n{model['name']} on {data['name']} {tested}")
    print(records.table(record).to_string())
    print(
        f"{made['device']}, torch {made['torch']}, {record['date']}, {record['wall_seconds']:.0f} s: "
        f"{record['command']}"
    )


def verify(name, folder):
    wanted = [name] if name else records.names(folder, None)
    if not wanted:
        raise ValueError(f"--folder: no record in {folder}")
    wrong = 0
    for each in wanted:
        try:
            if of_comparison(file := file_of(each, folder)):
                command.verified(file)
            else:
                records.load(each, folder)
            print(f"ok    {each}")
        except (ValueError, FileNotFoundError) as error:
            wrong += 1
            print(f"WRONG {error}", file=sys.stderr)
    return 2 if wrong else 0


def main(argv=None) -> int:
    """Exit code: 0, 2 for bad input (one line says what is accepted), 130 after Ctrl-C."""
    args = parse(argv)
    try:
        if args.command == "fetch":
            return fetch_all(args.names or fetch.names())
        if args.command == "run":
            transformers.utils.logging.disable_progress_bar()  # the bar that counts is the experiment's own
            transformers.utils.logging.set_verbosity_error()
            if args.all:
                return run_all(args.folder, args.jobs, not args.quiet)
            run_one(args.name, args.folder, args.jobs, not args.quiet, args.plan)
        elif args.command == "compare":
            command.execute(args)
        elif args.command == "list":
            list_all(args.folder)
        elif args.command == "show":
            show(args.name, args.folder)
        else:
            return verify(args.name, args.folder)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted"
            + (
                f"; the finished runs are kept, `run {args.name or '--all'}` goes on"
                if args.command == "run"
                else ""
            ),
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
