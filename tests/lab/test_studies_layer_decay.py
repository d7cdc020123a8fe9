"""The study of layer-wise rates: the circulating groups, movement by hand, and probes of a network whose
answers are known.
"""

import numpy as np
import pytest
import torch
from transformers import BertModel

from tricks_lib.lab import fit
from tricks_lib.lab.pretraining.worth import classifier
from tricks_lib.lab.studies import layer_decay as study

from .conftest import tiny_config, tiny_tokenizer

TEXTS = [
    "the room was cold",
    "a good bed",
    "very loud and very bad",
    "soup is good",
    "they and we",
    "not a warm bed",
] * 4


def model(head="mean", **changes):
    torch.manual_seed(0)
    return classifier(BertModel(tiny_config(**changes)), 2, head)


def prepared(monkeypatch, **options):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
    rows = Dataset.from_dict({"text": TEXTS, "label": [0, 1, 2] * 8}, features=features)
    monkeypatch.setattr(
        study.tasks, "load_task", lambda name: DatasetDict(train=rows, validation=rows, test=rows)
    )
    monkeypatch.setattr(
        study.models, "load_encoder", lambda name: (BertModel(tiny_config()), tiny_tokenizer())
    )
    return study.prepare.__wrapped__("toy", 16, **options)


@pytest.mark.parametrize("head", ["cls", "mean"])
def test_the_circulating_groups_leave_embeddings_and_pooler_out_and_shift_the_rates(head):
    it = model(head)
    found = study.snippet_groups(it, lr=1.0, multiplier=0.5, head_lr=9.0)
    by_id = {id(p): g["lr"] for g in found for p in g["params"]}
    left = [name for name, p in it.named_parameters() if id(p) not in by_id]
    assert len(left) == 7 and all("embeddings" in name or "pooler" in name for name in left)
    rates = {name: by_id[id(p)] for name, p in it.named_parameters() if id(p) in by_id}
    assert {r for n, r in rates.items() if "layer.1." in n} == {0.5} and {
        r for n, r in rates.items() if "layer.0." in n
    } == {0.25}
    assert {r for n, r in rates.items() if "classifier" in n} == {9.0}


def test_every_arm_but_the_snippet_trains_everything_and_the_head_at_the_base_rate():
    for arm in study.ARMS.values():
        it = model()
        found = study.groups(it, arm, lr=0.1)
        assert sum(len(g["params"]) for g in found) == len(list(it.parameters()))
        assert {g["lr"] for g in found if g["name"] in ("head", "top", "layer 1")} == {0.1}
    assert (
        sum(len(g["params"]) for g in study.groups(it, study.SNIPPET["snippet 0.95"], 0.1))
        == len(list(it.parameters())) - 7
    )


def test_movement_is_the_distance_by_hand():
    it = model()
    start = {name: tensor.clone() for name, tensor in it.state_dict().items()}
    assert study.movement(it, start) == {"embeddings": 0.0, "layer 0": 0.0, "layer 1": 0.0}
    with torch.no_grad():
        for p in it.encoder.encoder.layer[1].parameters():
            p.mul_(1.25)
        it.classifier.weight.add_(7)
    assert study.movement(it, start) == {
        "embeddings": 0.0,
        "layer 0": 0.0,
        "layer 1": pytest.approx(0.25, rel=1e-5),
    }


def test_labels_are_chosen_and_numbered_anew(monkeypatch):
    rows, _, make = prepared(monkeypatch, head="mean", labels=("c", "a"))
    assert len(rows["train"]) == 16 and [row["labels"] for row in rows["train"][:4]] == [1, 0, 1, 0]
    assert make(0).classifier.out_features == 2
    assert len(prepared(monkeypatch)[0]["test"]) == 24


def test_the_head_has_a_rate_of_its_own_where_the_arm_says_so(monkeypatch):
    model = prepared(monkeypatch)[2](0)
    rates = {g["name"]: g["lr"] for g in study.groups(model, {"decay": 0.5, "head_lr": 3.0}, 1.0)}
    assert rates["head"] == 3.0 and rates["layer 0"] == 0.5
    assert {g["lr"] for g in study.groups(model, {"decay": 1.0}, 1.0)} == {1.0}


def test_a_run_repeats_itself_and_the_snippet_leaves_the_embeddings_where_they_were(monkeypatch):
    ready = prepared(monkeypatch)
    first, again = (study.one_run(ready, study.ARMS["0.8"], 1e-2, 3, steps=4, rows=20) for _ in range(2))
    assert (
        first == again
        and set(first["movement"]) == {"embeddings", "layer 0", "layer 1"}
        and first["movement"]["embeddings"] > 0
    )
    assert len(first["right"]) == 24 and np.mean(first["right"]) == first["accuracy"]
    snippet = study.one_run(ready, study.SNIPPET["snippet 0.95"], 1e-2, 3, steps=4, rows=20)
    assert snippet["movement"]["embeddings"] == 0 and snippet["movement"]["layer 1"] > 0


def test_draw_gives_each_row_once():
    rows = list(range(9))
    assert (
        sorted(study.draw(rows, 20, 0)) == rows
        and len(set(study.draw(rows, 4, 1))) == 4
        and study.draw(rows, 4, 1) != study.draw(rows, 4, 2)
    )


def test_words_are_drawn_without_special_tokens_and_with_the_word_before():
    tokenizer, encoder = tiny_tokenizer(), BertModel(tiny_config()).eval()
    states, ids, index = study.word_states(encoder, tokenizer, TEXTS, max_length=16, batch_size=5)
    assert states.shape == (3, len(ids), 16) and index.max() == len(TEXTS) - 1
    pairs = {
        pair for text in TEXTS for row in [tokenizer(text)["input_ids"]] for pair in zip(row[1:-1], row[:-2])
    }
    assert {tuple(pair) for pair in ids.tolist()} <= pairs
    alone = encoder(**tokenizer(TEXTS[:1], return_tensors="pt")).last_hidden_state[0].detach().numpy()
    assert min(np.abs(alone - states[-1, 0]).max(axis=1)) < 1e-5


def test_the_probe_reads_the_word_everywhere():
    rows = {"text": TEXTS * 4, "label": [0, 1, 2] * 32}
    torch.manual_seed(0)
    encoder = BertModel(tiny_config(initializer_range=0.5)).eval()
    found = study.probe_layers(encoder, tiny_tokenizer(), {"train": rows, "test": rows}, max_length=16)
    assert set(found) == {"this word", "the word before", "label of the text"} and all(
        len(v) == 3 for v in found.values()
    )
    assert found["this word"][0] > found["the word before"][0] and found["this word"][0] > 0.7


def test_fit_takes_the_groups():
    rows, collate_fn = fit.tokenize(tiny_tokenizer(), _dataset()), fit.collate(tiny_tokenizer())
    it = model("cls")
    losses = fit.fit(
        it,
        rows,
        collate_fn,
        steps=2,
        lr=1e-3,
        batch_size=4,
        param_groups=study.groups(it, study.ARMS["0.95"], 1e-3),
    )
    assert len(losses) == 2


def _dataset():
    from datasets import Dataset

    return Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 12})
