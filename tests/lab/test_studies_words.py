"""Words of texts as rows. Oracles: entities counted by hand, scikit-learn's macro-F1, each text alone,
cross-entropy over all words.
"""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from sklearn.metrics import f1_score
from transformers import BertModel

from tricks_lib.lab import fit
from tricks_lib.lab.studies import last_four
from tricks_lib.lab.studies import words as study

from .conftest import tiny_config, tiny_tokenizer

ENTITIES = {
    "none": ("O O O", set()),
    "one word": ("O B-per O", {("per", 1, 2)}),
    "several words": ("B-per I-per I-per O", {("per", 0, 3)}),
    "at the end": ("O B-loc I-loc", {("loc", 1, 3)}),
    "side by side": ("B-per B-per I-per", {("per", 0, 1), ("per", 1, 3)}),
    "another kind goes on": ("B-per I-loc", {("per", 0, 1), ("loc", 1, 2)}),
    "begins with I": ("O I-per I-per O", {("per", 1, 3)}),
    "after a gap": ("B-per O I-per", {("per", 0, 1), ("per", 2, 3)}),
    "a kind with a hyphen": ("B-creative-work I-creative-work", {("creative-work", 0, 2)}),
    "no words": ("", set()),
}


@pytest.mark.parametrize("tags, expected", ENTITIES.values(), ids=ENTITIES)
def test_entities_by_hand(tags, expected):
    assert study.entities(tags.split()) == expected


F1 = {  # predicted, true, F1 = 2 TP / (P + Y)
    "right": (["O B-per I-per"], ["O B-per I-per"], 1.0),
    "half of an entity": (["O B-per O"], ["O B-per I-per"], 0.0),
    "another kind": (["B-loc"], ["B-per"], 0.0),
    "one of two, one too many": (["B-per O B-loc", "O B-loc"], ["B-per B-per O", "O B-loc"], 2 * 2 / (3 + 3)),
    "the same span in another text": (["B-per O", "O O"], ["O O", "B-per O"], 0.0),
    "nothing there, nothing found": (["O"], ["O"], 0.0),
}


@pytest.mark.parametrize("predicted, true, expected", F1.values(), ids=F1)
def test_entity_f1_by_hand(predicted, true, expected):
    assert study.entity_f1([p.split() for p in predicted], [t.split() for t in true]) == pytest.approx(
        expected
    )


NAMES = ["B-loc", "B-per", "I-per", "O"]
SENTENCES = {
    "tokens": [
        ["the", "room"],
        ["they", "was", "\u200b", "loud"],
        ["cold", "xyzzy", "bed", "not", "very", "warm"],
    ],
    "label": [[3, 0], [1, 3, 1, 2], [3, 1, 2, 3, 3, 0]],
}


@pytest.fixture
def dataset():
    return Dataset.from_dict(
        SENTENCES,
        features=Features({"tokens": Sequence(Value("string")), "label": Sequence(ClassLabel(names=NAMES))}),
    )


def test_a_word_is_its_first_token_and_words_without_one_are_not_seen(dataset):
    rows = study.tokenize(tiny_tokenizer(), dataset, 16)
    assert [row["words"] for row in rows] == [[1, 2], [1, 2, 3], [1, 2, 3, 4, 5, 6]]
    assert [row["seen"] for row in rows] == [[0, 1], [0, 1, 3], [0, 1, 2, 3, 4, 5]], (
        "a zero-width space has no token"
    )
    assert [row["labels"] for row in rows] == [[3, 0], [1, 3, 2], [3, 1, 2, 3, 3, 0]] and [
        row["tags"] for row in rows
    ] == SENTENCES["label"]
    cut = study.tokenize(tiny_tokenizer(), dataset, 4)[2]
    assert cut["words"] == [1, 2] and cut["labels"] == [3, 1] and cut["tags"] == SENTENCES["label"][2]


