"""Records of experiments: one JSON file each, with every seed's raw number; statistics follow from those."""

import itertools
import json
import math
import os
import statistics as st
import sys
from pathlib import Path

from tricks_lib.lab import stats

SCHEMA, KIND = 1, "seeds"  # of every record here: its arms are compared over the same seeds
FIELDS = {  # name: type(s)
    "schema": int,
    "trick": str,
    "task": str,
    "setting": str,
    "kind": str,
    "metric": str,
    "baseline": str,
    "arms": dict,
    "grid": dict,
    "tuning_seeds": list,
    "seeds": list,
    "data": dict,
    "model": dict,
    "environment": dict,
    "git_commit": (str, type(None)),
    "command": str,
    "wall_seconds": (int, float),
    "date": str,
    "statistics": dict,
}
STORED = ("mean", "low", "high", "p", "n")  # of a difference
PARTS = {
    "data": ("name", "sha256", "sizes"),
    "model": ("name", "source", "sha256"),
    "environment": ("device", "cuda", "python", "torch", "transformers"),
}


def folder() -> Path:
    """``chapters/evidence`` of the checkout, or the copy that an installed package holds."""
    checkout = Path(__file__).parents[2] / "chapters" / "evidence"
    return checkout if checkout.is_dir() else Path(__file__).parents[1] / "evidence"


def names(where: Path | None = None, schema: int | None = SCHEMA) -> list[str]:
    """Records of a schema (None: of any), as ``trick/task``, sorted; a file that cannot be read is one."""
    found = (p for p in (where or folder()).glob("*__*.json") if not p.stem.endswith(".partial"))
    return sorted(p.stem.replace("__", "/") for p in found if schema in (None, schema_of(p) or schema))


def schema_of(file: Path) -> int | None:
    """The schema that a file names, None where it cannot be read."""
    try:
        return read(file)["schema"]
    except (ValueError, KeyError, TypeError):
        return None


def path(name: str, where: Path | None = None) -> Path:
    return (where or folder()) / (name.replace("/", "__") + ".json")


