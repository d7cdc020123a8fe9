"""One training of an arm: read in several ways, on the rows of its seed, with a table cut to what occurs."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import BertModel

from tricks_lib.lab.compare import arms, ask, comparison, records, tokens, train, verify

from ..conftest import WORDS, tiny_config, tiny_tokenizer
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
        return without_times(out / "record.json")

    assert record(2) == record(1)


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