def test_a_word_of_two_tokens_counts_once():
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    vocabulary = {
        token: i
        for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bed", "##room", "loud"])
    }
    tokenizer = BertTokenizerFast(
        tokenizer_object=BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)._tokenizer
    )
    (row,) = study.tokenize(
        tokenizer, Dataset.from_dict({"tokens": [["bedroom", "loud"]], "label": [[1, 3]]}), 8
    )
    assert row["input_ids"] == [2, 5, 6, 7, 3] and row["words"] == [1, 3] and row["labels"] == [1, 3]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return study.Tagger(BertModel(tiny_config(initializer_range=0.5)), len(NAMES)).eval()


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_a_batch_are_those_of_each_text_alone_in_order(dataset, model, side):
    tokenizer = tiny_tokenizer(side)
    rows, stack = study.tokenize(tokenizer, dataset, 16), study.collate(tokenizer)
    logits, labels = fit.predict(model, rows, stack, batch_size=2)
    assert logits.shape == (11, 4) and labels.tolist() == [y for row in rows for y in row["labels"]]
    with torch.no_grad():
        alone = [
            model.classifier(
                model.encoder(input_ids=torch.tensor([row["input_ids"]])).last_hidden_state[0, row["words"]]
            )
            for row in rows
        ]
    np.testing.assert_allclose(logits, torch.cat(alone).numpy(), rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_over_all_words_of_the_batch(dataset, model):
    rows, stack = study.tokenize(tiny_tokenizer(), dataset, 16), study.collate(tiny_tokenizer())
    out, batch = model(**stack(rows)), stack(rows)
    torch.testing.assert_close(out.loss, torch.nn.functional.cross_entropy(out.logits, batch["labels"]))


def test_it_learns_the_tags_of_words(dataset):
    torch.manual_seed(0)
    model = study.Tagger(BertModel(tiny_config()), len(NAMES))
    rows, stack = study.tokenize(tiny_tokenizer(), dataset, 16), study.collate(tiny_tokenizer())
    fit.fit(model, rows, stack, steps=60, lr=1e-2, batch_size=3, device="cpu")
    logits, _ = fit.predict(model, rows, stack)
    found = study.score(logits.argmax(1), rows, NAMES)
    true = [[NAMES[y] for y in tags] for tags in SENTENCES["label"]]
    expected = [list(tags) for tags in true]
    expected[1][2] = "O"  # the word that no token stands for
    assert (
        found["entity_f1"] == pytest.approx(study.entity_f1(expected, true), abs=1e-6)
        and 0.5 < found["entity_f1"] < 1
    )


def test_score_is_entity_f1_and_scikit_learns_macro_f1_over_all_words(dataset):
    rows = study.tokenize(tiny_tokenizer(), dataset, 4)  # six of the twelve words are seen
    predicted = np.array([3, 0, 1, 3, 3, 0])
    flat = [3, 0, 1, 3, 3, 3, 3, 0, 3, 3, 3, 3]
    found = study.score(predicted, rows, NAMES)
    assert found["macro_f1"] == pytest.approx(
        f1_score(np.concatenate(SENTENCES["label"]), flat, average="macro", zero_division=0), abs=1e-6
    )
    assert found["entity_f1"] == pytest.approx(2 * 2 / (3 + 5), abs=1e-6)


def test_features_are_the_last_layers_states_of_each_word(dataset, monkeypatch):
    from types import SimpleNamespace

    torch.manual_seed(0)
    encoder, tokenizer = BertModel(tiny_config(num_hidden_layers=5)).eval(), tiny_tokenizer()
    rows = study.tokenize(tokenizer, dataset, 16)
    monkeypatch.setattr(
        study,
        "prepared",
        lambda *_: SimpleNamespace(encoder=encoder, rows={"test": rows}, stack=study.collate(tokenizer)),
    )
    states, labels, of = study.features.__wrapped__("tiny", "own", "test", batch_size=2)
    assert (
        states.shape == (11, 4, 16)
        and labels.tolist() == [y for row in rows for y in row["labels"]]
        and of.tolist() == [0] * 2 + [1] * 3 + [2] * 6
    )
    with torch.no_grad():
        hidden_states = encoder(
            input_ids=torch.tensor([rows[1]["input_ids"]]), output_hidden_states=True
        ).hidden_states
    torch.testing.assert_close(
        states[of == 1],
        torch.stack([h[0, rows[1]["words"]] for h in hidden_states[-4:]], dim=1),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("arm", study.EXPERIMENTS[0].arms)
def test_every_frozen_arm_reads_the_last_four_layers(arm):
    settings = study.EXPERIMENTS[0].arms[arm]
    states = torch.randn(40, 4, 6, generator=torch.Generator().manual_seed(0))
    vectors = last_four.read(states, settings)
    assert vectors.shape == (40, {"widened": 24, "concat": 24}.get(arm, 6))
    if arm == "last layer":
        assert torch.equal(vectors, states[:, 3])
    head = last_four.fit_head(states, states[:, 3, 0].gt(0).long(), 2, settings, C=1.0)
    assert (
        study.predict(head, states, batch_size=7).tolist()
        == head(head.vector(states.double())).argmax(1).tolist()
    )
