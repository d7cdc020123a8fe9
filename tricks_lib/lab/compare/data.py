"""Stand-in until the reader of any table is merged: data sets of the registry."""
from dataclasses import dataclass

from tricks_lib.lab import tasks

KINDS = {"classification": "classes", "multilabel": "labels", "tokens": "tags", "regression": "numbers"}


@dataclass
class Table:
    name: str
    kind: str
    splits: dict
    names: list
    sha256: str
    sizes: dict
    warnings: list


def read(spec, text="text", text_b=None, label="label"):
    loaded = tasks.load_task(spec)
    kind = KINDS[tasks.TASKS[spec].kind]
    feature = loaded["train"].features["label"]
    names = getattr(feature, "names", None) or []
    splits = {s: list(loaded[s]) for s in loaded}
    for rows in splits.values():
        for row in rows:
            if "tokens" in row:
                row["text"] = row.pop("tokens")
    return Table(spec, kind, splits, names, str(tasks.describe(spec)["sha256"]), {s: len(r) for s, r in splits.items()}, [])
