"""A comparison runs to a record that ``verify`` accepts, and goes on where it stopped."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib._parallel_backends import ThreadingBackend

from tricks_lib.lab.compare import comparison, metrics, records, report, run, summary, train, verify

from .conftest import small

ROOT = Path(__file__).resolve().parents[3]


def without_times(file: Path) -> dict:
    """A record but for what time it took."""
    record = json.loads(
        file.read_text(), object_hook=lambda d: {k: v for k, v in d.items() if k != "seconds"}
    )
    return {k: v for k, v in record.items() if k not in ("wall_seconds", "date")}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rdrop__letters.json"


def partial_of(file: Path) -> Path:
    return file.with_suffix(".partial.json")


def test_a_comparison_runs_to_a_record_that_verify_accepts(fake, file):
    run.run(small(), file, progress=False)
    record, predictions = records.load("rdrop/letters", file.parent)
    verify.verify(record, predictions, file.name)
    assert not partial_of(file).exists()
    assert record["steps"]["chosen"] == 200 and not record["steps"]["still_improving"]
    assert len(record["seeds"]) == 10 and record["arms"]["rdrop"]["passes"] == 2
    assert record["arms"]["ema"]["shares"] == "baseline" and record["arms"]["rdrop"]["shares"] is None
    assert record["families"]["rivals"] == [["rdrop", "dropout"]]
    assert (
        record["arms"]["2x steps"]["passes"] == 2
        and "max_steps=400" in record["arms"]["2x steps"]["arguments"]
    )
    # nothing is trained twice, but for a reading that only "together" asks for
    trained = [job.key for job in fake.jobs if not (job.settings and job.readings[0]["weights"] == "ema")]
    assert len({*trained}) == len(trained)


def test_interrupted_after_any_run_it_goes_on_to_the_same_record(fake, file, monkeypatch):
    run.run(small(), file, progress=False)
    whole, runs = without_times(file), len(fake.jobs)
    file.unlink()
    fake.jobs.clear()
    perform = run.train.perform

    def until(count):
        def interrupted(job):
            if len(fake.jobs) == count:
                raise KeyboardInterrupt
            return perform(job)

        return interrupted

    for count in (0, 3, 30, runs - 1):
        monkeypatch.setattr(run.train, "perform", until(count))
        with pytest.raises(KeyboardInterrupt):
            run.run(small(), file, progress=False)
        known = json.loads(partial_of(file).read_text())["runs"] if partial_of(file).exists() else {}
        assert count == 0 or known
    monkeypatch.setattr(run.train, "perform", perform)
    run.run(small(), file, progress=False)
    assert without_times(file) == whole


def stopped(fake, file, monkeypatch, after=5):
    """An interrupted run."""
    perform = run.train.perform
    monkeypatch.setattr(run.train, "perform", lambda job: perform(job) if len(fake.jobs) < after else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.run(small(), file, progress=False)
    monkeypatch.setattr(run.train, "perform", perform)


def test_a_full_disk_loses_no_finished_run(fake, file, monkeypatch):
    stopped(fake, file, monkeypatch)
    before = partial_of(file).read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.run(small(), file, progress=False)
    assert partial_of(file).read_text() == before and [*file.parent.iterdir()] == [partial_of(file)]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.update(code="f" * 64), "made by other code"),
        (lambda state: state["definition"].update(steps=7), r"another definition \(steps changed\)"),
        (
            lambda state: state["definition"]["sha256"].update(data="0"),
            r"another definition \(sha256 changed\)",
        ),
        (lambda state: state.pop("runs"), "not a readable interrupted run"),
        (lambda state: state.update(seconds="1"), "not a readable interrupted run"),
    ],
)
def test_an_interrupted_run_that_does_not_fit_is_refused_with_its_cause(
    change, message, fake, file, monkeypatch
):
    stopped(fake, file, monkeypatch)
    state = json.loads(partial_of(file).read_text())
    change(state)
    partial_of(file).write_text(json.dumps(state))
    with pytest.raises(ValueError, match=message):
        run.run(small(), file, progress=False)


def test_a_run_by_changed_code_is_refused(fake, file, monkeypatch):
    codes = iter(["a" * 64, *["b" * 64] * 99])
    monkeypatch.setattr(run, "code", lambda more: next(codes))
    with pytest.raises(ValueError, match="the code has changed"):
        run.run(small(), file, progress=False)


def test_the_code_is_that_of_all_sources_that_train():
    names = [file.relative_to(ROOT / "tricks_lib").as_posix() for file in run.sources()]
    assert {"ema/average.py", "trainer/tricks_trainer.py", "lab/compare/train.py"} <= {*names}
    assert not any("report" in name or "decoding" in name for name in names)


def test_a_backend_that_gives_lists_only_loses_no_more_than_a_round(fake, file, monkeypatch):
    """Ray's, for instance."""

    class Lists(ThreadingBackend):
        supports_return_generator = False

    run.run(small(), file, progress=False)
    whole = without_times(file)
    file.unlink()
    monkeypatch.setitem(joblib.parallel.BACKENDS, "lists", Lists)
    perform, made = train.perform, []

    def failing(job):
        made.append(job)
        if len(made) == 6:
            raise RuntimeError("the sixth run")
        return perform(job)

    with joblib.parallel_config(backend="lists"):
        monkeypatch.setattr(train, "perform", failing)
        with pytest.raises(RuntimeError, match="the sixth run"):
            run.run(small(), file, jobs=2, progress=False)
        assert len(records.read(partial_of(file))["runs"]) >= 4
        run.run(small(), file, jobs=2, progress=False)
    assert without_times(file) == whole


