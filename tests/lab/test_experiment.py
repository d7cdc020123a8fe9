"""The protocol of an experiment, and that nothing is lost: killed, interrupted, out of disk, resumed.

The experiments here train nothing: a score is a function of arm, grid point, seed and split, and every call
is written to a side file, so that each one can be counted.
"""

import dataclasses
import errno
import functools
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter

import numpy as np
import pytest

from tricks_lib.lab import __main__ as cli
from tricks_lib.lab import experiment as lab
from tricks_lib.lab import records
from tricks_lib.lab.experiment import Experiment

from .conftest import FORK

C = [0.1, 1.0, 10.0]
BEST = {"plain": 1.0, "trick": 10.0, "ablation": 0.1}  # on validation; on test every arm is best elsewhere


def noise(*parts) -> float:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def log(*parts):
    with open(os.environ["TOY_LOG"], "a") as stream:
        stream.write(json.dumps(parts) + "\n")


def toy(experiment, settings, seed, split):
    """Accuracy: 0.8, less 0.1 for each step away from the best C of this split, and noise of at most 0.02."""
    log(settings["arm"], settings["C"], seed, split)
    time.sleep(float(os.environ.get("TOY_SECONDS", 0)))
    best = C.index(BEST[settings["arm"]])
    away = abs(C.index(settings["C"]) - (best if split == "validation" else (best + 1) % 3))
    return {"accuracy": round(0.8 - 0.1 * away + 0.02 * noise(settings, seed, split), 4), "loss": 1.0}


TOY = {
    "trick": "toy",
    "setting": "a toy",
    "model": "tiny",
    "data": "guest_notes/topic",
    "metric": "accuracy",
    "baseline": "plain",
    "arms": {arm: {"arm": arm} for arm in BEST},
}
SEEDS = Experiment(task="seeds", run=toy, grid={"C": C}, tuning_seeds=(101, 102), seeds=(0, 1, 2, 3), **TOY)
TUNING, TEST = 3 * len(C) * 2, 3 * 4  # calls of SEEDS


describe = functools.cache(lab.tasks.describe)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, checkpoint):
    """Side file, tiny model, and a data set that is described once; the folder of the records is ``tmp_path /
    "records"``.
    """
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("TRICKS_MODELS", str(checkpoint.parent))
    monkeypatch.setattr(lab.tasks, "describe", describe)
    (tmp_path / "records").mkdir()
    return tmp_path / "records"


def calls(folder) -> list[tuple]:
    file = folder.parent / "log"
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def partial_keys(folder, name="toy/seeds") -> list[tuple]:
    """(arm, C, seed, split) of every run that is on disk."""
    file = records.path(name, folder).with_suffix(".partial.json")
    if not file.exists():
        return []
    parts = [key.split(" | ") for key in json.loads(file.read_text())["results"]]
    return [
        (arm, json.loads(point)["C"], int(seed), {"tune": "validation", "test": "test"}[phase])
        for phase, arm, point, seed in parts
    ]


def everything() -> set[tuple]:
    tuning = {(arm, c, seed, "validation") for arm in BEST for c in C for seed in (101, 102)}
    return tuning | {(arm, best, seed, "test") for arm, best in BEST.items() for seed in range(4)}


def contents(folder) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


def timeless(record: dict) -> dict:
    """A record without what no two runs share."""
    record = json.loads(json.dumps({**record, "wall_seconds": 0, "date": ""}))
    for content in record["arms"].values():
        for run in content.get("runs", []):
            del run["seconds"]
    return record


# --- protocol


def test_every_arm_is_tuned_on_the_same_grid_and_tested_on_the_same_fresh_seeds(place):
    lab.run(SEEDS, place, progress=False)
    made = calls(place)
    assert len(made) == TUNING + TEST and set(made) == everything()
    assert {split for *_, split in made[:TUNING]} == {"validation"}, (
        "the test split was read before every choice was made"
    )
    assert {split for *_, split in made[TUNING:]} == {"test"}
    for arm in BEST:
        assert Counter((c, seed) for a, c, seed, s in made if a == arm and s == "validation") == Counter(
            (c, s) for c in C for s in (101, 102)
        )
        assert sorted(seed for a, c, seed, s in made if a == arm and s == "test") == [0, 1, 2, 3]
    assert not {seed for *_, seed, s in made if s == "test"} & {
        seed for *_, seed, s in made if s == "validation"
    }


