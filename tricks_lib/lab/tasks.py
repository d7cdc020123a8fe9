"""Data sets by name, as ``datasets.DatasetDict``: the embedded corpus, then parquet files of ``TRICKS_DATA``,
then what ``python -m tricks_lib.lab fetch`` has put into the cache, then the hub (parquet-backed sets only).

Every split has the columns ``text`` (and ``text_b`` for pairs; ``tokens``, a list of words, where each word
has a label) and ``label``. The rows of embedded and local files must have the sha256 that stands here,
whatever the bytes of the file.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from tricks_lib._checks import number
from tricks_lib.lab.models import ASSETS, cache, first_line
from tricks_lib.lab.registry import ASPECTS, SPLITS, TASKS, TOPICS, Task
from tricks_lib.lab.sources import SOURCES


def load_task(name: str):
    """A data set by name.

    Args:
        name: a key of ``TASKS``, or ``guest_book`` (assembled from ``guest_notes``, see :func:`guest_book`).

    Returns:
        ``datasets.DatasetDict``; ``label`` is a ``ClassLabel``, a 0/1 list in the order of ``ASPECTS``, a
        float, or a list of ``ClassLabel``, one for each of ``tokens``.

    Raises:
        ValueError: unknown name; a file that is not the registered one, or cannot be read.
        FileNotFoundError: no copy of it here, and no hub to ask.
    """
    found = files(name)
    if name == "guest_book":
        return guest_book()
    task = TASKS[name]
    frames = {split: read(file) for split, file in found.items()} if found else from_hub(name, task)
    check_content(task, found, frames)
    check_rows(name, task, frames)
    return to_datasets(task, all_splits(frames))


def content_sha256(rows: list[dict]) -> str:
    """Of the rows as JSON, one a line: it does not depend on how a file is written."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def check_content(task: Task, found: dict[str, Path], frames: dict[str, list[dict]]) -> None:
    for split, expected in zip(found, task.sha256):
        given = content_sha256(frames[split])
        if given != expected:
            raise ValueError(f"name: the rows of {found[split]} have sha256 {given}, {expected} is accepted")


def files(name: str) -> dict[str, Path]:
    """Files of the splits of an embedded or local data set; {} for one on the hub.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_task`.
    """
    if not isinstance(name, str) or name not in (*TASKS, "guest_book"):
        raise ValueError(f"name: {name!r} given; accepted are {', '.join(sorted(TASKS))}, guest_book")
    task = TASKS["guest_notes/safety_issue" if name == "guest_book" else name]
    embedded = ASSETS / task.folder if task.folder else None
    local = os.environ.get("TRICKS_DATA")
    if not embedded and local and not Path(local).is_dir():
        raise FileNotFoundError(f"TRICKS_DATA: {local!r} given, an existing folder is accepted")
    if embedded:
        found = {split: embedded / f"{split}.jsonl" for split in task.splits}
    elif local and (Path(local) / name).is_dir():
        found = {split: Path(local) / name / f"{split}.parquet" for split in task.splits}
    elif (cache() / "data" / name).is_dir():
        found = {split: cache() / "data" / name / f"{split}.parquet" for split in task.splits}
    elif task.hub:
        return {}
    else:
        raise FileNotFoundError(
            f"name: {name!r} is not here; python -m tricks_lib.lab fetch {name} (TRICKS_DATA is "
            f"{local or 'not set'})"
        )
    for split in found:
        if not found[split].is_file():
            raise FileNotFoundError(f"name: {name!r} has no file {found[split]}")
    return found


def read(file: Path) -> list[dict]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise ValueError(f"name: {file} cannot be read as parquet: {first_line(error)}") from error


def from_hub(name: str, task: Task) -> dict[str, list[dict]]:
    import datasets

    address, _, configuration = task.hub.partition(":")
    try:
        loaded = datasets.load_dataset(address, configuration or None)
    except Exception as error:  # the hub client raises many kinds
        fetch = f"python -m tricks_lib.lab fetch {name}, or " if name in SOURCES else ""
        raise FileNotFoundError(
            f"name: {name!r} could not be had from the hub ({first_line(error)}); {fetch}put it into a "
            f"folder and set TRICKS_DATA"
        ) from error
    loaded = loaded.rename_columns({v: k for k, v in task.columns.items()})
    names = getattr(loaded[task.splits[0]].features[task.label], "names", None)
    frames = {split: list(loaded[split]) for split in task.splits}
    hidden = {split for split, rows in frames.items() if rows and all(row[task.label] == -1 for row in rows)}
    return {
        split: [named(row, task, names) for row in rows]
        for split, rows in frames.items()
        if split not in hidden
    }


def named(row: dict, task: Task, names: list[str] | None) -> dict:
    """A row of the hub with the name of its class in place of the number, as the local files have it."""
    if task.kind != "classification" or names is None:
        return row
    name = names[row[task.label]]
    return {**row, task.label: task.names.get(name, name)}


