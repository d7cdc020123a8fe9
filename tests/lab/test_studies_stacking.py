"""The study of all tricks together: fresh classifiers by seed, a training with all of them, and its score."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import BertModel

from tricks_lib.lab.studies import stacking as study

from .conftest import tiny_config, tiny_tokenizer

TEXTS = ["the room was cold", "a good bed", "very loud and very bad"] * 4


@pytest.fixture
def loaded(monkeypatch):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
    rows = Dataset.from_dict({"text": TEXTS, "label": [0, 1, 2] * 4}, features=features)
    monkeypatch.setattr(study.tasks, "load_task", lambda name: DatasetDict(train=rows, test=rows))
    monkeypatch.setattr(study.models, "load_encoder", lambda: (BertModel(tiny_config()), tiny_tokenizer()))
    return study.loaded("made up", max_length=5)


def test_the_arguments_of_all_tricks_are_joined():
    together = study.together()
    assert together["rdrop_alpha"] == 0.5 and together["loss"] == "focal"
    assert len(together) == sum(map(len, study.TRICKS.values()))


def test_a_seed_draws_the_head_and_nothing_else(loaded):
    make, rows, _ = loaded
    first, again, other = (make(seed).state_dict() for seed in (0, 0, 1))
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert torch.equal(weight, other[name]) == (name != "classifier.weight"), name
    assert [len(rows["train"]), rows["test"][2]["labels"]] == [12, 2]
    assert max(len(row["input_ids"]) for row in rows["train"]) == 5


@pytest.mark.filterwarnings("ignore:ema_decay. with:UserWarning")  # in two steps
def test_all_tricks_train_together(loaded):
    make, rows, stack = loaded
    model = make(0)
    before = model.classifier.weight.detach().clone()
    run = study.trainer(model, rows["train"], stack, study.together(), steps=2, lr=1e-3, seed=0, batch_size=4)
    run.train()
    assert run.state.global_step == 2 and not torch.equal(model.classifier.weight, before)
    assert 0 <= study.accuracy(run, rows["test"]) <= 1


def test_the_score_is_the_share_of_right_answers():
    answers = SimpleNamespace(
        predictions=np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0]]),
        label_ids=np.array([0, 1, 0, 0]),
    )
    assert study.accuracy(SimpleNamespace(predict=lambda rows: answers), None) == 0.75
