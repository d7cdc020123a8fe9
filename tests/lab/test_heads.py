"""The head on frozen vectors. Oracles: each text alone through its encoder, ``torch``'s cross-entropy."""

import datasets
import pytest
import torch
import torch.nn.functional as F
from transformers import BertModel

from tests.lab.conftest import tiny_config, tiny_tokenizer
from tricks_lib.lab import fit, heads

TEXTS = {"text": ["the room was good", "bad", "the soup was cold and the bed was not"], "label": [0, 1, 0]}
STACK = torch.utils.data.default_collate


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return BertModel(tiny_config()).eval()


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_vectors_are_the_means_of_each_text_alone_in_the_order_given(encoder, batch_size):
    tokenizer, data = tiny_tokenizer(), datasets.Dataset.from_dict(TEXTS)
    found = heads.vectors(encoder, fit.tokenize(tokenizer, data), fit.collate(tokenizer), batch_size)
    for text, vector in zip(TEXTS["text"], found):
        with torch.no_grad():
            alone = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(vector, alone, rtol=1e-4, atol=1e-5)


def test_embedded_are_the_vectors_of_each_split_with_its_labels(encoder):
    data = datasets.DatasetDict(train=datasets.Dataset.from_dict(TEXTS))
    (split,) = heads.embedded(encoder, tiny_tokenizer(), data, 6).values()
    assert [row["labels"] for row in split] == TEXTS["label"]
    cut = data["train"].map(lambda row: {"text": " ".join(row["text"].split()[:4])})  # and [CLS], [SEP]
    (same,) = heads.embedded(encoder, tiny_tokenizer(), {"train": cut}, 99).values()
    for row, other in zip(split, same):
        torch.testing.assert_close(row["vectors"], other["vectors"])


def test_head_gives_logits_and_of_classes_the_loss():
    head, x, y = heads.Head(6, 3).eval(), torch.randn(5, 6), torch.tensor([0, 2, 1, 1, 0])
    out = head(x, y)
    torch.testing.assert_close(out.loss, F.cross_entropy(out.logits, y))
    assert out.logits.shape == (5, 3) and head(x).loss is None and head(x, y.float()).loss is None


def test_start_is_the_seeds():
    first, again, other = (heads.Head(6, 2, seed).layers[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("normed", "count"), [(True, 1), (False, 2)])
def test_dropout_is_where_it_is_said(normed, count):
    dropouts = [m.p for m in heads.Head(4, 2, dropout=0.3, normed=normed).modules() if hasattr(m, "p")]
    assert dropouts == [0.3] * count


def test_head_learns():
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    rows, head = heads.with_labels(x, (x[:, 0] > 0).long()), heads.Head(6, 2)
    fit.fit(head, rows, STACK, steps=60, lr=1e-2, batch_size=16, device="cpu")
    logits, labels = fit.predict(head, rows, STACK)
    assert (logits.argmax(axis=1) == labels).all()
