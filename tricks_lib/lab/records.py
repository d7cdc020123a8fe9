"""Records of experiments: one JSON file each, with every seed's raw number; statistics follow from those."""

import json
import os
import statistics as st
from pathlib import Path

from tricks_lib.lab import stats

SCHEMA = 1
FIELDS = {  # name: type(s)
    "schema": int, "trick": str, "task": str, "setting": str, "kind": str, "metric": str, "baseline": str, "arms": dict,
    "grid": dict, "tuning_seeds": list, "seeds": list, "data": dict, "model": dict, "environment": dict,
    "git_commit": (str, type(None)), "command": str, "wall_seconds": (int, float), "date": str, "statistics": dict,
}  # fmt: skip


def folder() -> Path:
    """``chapters/evidence`` of the checkout, or the copy that an installed package holds."""
    checkout = Path(__file__).parents[2] / "chapters" / "evidence"
    return checkout if checkout.is_dir() else Path(__file__).parents[1] / "evidence"


def names(where: Path | None = None) -> list[str]:
    """All records there are, as ``trick/task``, sorted."""
    found = (where or folder()).glob("*__*.json")
    return sorted(p.stem.replace("__", "/") for p in found if not p.stem.endswith(".partial"))


def path(name: str, where: Path | None = None) -> Path:
    return (where or folder()) / (name.replace("/", "__") + ".json")


def write(file: Path, content: dict) -> None:
    """Write as JSON by way of a temporary file in the same folder, so that ``file`` is the old one or the new one,
    never half of one, whatever happens in between."""
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def load(name: str, where: Path | None = None) -> dict:
    """A record by name ``trick/task``, checked.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: the file is not JSON, lacks a field, or its statistics do not follow from its raw numbers.
    """
    file = path(name, where)
    if not file.is_file():
        raise FileNotFoundError(f"name: no record {name!r} in {file.parent}; there are {', '.join(names(where)) or 'none'}")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file.name}: not a readable record: {error}") from error
    check(record, file.name)
    return record


def check(record: dict, file: str) -> None:
    """Refuse a record that is not of this schema or contradicts itself; the error names the file and the cause."""
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
    if record["kind"] not in ("seeds", "examples"):
        raise ValueError(f"{file}: kind {record['kind']!r} given, 'seeds' or 'examples' is accepted")
    if record["baseline"] not in record["arms"]:
        raise ValueError(f"{file}: baseline {record['baseline']!r} is not among the arms {list(record['arms'])}")
    for arm, content in record["arms"].items():
        if record["kind"] == "seeds" and [run["seed"] for run in content["runs"]] != record["seeds"]:
            raise ValueError(f"{file}: arm {arm!r} has not one run for each seed")
        if record["kind"] == "examples" and len(content["predictions"]) != len(record["labels"]):
            raise ValueError(f"{file}: arm {arm!r} has not one prediction for each label")
    if record["statistics"] != (again := summarize(record)):
        wrong = [arm for arm in again if record["statistics"].get(arm) != again[arm]]
        raise ValueError(f"{file}: statistics of {', '.join(wrong) or 'unknown arms'} do not follow from the raw numbers")


def summarize(record: dict) -> dict:
    """Statistics of each arm from the raw numbers, rounded to six digits so that they are the same on every CPU."""
    arms, baseline, metric = record["arms"], record["baseline"], record["metric"]
    out = {}
    for arm, content in arms.items():
        if record["kind"] == "seeds":
            scores = [run[metric] for run in content["runs"]]
            own = {"mean": st.fmean(scores), "sd": st.stdev(scores)}
            other = [run[metric] for run in arms[baseline]["runs"]]
            difference = None if arm == baseline else stats.paired_difference(scores, other)
        else:
            function = getattr(stats, metric)
            own = {"mean": function(content["predictions"], record["labels"]), "sd": None}
            other = arms[baseline]["predictions"]
            difference = None if arm == baseline else stats.bootstrap_difference(function, content["predictions"], other, record["labels"])
        out[arm] = {**own, "difference": difference}
    return json.loads(json.dumps(out), parse_float=lambda x: round(float(x), 6))


def table(record: dict):
    """Arms of a record as a ``pandas.DataFrame``: score, spread, gain over the baseline in points, interval, p.

    A point is a hundredth of the metric. The intervals speak of seeds (or of test pairs, where nothing is trained).
    """
    import pandas

    rows = {}
    for arm, own in record["statistics"].items():
        d = own["difference"]
        rows[arm] = {
            record["metric"]: f"{100 * own['mean']:.1f}" + (f" ± {100 * own['sd']:.1f}" if own["sd"] is not None else ""),
            "gain": "" if d is None else f"{100 * d['mean']:+.1f}",
            "95 % interval": "" if d is None else f"{100 * d['low']:+.1f} to {100 * d['high']:+.1f}",
            "p": "" if d is None else f"{d['p']:.3f}",
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("arm")
