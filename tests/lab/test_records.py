"""Records on disk: refused when they are damaged or contradict themselves, and never half written."""

import copy
import errno
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from tests import load_script
from tricks_lib.lab import records, stats

from .conftest import FORK

SEEDS, TUNING_SEEDS, C = list(range(10)), [101, 102], [0.1, 1.0, 10.0]
COMMON = {
    "schema": 1,
    "trick": "toy",
    "setting": "a toy",
    "data": {"name": "d", "sha256": {}, "sizes": {"test": 500}},
    "model": {"name": "m", "source": "embedded", "sha256": None},
    "git_commit": None,
    "command": "run",
    "wall_seconds": 3,
    "date": "2026-01-31",
    "environment": {"device": "CPU", "cuda": None, "python": "3.11", "torch": "2.13", "transformers": "5"},
}


def seeds_record():
    rng = np.random.default_rng(0)
    arms = {}
    for arm, best in [("plain", 1), ("trick", 2), ("ablation", 0)]:
        tuning = [
            {"point": {"C": c}, "accuracy": [0.7 + 0.05 * (i == best) + 0.001 * s for s in range(2)]}
            for i, c in enumerate(C)
        ]
        runs = [{"seed": s, "accuracy": int(rng.integers(400, 440)) / 500, "seconds": 1.5} for s in SEEDS]
        arms[arm] = {"settings": {}, "chosen": {"C": C[best]}, "tuning": tuning, "runs": runs}
    record = {
        **COMMON,
        "task": "seeds",
        "kind": "seeds",
        "metric": "accuracy",
        "baseline": "plain",
        "arms": arms,
    }
    record |= {"grid": {"C": C}, "tuning_seeds": TUNING_SEEDS, "seeds": SEEDS}
    return {**record, "statistics": records.summarize(record)}


def untuned_record():
    """Of one grid point, and of so many seeds that the sign flips are drawn."""
    rng, seeds = np.random.default_rng(0), list(range(16))
    arms = {
        arm: {
            "settings": {},
            "chosen": {},
            "tuning": [],
            "runs": [{"seed": s, "pearson": rng.normal(mean, 0.1)} for s in seeds],
        }
        for arm, mean in [("plain", 0.5), ("trick", 0.6)]
    }
    record = {
        **COMMON,
        "task": "untuned",
        "kind": "seeds",
        "metric": "pearson",
        "baseline": "plain",
        "arms": arms,
    }
    record |= {"grid": {}, "tuning_seeds": [101], "seeds": seeds}
    return {**record, "statistics": records.summarize(record)}


RECORDS = {"seeds": seeds_record(), "untuned": untuned_record()}  # by task


@pytest.fixture
def fresh():
    return copy.deepcopy(RECORDS)


def put(folder, record):
    file = records.path(f"{record['trick']}/{record['task']}", folder)
    file.write_text(json.dumps(record), encoding="utf-8")
    return file