KILLED = """
import sys
from pathlib import Path
import tests.lab.compare.conftest as conftest
from tricks_lib.lab.compare import run
conftest.invent(slowly=0.02)
run.run(conftest.small(), Path(sys.argv[1]), jobs=int(sys.argv[2]), progress=False)
"""


@pytest.mark.slow
def test_ten_kills_leave_the_record_of_an_uninterrupted_run(fake, file, tmp_path):
    run.run(small(), file, progress=False)
    killed = tmp_path / "killed" / file.name
    rng = np.random.default_rng()
    kills = 0
    while kills < 10 and not killed.exists():
        process = subprocess.Popen([sys.executable, "-c", KILLED, killed, "1"], cwd=ROOT)
        started = (
            len(json.loads(partial_of(killed).read_text())["runs"]) if partial_of(killed).exists() else 0
        )
        while process.poll() is None:  # until it has done something, and then at any moment
            time.sleep(0.05)
            if partial_of(killed).exists() and len(records.read(partial_of(killed))["runs"]) > started:
                time.sleep(rng.uniform(0, 0.2))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.wait()
    subprocess.run([sys.executable, "-c", KILLED, killed, "1"], cwd=ROOT, check=True)
    assert kills >= 5 and without_times(killed) == without_times(file)
    assert np.array_equal(*(np.load(f.with_suffix(".npz"))["predictions"] for f in (file, killed)))


def broken(change):
    """A change of record and predictions that breaks a rule."""
    return pytest.param(change, id=change.__name__.replace("_", " "))


def too_few_seeds(record, predictions):
    for arm in record["arms"].values():
        arm["runs"] = arm["runs"][:9]
    record["seeds"] = record["seeds"][:9]


def two_tuning_seeds(record, predictions):
    record["tuning_seeds"] = record["tuning_seeds"][:2]


def three_rates(record, predictions):
    record["rates"] = record["rates"][1:]


def a_rate_left_out(record, predictions):
    record["arms"]["rdrop"]["tuning"].pop()


def another_choice(record, predictions):
    record["arms"]["rdrop"]["chosen"]["learning_rate"] = 8e-4


def an_unmarked_edge(record, predictions):
    arm = record["arms"]["rdrop"]
    arm["edge"] = "high"


def steps_not_doubled(record, predictions):
    record["steps"]["settled"] = record["steps"]["settled"][:1]


def other_steps(record, predictions):
    record["steps"]["chosen"] = 100


def a_seed_left_out(record, predictions):
    record["arms"]["ema"]["runs"].pop()


def a_failure_hidden(record, predictions):
    record["arms"]["ema"]["runs"][0]["failed"] = True


def predictions_missing(record, predictions):
    del predictions["predictions"]


def another_prediction(record, predictions):
    predictions["predictions"][0] = (predictions["predictions"][0] + 1) % 4


def another_metric(record, predictions):
    record["arms"]["ema"]["runs"][2]["macro_f1"] += 0.01


def another_calibration_error(record, predictions):
    record["arms"]["ema"]["runs"][2]["ece_scaled"] += 0.01


def mixed_code(record, predictions):
    record["arms"]["rdrop"]["runs"][3]["code"] = "0" * 12


def another_statistic(record, predictions):
    record["statistics"]["arms"]["rdrop"]["baseline"]["p"] = 0.0001


def another_guess(record, predictions):
    record["guess"] = 0.1


def a_comparison_left_out(record, predictions):
    record["families"]["baseline"] = record["families"]["baseline"][:1]


def the_other_way_round(record, predictions):
    record["higher_is_better"] = False


