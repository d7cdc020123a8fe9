"""Oracles: the encoder's own mean vectors, and a fine-tuning's arithmetic on them."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.lab.compare.test_frozen import ran
from tricks_lib.lab import __main__ as cli
from tricks_lib.lab.compare import comparison, tokens, train
from tricks_lib.lab.compare.kinds import heads
from tricks_lib.lab.studies import tournament

TOPICS = tokens.Source("guest_notes/topic")


@pytest.fixture(scope="module")
def read():
    return heads.read(TOPICS, "mini_bert", 16, "fp32")


def job(source=TOPICS, **changes) -> heads.HeadJob:
    training = comparison.TRAINING | tournament.FROZEN | {"max_length": 16, "rows": {"rows": 200}}
    given = {"metric": "accuracy", "settings": {}, "readings": ({"weights": "last", "threshold": None},),
             "learning_rate": 1e-2, "steps": 60, "seed": 0, "split": "test"}  # fmt: skip
    return heads.HeadJob(source, "mini_bert", training=training, **{**given, **changes})


def test_the_table_holds_the_standardised_mean_vector_of_each_text(read):
    task = tokens.prepare(TOPICS, "mini_bert", 16)
    known = heads.vectors(task.encoder, task, task.rows["train"])
    for split in task.rows:
        assert [row["labels"] for row in read.rows[split]] == [row["labels"] for row in task.rows[split]]
        for i in (0, 7, -1):
            ids = torch.tensor([task.rows[split][i]["input_ids"]])
            with torch.no_grad():
                mean = task.encoder(ids).last_hidden_state.mean(dim=1)
            expected = (mean - known.mean(dim=0)) / known.std(dim=0)
            batch = read.collate([read.rows[split][i]])
            found = read.encoder(**batch).last_hidden_state
            assert found.shape == (1, 1, mean.shape[1])
            torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)
    numbers = [row["input_ids"][0] for rows in read.rows.values() for row in rows]
    assert sorted(numbers) == list(range(len(read.encoder.table)))


def test_only_the_head_is_trained_and_it_learns(read):
    run = train.Run(job(), job().prepared())
    run.train()
    assert {name.split(".")[0] for name, _ in run.model.named_parameters()} == {"classifier"}
    assert torch.equal(run.model.encoder.table, read.encoder.table)
    logits = run.outputs("test", run.model)
    head = run.model.classifier
    x = read.encoder.table[[row["input_ids"][0] for row in read.rows["test"]]]
    assert logits == pytest.approx(head(x).detach().numpy(), abs=1e-4)
    majority = np.bincount(read.labels["test"]).max() / len(logits)
    assert (logits.argmax(1) == read.labels["test"]).mean() > majority + 0.1


def test_a_run_repeats_and_another_loss_gives_another_head():
    first, again, other = (job(settings=s).perform() for s in ({}, {}, {"loss": "focal"}))
    (a,), (b,), (c,) = (found.values() for found in (first, again, other))
    assert np.array_equal(a["predictions"], b["predictions"]) and a["score"] == b["score"]
    assert not np.array_equal(a["predictions"], c["predictions"])


def test_losses_for_a_rare_class_in_miniature(tmp_path):
    name = "rare_frozen/en_hate_davidson"
    made = tournament.COMPARISONS[name]()
    arms = {k: made.arms[k] for k in ("cross-entropy", "cross-entropy, threshold", "Dice, threshold")}
    small = dataclasses.replace(
        made, name="rare_frozen/mini", source=tokens.Source("guest_notes/safety_issue"), model="mini_bert",
        arms=arms, training=made.training | {"max_length": 16, "rows": {"rows": 200}}, steps=4,
    )  # fmt: skip
    record = ran(small, tmp_path)
    assert record["training"]["unit"] == "steps of a linear head on the frozen encoder"
    assert record["model"]["precision"] == "fp32"
    for arm in record["arms"].values():
        assert "computed once" in arm["arguments"] and "average_precision" in arm["runs"][0]


def test_both_rows_are_listed():
    for name in ("rare_frozen/en_hate_davidson", "tail_frozen/en_banking77"):
        made = cli.comparisons()[name]()
        assert isinstance(made, heads.HeadComparison) and f"run {name}" in made.command
        assert {*made.performs.more_code} == {"lab/compare/kinds/frozen.py", "lab/compare/kinds/heads.py"}
