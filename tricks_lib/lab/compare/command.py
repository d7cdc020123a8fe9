"""``python -m tricks_lib.lab compare``: its options, and what is shown and verified of its record."""

import shlex
import sys
from pathlib import Path

import transformers

from tricks_lib.lab.compare import ask, records, report, tokens, verify
from tricks_lib.lab.compare.metrics import KINDS


def add_to(commands) -> None:
    """Add the command to argparse's sub-commands."""
    c = commands.add_parser("compare", help="which of the book's tricks help on this data, with this model")
    c.add_argument(
        "--data",
        nargs="+",
        required=True,
        help="files (CSV, TSV, JSONL, Parquet), a folder, a registered name, or org/name[:config]",
    )
    c.add_argument("--text", default="text", help="column of the text (default: text)")
    c.add_argument("--text-b", help="column of the second text of a pair")
    c.add_argument("--label", default="label", help="column of the label (default: label)")
    c.add_argument("--split", default="split", help="column of the splits, if there is one (default: split)")
    c.add_argument("--kind", choices=KINDS, help="kind of the labels (default: seen from the column)")
    c.add_argument("--rare", help="class that f1 and thresholds are of, against all others")
    c.add_argument("--encoding", default="utf-8-sig", help="of CSV, TSV and JSONL (default: UTF-8)")
    c.add_argument(
        "--model",
        default="all-MiniLM-L6-v2",
        help="embedded, a local folder, or owner/name (default: all-MiniLM-L6-v2)",
    )
    c.add_argument("--tricks", nargs="+", default=["all"], help="names of tricks (default: all that fit)")
    c.add_argument("--metric", help="accuracy, macro_f1, f1, pearson, ... (default: what fits the labels)")
    c.add_argument("--steps", type=int, help="to start from (default: four epochs, at least 100)")
    c.add_argument("--batch-size", type=int, default=16, help="rows per batch (default: 16)")
    c.add_argument("--max-length", type=int, default=128, help="in tokens (default: 128)")
    c.add_argument("--hours", type=float, help="cut the plan to so many hours of one process")
    c.add_argument("--plan", action="store_true", help="print the plan, and stop")
    c.add_argument("--jobs", type=int, default=1, help="processes side by side (default 1)")
    c.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    c.add_argument("--quiet", action="store_true", help="no progress bar")


def execute(args) -> None:
    """Plan, and unless that is all: run, report, and the table."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    spec = args.data[0] if len(args.data) == 1 else tuple(args.data)
    source = tokens.Source(
        spec, args.text, args.text_b, args.label, args.split, args.kind, args.encoding, args.rare
    )
    made = ask.planned(
        source, args.model, args.tricks, args.hours, args.out, metric=args.metric, steps=args.steps,
        batch_size=args.batch_size, max_length=args.max_length,
        command=f"python -m tricks_lib.lab {shlex.join(sys.argv[1:])}",
    )  # fmt: skip
    print(made.text(), flush=True)
    if not args.plan:
        ask.run_and_report(made, args.out, args.jobs, not args.quiet)
        print(shown(args.out / ask.RECORD))
        print(f"wrote {args.out}: index.html and {ask.RECORD}")


def verified(file: Path) -> None:
    """Refuse a record that breaks a rule."""
    record, predictions = records.load_file(file)
    verify.verify(record, predictions, file.name)


def shown(file: Path) -> str:
    """The table of a record, as text."""
    record, _ = records.load_file(file)
    return report.table(record)