def all_splits(frames: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """The three splits of a set that was published with fewer: see :class:`Task`."""
    frames = dict(frames)
    if "test" not in frames:
        frames["test"] = frames.pop("validation")
    if "validation" not in frames:
        order = np.random.default_rng(0).permutation(len(frames["train"]))
        tenth, rows = max(1, len(order) // 10), frames["train"]
        frames["validation"], frames["train"] = (
            [rows[i] for i in sorted(order[:tenth])],
            [rows[i] for i in sorted(order[tenth:])],
        )
    return {split: frames[split] for split in SPLITS}


def check_rows(name: str, task: Task, frames: dict[str, list[dict]]) -> None:
    """Refuse a split without rows, a missing column, a text or label of another type, and words that are not
    as many as their tags.
    """
    label = {
        "classification": (str, int),
        "multilabel": list,
        "regression": (int, float),
        "tokens": list,
        "text": None,
    }[task.kind]
    text = ("tokens", list) if task.kind == "tokens" else ("text", str)
    for split, rows in frames.items():
        if not rows:
            raise ValueError(f"name: {name!r} has no rows in {split}")
        pair = [("text_b", str)] if "text_b" in frames["train"][0] else []
        for column, kind in [text, *pair, *[(task.label, label)] * (task.kind != "text")]:
            wrong = [row.get(column) for row in rows if not isinstance(row.get(column), kind)]
            if wrong:
                raise ValueError(f"name: {name!r} has {wrong[0]!r} as {column!r} in {split}")
        if (
            task.kind == "classification"
            and isinstance(rows[0][task.label], int)
            and (low := min(row[task.label] for row in rows)) < 0
        ):
            raise ValueError(f"name: {name!r} has label {low} in {split}; 0 and above are accepted")
        if task.kind == "tokens" and (
            wrong := [row for row in rows if len(row["tokens"]) != len(row[task.label]) or not row["tokens"]]
        ):
            given = f"{len(wrong[0]['tokens'])} words and {len(wrong[0][task.label])} labels"
            raise ValueError(
                f"name: {name!r} has a row of {given} in {split}; as many of each, and at least one, are "
                f"accepted"
            )


def to_datasets(task: Task, frames: dict[str, list[dict]]):
    import datasets

    if task.kind == "text":
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(rows) for split, rows in frames.items()}
        )
    words = task.kind == "tokens"
    texts = ["tokens"] if words else [c for c in ("text", "text_b") if c in frames["train"][0]]
    labels = {split: [row[task.label] for row in rows] for split, rows in frames.items()}
    if task.kind == "classification":
        if isinstance(labels["train"][0], str):
            seen = {x for split in labels.values() for x in split}
            names = [t for t in TOPICS if t in seen] if seen <= set(TOPICS) else sorted(seen)
            labels = {split: [names.index(x) for x in column] for split, column in labels.items()}
        else:
            names = [str(i) for i in range(1 + max(int(x) for split in labels.values() for x in split))]
            labels = {split: [int(x) for x in column] for split, column in labels.items()}
        feature = datasets.ClassLabel(names=names)
    elif task.kind == "multilabel":
        feature = datasets.Sequence(datasets.Value("float32"), length=len(ASPECTS))
        labels = {
            split: [[float(a in x) for a in ASPECTS] for x in column] for split, column in labels.items()
        }
    elif words:
        names = sorted({tag for split in labels.values() for tags in split for tag in tags})
        labels = {
            split: [[names.index(tag) for tag in tags] for tags in column] for split, column in labels.items()
        }
        feature = datasets.Sequence(datasets.ClassLabel(names=names))
    else:
        feature = datasets.Value("float32")
    text = datasets.Sequence(datasets.Value("string")) if words else datasets.Value("string")
    features = datasets.Features({**{c: text for c in texts}, "label": feature})
    columns = {
        split: {**{c: [row[c] for row in rows] for c in texts}, "label": labels[split]}
        for split, rows in frames.items()
    }
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(c, features=features) for split, c in columns.items()}
    )


def describe(name: str) -> dict:
    """Name, sha256 and number of rows of each split, for a record."""
    sizes = {split: len(rows) for split, rows in load_task(name).items()}
    return {"name": name, "sha256": digests(name), "sizes": sizes}


def digests(name: str) -> dict[str, str]:
    """sha256 of the rows of each split; {} for a data set on the hub."""
    return {split: content_sha256(read(file)) for split, file in files(name).items()}


def guest_book(seed: int = 0, pages: tuple[int, int, int] = (1500, 300, 500)):
    """Pages of 10 to 14 guest notes (300 to 450 words): does any note report a safety issue?

    Notes are drawn with replacement inside each split, so no note of a test page is in a training page.
    Half of the pages hold exactly one note with an issue, at a uniform place, half hold none.

    Returns:
        ``datasets.DatasetDict`` with ``text`` (notes joined by a newline), ``label`` (0 or 1), and
        ``position``: index of the first word of the safety note, -1 where there is none.

    Raises:
        TypeError, ValueError: ``pages`` are not three positive integers, or ``seed`` is negative.
    """
    import datasets

    number("seed", seed, 0, accepted="an integer of at least 0", integer=True)
    if len(pages) != len(SPLITS):
        raise ValueError(f"pages: {pages} given, one number for each of {', '.join(SPLITS)} is accepted")
    for each in pages:
        number("pages", each, 1, accepted="a positive integer for each split", integer=True)

    rng = np.random.default_rng(seed)
    notes = load_task("guest_notes/safety_issue")
    label = datasets.ClassLabel(names=["no issue", "issue"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": label, "position": datasets.Value("int32")}
    )
    out = {}
    for split, count in zip(SPLITS, pages):
        texts, flags = np.array(notes[split]["text"], dtype=object), np.array(notes[split]["label"])
        rows = []
        while len(rows) < count:
            page = list(rng.choice(texts[flags == 0], rng.integers(10, 15)))
            issue, position = len(rows) % 2, -1
            if issue:
                place = int(rng.integers(len(page)))
                page[place] = rng.choice(texts[flags == 1])
                position = sum(len(note.split()) for note in page[:place])
            if 300 <= sum(len(note.split()) for note in page) <= 450:
                rows.append({"text": "\n".join(page), "label": issue, "position": position})
        out[split] = datasets.Dataset.from_dict(
            {c: [row[c] for row in rows] for c in features}, features=features
        )
    return datasets.DatasetDict(out)
