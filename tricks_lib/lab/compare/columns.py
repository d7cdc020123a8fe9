"""The columns of a table as rows with a text and a label; what is wrong is named by its row."""

import numpy as np
import pandas

from tricks_lib.lab.compare import labels
from tricks_lib.lab.compare.labels import LEAST_ROWS, plain

LONGEST = 1_000_000  # characters of a text


def brief(text: str, length: int = 60) -> str:
    """At most so many characters, for a message."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def shown_rows(rows, split: str = "") -> str:
    """Numbers of rows, counted from 1 below the header: "rows 3, 17, 20 and 5 more of test"."""
    rows = [row + 1 for row in rows]
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    of = f" of {split}" if split else ""
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:5]))}{more}{of}"


def to_rows(frames: dict[str, pandas.DataFrame], columns: dict[str, str], kind: str | None):
    """Rows of each split, and what their labels are.

    Args:
        frames: by split, "" for one that is still to be split.
        columns: of "text", perhaps "text_b", and "label". kind: what the labels must be; None: as they are.

    Returns:
        kind; names; split -> list of ``{"text", "text_b"?, "label", "row"}``, ``row`` being its number in the
        split, from 0; sentences on what was done.

    Raises:
        ValueError: a column is missing or holds something else, a cell is empty, or a class has too few rows.
    """
    told, texts, cells = [], {}, {}
    for split, frame in frames.items():
        check_names(frame, columns.values())
        own = [plain(cell) for cell in frame[columns["label"]]]
        if split not in ("", "train") and all(cell is None for cell in own):
            told.append(f"{split} has no labels and is left out")
            continue
        lists = any(isinstance(cell, list) for cell in own)
        nothing = [] if lists else ""  # no label applies, where there can be several
        if not lists and kind != "labels":
            refuse([i for i, cell in enumerate(own) if cell is None], split, "label", "is missing")
        cells[split] = [nothing if cell is None else cell for cell in own]
        texts[split] = {key: read_texts(frame[c], c, split) for key, c in columns.items() if key != "label"}
    if [*cells] == ["train"]:
        cells, texts = {"": cells["train"]}, {"": texts["train"]}
    words = any(isinstance(text, list) for text in next(iter(texts.values()))["text"])
    everything = [cell for own in cells.values() for cell in own]
    kind, values, sentences = labels.settle(everything, columns["label"], words, kind)
    names = labels.names_of(values, kind)
    index, remaining, rows = {name: i for i, name in enumerate(names)}, iter(values), {}
    for split, own in texts.items():
        found = [labels.to_index(next(remaining), index, kind) for _ in cells[split]]
        if kind == "tags":
            wrong = [i for i, (text, tags) in enumerate(zip(own["text"], found)) if len(text) != len(tags)]
            refuse(wrong, split, "label", "has not one tag for each word")
        rows[split] = [
            {**dict(zip(own, parts)), "label": label, "row": i}
            for i, (*parts, label) in enumerate(zip(*own.values(), found))
        ]
    if kind in ("classes", "labels"):
        sentences += check_classes(rows, names, kind)
    return kind, names, rows, told + sentences


def check_names(frame: pandas.DataFrame, needed) -> None:
    """Refuse a frame that lacks a column, and say what it has."""
    there = [str(column) for column in frame.columns]
    if missing := [column for column in needed if column not in there]:
        hint = ""
        if len(there) == 1 and (separators := [s for s in (";", "\t", ",", "|") if s in there[0]]):
            hint = f"; is it separated by {separators[0]!r}?"
        raise ValueError(
            f"data: there is no column {', '.join(map(repr, missing))}; there are "
            f"{', '.join(repr(brief(column)) for column in there[:20])}{hint}"
        )


def refuse(rows: list[int], split: str, what: str, why: str) -> None:
    """Raise for rows that cannot be used."""
    if rows:
        raise ValueError(f"data: {what} {why} in {shown_rows(rows, split)}")


def read_texts(column: pandas.Series, name: str, split: str) -> list:
    """Strings, or lists of words."""
    cells = [list(cell) if isinstance(cell, np.ndarray) else cell for cell in column]
    there = [plain(cell) for cell in column]
    refuse([i for i, cell in enumerate(there) if cell in (None, [])], split, f"{name!r}", "is missing")
    kind = type(cells[0])
    if kind not in (str, list) or (kind is list and not all(isinstance(word, str) for word in cells[0])):
        raise ValueError(
            f"data: the column {name!r} holds {kind.__name__}; texts, or lists of words, are accepted"
        )
    other = [i for i, cell in enumerate(cells) if type(cell) is not kind]
    refuse(other, split, f"{name!r}", f"is no {kind.__name__}")
    if kind is str and all(labels.is_number(cell) for cell in there):
        raise ValueError(f"data: the column {name!r} holds numbers, texts are accepted")
    if kind is list:
        wrong = [i for i, cell in enumerate(cells) if not all(isinstance(word, str) for word in cell)]
        refuse(wrong, split, f"{name!r}", "holds a word that is no text")
    long = [i for i, cell in enumerate(cells) if len(cell) > LONGEST]
    refuse(long, split, f"{name!r}", f"has more than {LONGEST:,} characters")
    return cells


def check_classes(rows: dict[str, list[dict]], names: list[str], kind: str) -> list[str]:
    """Refuse a single class, and one that has too few rows to be split; tell of one that train lacks."""
    shape = (-1, len(names)) if kind == "labels" else (-1,)

    def count(own):
        found = np.reshape([row["label"] for row in own], shape).astype(int)
        return found.sum(axis=0) if kind == "labels" else np.bincount(found, minlength=len(names))

    if len(names) < 2:
        only = repr(brief(names[0])) if names else "empty"
        raise ValueError(f"data: the label of every row is {only}; two or more classes are accepted")
    counts = {split: count(own) for split, own in rows.items()}
    if "" not in rows:
        lacking = [name for name, n in zip(names, counts["train"]) if not n]
        return [f"train has no row of {', '.join(map(repr, map(brief, lacking[:5])))}"] if lacking else []
    if few := [i for i, n in enumerate(counts[""]) if n < LEAST_ROWS]:
        shown = ", ".join(f"{brief(names[i])!r} ({_where(rows[''], i, kind)})" for i in few[:5])
        more = f" and {len(few) - 5:,} more" if len(few) > 5 else ""
        raise ValueError(
            f"data: {len(few)} of {len(names)} classes have fewer than {LEAST_ROWS} rows: {shown}{more}; "
            f"each needs one in train, validation and test"
        )
    return []


def _where(rows: list[dict], index: int, kind: str) -> str:
    own = [r for r in rows if (r["label"][index] if kind == "labels" else r["label"] == index)]
    return shown_rows([row["row"] for row in own])
