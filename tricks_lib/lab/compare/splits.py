"""Train, validation and test: as given, or drawn; no text stands in two of them."""

import re
from pathlib import Path

import numpy as np
import pandas

from tricks_lib.lab.compare.columns import brief, shown_rows
from tricks_lib.lab.tasks import SPLITS

ALIASES = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "validation": "validation",
    "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
WORDS = re.compile(r"[a-z]+")
SHARES = {"test": 0.2, "validation": 0.1}  # of the rows, where no splits are given; the rest is train
BINS = 10  # of numbers, for strata


def by_name(frames: dict, source: str) -> dict[str, pandas.DataFrame]:
    """Frames by the names of their splits ("dev" is validation); one frame alone is to be split.

    Raises:
        ValueError: another name, two of the same split, or no train.
    """
    if len(frames) == 1:
        return {"": next(iter(frames.values()))}
    out = {}
    for name, frame in frames.items():
        split = ALIASES.get(str(name).lower())
        if split is None or split in out:
            raise ValueError(
                f"data: {source} has the splits {', '.join(map(brief, map(str, frames)))}; train, validation "
                f"and test are accepted, each once"
            )
        out[split] = frame
    if "train" not in out or len(out) == 1:
        raise ValueError(f"data: {source} has {', '.join(out)} alone; train and test are needed")
    return out


def of_files(frames: dict[Path, pandas.DataFrame]) -> dict[str, pandas.DataFrame]:
    """Files as splits by a word of their names: ``test-00000-of-00001.parquet``, ``my_dev.tsv``.

    Raises:
        ValueError: a name that says no split, or two.
    """
    said = {
        file: {ALIASES[word] for word in WORDS.findall(file.stem.lower()) if word in ALIASES}
        for file in frames
    }
    if unclear := [file.name for file, splits in said.items() if len(splits) != 1]:
        raise ValueError(
            f"data: the name of {', '.join(unclear)} does not say which split it is; of several files each "
            f"must have train, validation (dev) or test in its name"
        )
    parts: dict[str, list] = {}
    for file, frame in frames.items():
        parts.setdefault(*said[file], []).append(frame)
    return by_name({s: pandas.concat(p, ignore_index=True) for s, p in parts.items()}, "the folder")


def of_column(file: Path, frame: pandas.DataFrame, column: str) -> dict[str, pandas.DataFrame]:
    """The rows of each value of ``column``, or all rows under "" where there is none."""
    if column not in frame:
        return {"": frame}
    if not {str(value).lower() for value in frame[column]} <= ALIASES.keys():
        other = next(v for v in frame[column] if str(v).lower() not in ALIASES)
        raise ValueError(
            f"data: {file.name} has {brief(str(other))!r} in its column {column!r}; train, validation and "
            f"test are accepted there (or give another name as split)"
        )
    named = frame[column].map(lambda value: ALIASES[str(value).lower()])
    return by_name(dict(list(frame.groupby(named))), file.name)


def complete(rows: dict[str, list[dict]], kind: str) -> tuple[dict[str, list[dict]], list[str]]:
    """The three splits of rows that are given as one ("") or as some, and sentences on what was done.

    Without a test split the validation split is the test; without a validation split then, it is a tenth of
    train. A text of an earlier split is left out of the later one.

    Raises:
        ValueError: a split is left without rows.
    """
    told = []
    if "" in rows:
        rows = draw(rows[""], kind, SHARES)
        told.append("split 70/10/20 into train, validation and test, stratified, by a fixed seed")
    if "test" not in rows:
        rows = {"train": rows["train"], "test": rows["validation"]}
        told.append("no test split: the validation split is the test")
    if "validation" not in rows:
        rows = rows | draw(rows["train"], kind, {"validation": 0.1})
        told.append("no validation split: a tenth of train is drawn as one")
    rows = {split: rows[split] for split in SPLITS}
    rows, twice = without_duplicates(rows)
    for split, own in rows.items():
        if not own:
            raise ValueError(f"data: no row is left in {split}")
    return rows, told + twice


def draw(rows: list[dict], kind: str, shares: dict[str, float]) -> dict[str, list[dict]]:
    """Splits with these shares of every stratum, a row of it each where there are enough, and "train"."""
    stratum = strata([row["label"] for row in rows], kind)
    chosen = np.full(len(rows), "train", dtype=object)
    rng = np.random.default_rng(0)
    for value in np.unique(stratum):
        own = rng.permutation(np.flatnonzero(stratum == value))
        for split, share in shares.items():
            count = min(max(1, round(share * np.sum(stratum == value))), len(own) - 1)
            chosen[own[:count]], own = split, own[count:]
    return {s: [row for row, c in zip(rows, chosen) if c == s] for s in ("train", *shares)}


def strata(labels: list, kind: str) -> np.ndarray:
    """What is kept in proportion (N,): class, rarest label or tag of a text, or tenth of the numbers."""
    if kind == "classes":
        return np.asarray(labels)
    if kind == "numbers":
        ranks = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
        return ranks * max(1, min(BINS, len(labels) // 10)) // len(labels)
    there = [{i for i, x in enumerate(row) if x} if kind == "labels" else {*row} for row in labels]
    counts: dict = {}
    for row in there:
        for i in row:
            counts[i] = counts.get(i, 0) + 1
    return np.array([min(row, key=lambda i: (counts[i], i), default=-1) for row in there])


def without_duplicates(rows: dict[str, list[dict]]) -> tuple[dict[str, list[dict]], list[str]]:
    """Rows without those whose text (or pair) stands in an earlier split, and a sentence for each split."""
    seen, out, told = set(), {}, []
    for split, own in rows.items():
        keys = [tuple(str(row[column]) for column in ("text", "text_b") if column in row) for row in own]
        again = [i for i, key in enumerate(keys) if key in seen]
        out[split] = [row for row, key in zip(own, keys) if key not in seen]
        if again:
            told.append(
                f"{len(again):,} of {len(own):,} texts of {split} stand in an earlier split too and are left "
                f"out of {split} ({shown_rows([own[i]['row'] for i in again])})"
            )
        seen.update(keys)
    for own in out.values():
        for row in own:
            del row["row"]
    return out, told
