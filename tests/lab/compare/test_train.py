"""One training of an arm: read in several ways, on the rows of its seed, with a table cut to what occurs.
From a file to its record: oracles are scikit-learn and SciPy, on the predictions that the record keeps.
"""

import dataclasses
import json
import os
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from transformers import BertModel

from tricks_lib.lab.compare import (
    arms,
    ask,
    classifier,
    comparison,
    records,
    run,
    tokens,
    train,
    verify,
)  # fmt: skip

from ..conftest import WORDS, tiny_config, tiny_tokenizer
from .test_metrics import entities
from .test_run import without_times


def texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(n)]


@pytest.fixture
def table(tmp_path):
    """A CSV of 120 texts; the label says whether "good" or "warm" occurs."""
    lines = [f"{t},{'yes' if {'good', 'warm'} & {*t.split()} else 'no'}" for t in dict.fromkeys(texts(120))]
    file = tmp_path / "notes.csv"
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of four layers."""
    folder = tmp_path_factory.mktemp("models") / "deep"
    torch.manual_seed(7)
    BertModel(tiny_config(num_hidden_layers=4)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def model(folder, monkeypatch):
    monkeypatch.setenv("TRICKS_MODELS", str(folder.parent))
    return folder.name


def test_a_file_becomes_a_record_that_verify_accepts(table, model, tmp_path):
    out = tmp_path / "report"
    source = tokens.Source(str(table))
    made = ask.comparison(source, model, ["ema"], steps=4, max_length=16)
    assert [*made.arms] == ["baseline", "best checkpoint", "SWA", "EMA"]
    record = ask.compare(str(table), model, ["ema"], steps=4, max_length=16, out=out, progress=False)
    verify.verify(*records.load_file(out / "record.json"), "record.json")
    assert record["data"]["sizes"].keys() == {"train", "validation", "test"} and record["kind"] == "classes"


def test_calibration_is_measured_where_it_is_asked_for(table, model, tmp_path):
    made = ask.comparison(tokens.Source(str(table)), model, ["ema"], steps=4, max_length=16)
    asked = dataclasses.replace(made, training=made.training | {"calibration": True})
    run.run(asked, tmp_path / "tail.json", progress=False)
    record, predictions = records.load_file(tmp_path / "tail.json")
    verify.verify(record, predictions, "tail.json")
    assert predictions["confidence"].shape == (*predictions["predictions"].shape, 2)
    one = record["arms"][record["baseline"]]["runs"][0]
    assert one["temperature"] > 0 and one["ece"] != one["ece_scaled"]


def tags_of(text: str) -> list[str]:
    """Whether a word is good or bad; a word after one goes on with it."""
    kinds = {"good": "B-good", "warm": "B-good", "bad": "B-bad", "cold": "B-bad"}
    found = [kinds.get(word, "O") for word in text.split()]
    after = zip(found, found[1:], text.split()[1:])
    return found[:1] + [f"I-{a[2:]}" if a[0] == "B" and w == "very" else b for a, b, w in after]


ROWS = {
    "labels": lambda text: {"text": text, "label": sorted({"good", "warm", "bad"} & {*text.split()})},
    "tags": lambda text: {"text": text.split(), "label": tags_of(text)},
    "numbers": lambda text: {"text": text, "label": len(text) / 4 + 0.1},
}


def by_peer(kind: str, predictions, labels) -> float:
    """The default metric of a kind, by another library or by a loop."""
    if kind == "numbers":
        return scipy.stats.pearsonr(predictions.astype(float), labels).statistic
    if kind == "labels":
        return sklearn.metrics.f1_score(labels, predictions, average="micro", zero_division=0)
    words = [(p[y >= 0], y[y >= 0]) for p, y in zip(predictions, labels)]
    pairs = [(entities(p), entities(y)) for p, y in words]
    return 2 * sum(len(p & y) for p, y in pairs) / sum(len(p) + len(y) for p, y in pairs)


@pytest.mark.filterwarnings("ignore:ema_decay. with:UserWarning")  # in so few steps
@pytest.mark.parametrize("name", ["deep", pytest.param("mini_bert", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ROWS)
def test_other_labels_than_classes_become_a_record(kind, name, model, tmp_path):
    file = tmp_path / "notes.jsonl"
    file.write_text("\n".join(json.dumps(ROWS[kind](text)) for text in dict.fromkeys(texts(120, seed=1))))
    options = {"steps": 4, "max_length": 16, "progress": False}
    record = ask.compare(str(file), name, ["ema"], out=tmp_path / "report", **options)
    assert record["kind"] == kind
    found, arrays = records.load_file(tmp_path / "report" / "record.json")
    verify.verify(found, arrays, "record.json")
    labels, predictions = arrays["labels"], arrays["predictions"]
    assert predictions.shape == (*labels.shape, len(record["arms"]), len(record["seeds"]))
    for a, arm in enumerate(record["arms"].values()):
        for s, one in enumerate(arm["runs"]):
            assert one["score"] == pytest.approx(by_peer(kind, predictions[..., a, s], labels), abs=1e-5)
    assert "index.html" in {each.name for each in (tmp_path / "report").iterdir()}


def test_tuning_needs_no_test_split(table, model):
    """Only its tokens are known beforehand, so that one table of embeddings serves all runs."""
    source = tokens.Source(str(table))
    task = tokens.prepare(source, model, 16)
    without = dataclasses.replace(
        task, rows={**task.rows, "test": None}, labels={**task.labels, "test": None}
    )
    run = train.Run(job(source, model, {}, split="validation"), without)
    run.train()
    assert run.read({"weights": "last", "threshold": "tuned"})["score"] >= 0


def job(source, model, settings, **changes) -> train.Job:
    reading = arms.reading_of(settings)
    training = comparison.TRAINING | {"max_length": 16, "precision": "fp32"}
    own = {k: v for k, v in arms.training_of(settings).items() if k != "times"}
    given = {
        "metric": "accuracy",
        "training": training,
        "learning_rate": 1e-3,
        "steps": 8,
        "seed": 0,
        "split": "test",
    }
    return train.Job(source, model, settings=own, readings=(reading,), **{**given, **changes})


def every_arm():
    from tricks_lib.lab.studies import tournament

    for table in (tournament.TRICKS, tournament.RARE, tournament.TAIL):
        for name, arm in table.items():
            for candidate in arm.candidates:
                if (settings := {**arm.settings, **candidate}) and "layers" not in candidate:
                    yield pytest.param(settings, id=f"{name} {candidate or ''}".strip())


@pytest.mark.parametrize("settings", {p.id: p for p in every_arm()}.values())
def test_every_arm_of_the_table_of_evidence_trains_otherwise_than_the_baseline(settings, table, model):
    source = tokens.Source(str(table), rare="yes")
    run, plain = (train.Run(job(source, model, s), tokens.prepare(source, model, 16)) for s in (settings, {}))
    reading = arms.reading_of(settings)
    for each in (run, plain):
        each.train()
    ours = run.of_weights(reading["weights"], "test")
    assert np.isfinite(ours).all()
    same = run.job.settings == {} and reading["weights"] in ("last", "best checkpoint")
    assert same or not np.array_equal(ours, plain.of_weights("last", "test"))
    assert run.read(reading)["predictions"].shape == run.task.labels["test"].shape


@pytest.mark.slow
def test_two_jobs_give_the_record_of_one(table, model, tmp_path):
    def record(jobs):
        out = tmp_path / str(jobs)
        ask.compare(str(table), model, ["ema"], steps=4, max_length=16, out=out, jobs=jobs, progress=False)
        return {k: v for k, v in without_times(out / "record.json").items() if k != "command"}

    assert record(2) == record(1)


@pytest.mark.slow
def test_two_workers_of_dask_give_the_record_of_one(table, model, tmp_path):
    """joblib's backend is the caller's choice: here a cluster of two processes, in life one of machines."""
    distributed = pytest.importorskip("distributed")
    given = {"tricks": ["ema"], "steps": 4, "max_length": 16, "progress": False}
    ask.compare(str(table), model, out=tmp_path / "one", **given)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert os.getpid() not in {*client.run(os.getpid).values()}
        with joblib.parallel_config(backend="dask"):
            ask.compare(str(table), model, out=tmp_path / "two", jobs=2, **given)
    one, two = (without_times(tmp_path / out / "record.json") for out in ("one", "two"))
    assert one.pop("command") != two.pop("command")  # another folder, and two jobs
    assert one == two


def test_how_a_training_is_read_does_not_change_it(table, model):
    source = tokens.Source(str(table))
    everything = tuple(
        {"weights": weights, "threshold": threshold}
        for weights in ("last", "best checkpoint", "ema", "swa")
        for threshold in (None, "tuned")
    )
    one = train.perform(job(source, model, {}))
    all_of_them = train.perform(dataclasses.replace(job(source, model, {}), readings=everything))
    (name, alone), together = *one.items(), all_of_them
    assert [*together] == [arms.key(reading) for reading in everything]
    np.testing.assert_array_equal(alone["predictions"], together[name]["predictions"])
    assert alone["score"] == together[name]["score"] == alone["accuracy"]


@pytest.mark.parametrize("steps, first", [(100, 13), (150, 19), (23, 3), (15, 2), (5, 1)])
def test_the_last_of_the_checkpoints_is_the_end(steps, first):
    seen = []
    watch = train.Watch(steps, False, lambda model: seen.append(state.global_step))
    state, model = SimpleNamespace(global_step=0), SimpleNamespace(train=lambda: None)
    for state.global_step in range(1, steps + 1):
        watch.on_step_end(None, state, None, model=model)
    assert seen[0] == first and seen[-1] == steps and len(seen) == min(steps, train.CHECKPOINTS)


@pytest.mark.parametrize("center, spread", [(125.0, 15.0), (10_000.0, 2.0), (250_000.0, 80_000.0)])
def test_numbers_are_chosen_and_kept_in_the_unit_of_the_labels(tmp_path, model, center, spread):
    """Also where float16 would not hold them, or not tell them apart."""
    rows = [{"text": t, "label": center + spread * np.sin(i)} for i, t in enumerate(dict.fromkeys(texts(90)))]
    file = tmp_path / "notes.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    source = tokens.Source(str(file))
    task = tokens.prepare(source, model, 16)
    one = train.Run(dataclasses.replace(job(source, model, {}), metric="rmse"), task)
    exact = (task.labels["test"] - task.center) / task.spread
    assert one.score(exact, "test") < 1e-6 * center
    assert one.score(np.zeros_like(exact), "test") == pytest.approx(task.labels["test"].std(), rel=0.5)
    kept = one.kept(exact.astype(np.float32))
    assert np.abs(kept.astype(float) - task.labels["test"]).max() < 0.01 * task.spread


def test_prior_bias_has_a_number_for_a_class_that_train_lacks():
    _, given = classifier.chosen({"prior_bias": True}, "classes", 3, np.array([0, 1, 1]))
    assert given["head_bias"] == pytest.approx(np.log([1 / 3, 2 / 3, 1 / 3]), abs=1e-4)
