"""Oracles: the encoder's own mean vectors, and a fine-tuning's arithmetic on them."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.lab.compare.test_frozen import ran
from tricks_lib.lab.compare import comparison, run, tokens, train
from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.kinds import heads
from tricks_lib.lab.studies import tournament

TOPICS = tokens.Source("guest_notes/topic")


@pytest.fixture(scope="module")
def read():
    return heads.read(TOPICS, "mini_bert", 16, "fp32")


def job(**changes) -> heads.HeadJob:
    training = comparison.TRAINING | tournament.FROZEN | {"max_length": 16, "rows": {"rows": 200}}
    given = {"metric": "accuracy", "settings": {}, "readings": ({"weights": "last", "threshold": None},),
             "learning_rate": 1e-2, "steps": 60, "seed": 0, "split": "test"}  # fmt: skip
    return heads.HeadJob(TOPICS, "mini_bert", training=training, **{**given, **changes})


def test_the_table_holds_the_standardised_mean_vector_of_each_text(read):
    task = tokens.prepare(TOPICS, "mini_bert", 16)

    def mean(row):
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            return task.encoder(ids).last_hidden_state.mean(dim=1)

    known = torch.cat([mean(row) for row in task.rows["train"]])
    for split in task.rows:
        assert [row["labels"] for row in read.rows[split]] == [row["labels"] for row in task.rows[split]]
        for i in (0, 7, -1):
            expected = (mean(task.rows[split][i]) - known.mean(dim=0)) / known.std(dim=0)
            batch = read.collate([read.rows[split][i]])
            found = read.encoder(**batch).last_hidden_state
            assert found.shape == (1, 1, known.shape[1])
            torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)
    numbers = [row["input_ids"][0] for rows in read.rows.values() for row in rows]
    assert sorted(numbers) == list(range(len(read.encoder.table)))


def test_only_the_head_is_trained_and_it_learns(read):
    one = train.Run(job(), job().prepared())
    one.train()
    assert {name.split(".")[0] for name, _ in one.model.named_parameters()} == {"classifier"}
    assert one.model.dropout.p > 0
    assert torch.equal(one.model.encoder.table, read.encoder.table)
    logits = one.outputs("test", one.model)
    head = one.model.classifier
    x = read.encoder.table[[row["input_ids"][0] for row in read.rows["test"]]]
    assert logits == pytest.approx(head(x).detach().numpy(), abs=1e-4)
    majority = np.bincount(read.labels["test"]).max() / len(logits)
    assert (logits.argmax(1) == read.labels["test"]).mean() > majority + 0.1


def test_a_run_repeats_and_another_loss_gives_another_head():
    first, again, other = (job(settings=s).perform() for s in ({}, {}, {"loss": "focal"}))
    (a,), (b,), (c,) = (found.values() for found in (first, again, other))
    assert np.array_equal(a["predictions"], b["predictions"]) and a["score"] == b["score"]
    assert not np.array_equal(a["predictions"], c["predictions"])


@pytest.mark.parametrize(
    ("name", "kept", "rare", "beside"),
    [
        (
            "rare_frozen/en_hate_davidson",
            ("prior bias, threshold", "Dice", "weighted"),
            "food",
            "average_precision",
        ),
        (
            "tail_frozen/en_banking77",
            ("label smoothing 0.1", "focal, gamma 2", "weighted"),
            None,
            "ece_scaled",
        ),
    ],
)
def test_a_row_in_miniature(tmp_path, name, kept, rare, beside):
    made = tournament.COMPARISONS[name]()
    arms = {k: arm for k, arm in made.arms.items() if k == made.baseline or k in kept}
    rows = {"tail": [40, 10]} if rare is None else {"rows": 200}
    small = dataclasses.replace(
        made, name=name.split("/")[0] + "/mini", source=tokens.Source("guest_notes/topic", rare=rare),
        model="mini_bert", arms=arms, training=made.training | {"max_length": 16, "rows": rows}, steps=4,
    )  # fmt: skip
    record = ran(small, tmp_path)
    assert record["model"]["precision"] == "fp32"
    for arm in record["arms"].values():
        assert arm["arguments"].startswith("task = heads.read(tokens.Source(spec='guest_notes/topic'")
        assert beside in arm["runs"][0]
    assert len({str([run["score"] for run in arm["runs"]]) for arm in record["arms"].values()}) > 2


def test_what_is_pasted_is_what_was_read(read):
    made = tournament.COMPARISONS["rare_frozen/en_hate_davidson"]()
    small = dataclasses.replace(
        made, source=TOPICS, model="mini_bert", training=made.training | {"max_length": 16}
    )
    lines = small.pasted(read, {}, 1e-3, 10).splitlines()
    given = {"heads": heads, "tokens": tokens}
    exec("\n".join(lines[:2]), given)
    assert given["encoder"] is read.encoder and lines[2].startswith("model = MeanPoolingClassifier(encoder")
    assert len(lines) == 4 and "learning_rate=0.001" in lines[-1]


def test_settings_that_a_head_has_not_are_refused():
    made = tournament.COMPARISONS["rare_frozen/en_hate_davidson"]()
    for setting in ({"pool": "cls"}, {"layer_decay": 0.8}, {"dropout": 0.2}):
        with pytest.raises(ValueError, match=f"other: '{next(iter(setting))}' given; of a head loss"):
            dataclasses.replace(made, arms={"baseline": Arm(), "other": Arm(setting)})


def test_tags_are_refused_because_a_text_has_one_vector(read, monkeypatch):
    tagged = dataclasses.replace(read, kind="tags")
    monkeypatch.setattr(heads.frozen, "to_read", lambda *given: (tagged, tagged.encoder, tagged.rows))
    with pytest.raises(ValueError, match="source: tags given, labels of whole texts are accepted"):
        heads.read(TOPICS, "mini_bert", 15, "fp32")


def test_its_own_code_counts():
    assert run.code(heads.HeadJob.more_code) != run.code()