def test_the_choice_is_made_on_validation_alone(place):
    record = json.loads(lab.run(SEEDS, place, progress=False).read_text())
    assert {arm: content["chosen"]["C"] for arm, content in record["arms"].items()} == BEST


def test_the_record_holds_every_raw_number_and_where_it_comes_from(place, checkpoint):
    file = lab.run(SEEDS, place, progress=False)
    assert file == place / "toy__seeds.json" and [f.name for f in place.iterdir()] == [file.name]
    record = records.load("toy/seeds", place)
    for arm, content in record["arms"].items():
        assert content["settings"] == {"arm": arm}
        assert [run["seed"] for run in content["runs"]] == [0, 1, 2, 3]
        for run in content["runs"]:
            assert {**run, "seconds": 0} == {
                "seed": run["seed"],
                **toy(None, {"arm": arm, "C": BEST[arm]}, run["seed"], "test"),
                "seconds": 0,
            }
        assert [row["point"]["C"] for row in content["tuning"]] == C
        for row in content["tuning"]:
            assert row["accuracy"] == [
                toy(None, {"arm": arm, **row["point"]}, seed, "validation")["accuracy"] for seed in (101, 102)
            ]
    assert (
        record["grid"] == {"C": C}
        and record["tuning_seeds"] == [101, 102]
        and record["seeds"] == [0, 1, 2, 3]
    )
    assert record["data"]["name"] == "guest_notes/topic" and sum(record["data"]["sizes"].values()) >= 1200
    assert record["model"] == {
        "name": "tiny",
        "source": "local folder",
        "sha256": hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest(),
    }
    assert record["command"] == "python -m tricks_lib.lab run toy/seeds" and record["wall_seconds"] >= 0
    assert record["environment"]["device"].startswith("CPU") and record["environment"]["torch"]


def test_a_grid_of_one_point_is_not_tuned(place):
    record = json.loads(
        lab.run(dataclasses.replace(SEEDS, grid={"C": [1.0]}), place, progress=False).read_text()
    )
    assert {split for *_, split in calls(place)} == {"test"} and len(calls(place)) == TEST
    assert all(
        content["chosen"] == {"C": 1.0} and content["tuning"] == [] for content in record["arms"].values()
    )
    records.load("toy/seeds", place)


def test_a_grid_of_two_names_is_their_product(place):
    two = dataclasses.replace(SEEDS, grid={"C": [0.1, 1.0], "lr": [1, 2]})
    assert two.points() == [
        {"C": 0.1, "lr": 1},
        {"C": 0.1, "lr": 2},
        {"C": 1.0, "lr": 1},
        {"C": 1.0, "lr": 2},
    ]
    lab.run(two, place, progress=False)
    assert len(records.load("toy/seeds", place)["arms"]["trick"]["tuning"]) == 4


def test_the_first_of_equal_points_is_chosen():
    assert (
        records.choose([{"point": p, "a": a} for p, a in [("x", [1, 2]), ("y", [2, 2]), ("z", [3, 1])]], "a")
        == "y"
    )


def test_two_processes_give_the_record_of_one(place, tmp_path):
    one = json.loads(lab.run(SEEDS, place, jobs=1, progress=False).read_text())
    two = json.loads(lab.run(SEEDS, tmp_path / "new" / "folder", jobs=2, progress=False).read_text())
    assert timeless(one) == timeless(two)
    assert Counter(calls(place)) == Counter({call: 2 for call in everything()})


def test_two_workers_of_dask_give_the_record_of_one(place, reference):
    """joblib's engine is the caller's choice: here a cluster of two processes, in life one of many
    machines.
    """
    distributed = pytest.importorskip("distributed")
    import joblib

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = set(client.run(os.getpid).values())
        assert len(workers) == 2 and os.getpid() not in workers
        with joblib.parallel_config(backend="dask"):
            record = lab.run(SEEDS, place, jobs=2, progress=False)
        assert set(client.run(lambda: "tests.lab.test_experiment" in sys.modules).values()) == {True}, (
            "a worker was idle"
        )
    assert timeless(json.loads(record.read_text())) == reference
    assert Counter(calls(place)) == Counter(everything())


