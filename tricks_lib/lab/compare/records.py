"""The record of a comparison: one JSON file, and its predictions in an ``.npz`` of the same name beside it.

Schema 2. Every number that a page shows is recomputed from these two files::

    schema            2
    name              "tournament/en_banking77"; the files are tournament__en_banking77.json and .npz
    kind              of the data: "classes", "labels", "tags", "numbers" or, of decoding, "texts"
    metric            a key of metrics.METRICS; higher_is_better: bool
    guess             score of guessing by class frequencies (numbers: of the mean)
    data              name, sha256, sizes {"train", "validation", "test"}, rows (what a seed draws of the
                      training rows: {}, {"rows": n}, {"per_class": n} or {"tail": [most, least]}),
                      warnings [str]; of "texts" also people: log_prob, distinct_2 and repetition of theirs
    model             name, source, sha256, parameters, precision ("fp32", "bf16" or "fp16")
    training          what all arms share: batch_size, max_length, warmup, weight_decay, ...; "rate" says what
                      a rate is where it is no learning rate, "unit" what a step is
    baseline          name of an arm
    arms              {name: arm}, in the order in which they are shown; an arm is
        settings      {field: value} beyond the baseline's: fields of TricksArguments and of the classifier
        candidates    [{field: value}], from which validation chooses beside the rate; [{}]: no choice
        trick, rival  name of the trick (null: a control), and the arm that is its cheap rival (null: none)
        passes        forward and backward passes of its training, as a multiple of the baseline's
        shares        the first arm whose training it reads (null: it has one of its own)
        tuning        [{"candidate": {...}, "learning_rate": r, "scores": [one a tuning seed]}]
        chosen        {"candidate": {...}, "learning_rate": r}: the best mean, the first of equals
        edge          null, "low" or "high": the chosen rate is still the last of its grid
        runs          [{"seed", "score" (by metric), "failed", "seconds", "code", further metrics}]
        arguments     what to paste
    steps             chosen; start; settled [{"steps", "learning_rate", "scores", "tuning"}] at N, 2N, ...;
                      still_improving: the last doubling allowed was still worth its steps
    seeds, tuning_seeds, rates (the grid that every arm starts with; [] where nothing is trained or tuned)
    families          {"baseline": [arms], "rivals": [[arm, rival]]}, fixed before the runs
    statistics        see :func:`tricks_lib.lab.compare.summary.summarize`
    hours             null, or the time that the plan was cut to
    code              sha256 of the sources that every run was made by
    git_commit, environment, command, wall_seconds, date

The ``.npz`` holds ``labels`` (N, ...) and ``predictions`` (N, ..., arms, seeds) of the test rows: class
indices (-100 pads the tags of a text), 0 and 1 for several labels a text, float16 for numbers (float32 where
that is too coarse). Where calibration is measured, ``confidence`` (N, arms, seeds, 2), float16, is that of
the predicted class before and after the temperature.
"""

import base64
import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tricks_lib.lab.records import folder, names, path, read, write

__all__ = [
    "folder",
    "load",
    "load_file",
    "names",
    "pack",
    "path",
    "predictions_of",
    "read",
    "read_partial",
    "save",
    "unpack",
    "write",
]

SCHEMA = 2
FIELDS = {  # name: type(s)
    "schema": int, "name": str, "kind": str, "metric": str, "higher_is_better": bool, "guess": (int, float),
    "data": dict, "model": dict, "training": dict, "baseline": str, "arms": dict, "steps": dict,
    "seeds": list, "tuning_seeds": list, "rates": list, "families": dict, "statistics": dict,
    "hours": (int, float, type(None)), "code": str, "git_commit": (str, type(None)), "environment": dict,
    "command": str, "wall_seconds": (int, float), "date": str,
}  # fmt: skip
PARTS = {
    "data": ("name", "sha256", "sizes", "rows", "warnings"),
    "model": ("name", "source", "sha256", "parameters", "precision"),
    "steps": ("chosen", "start", "settled", "still_improving"),
    "families": ("baseline", "rivals"),
    "environment": ("device", "cuda", "python", "torch", "transformers"),
}
OF_AN_ARM = (
    "settings",
    "candidates",
    "trick",
    "rival",
    "passes",
    "shares",
    "tuning",
    "chosen",
    "edge",
    "runs",
    "arguments",
)


