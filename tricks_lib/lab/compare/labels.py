"""What a column of labels says: classes, several labels per text, tags per word, or numbers."""

import math
import re
import reprlib
from collections import Counter

import numpy as np

from tricks_lib.lab.compare.metrics import KINDS

DELIMITERS = "|;"
FEW = 20  # different whole numbers are classes
MANY = 100  # more are numbers; in between they are classes where each of them has three rows
LEAST_ROWS = 3  # of a class
ABSENT = ("", "nan")


def plain(cell):
    """A cell as bool, int, float, str (without spaces around it) or list; None where nothing is there."""
    if isinstance(cell, (np.ndarray, tuple)):
        cell = list(cell)
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, list):
        return [plain(each) for each in cell]
    if isinstance(cell, str):
        cell = cell.strip()
        return None if cell.lower() in ABSENT else cell
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def settle(cells: list, column: str, words: bool, kind: str | None) -> tuple[str, list, list[str]]:
    """The kind of plain cells that are there, their values, and sentences on how they were read.

    Args:
        words: the texts are lists of words. kind: what it has to be; None: as the cells say.

    Returns:
        kind; values: a name, a list of names, a name for each word, or a float; sentences.

    Raises:
        ValueError: cells that are none of these.
    """
    if kind not in (None, *KINDS):
        raise ValueError(f"kind: {kind!r} given, one of {', '.join(KINDS)} is accepted")
    types = {type(cell) for cell in cells}
    if not types <= {list} and not types <= {str, bool, int, float}:
        other = next(t for t in types if t not in (str, bool, int, float))
        raise ValueError(
            f"data: the column {column!r} holds {other.__name__}; strings, numbers, or lists of them are "
            f"accepted"
        )
    numbers = None if types & {list, bool} else _numbers(cells)
    if numbers is not None and not np.isfinite(numbers).all():
        raise ValueError(f"data: the column {column!r} holds an infinite number")
    told = [] if kind else _told_of_numbers(numbers)
    kind = kind or _kind(cells, numbers, words)
    if words != (kind == "tags"):
        texts = "lists of words" if words else "no lists of words"
        raise ValueError(f"data: the labels are {kind} and the texts are {texts}; tags need lists of words")
    if kind == "numbers":
        if numbers is None:
            wrong = next(c for c in cells if not is_number(c))
            raise ValueError(f"data: the column {column!r} holds {_shown(wrong)}; numbers are accepted")
        return kind, numbers.tolist(), told
    if kind == "classes":
        if types & {list}:
            raise ValueError(f"data: the column {column!r} holds lists; one class per text is accepted")
        return kind, [_name(cell) for cell in cells], told
    if kind == "labels":
        return kind, *_several(cells, column)
    if not types <= {list}:
        raise ValueError(f"data: the column {column!r} holds no lists; a tag for each word is accepted")
    return kind, [_list_of_names(cell, column) for cell in cells], []


def _kind(cells, numbers, words: bool) -> str:
    if words:
        return "tags"
    if numbers is not None:
        return "classes" if _whole(numbers) and _as_classes(numbers) else "numbers"
    return "labels" if isinstance(cells[0], list) or _delimiter(cells) else "classes"


def _numbers(cells) -> np.ndarray | None:
    """The cells as floats, None where one is no number."""
    return np.array([float(cell) for cell in cells]) if all(map(is_number, cells)) else None


def is_number(cell) -> bool:
    """Whether a plain cell is a number, or a string of one."""
    try:
        return not isinstance(cell, (bool, list)) and "_" not in str(cell) and not math.isnan(float(cell))
    except ValueError:
        return False


def _told_of_numbers(numbers: np.ndarray | None) -> list[str]:
    if numbers is None or not _whole(numbers):
        return []
    different = np.unique(numbers)
    kind, other = ("classes", "numbers") if _as_classes(numbers) else ("numbers", "classes")
    return [
        f"the labels are whole numbers, {different[0]:g} to {different[-1]:g}, {len(different)} different "
        f"ones: read as {kind} (kind {other!r} reads them as {other})"
    ]


def _whole(numbers: np.ndarray) -> bool:
    return bool((numbers == np.round(numbers)).all())


def _as_classes(numbers: np.ndarray) -> bool:
    different, counts = np.unique(numbers, return_counts=True)
    return len(different) <= FEW or (len(different) <= MANY and counts.min() >= LEAST_ROWS)


def _name(cell) -> str:
    """1.0 and "1.0" are class "1", "01" is another."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(cell))


def _delimiter(cells) -> str | None:
    """The character that stands between labels of one cell: what it divides occurs in three cells or more."""
    for delimiter in DELIMITERS:
        parts = [[part.strip() for part in str(cell).split(delimiter)] for cell in cells]
        counts = Counter(part for own in parts for part in own)
        divided = [counts[part] >= LEAST_ROWS for own in parts if len(own) > 1 for part in own]
        if divided and sum(divided) > len(divided) / 2:
            return delimiter
    return None


def _several(cells, column: str) -> tuple[list[list[str]], list[str]]:
    if isinstance(cells[0], list):
        lengths = {len(cell) for cell in cells}
        if len(lengths) == 1 and lengths != {1} and {x for cell in cells for x in cell} <= {0, 1}:
            told = [f"the labels are lists of 0 and 1, one for each of {max(lengths)} labels"]
            return [[str(i) for i, x in enumerate(cell) if x] for cell in cells], told
        return [_list_of_names(cell, column) for cell in cells], []
    delimiter = _delimiter(cells) or DELIMITERS[0]
    values = [[_name(part.strip()) for part in str(cell).split(delimiter) if part.strip()] for cell in cells]
    told = f"the labels are split at {delimiter!r}: several per text (kind 'classes' reads each cell as one)"
    return values, [told]


def _list_of_names(cell: list, column: str) -> list[str]:
    if wrong := [x for x in cell if not isinstance(x, (str, int))]:
        raise ValueError(
            f"data: the column {column!r} holds lists with {_shown(wrong[0])}, names are accepted"
        )
    return [_name(x) for x in cell]


def _shown(value) -> str:
    return reprlib.repr(value)


def names_of(values: list, kind: str) -> list[str]:
    """Names of classes, labels or tags: numbers by size, others by the alphabet, tags as ``Table`` says."""
    if kind == "numbers":
        return []
    known = {*values} if kind == "classes" else {name for own in values for name in own}
    if kind == "tags" and all(tag == "O" or tag[:2] in ("B-", "I-") for tag in known):
        types = sorted({tag[2:] for tag in known if tag != "O"})
        return ["O", *(f"{position}-{type_}" for type_ in types for position in "BI")]
    if all(map(is_number, known)):
        return sorted(known, key=lambda name: (float(name), name))  # "1" and "01" are two classes
    return sorted(known)


def to_index(value, index: dict[str, int], kind: str):
    """A value of :func:`settle` as the label of a row."""
    if kind == "classes":
        return index[value]
    if kind == "labels":
        return [int(name in value) for name in index]
    return [index[tag] for tag in value] if kind == "tags" else value