MESSAGES = {
    a_comparison_left_out: "families: other comparisons than those of all arms",
    the_other_way_round: "higher_is_better: False given with accuracy",
    too_few_seeds: "seeds: 9 for 5 comparisons, at least 10 are accepted",
    two_tuning_seeds: "tuning_seeds: 2 given, at least 3",
    three_rates: "rates: .* at least 4",
    a_rate_left_out: "arm 'rdrop' was not tuned on the grid",
    another_choice: "arm 'rdrop' has chosen",
    an_unmarked_edge: "arm 'rdrop' is at the None edge of its grid and marked high",
    steps_not_doubled: "not tried at twice the steps",
    other_steps: "steps: 100 chosen, 200 follows",
    a_seed_left_out: "arm 'ema' has not one run for each seed",
    a_failure_hidden: "arm 'ema': its failed runs",
    predictions_missing: "predictions: predictions missing",
    another_prediction: "arm 'baseline': its .* does not follow from its predictions",
    another_metric: "arm 'ema': its macro_f1 does not follow",
    another_calibration_error: "arm 'ema': its ece_scaled does not follow",
    mixed_code: "code: runs made by",
    another_statistic: "statistics do not follow",
    another_guess: "guess: 0.1 given",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A record's two files."""
    file = tmp_path_factory.mktemp("made") / "rdrop__letters.json"
    with pytest.MonkeyPatch.context() as patch:
        from .conftest import patched

        patched(patch)
        calibrated = comparison.TRAINING | {"precision": "fp32", "calibration": True}
        run.run(small(training=calibrated), file, progress=False)
    return file


@pytest.mark.parametrize("change", [broken(change) for change in MESSAGES])
def test_verify_refuses_a_record_that_breaks_a_rule(change, made):
    record, predictions = records.load_file(made)
    change(record, predictions)
    with pytest.raises(ValueError, match=f"^letters.json: .*{MESSAGES[change]}"):
        verify.verify(record, predictions, "letters.json")


def test_no_verdict_at_the_edge_of_a_grid(made):
    record, predictions = records.load_file(made)
    record["arms"]["dropout"]["edge"] = "high"
    found = summary.summarize(record, predictions)
    assert found["arms"]["dropout"]["baseline"]["verdict"] == summary.AT_THE_EDGE
    assert found["rivals"][0]["verdict"] == summary.AT_THE_EDGE  # the rival's edge is the trick's too


@pytest.mark.parametrize("share, learned", [(0.0, False), (0.6, True)])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_no_verdict_beside_a_baseline_that_has_not_learned(made, share, learned, metric):
    """It answers as if it knew no text, but for a share of rows on which it is right."""
    record, predictions = records.load_file(made)
    record["metric"] = metric
    labels, rng = predictions["labels"], np.random.default_rng(0)
    known = rng.random((len(labels), len(record["seeds"]))) < share
    predictions["predictions"][:, 0] = np.where(known, labels[:, None], 0)
    found = summary.summarize(record, predictions)
    verdicts = {own["baseline"]["verdict"] for own in found["arms"].values() if own["baseline"]}
    verdicts |= {own["verdict"] for own in found["rivals"]}
    assert (verdicts == {summary.NOT_LEARNED}) == (not learned)
    assert learned or any(
        "has not learned" in told for told in report.warnings({**record, "statistics": found})
    )


@pytest.mark.parametrize("nothing", [5, 6])
def test_no_verdict_where_most_runs_of_the_baseline_have_failed(made, nothing):
    record, predictions = records.load_file(made)
    runs = record["arms"]["baseline"]["runs"]
    for made_ in runs[:nothing]:
        made_["score"] = record["guess"]
    for made_, failed in zip(runs, summary.failures(record, "baseline")):
        made_["failed"] = bool(failed)
    found = summary.summarize(record, predictions)
    verdicts = {own["baseline"]["verdict"] for own in found["arms"].values() if own["baseline"]}
    assert (verdicts == {summary.NOT_LEARNED}) == (nothing > len(record["seeds"]) / 2)


CONSTANT = {
    "classes": ("classes", [2, 1, 2, 0], [2, 2, 2, 2]),
    "labels": ("labels", [[1, 0], [1, 0], [1, 1]], [[1, 0]] * 3),
    "tags": ("tags", [[0, 3, -100], [0, 0, 3]], [[0] * 3] * 2),
    "numbers": ("numbers", [1.0, 2.0, 6.0], [3.0] * 3),
}


@pytest.mark.parametrize("kind, labels, expected", CONSTANT.values(), ids=CONSTANT)
def test_the_best_answer_that_knows_no_text(kind, labels, expected):
    assert metrics.constant(np.array(labels), kind).tolist() == expected


def test_missing_or_damaged_predictions_are_named(made, tmp_path):
    file = tmp_path / made.name
    file.write_text(made.read_text())
    with pytest.raises(FileNotFoundError, match="its predictions, rdrop__letters.npz, are missing"):
        records.load_file(file)
    file.with_suffix(".npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="rdrop__letters.npz: cannot be read"):
        records.load_file(file)