def test_a_backend_that_gives_lists_only_loses_no_more_than_a_round(place, reference, monkeypatch):
    """Ray's, for instance."""
    import joblib
    from joblib._parallel_backends import ThreadingBackend

    class Lists(ThreadingBackend):
        supports_return_generator = False

    monkeypatch.setitem(joblib.parallel.BACKENDS, "lists", Lists)
    with joblib.parallel_config(backend="lists"):
        failing = dataclasses.replace(SEEDS, run=Raises(6, RuntimeError("the sixth run")))
        with pytest.raises(RuntimeError, match="the sixth run"):
            lab.run(failing, place, jobs=2, progress=False)
        assert len(partial_keys(place)) >= 4
        assert timeless(json.loads(lab.run(SEEDS, place, jobs=2, progress=False).read_text())) == reference


def test_all_experiments_of_the_book_are_registered():
    known = lab.registry()
    assert {"mini_bert/en_trec", "mini_xlnet/guest_book"} <= known.keys()
    for name, each in known.items():
        assert each.name == name and each.baseline in each.arms
        assert len(each.seeds) >= 10
        assert json.loads(json.dumps(each.arms)) == each.arms


BAD_DEFINITIONS = {
    "one arm": ({"arms": {"plain": {}}}, "arms: .* at least two"),
    "baseline": ({"baseline": "nobody"}, "baseline: 'nobody' given, one of .* is accepted"),
    "empty grid": ({"grid": {"C": []}}, "grid: .* at least one value"),
    "one seed": ({"seeds": (1,)}, "seeds: .* at least two"),
    "no tuning seeds": ({"tuning_seeds": ()}, "tuning_seeds: none given"),
    "seed twice": ({"seeds": (1, 1)}, "seeds, tuning_seeds: a seed stands there twice"),
    "tuning seed tested": ({"seeds": (1, 101)}, "seeds, tuning_seeds: a seed stands there twice"),
    "tuning seed twice": ({"tuning_seeds": (101, 101)}, "seeds, tuning_seeds: a seed stands there twice"),
}


@pytest.mark.parametrize("changes, message", BAD_DEFINITIONS.values(), ids=BAD_DEFINITIONS)
def test_a_definition_that_does_not_fit_is_refused_before_anything_runs(changes, message):
    with pytest.raises(ValueError, match=f"^toy/seeds: {message}"):
        dataclasses.replace(SEEDS, **changes)


@pytest.mark.parametrize(
    "jobs, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_jobs_that_are_no_positive_integer_are_refused(place, jobs, error):
    with pytest.raises(error, match=f"jobs: {jobs!r} given, a positive integer is accepted"):
        lab.run(SEEDS, place, jobs=jobs)
    assert contents(place) == {}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": "nope"}, "name: 'nope' given; accepted are"),
        ({"model": "nope"}, "name: 'nope' given; accepted are"),
    ],
)
def test_unknown_data_or_model_is_refused_before_anything_runs(place, changes, message):
    with pytest.raises(ValueError, match=message):
        lab.run(dataclasses.replace(SEEDS, **changes), place, progress=False)
    assert contents(place) == {} and calls(place) == []


# --- scores that are none, and errors in a run


class Raises:
    """As ``toy``, but the n-th call returns or raises something else."""

    def __init__(self, n, outcome):
        self.n, self.outcome, self.count = n, outcome, 0

    def __call__(self, *arguments):
        self.count += 1
        if self.count != self.n:
            return toy(*arguments)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


WRONG_RESULTS = {
    "nan": {"accuracy": float("nan")},
    "infinite": {"accuracy": float("inf")},
    "missing": {"acc": 1.0},
    "string": {"accuracy": "0.9"},
    "true": {"accuracy": True},
    "NumPy scalar": {"accuracy": np.float32(0.5)},
    "none": {"accuracy": None},
    "numbers": {"accuracy": [0.5, 0.6]},
}


@pytest.mark.parametrize("result", WRONG_RESULTS.values(), ids=WRONG_RESULTS)
def test_a_result_without_a_finite_score_is_refused_and_not_kept(place, result):
    with pytest.raises(
        ValueError, match=r"^toy/seeds: tune \| plain \| .*: gave .* as accuracy, a finite number is accepted"
    ):
        lab.run(dataclasses.replace(SEEDS, run=Raises(4, result)), place, progress=False)
    assert len(partial_keys(place)) == 3
    lab.run(SEEDS, place, progress=False)
    assert len(calls(place)) == TUNING + TEST


