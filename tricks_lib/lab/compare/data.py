"""Any labelled table as rows of train, validation and test: files, a name of the registry, or a hub data set.

What is wrong with the data is refused by the number of its row; what is odd and can be mended is mended, and
told in ``Table.warnings``.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings, simplefilter

import pandas

from tricks_lib.lab import tasks
from tricks_lib.lab.compare import columns, splits
from tricks_lib.lab.compare.columns import brief
from tricks_lib.lab.models import first_line, sha256

READABLE = (".csv", ".tsv", ".jsonl", ".parquet")
REGISTRY_KINDS = {
    "classification": "classes",
    "multilabel": "labels",
    "tokens": "tags",
    "regression": "numbers",
}
HUB_ADDRESS = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


@dataclass(frozen=True)
class Table:
    """Labelled rows.

    Attributes:
        name: of the file, the registry or the hub.
        kind: "classes", "labels" (several per text), "tags" (one per word) or "numbers".
        splits: "train", "validation" and "test" -> list of ``{"text", "label"}``, with ``"text_b"`` for
            pairs; ``text`` is a list of words for tags. ``label`` is the index of a class, 0 and 1 for each
            of ``names``, the index of a tag for each word, or a float.
        names: of classes, labels or tags; [] for numbers. Tags that begin with B- and I- stand in the order
            O, B-x, I-x, B-y, I-y, ... that ``metrics.entity_f1`` expects.
        sha256: file (or split) -> digest; {} for a hub data set.
        warnings: sentences to be told.
    """

    name: str
    kind: str
    splits: dict[str, list[dict]]
    names: list[str]
    sha256: dict[str, str]
    warnings: list[str]

    @property
    def sizes(self) -> dict[str, int]:
        return {split: len(rows) for split, rows in self.splits.items()}


def read(
    spec,
    text: str = "text",
    text_b: str | None = None,
    label: str = "label",
    split: str = "split",
    kind: str | None = None,
    encoding: str = "utf-8-sig",
) -> Table:
    """Read a table and settle what its labels are.

    Splits are files (or files of a folder) named train, validation and test, or a column; without them they
    are 70, 10 and 20 % of the rows, stratified and drawn by a fixed seed.

    Args:
        spec: path of a file (CSV, TSV, JSONL or Parquet) or folder, a list of paths, a name of
            :mod:`tricks_lib.lab.tasks`, or a hub address ``org/name[:config]``.
        text, text_b, label: names of the columns; ``text_b`` for pairs. The registry has its own.
        split: name of the column of splits, if there is one.
        kind: of the labels, one of "classes", "labels", "tags" and "numbers"; None: as the column says. The
            registry has its own.
        encoding: of CSV, TSV and JSONL.

    Raises:
        FileNotFoundError: there is no such file, or the hub cannot be reached.
        ValueError: the data cannot be used; the message names the file, the column and the rows.
    """
    paths = [Path(each) for each in ([spec] if isinstance(spec, (str, os.PathLike)) else spec)]
    if not paths:
        raise ValueError("data: [] given, at least one file is accepted")
    told: list[str] = []
    if len(paths) > 1 or paths[0].exists():
        files = _files(paths)
        frames = {file: _frame(file, encoding) for file in files}
        name, digests = ", ".join(path.name for path in paths), {file.name: sha256(file) for file in files}
        given = (
            splits.of_files(frames)
            if len(frames) > 1
            else splits.of_column(*next(iter(frames.items())), column=split)
        )
    elif str(spec) in registered():
        name, digests = str(spec), tasks.digests(str(spec))  # of the rows, wherever they come from
        given, kind = _registered(name)
        text, text_b, label = "text", "text_b" if "text_b" in given["train"] else None, "label"
    elif paths[0].suffix in READABLE or not HUB_ADDRESS.fullmatch(str(spec)):
        known = ", ".join(registered())
        raise FileNotFoundError(
            f"data: {brief(str(spec))} is no file or folder here; accepted are {', '.join(READABLE)} files, "
            f"a hub address org/name[:config], and {known}"
        )
    else:
        name, digests, (given, told) = str(spec), {}, _from_hub(str(spec))
    wanted = {"text": text, **({"text_b": text_b} if text_b else {}), "label": label}
    kind, names, rows, warnings = columns.to_rows(given, wanted, kind)
    rows, done = splits.complete(rows, kind)
    return Table(name, kind, rows, names, digests, [*told, *warnings, *done])


def registered() -> list[str]:
    """Names of the data sets with labels in the registry."""
    return sorted(
        {"guest_book", *(name for name, task in tasks.TASKS.items() if task.kind in REGISTRY_KINDS)}
    )


def _files(paths: list[Path]) -> list[Path]:
    """Files that are given one by one, or the readable ones of a folder."""
    if len(paths) == 1 and paths[0].is_dir():
        found = sorted(f for f in paths[0].iterdir() if f.suffix in READABLE)
        if not found:
            raise ValueError(f"data: {paths[0]} holds no {', '.join(READABLE)} file")
        return found
    for file in paths:
        if not file.is_file():
            raise FileNotFoundError(f"data: {file} is no file")
        if file.suffix not in READABLE:
            hint = "; its columns are divided by tabs: name it .tsv" if _has_tabs(file) else ""
            raise ValueError(f"data: {file.name} given, {', '.join(READABLE)} files are accepted{hint}")
    return paths


def _has_tabs(file: Path) -> bool:
    """Whether the first line of a file looks like the header of a TSV."""
    with file.open("rb") as lines:
        return b"\t" in lines.readline(10_000)


def _frame(file: Path, encoding: str) -> pandas.DataFrame:
    """The columns of a file; cells of CSV and TSV are strings."""
    if file.stat().st_size == 0:
        raise ValueError(f"data: {file.name} is empty")
    try:
        if file.suffix == ".parquet":
            frame = pandas.read_parquet(file)
        elif file.suffix == ".jsonl":
            frame = pandas.read_json(file, lines=True, dtype=False, encoding=encoding, precise_float=True)
        else:
            separator = "," if file.suffix == ".csv" else "\t"
            with catch_warnings():  # of a row with more fields than the header: they would be lost
                simplefilter("error", pandas.errors.ParserWarning)
                frame = pandas.read_csv(
                    file, sep=separator, dtype=str, keep_default_na=False, encoding=encoding, index_col=False
                )
    except UnicodeDecodeError as error:
        byte, wanted = error.object[error.start], encoding.upper().removesuffix("-SIG")
        raise ValueError(
            f"data: {file.name} is not {wanted} (byte 0x{byte:02x}). If it is Latin-1 or Windows-1252, give "
            f"the encoding 'latin-1' or 'cp1252', or convert it: iconv -f latin1 -t utf-8"
        ) from error
    except LookupError as error:
        raise ValueError(f"encoding: {encoding!r} given, one that Python knows is accepted") from error
    except (
        OSError,
        ValueError,
        pandas.errors.ParserWarning,
    ) as error:  # what pandas and pyarrow raise is a ValueError
        raise ValueError(f"data: {file.name} cannot be read: {brief(first_line(error), 200)}") from error
    if not len(frame):
        raise ValueError(f"data: {file.name} has a header but no rows")
    return frame.reset_index(drop=True)


def _registered(name: str) -> tuple[dict[str, pandas.DataFrame], str]:
    """Splits of a data set of the registry with names in place of indices, and the kind of its labels."""
    loaded = tasks.load_task(name)
    kind = REGISTRY_KINDS[tasks.TASKS[name].kind if name in tasks.TASKS else "classification"]
    frames = {split: _named(rows) for split, rows in loaded.items()}
    if kind == "labels":
        for frame in frames.values():
            frame["label"] = [[a for a, x in zip(tasks.ASPECTS, row) if x] for row in frame["label"]]
    return {s: f.rename(columns={"tokens": "text"}) for s, f in frames.items()}, kind


def _from_hub(spec: str) -> tuple[dict[str, pandas.DataFrame], list[str]]:
    """Splits of a hub data set; those of other names are left out, which is told."""
    import datasets

    address, _, configuration = spec.partition(":")
    try:
        loaded = datasets.load_dataset(address, configuration or None)
    except Exception as error:  # the hub client raises many kinds
        raise FileNotFoundError(
            f"data: {spec} could not be had from the hub ({brief(first_line(error), 200)})"
        ) from error
    known = {split: _named(rows) for split, rows in loaded.items() if split in splits.ALIASES}
    other = [split for split in loaded if split not in known]
    if not known:
        return splits.by_name({split: _named(loaded[split]) for split in other}, spec), []
    return splits.by_name(known, spec), [
        f"{split} is no train, validation or test and is left out" for split in other
    ]


def _named(rows) -> pandas.DataFrame:
    """A ``datasets.Dataset`` with names of classes and tags in place of indices, None in place of -1."""
    import datasets

    frame = pandas.DataFrame({column: rows[column][:] for column in rows.column_names})
    for column, feature in rows.features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, datasets.ClassLabel):
            frame[column] = [feature.int2str(i) if i >= 0 else None for i in frame[column]]
        elif isinstance(inner, datasets.ClassLabel):
            frame[column] = [[inner.int2str(i) for i in tags] for tags in frame[column]]
    return frame


def too_long(table: Table, tokenizer, max_length: int) -> str | None:
    """A sentence on the texts of more than ``max_length`` tokens, or None where all are read to their end."""
    rows = [row for split in table.splits.values() for row in split]
    texts = [[row[column] for row in rows] for column in ("text", "text_b") if column in rows[0]]
    encoded = tokenizer(*texts, is_split_into_words=table.kind == "tags", truncation=False, verbose=False)
    lengths = sorted(len(ids) for ids in encoded["input_ids"])
    cut = sum(length > max_length for length in lengths)
    if not cut:
        return None
    return (
        f"{cut:,} of {len(rows):,} texts ({100 * cut / len(rows):.0f} %) are longer than {max_length} tokens "
        f"and are cut there; half have {lengths[len(lengths) // 2]:,} or fewer, the longest {lengths[-1]:,}"
    )