def write(file: Path, content: dict) -> None:
    """Write as JSON by way of a temporary file in the same folder, so that ``file`` is the old one or the new
    one, never half of one, whatever happens in between.

    Raises:
        ValueError: JSON cannot hold ``content``: NaN, Infinity, or what is no number, string, list or dict.
    """
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file.name}: cannot be written as JSON: {error}") from error
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read(file: Path):
    """The JSON of a file, without the NaN, Infinity and 1e999 that Python would take.

    Raises:
        ValueError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_float=finite, parse_constant=finite)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file.name}: cannot be read as JSON: {error}") from error


def finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} given, a finite number is accepted")
    return float(number)


def load(name: str, where: Path | None = None) -> dict:
    """A record by name ``trick/task``, checked.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: the file is not JSON, lacks a field, or its choices or statistics do not follow from its
            raw numbers.
    """
    file = path(name, where)
    if not file.is_file():
        raise FileNotFoundError(
            f"name: no record {name!r} in {file.parent}; there are {', '.join(names(where)) or 'none'}"
        )
    record = read(file)
    check(record, file.name)
    return record


def bench(device: str, where: Path | None = None) -> dict:
    """What ``make bench`` measured on ``device`` (``cpu`` or ``cuda``).

    Raises:
        FileNotFoundError: nothing was measured there.
    """
    file = (where or folder()) / f"bench_{device}.json"
    if not file.is_file():
        raise FileNotFoundError(f"device: no {file.name} in {file.parent}; make bench writes it")
    return json.loads(file.read_text(encoding="utf-8"))


def check(record: dict, file: str) -> None:
    """Refuse a record that is not of this schema or contradicts itself; the error names file and cause."""
    if not isinstance(record, dict):
        raise ValueError(f"{file}: {type(record).__name__} given, an object is accepted")
    for key, kind in FIELDS.items():
        if key not in record:
            raise ValueError(f"{file}: field {key!r} is missing")
        if not isinstance(record[key], kind) or isinstance(record[key], bool):
            raise ValueError(f"{file}: field {key!r} is {type(record[key]).__name__}")
    if record["schema"] != SCHEMA:
        raise ValueError(f"{file}: schema {record['schema']} given, {SCHEMA} is accepted")
    if file != f"{record['trick']}__{record['task']}.json":
        raise ValueError(f"{file}: holds the record of {record['trick']}/{record['task']}")
    if record["kind"] != KIND:
        raise ValueError(f"{file}: kind {record['kind']!r} given, {KIND!r} is accepted")
    if len(record["arms"]) < 2:
        raise ValueError(f"{file}: arms {list(record['arms'])} given, at least two are accepted")
    if record["baseline"] not in record["arms"]:
        raise ValueError(
            f"{file}: baseline {record['baseline']!r} is not among the arms {list(record['arms'])}"
        )
    for part, keys in PARTS.items():
        if missing := [key for key in keys if key not in record[part]]:
            raise ValueError(f"{file}: field {part!r} has no {', '.join(missing)}")
    try:
        check_arms(record)
        again = summarize(record)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{file}: {error}") from error
    if record["statistics"] != again:
        wrong = [arm for arm in again if record["statistics"].get(arm) != again[arm]]
        raise ValueError(
            f"{file}: statistics of {', '.join(wrong) or 'unknown arms'} do not follow from the raw numbers"
        )


def check_arms(record: dict) -> None:
    """Every arm: the same grid and tuning seeds, its best point chosen, one run for each fresh seed."""
    metric, seeds, tuning_seeds = record["metric"], record["seeds"], record["tuning_seeds"]
    integers = all(type(seed) is int for seed in seeds + tuning_seeds)
    if not integers or len(seeds) < 2 or len({*seeds}) < len(seeds):
        raise ValueError("seeds: at least two integers are accepted, each once")
    if not all(isinstance(values, list) and values for values in record["grid"].values()):
        raise ValueError("grid: a list of values for each name is accepted")
    grid = [dict(zip(record["grid"], values)) for values in itertools.product(*record["grid"].values())]
    if len(grid) > 1 and (again := [seed for seed in seeds if seed in tuning_seeds]):
        raise ValueError(f"seeds {again} are tuning seeds too")
    for arm, content in record["arms"].items():
        runs, tuning = rows(content, "runs", arm), rows(content, "tuning", arm)
        if [run.get("seed") for run in runs] != seeds:
            raise ValueError(f"arm {arm!r} has not one run for each seed")
        if [row.get("point") for row in tuning] != (grid if len(grid) > 1 else []):
            raise ValueError(f"arm {arm!r} was not tuned on the grid")
        scores = [row.get(metric) for row in tuning]
        if any(not isinstance(each, list) or len(each) != len(tuning_seeds) for each in scores):
            raise ValueError(f"arm {arm!r} has not one {metric} for each tuning seed")
        if not all(map(is_number, [*itertools.chain(*scores), *(run.get(metric) for run in runs)])):
            raise ValueError(f"arm {arm!r} has a {metric} that is not a number")
        if content.get("chosen") != (best := choose(tuning, metric) if tuning else grid[0]):
            raise ValueError(
                f"arm {arm!r} has chosen {content.get('chosen')}, {best} follows from the raw numbers"
            )


def rows(content, key: str, arm: str) -> list[dict]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"arm {arm!r} has no list {key!r} of objects")
    return found


def is_number(value) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def choose(tuning: list[dict], metric: str) -> dict:
    """The grid point with the best mean on validation; the first of equals."""
    return max(tuning, key=lambda row: st.fmean(row[metric]))["point"]


def summarize(record: dict) -> dict:
    """Statistics of each arm from its raw numbers, rounded to six digits to be the same on every CPU."""
    out = {}
    for arm, content in record["arms"].items():
        scores = [run[record["metric"]] for run in content["runs"]]
        of_baseline = None if arm == record["baseline"] else difference(record, arm, record["baseline"])
        out[arm] = {
            "mean": st.fmean(scores),
            "sd": st.stdev(scores),
            "difference": of_baseline and {key: of_baseline[key] for key in STORED},
        }
    return rounded(out)


def difference(record: dict, arm: str, other: str) -> dict:
    """Score of ``arm`` less that of ``other``, paired by seed: ``{"mean", "low", "high", "p", "n", "won"}``.

    Raises:
        ValueError: the record has no such arm.
    """
    for name, given in {"arm": arm, "other": other}.items():
        if given not in record["arms"]:
            raise ValueError(f"{name}: {given!r} given, one of {list(record['arms'])} is accepted")
    a, b = ([run[record["metric"]] for run in record["arms"][name]["runs"]] for name in (arm, other))
    return rounded(stats.paired_difference(a, b))


def adjusted(record: dict) -> dict[str, dict]:
    """Arm -> its difference to the baseline, with ``"holm"``, the p-value adjusted for all of them."""
    found = {arm: own["difference"] for arm, own in record["statistics"].items()}
    return stats.with_holm({arm: difference for arm, difference in found.items() if difference})


def rounded(content):
    return json.loads(json.dumps(content), parse_float=lambda x: round(float(x), 6))


def table(record: dict):
    """Arms of a record as a ``pandas.DataFrame``: score, spread, gain over the baseline in points, interval,
    p.

    A point is a hundredth of the metric. The intervals speak of seeds.
    """
    import pandas

    rows = {}
    for arm, own in record["statistics"].items():
        d = own["difference"]
        rows[arm] = {
            record["metric"]: f"{100 * own['mean']:.1f} ± {100 * own['sd']:.1f}",
            "gain": "" if d is None else f"{100 * d['mean']:+.1f}",
            "95 % interval": "" if d is None else f"{100 * d['low']:+.1f} to {100 * d['high']:+.1f}",
            "p": "" if d is None else "<0.001" if d["p"] < 0.001 else f"{d['p']:.3f}",
        }
    return pandas.DataFrame.from_dict(rows, orient="index")
