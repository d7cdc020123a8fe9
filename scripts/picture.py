"""Draws _static/readme.png, the picture of the README and the start page, from the recorded experiments.

    python scripts/picture.py

The picture carries a hash of the numbers it shows; tests/test_picture.py compares that with the records.
"""

import hashlib
import json
from pathlib import Path

from tricks_lib.lab import gains, plots

FILE = Path(__file__).resolve().parent.parent / "_static" / "readme.png"


def rows(found: list[gains.Gain]) -> dict[str, list]:
    """Everything that is drawn: label -> gain of the trick and of its first control in points, each with its
    interval; largest first.
    """
    keys = ("mean", "low", "high")
    shown = {g.label: {"gain": g.over_baseline, **dict(list(g.controls.items())[:1])} for g in found}
    return {
        label: [[name, *(round(100 * d[k], 2) for k in keys)] for name, d in both.items()]
        for label, both in shown.items()
    }


def fingerprint(found: list[gains.Gain]) -> str:
    return hashlib.sha256(json.dumps(rows(found)).encode()).hexdigest()


def main() -> None:
    plots.use_style()
    found = gains.gains()
    ax = gains.plot(found)
    ax.figure.savefig(FILE, dpi=160, metadata={"Description": fingerprint(found)})
    print(f"wrote {FILE.name}")


if __name__ == "__main__":
    main()