def save(file: Path, record: dict, predictions: dict[str, np.ndarray]) -> None:
    """Write the predictions and then the record, each whole or not at all."""
    temporary = file.with_suffix(f".{os.getpid()}.npz.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **predictions)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file.with_suffix(".npz"))
    finally:
        temporary.unlink(missing_ok=True)
    write(file, record)


def load(name: str, where: Path | None = None) -> tuple[dict, dict[str, np.ndarray]]:
    """A record by its name, and its predictions; what they say is checked by :mod:`.verify`, not here.

    Raises:
        FileNotFoundError: there is no such record, or no predictions beside it.
        ValueError: a file cannot be read, is not of this schema, or lacks a field.
    """
    file = path(name, where)
    if not file.is_file():
        there = ", ".join(names(where, None)) or "none"
        raise FileNotFoundError(f"name: no record {name!r} in {file.parent}; there are {there}")
    return load_file(file)


def load_file(file: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """As :func:`load`, of a file."""
    record = read(file)
    check_fields(record, file.name)
    return record, predictions_of(file)


def of_comparison(file: Path) -> bool:
    """Whether a file is the record of a comparison, or one that was interrupted."""
    try:
        content = read(file)
    except ValueError:
        return False
    return isinstance(content, dict) and (content.get("schema") == SCHEMA or "runs" in content)


def predictions_of(file: Path) -> dict[str, np.ndarray]:
    """The arrays beside a record.

    Raises:
        FileNotFoundError, ValueError: there are none, or they cannot be read.
    """
    beside = file.with_suffix(".npz")
    if not beside.is_file():
        raise FileNotFoundError(f"{file.name}: its predictions, {beside.name}, are missing")
    try:
        with np.load(beside, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{beside.name}: cannot be read: {error}") from error


def check_fields(record, file: str) -> None:
    """Refuse what is not a record of this schema; the error names the file and the cause."""
    if not isinstance(record, dict):
        raise ValueError(f"{file}: {type(record).__name__} given, an object is accepted")
    if record.get("schema") != SCHEMA:
        raise ValueError(f"{file}: schema {record.get('schema')} given, {SCHEMA} is accepted")
    for name, kind in FIELDS.items():
        if name not in record:
            raise ValueError(f"{file}: field {name!r} is missing")
        if not isinstance(record[name], kind) or (isinstance(record[name], bool) and kind is not bool):
            raise ValueError(f"{file}: field {name!r} is {type(record[name]).__name__}")
    for part, keys in {**PARTS, **{f"arms {arm}": OF_AN_ARM for arm in record["arms"]}}.items():
        content = record["arms"][part[5:]] if part.startswith("arms ") else record[part]
        if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
            raise ValueError(f"{file}: field {part!r} has no {', '.join(missing)}")
    if record["baseline"] not in record["arms"]:
        raise ValueError(
            f"{file}: baseline {record['baseline']!r} is not among the arms {list(record['arms'])}"
        )


def pack(array: np.ndarray) -> str:
    """An array as text, for the JSON of an interrupted run."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return base64.b64encode(zlib.compress(stream.getvalue(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    return np.load(io.BytesIO(zlib.decompress(base64.b64decode(text))), allow_pickle=False)


def read_partial(partial: Path, expected: dict | None = None) -> dict:
    """What an interrupted run has on disk.

    Args:
        expected: ``{"definition", "code"}`` of the run that would go on.

    Raises:
        ValueError: it is damaged, made under another definition, or by other code.
    """
    try:
        state = read(partial)
        runs = [state["definition"], state["runs"], *state["runs"].values()]
        if not all(isinstance(each, dict) for each in runs) or not isinstance(state["seconds"], (int, float)):
            raise ValueError("a field has another type")
        hash(state["code"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{partial}: not a readable interrupted run ({error}); move it away to start anew"
        ) from error
    if expected is None:
        return state
    known, found = expected["definition"], state["definition"]
    if changed := [k for k in {**known, **found} if known.get(k, k) != found.get(k, k)]:
        raise ValueError(
            f"{partial}: belongs to another definition ({', '.join(changed)} changed); move it away to start "
            f"anew"
        )
    if state["code"] != expected["code"]:
        raise ValueError(
            f"{partial}: its runs were made by other code "
            f"({state['code'][:12]}, here {expected['code'][:12]}); check that out, or move the file away to "
            f"start anew"
        )
    return state