def test_a_further_number_that_is_not_finite_is_refused_and_what_was_there_kept(place):
    with pytest.raises(ValueError, match=r"toy__seeds\.partial\.json: cannot be written as JSON"):
        lab.run(
            dataclasses.replace(SEEDS, run=Raises(4, {"accuracy": 0.5, "loss": float("nan")})),
            place,
            progress=False,
        )
    assert len(partial_keys(place)) == 3 and not list(place.glob("*.tmp"))


@pytest.mark.parametrize("n", [1, 5, TUNING + 1, TUNING + TEST])
def test_an_error_in_a_run_loses_no_other(place, n):
    with pytest.raises(FloatingPointError, match="diverged"):
        lab.run(
            dataclasses.replace(SEEDS, run=Raises(n, FloatingPointError("diverged"))), place, progress=False
        )
    assert len(partial_keys(place)) == n - 1 == len(calls(place))
    lab.run(SEEDS, place, progress=False)
    assert Counter(calls(place)) == Counter(everything())


# --- killed, interrupted, disk full


@pytest.fixture(scope="module")
def reference(tmp_path_factory, checkpoint):
    """The record of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_LOG", str(folder / "log"))
        patch.setenv("TRICKS_MODELS", str(checkpoint.parent))
        return timeless(json.loads(lab.run(SEEDS, folder, progress=False).read_text()))


def start(target, *arguments, **settings):
    process = FORK.Process(
        target=elsewhere, args=(target, arguments, {**os.environ, **settings}, describe(TOY["data"]))
    )
    process.start()
    return process


def elsewhere(target, arguments, environment, data):
    os.environ.update(environment)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell starts background jobs with SIGINT ignored
    lab.tasks.describe = lambda name: data
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    sys.exit(target(*arguments))


def run_and_die(folder, moment, count):
    """Run SEEDS and kill this process, as ``kill -9`` does, at a moment: in the middle of the n-th call of a
    function.
    """
    owner, name = {
        "run": (sys.modules[__name__], "log"),
        "fsync": (os, "fsync"),
        "replace": (os, "replace"),
        "replaced": (os, "replace"),
    }[moment]
    done, real = iter(range(1, 10**6)), getattr(owner, name)

    def deadly(*arguments, **keywords):
        n = next(done)
        if n == count and moment not in ("replaced", "run"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **keywords)
        if n == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)
    lab.run(SEEDS, folder, progress=False)


MOMENTS = {
    "in the first run": ("run", 1, 0),
    "in a tuning run": ("run", 7, 6),
    "in the last tuning run": ("run", TUNING, TUNING - 1),
    "in the first test run": ("run", TUNING + 1, TUNING),
    "in the last test run": ("run", TUNING + TEST, TUNING + TEST - 1),
    "before the first result is on disk": ("fsync", 1, 0),
    "before a result is on disk": ("fsync", 9, 8),
    "before a result has its name": ("replace", 20, 19),
    "after a result has its name": ("replaced", 20, 20),
    "before the record is on disk": ("fsync", TUNING + TEST + 1, TUNING + TEST),
    "before the record has its name": ("replace", TUNING + TEST + 1, TUNING + TEST),
    "after the record has its name": ("replaced", TUNING + TEST + 1, TUNING + TEST),
}


@pytest.mark.parametrize("moment, count, kept", MOMENTS.values(), ids=MOMENTS)
def test_killed_and_resumed_nothing_is_lost_or_repeated(place, reference, moment, count, kept):
    process = start(run_and_die, place, moment, count)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    on_disk, before = partial_keys(place), calls(place)
    assert len(on_disk) == kept, "finished runs are on disk, each before the next one starts"
    assert 0 <= len(before) - kept <= 1 and len(set(before)) == len(before)
    lab.run(SEEDS, place, progress=False)
    again = calls(place)[len(before) :]
    assert not set(again) & set(on_disk), "a finished run was repeated"
    assert Counter(again) == Counter(everything() - set(on_disk)), "a run was lost, or made twice"
    assert timeless(records.load("toy/seeds", place)) == reference
    assert not (place / "toy__seeds.partial.json").exists()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_ten_random_moments_it_gives_the_record_of_an_uninterrupted_run(place, reference, seed):
    """Each moment lies up to three runs after the first call of the process that is killed; what no two
    records share is left out.
    """
    rng, kept = random.Random(seed), []
    for _ in range(10):
        before = len(calls(place))
        process = start(lab.run, SEEDS, place, 1, False, TOY_SECONDS="0.04")
        wait_for(
            lambda before=before, process=process: len(calls(place)) > before or process.exitcode is not None
        )
        time.sleep(rng.uniform(0, 0.13))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL and not (place / "toy__seeds.json").exists(), (
            "the moment was not inside the sweep"
        )
        kept.append(set(partial_keys(place)))
        assert len(kept) == 1 or kept[-2] <= kept[-1], "a finished run was lost"
    finished, before = kept[-1], len(calls(place))
    lab.run(SEEDS, place, progress=False)
    made = calls(place)
    assert not set(made[before:]) & finished and set(made) == everything() and len(made) <= TUNING + TEST + 10
    assert timeless(records.load("toy/seeds", place)) == reference
    assert [f.name for f in place.iterdir() if f.suffix != ".tmp"] == ["toy__seeds.json"]


def run_by_command(folder, *arguments):
    lab.registry = lambda: {"toy/seeds": SEEDS}
    return cli.main(["run", "toy/seeds", "--folder", str(folder), "--quiet", *arguments])


@pytest.mark.parametrize("count", [3, TUNING + 2])
def test_ctrl_c_leaves_what_is_finished_and_exit_code_130(place, count, capsys, monkeypatch):
    process = start(run_by_command, place, TOY_SECONDS="0.05")
    wait_for(lambda: len(calls(place)) >= count)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    on_disk, before = partial_keys(place), calls(place)
    assert len(before) - 1 <= len(on_disk) <= len(before) and not list(place.glob("*.tmp"))
    monkeypatch.setattr(lab, "registry", lambda: {"toy/seeds": SEEDS})
    assert cli.main(["show", "toy/seeds", "--folder", str(place)]) == 0
    assert cli.main(["list", "--folder", str(place)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("toy/")]
    assert said == [
        f"toy/seeds: interrupted, {len(on_disk)} runs finished; `run toy/seeds` goes on",
        f"{'toy/seeds':32} -, interrupted run",
    ]
    assert cli.main(["run", "toy/seeds", "--folder", str(place), "--quiet"]) == 0
    assert Counter(calls(place)[len(before) :]) == Counter(everything() - set(on_disk))


def test_interrupted_at_once_is_exit_code_130_with_one_line(place, capsys, monkeypatch):
    monkeypatch.setattr(
        lab, "registry", lambda: {"toy/seeds": dataclasses.replace(SEEDS, run=Raises(3, KeyboardInterrupt()))}
    )
    assert cli.main(["run", "toy/seeds", "--folder", str(place), "--quiet"]) == 130
    assert capsys.readouterr().err == "interrupted; the finished runs are kept, `run toy/seeds` goes on\n"
    assert len(partial_keys(place)) == 2


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_disk_full_loses_the_last_run_only(place, monkeypatch, moment, capsys):
    real, count = getattr(os, moment), iter(range(1, 1000))

    def full(*arguments):
        if next(count) >= 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(lab, "registry", lambda: {"toy/seeds": SEEDS})
    command = ["run", "toy/seeds", "--folder", str(place), "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(os, moment, full)
        assert cli.main(command) == 2
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    assert len(partial_keys(place)) == 5 and [f.name for f in place.iterdir()] == ["toy__seeds.partial.json"]
    assert cli.main(command) == 0
    assert len(calls(place)) == TUNING + TEST + 1


# --- what must not be overwritten


def interrupted(place, experiment=SEEDS, n=5):
    with pytest.raises(KeyboardInterrupt):
        lab.run(dataclasses.replace(experiment, run=Raises(n, KeyboardInterrupt())), place, progress=False)


def test_the_old_record_stays_until_the_new_one_is_whole(place):
    old = lab.run(SEEDS, place, progress=False).read_bytes()
    (place.parent / "log").unlink()
    seen = []

    def watching(*arguments):
        seen.append((place / "toy__seeds.json").read_bytes() == old)
        return toy(*arguments)

    newer = dataclasses.replace(SEEDS, run=watching)
    interrupted(place)
    assert (place / "toy__seeds.json").read_bytes() == old
    lab.run(newer, place, progress=False)
    assert seen == [True] * (TUNING + TEST - 4)
    assert len(calls(place)) == TUNING + TEST, "an experiment that is run again, is run"


CHANGES = {
    "grid": {"grid": {"C": [0.1, 1.0]}},
    "seeds": {"seeds": (5, 6)},
    "tuning_seeds": {"tuning_seeds": (201,)},
    "metric": {"metric": "loss"},
    "arms": {"arms": {"plain": {"arm": "plain"}, "trick": {"arm": "trick", "alpha": 1}}},
    "baseline": {"baseline": "trick"},
    "data": {"data": "guest_notes/rating"},
    "setting": {"setting": "another"},
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_partial_of_another_definition_is_refused_and_stays(place, changed):
    lab.run(SEEDS, place, progress=False)
    interrupted(place)
    before, made = contents(place), len(calls(place))
    with pytest.raises(
        ValueError,
        match=(
            rf"toy__seeds\.partial\.json: belongs to another definition \({changed} changed\); move it "
            rf"away to start anew$"
        ),
    ):
        lab.run(dataclasses.replace(SEEDS, **CHANGES[changed]), place, progress=False)
    assert contents(place) == before and len(calls(place)) == made


def test_a_partial_of_other_weights_is_refused_and_stays(place, checkpoint, tmp_path, monkeypatch):
    interrupted(place)
    before = contents(place)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(
        (checkpoint / "model.safetensors").read_bytes() + b"\0"
    )
    monkeypatch.setenv("TRICKS_MODELS", str(tmp_path))
    with pytest.raises(ValueError, match=r"belongs to another definition \(model changed\)"):
        lab.run(SEEDS, place, progress=False)
    assert contents(place) == before


def edited(change):
    def edit(text: str) -> str:
        state = json.loads(text)
        change(state)
        return json.dumps(state)

    return edit


def first(state):
    return next(iter(state["results"].values()))


DAMAGE = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "one byte less": lambda text: text.rstrip()[:-1],
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "not a number": lambda text: text.replace('"accuracy": 0', '"accuracy": NaN, "x": 0', 1),
    "overflow": lambda text: text.replace('"accuracy": 0', '"accuracy": 1e999, "x": 0', 1),
    "no results": edited(lambda s: s.pop("results")),
    "no definition": edited(lambda s: s.pop("definition")),
    "no seconds": edited(lambda s: s.pop("seconds")),
    "results a list": edited(lambda s: s.update(results=[])),
    "definition a list": edited(lambda s: s.update(definition=[])),
    "seconds a string": edited(lambda s: s.update(seconds="1")),
    "result a number": edited(lambda s: s["results"].update(dict.fromkeys(s["results"], 1))),
    "score missing": edited(lambda s: first(s).pop("accuracy")),
    "score a string": edited(lambda s: first(s).update(accuracy="1")),
    "field missing in definition": edited(lambda s: s["definition"].pop("arms")),
    "field too many in definition": edited(lambda s: s["definition"].update(x=1)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_partial_is_refused_and_nothing_overwritten(place, damage):
    old = lab.run(SEEDS, place, progress=False)
    interrupted(place)
    partial = old.with_suffix(".partial.json")
    partial.write_text(damage(partial.read_text()))
    before, made = contents(place), len(calls(place))
    with pytest.raises(ValueError) as caught:
        lab.run(SEEDS, place, progress=False)
    message = str(caught.value)
    assert message.startswith(str(partial)) and "\n" not in message
    assert any(
        reason in message
        for reason in (
            "not a readable interrupted run (",
            "belongs to another definition (",
            "a finite number is accepted",
        )
    )
    assert "()" not in message and "( changed" not in message
    assert contents(place) == before and len(calls(place)) == made


def test_progress_counts_what_was_already_there(place, capsys):
    interrupted(place)
    lab.run(SEEDS, place)
    shown = capsys.readouterr().err
    assert (
        "toy/seeds tuning:  22%|" in shown
        and f"4/{TUNING}" in shown
        and f"{TUNING}/{TUNING}" in shown
        and f"{TEST}/{TEST}" in shown
    )
