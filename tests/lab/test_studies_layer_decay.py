"""What chapter 4 runs live: the circulating groups, movement by hand, and probes of a network whose answers
are known.
"""

import numpy as np
import pytest
import torch
from transformers import BertModel

from tricks_lib.lab.studies import layer_decay as study
from tricks_lib.layer_decay import layer_decay_groups
from tricks_lib.mean_pooling import MeanPoolingClassifier

from .conftest import tiny_config, tiny_tokenizer

TEXTS = [
    "the room was cold",
    "a good bed",
    "very loud and very bad",
    "soup is good",
    "they and we",
    "not a warm bed",
] * 4


def model():
    torch.manual_seed(0)
    return MeanPoolingClassifier(BertModel(tiny_config()), 2)


def prepared(monkeypatch, **options):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
    rows = Dataset.from_dict({"text": TEXTS, "label": [0, 1, 2] * 8}, features=features)
    monkeypatch.setattr(
        study.tasks, "load_task", lambda name: DatasetDict(train=rows, validation=rows, test=rows)
    )
    monkeypatch.setattr(study.models, "load_encoder", lambda: (BertModel(tiny_config()), tiny_tokenizer()))
    return study.prepare("toy", 16, **options)


def test_the_circulating_groups_leave_embeddings_and_pooler_out_and_shift_the_rates():
    it = model()
    found = study.snippet_groups(it, lr=1.0, multiplier=0.5, head_lr=9.0)
    by_id = {id(p): g["lr"] for g in found for p in g["params"]}
    left = [name for name, p in it.named_parameters() if id(p) not in by_id]
    assert len(left) == 7 and all("embeddings" in name or "pooler" in name for name in left)
    rates = {name: by_id[id(p)] for name, p in it.named_parameters() if id(p) in by_id}
    assert {r for n, r in rates.items() if "layer.1." in n} == {0.5} and {
        r for n, r in rates.items() if "layer.0." in n
    } == {0.25}
    assert {r for n, r in rates.items() if "classifier" in n} == {9.0}


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
    rows, _, make = prepared(monkeypatch, labels=("c", "a"))
    assert len(rows["train"]) == 16 and [row["labels"] for row in rows["train"][:4]] == [1, 0, 1, 0]
    assert make(0).classifier.out_features == 2
    assert len(prepared(monkeypatch)[0]["test"]) == 24


def test_a_run_repeats_itself_and_the_snippet_leaves_the_embeddings_where_they_were(monkeypatch):
    ready = prepared(monkeypatch)
    runs = [study.one_run(ready, lambda it: layer_decay_groups(it, 1e-2, 0.8), 3, 4, 8) for _ in range(2)]
    first, again = (run["movement"] for run in runs)
    assert first == again and list(first) == ["embeddings", "layer 0", "layer 1"] and min(first.values()) > 0
    assert runs[0]["right"].shape == (24,) and (runs[0]["right"] == runs[1]["right"]).all()
    snippet = study.one_run(ready, lambda it: study.snippet_groups(it, 1e-2, 0.95, 1e-2), 3, 4, 8)["movement"]
    assert snippet["embeddings"] == 0 and snippet["layer 1"] > 0


def test_each_group_trains_at_its_own_rate(monkeypatch):
    ready = prepared(monkeypatch)
    moved = study.one_run(ready, lambda it: layer_decay_groups(it, 1e-2, 1e-6), 0, 4, 8)["movement"]
    assert moved["layer 1"] > 1000 * moved["layer 0"] > 1000 * moved["embeddings"]


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
