"""Draws _static/readme.png, the picture of the README and the start page, from the recorded experiments.

    python scripts/picture.py

The picture carries a hash of the numbers it shows; tests/test_picture.py compares that with the records.
"""

import hashlib
import json
from pathlib import Path

from tricks_lib.lab import plots
from tricks_lib.lab.compare import evidence

FILE = Path(__file__).resolve().parent.parent / "_static" / "readme.png"


def fingerprint(rows: list[tuple]) -> str:
    """Of everything that is drawn: labels, and gains in points with their intervals and verdicts."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def main() -> None:
    plots.use_style()
    rows = evidence.at_a_glance()
    ax = plots.pairs(rows, "gain over the baseline (points)")
    ax.figure.savefig(FILE, dpi=160, metadata={"Description": fingerprint(rows)})
    print(f"wrote {FILE.name}")


if __name__ == "__main__":
    main()
