"""Draws _static/readme.png, the picture of the README and the start page, from the recorded experiments.

    python scripts/picture.py

The picture carries a hash of the numbers it shows; tests/test_picture.py compares that with the records.
"""

import hashlib
import json
from pathlib import Path

from tricks_lib.lab import plots, records

FILE = Path(__file__).resolve().parent.parent / "_static" / "readme.png"
# What is drawn of each trick: the arm that is the trick, by module.
TRICK_ARM = {"mean_pooling": "mean"}


def rows() -> dict[str, dict]:
    """Label -> gain over the baseline in points, with its interval; largest first."""
    gains = {}
    for name in records.names():
        record = records.load(name)
        if arm := TRICK_ARM.get(record["trick"]):
            difference = record["statistics"][arm]["difference"]
            label = f"{record['trick'].replace('_', ' ')} - {record['task']}"
            gains[label] = {k: round(100 * difference[k], 2) for k in ("mean", "low", "high")}
    return dict(sorted(gains.items(), key=lambda item: -item[1]["mean"]))


def fingerprint() -> str:
    return hashlib.sha256(json.dumps(rows()).encode()).hexdigest()


def main() -> None:
    plots.use_style()
    ax = plots.intervals(rows(), "gain over the baseline (points)")
    ax.figure.savefig(FILE, dpi=160, metadata={"Description": fingerprint()})
    print(f"wrote {FILE.name}")


if __name__ == "__main__":
    main()