def leaves(value, at=()):
    """Every number below ``value`` with its place."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, (dict, list)):
            yield from leaves(item, (*at, key))
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield (*at, key)


def change(record, at, value):
    for key in at[:-1]:
        record = record[key]
    record[at[-1]] = value(record[at[-1]]) if callable(value) else value


@pytest.mark.parametrize("task", RECORDS)
def test_a_written_record_is_loaded_as_it_was(tmp_path, fresh, task):
    file = records.path(f"toy/{task}", tmp_path)
    records.write(file, fresh[task])
    assert file == tmp_path / f"toy__{task}.json"
    assert records.load(f"toy/{task}", tmp_path) == fresh[task]
    assert records.names(tmp_path) == [f"toy/{task}"]
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_statistics_are_those_of_other_libraries(fresh):
    record = fresh["seeds"]
    for arm, content in record["arms"].items():
        scores = [run["accuracy"] for run in content["runs"]]
        own = record["statistics"][arm]
        assert own["mean"] == pytest.approx(np.mean(scores), abs=5e-7)
        assert own["sd"] == pytest.approx(statistics.stdev(scores), abs=5e-7)
        if arm == "plain":
            assert own["difference"] is None
        else:
            base = [run["accuracy"] for run in record["arms"]["plain"]["runs"]]
            p = scipy.stats.permutation_test(
                (scores, base),
                lambda x, y, axis: np.mean(x - y, axis=axis),
                permutation_type="samples",
                n_resamples=np.inf,
            ).pvalue
            assert own["difference"]["p"] == pytest.approx(p, abs=2e-6)
            assert own["difference"]["mean"] == pytest.approx(np.mean(scores) - np.mean(base), abs=1e-6)
            assert own["difference"]["low"] <= own["difference"]["mean"] <= own["difference"]["high"]
            assert own["difference"]["n"] == 10


def test_statistics_are_rounded_to_six_digits(fresh):
    for record in fresh.values():
        numbers = [at for at in leaves(record["statistics"])]
        for at in numbers:
            value = record["statistics"]
            for key in at:
                value = value[key]
            assert value == round(value, 6)


def test_one_changed_raw_number_is_found(tmp_path):
    """Every score in turn, changed by one test example of 500."""
    for original in RECORDS.values():
        metric = original["metric"]
        places = [at for at in leaves(original["arms"]) if "runs" in at and at[-1] == metric]
        assert len(places) == len(original["arms"]) * len(original["seeds"])
        for at in places:
            record = copy.deepcopy(original)
            change(record["arms"], at, lambda x: x + 1 / 500)
            put(tmp_path, record)
            with pytest.raises(
                ValueError,
                match=rf"^toy__{record['task']}\.json: statistics of .* do not follow from the raw numbers$",
            ):
                records.load(f"toy/{record['task']}", tmp_path)


def test_one_changed_statistic_is_found_and_its_arm_named(tmp_path):
    for original in RECORDS.values():
        for at in leaves(original["statistics"]):
            record = copy.deepcopy(original)
            change(record["statistics"], at, lambda x: x + (1 if isinstance(x, int) else 2e-6))
            put(tmp_path, record)
            with pytest.raises(ValueError, match=f"statistics of {at[0]} do not follow"):
                records.load(f"toy/{record['task']}", tmp_path)


def test_a_changed_choice_is_found(tmp_path, fresh):
    change(fresh["seeds"], ("arms", "trick", "chosen"), {"C": 0.1})
    put(tmp_path, fresh["seeds"])
    with pytest.raises(ValueError, match=r"arm 'trick' has chosen \{'C': 0.1\}, \{'C': 10.0\} follows"):
        records.load("toy/seeds", tmp_path)


def test_a_tuning_score_that_would_change_the_choice_is_found(tmp_path, fresh):
    change(fresh["seeds"], ("arms", "trick", "tuning", 0, "accuracy", 1), 0.99)
    put(tmp_path, fresh["seeds"])
    with pytest.raises(ValueError, match=r"arm 'trick' has chosen \{'C': 10.0\}, \{'C': 0.1\} follows"):
        records.load("toy/seeds", tmp_path)


DROP = object()
TRICK = ("arms", "trick")
REFUSED = {  # task, place, value there, cause
    **{f"no {field}": ("seeds", (field,), DROP, f"field '{field}' is missing") for field in records.FIELDS},
    **{
        f"{field} of another type": (
            "seeds",
            (field,),
            [] if kind is not list else {},
            f"field '{field}' is (list|dict)",
        )
        for field, kind in records.FIELDS.items()
    },
    "schema true": ("seeds", ("schema",), True, "field 'schema' is bool"),
    "schema of the future": ("seeds", ("schema",), 2, "schema 2 given, 1 is accepted"),
    "wall_seconds true": ("seeds", ("wall_seconds",), True, "field 'wall_seconds' is bool"),
    "another trick's file": ("seeds", ("trick",), "other", "holds the record of other/seeds"),
    "another task's file": ("seeds", ("task",), "other", "holds the record of toy/other"),
    "unknown kind": ("seeds", ("kind",), "examples", "kind 'examples' given, 'seeds' is accepted"),
    "unknown baseline": ("seeds", ("baseline",), "nobody", "baseline 'nobody' is not among the arms"),
    "no arms": ("seeds", ("arms",), {}, "at least two are accepted"),
    "one arm": ("seeds", ("arms",), {"plain": {}}, r"arms \['plain'\] given, at least two"),
    "data without sizes": ("seeds", ("data", "sizes"), DROP, "field 'data' has no sizes"),
    "model without source": ("seeds", ("model", "source"), DROP, "field 'model' has no source"),
    "environment empty": ("seeds", ("environment",), {}, "field 'environment' has no device, cuda, python"),
    "arm is a list": ("seeds", TRICK, [], "arm 'trick' has no list 'runs'"),
    "arm without runs": ("seeds", (*TRICK, "runs"), DROP, "arm 'trick' has no list 'runs'"),
    "runs are numbers": ("seeds", (*TRICK, "runs"), [0.5] * 10, "arm 'trick' has no list 'runs' of objects"),
    "a run is missing": ("seeds", (*TRICK, "runs", 3), DROP, "arm 'trick' has not one run for each seed"),
    "a run of another seed": (
        "seeds",
        (*TRICK, "runs", 3, "seed"),
        77,
        "arm 'trick' has not one run for each seed",
    ),
    "two runs in other order": (
        "seeds",
        (*TRICK, "runs"),
        lambda runs: runs[::-1],
        "arm 'trick' has not one run for each seed",
    ),
    "score missing": (
        "seeds",
        (*TRICK, "runs", 3, "accuracy"),
        DROP,
        "arm 'trick' has a accuracy that is not a number",
    ),
    "score a string": (
        "seeds",
        (*TRICK, "runs", 3, "accuracy"),
        "0.8",
        "arm 'trick' has a accuracy that is not a number",
    ),
    "score true": (
        "seeds",
        (*TRICK, "runs", 3, "accuracy"),
        True,
        "arm 'trick' has a accuracy that is not a number",
    ),
    "score null": (
        "seeds",
        (*TRICK, "runs", 3, "accuracy"),
        None,
        "arm 'trick' has a accuracy that is not a number",
    ),
    "score too large for a float": (
        "seeds",
        (*TRICK, "runs", 3, "accuracy"),
        10**400,
        "arm 'trick' has a accuracy that is not a number",
    ),
    "another metric": ("seeds", ("metric",), "f1", "arm 'plain' has not one f1 for each tuning seed"),
    "a seed twice": ("seeds", ("seeds", 1), 0, "seeds: at least two integers are accepted, each once"),
    "a seed a string": ("seeds", ("seeds", 1), "1", "seeds: at least two integers"),
    "a seed a list": ("seeds", ("seeds", 1), [1], "seeds: at least two integers"),
    "a tuning seed tested": ("seeds", ("tuning_seeds",), [101, 5], r"seeds \[5\] are tuning seeds too"),
    "arm without tuning": ("seeds", (*TRICK, "tuning"), DROP, "arm 'trick' has no list 'tuning'"),
    "arm tuned on less": ("seeds", (*TRICK, "tuning", 2), DROP, "arm 'trick' was not tuned on the grid"),
    "arm tuned elsewhere": (
        "seeds",
        (*TRICK, "tuning", 2, "point"),
        {"C": 99},
        "arm 'trick' was not tuned on the grid",
    ),
    "arm tuned with fewer seeds": (
        "seeds",
        (*TRICK, "tuning", 2, "accuracy", 1),
        DROP,
        "arm 'trick' has not one accuracy for each tuning seed",
    ),
    "arm tuned with a string": (
        "seeds",
        (*TRICK, "tuning", 2, "accuracy", 1),
        "x",
        "arm 'trick' has a accuracy that is not a number",
    ),
    "grid of numbers": ("seeds", ("grid",), {"C": 3}, "grid: a list of values for each name"),
    "grid empty": ("seeds", ("grid",), {"C": []}, "grid: a list of values for each name"),
    "statistics of one arm missing": (
        "seeds",
        ("statistics", "trick"),
        DROP,
        "statistics of trick do not follow",
    ),
    "statistics of an arm too many": (
        "seeds",
        ("statistics", "ghost"),
        {},
        "statistics of unknown arms do not follow",
    ),
    "statistics of another type": ("seeds", ("statistics", "trick"), 3, "statistics of trick do not follow"),
    "a choice without a grid": (
        "untuned",
        (*TRICK, "chosen"),
        {"C": 1.0},
        r"arm 'trick' has chosen \{'C': 1.0\}, \{\} follows from the raw numbers",
    ),
    "tuning without a grid": (
        "untuned",
        (*TRICK, "tuning"),
        [{"point": {}, "pearson": [0.5]}],
        "arm 'trick' was not tuned on the grid",
    ),
}


@pytest.mark.parametrize("task, at, value, cause", REFUSED.values(), ids=REFUSED)
def test_a_wrong_record_is_refused_with_file_and_cause(tmp_path, fresh, task, at, value, cause):
    record, place = fresh[task], fresh[task]
    for key in at[:-1]:
        place = place[key]
    if value is DROP:
        del place[at[-1]]
    else:
        place[at[-1]] = value(place[at[-1]]) if callable(value) else value
    file = tmp_path / f"toy__{task}.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=cause) as caught:
        records.load(f"toy/{task}", tmp_path)
    assert str(caught.value).startswith(f"{file.name}: ")
    assert "\n" not in str(caught.value)


NOT_JSON = {
    "empty": b"",
    "half": b'{"schema": 1, "tri',
    "not utf-8": b'{"\xff": 1}',
    "binary": bytes(range(256)),
    "two documents": b"{} {}",
    "too deep": b"[" * 200_000,
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "a number of 10,000 digits": b"9" * 10_000,
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "toy__seeds.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^toy__seeds\.json: (cannot be read as JSON: .|.* given, an object is accepted)"
    ):
        records.load("toy/seeds", tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("field", ['"wall_seconds": 3', '"accuracy": 0.', '"seconds": 1.5'])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number, field):
    text = json.dumps(RECORDS["seeds"])
    assert field in text
    name, _, old = field.rpartition(" ")
    at = text.index(field) + len(name) + 1
    end = min(text.index(mark, at) for mark in ",}" if mark in text[at:])
    (tmp_path / "toy__seeds.json").write_text(text[:at] + number + text[end:])
    with pytest.raises(
        ValueError,
        match=rf"^toy__seeds\.json: cannot be read as JSON: {number} given, a finite number is accepted",
    ):
        records.load("toy/seeds", tmp_path)


@pytest.mark.parametrize(
    "content", [{"x": math.nan}, {"x": [math.inf]}, {"x": {1, 2}}, {"x": np.float32(1)}, {"x": b"1"}]
)
def test_what_json_cannot_hold_is_not_written(tmp_path, content):
    file = tmp_path / "toy__seeds.json"
    file.write_text("old")
    with pytest.raises(ValueError, match=r"^toy__seeds\.json: cannot be written as JSON"):
        records.write(file, content)
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {file.name: "old"}


def test_a_missing_record_is_named_with_those_there_are(tmp_path, fresh):
    with pytest.raises(FileNotFoundError, match=r"name: no record 'toy/seeds' in .*; there are none"):
        records.load("toy/seeds", tmp_path)
    put(tmp_path, fresh["untuned"])
    (tmp_path / "toy__seeds.partial.json").write_text("{}")
    (tmp_path / "bench_cpu.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="no record 'toy/seeds' .*; there are toy/untuned$"):
        records.load("toy/seeds", tmp_path)
    with pytest.raises(FileNotFoundError, match="no record '../x'"):
        records.load("../x", tmp_path)


def test_an_experiment_under_way_is_no_evidence_of_a_notebook(tmp_path, monkeypatch):
    """It may lie beside the records and grow: no notebook is stored anew for it."""
    notebooks = load_script("notebooks")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "chapters" / "evidence").mkdir(parents=True)
    notebook = nbformat.v4.new_notebook()
    before = notebooks.source_hash(notebook)
    (tmp_path / "chapters" / "evidence" / "toy__own.partial.json").write_text("{}")
    assert notebooks.source_hash(notebook) == before
    (tmp_path / "chapters" / "evidence" / "toy__own.json").write_text("{}")
    assert notebooks.source_hash(notebook) != before


@pytest.mark.parametrize("folder, ignored", [("chapters/evidence", False), ("report", True)])
def test_git_keeps_the_books_experiments_under_way_and_no_others(folder, ignored):
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or not shutil.which("git"):
        pytest.skip("no checkout")
    asked = ["git", "check-ignore", "--quiet", "--no-index", f"{folder}/tournament__en_sst2.partial.json"]
    assert subprocess.run(asked, cwd=root).returncode == (0 if ignored else 1)


def test_the_predictions_beside_the_books_records_are_small():
    """At most 300 KB; where confidence is kept for calibration, 1 MB."""
    for file in records.folder().glob("*.npz"):
        with np.load(file) as arrays:
            allowed = 1e6 if "confidence" in arrays else 300e3
        assert file.stat().st_size <= allowed, file.name


def test_text_survives_as_it_is(tmp_path):
    records.write(tmp_path / "a.json", {"text": "天雨 ± é", "n": 0.1 + 0.2})
    assert "天雨 ± é" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert records.read(tmp_path / "a.json") == {"text": "天雨 ± é", "n": 0.1 + 0.2}


def test_the_folder_is_the_checkouts_or_the_packages():
    package = Path(records.__file__).parents[1]
    checkout = package.parent / "chapters" / "evidence"
    assert records.folder() == (checkout if checkout.is_dir() else package / "evidence")


def test_disk_full_keeps_the_old_record(tmp_path, fresh):
    """The real thing: the system refuses to write more than 2,000 bytes to a file."""
    file = put(tmp_path, fresh["seeds"])
    before = file.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(OSError) as caught:
            records.write(file, {**fresh["seeds"], "setting": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.errno == errno.EFBIG
    assert [f.name for f in tmp_path.iterdir()] == [file.name] and file.read_bytes() == before


@pytest.mark.parametrize(
    "stop",
    [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), MemoryError()],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupted_write_keeps_the_old_record(tmp_path, fresh, monkeypatch, moment, stop):
    file = put(tmp_path, fresh["seeds"])
    before = file.read_bytes()

    def interrupted(*args):
        raise stop

    monkeypatch.setattr(os, moment, interrupted)
    with pytest.raises(type(stop)):
        records.write(file, {**fresh["seeds"], "setting": "new"})
    assert [f.name for f in tmp_path.iterdir()] == [file.name] and file.read_bytes() == before


def test_the_new_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (order.append("fsync"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    records.write(tmp_path / "a.json", {})
    assert order == ["fsync", "replace"]


def write_for_ever(file):
    for i in range(10**9):
        records.write(file, {"i": i, "text": str(i % 10) * 200_000})


def test_a_reader_never_sees_half_a_record(tmp_path):
    """A process writes without end and is killed at five moments; every read in between, and after, is
    whole.
    """
    file = tmp_path / "a.json"
    for moment in (0.01, 0.03, 0.05, 0.08, 0.13):
        writer = FORK.Process(target=write_for_ever, args=(file,))
        writer.start()
        deadline = (
            time.monotonic() + 120
        )  # a first process imports torch, which takes its time on a loaded machine
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        end = time.monotonic() + moment
        while time.monotonic() < end:
            assert set(json.loads(file.read_text())) == {"i", "text"}
        writer.kill()
        writer.join()
        content = json.loads(file.read_text())
        assert content["text"] == str(content["i"] % 10) * 200_000


def test_the_table_says_what_the_statistics_say(fresh):
    record = fresh["seeds"]
    table = records.table(record)
    assert list(table.index) == ["plain", "trick", "ablation"]
    assert list(table.columns) == ["accuracy", "gain", "95 % interval", "p"]
    own = record["statistics"]["trick"]
    difference = stats.paired_difference(
        *([run["accuracy"] for run in record["arms"][arm]["runs"]] for arm in ("trick", "plain"))
    )
    assert table.loc["trick", "accuracy"] == f"{100 * own['mean']:.1f} ± {100 * own['sd']:.1f}"
    assert table.loc["trick", "gain"] == f"{100 * difference['mean']:+.1f}"
    assert (
        table.loc["trick", "95 % interval"]
        == f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f}"
    )
    assert difference["p"] >= 0.001 and table.loc["trick", "p"] == f"{difference['p']:.3f}"
    record["statistics"]["trick"]["difference"]["p"] = 0.0004
    assert records.table(record).loc["trick", "p"] == "<0.001"
    assert table.loc["plain", ["gain", "95 % interval", "p"]].tolist() == ["", "", ""]


def test_adjusted_has_holm_over_the_arms_of_a_record(fresh):
    record = fresh["seeds"]
    found = records.adjusted(record)
    assert [*found] == [arm for arm in record["arms"] if arm != record["baseline"]]
    expected = multipletests([d["p"] for d in found.values()], method="holm")[1]
    assert [d["holm"] for d in found.values()] == pytest.approx(expected)
    assert all(d["mean"] == record["statistics"][arm]["difference"]["mean"] for arm, d in found.items())
