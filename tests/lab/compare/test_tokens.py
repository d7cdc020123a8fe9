"""Rows of a seed, batches by length, and a table of word embeddings cut to what occurs."""

import copy

import numpy as np
import pytest
import torch
import transformers

from tricks_lib.lab import models
from tricks_lib.lab.compare import tokens
from tricks_lib.mean_pooling import MeanPoolingClassifier

from ..conftest import tiny_config, tiny_tokenizer

SIZES = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 40,
}  # fmt: skip
ENCODERS = {
    "bert": lambda: transformers.BertModel(tiny_config(**SIZES)),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    ),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(embedding_size=16, **SIZES)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(pad_token_id=1, **SIZES)),
    "xlm-roberta": lambda: transformers.XLMRobertaModel(
        transformers.XLMRobertaConfig(pad_token_id=1, **SIZES)
    ),
}


class Tokens:
    """What the cut asks of a tokenizer."""

    def __init__(self, pad_token_id):
        self.pad_token_id, self.all_special_ids = pad_token_id, [0, 1, 2, 3]


def trained(encoder, ids, mask, labels) -> torch.Tensor:
    """Logits after ten steps with weight decay, clipping and dropout."""
    torch.manual_seed(0)
    model = MeanPoolingClassifier(encoder, 3).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(10):
        torch.manual_seed(step)
        model(ids, mask, labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()(ids, mask).logits


@pytest.mark.parametrize("kind", tokens.CUTTABLE)
def test_a_cut_table_trains_as_the_whole_one(kind):
    torch.manual_seed(0)
    encoder = ENCODERS[kind]()
    pad = encoder.config.pad_token_id
    rng = np.random.default_rng(0)
    texts = [rng.choice(np.arange(4, 60, 3), rng.integers(3, 9)).tolist() for _ in range(12)]
    rows = {"train": [{"input_ids": list(ids)} for ids in texts]}
    smaller = tokens.cut_table(encoder, rows, Tokens(pad))
    table = smaller.get_input_embeddings()
    assert table.num_embeddings == smaller.config.vocab_size < 30 and table.padding_idx == pad
    assert encoder.get_input_embeddings().num_embeddings == 60  # the encoder that was given is as it was

    def batch(some):
        T = max(map(len, some))
        ids = torch.tensor([row + [pad] * (T - len(row)) for row in some])
        return ids, torch.tensor([[1] * len(row) + [0] * (T - len(row)) for row in some])

    labels = torch.arange(12) % 3
    whole = trained(copy.deepcopy(encoder), *batch(texts), labels)
    cut = trained(smaller, *batch([row["input_ids"] for row in rows["train"]]), labels)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-5)


def test_batches_are_of_like_length_and_every_epoch_reads_every_row_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 60, 64).tolist()
    found = tokens.batches(lengths, 4, 40, seed=1)
    assert len(found) == 40 and all(len(batch) == 4 for batch in found)
    for epoch in (found[:16], found[16:32]):
        assert sorted(i for batch in epoch for i in batch) == [*range(64)]
    assert found[:16] != found[16:32] and found != tokens.batches(lengths, 4, 40, seed=2)
    assert found == tokens.batches(lengths, 4, 40, seed=1)
    padding = sum(max(lengths[i] for i in b) * 4 - sum(lengths[i] for i in b) for b in found)
    shuffled = [rng.permutation(64)[:4] for _ in found]
    assert padding < 0.5 * sum(max(lengths[i] for i in b) * 4 - sum(lengths[i] for i in b) for b in shuffled)


def test_fewer_rows_than_a_batch_are_one_batch():
    assert sorted(tokens.batches([5, 3, 4], 16, 2, seed=0)[1]) == [0, 1, 2]


def test_the_rows_of_a_seed():
    labels = np.repeat(np.arange(3), 40)
    assert len(tokens.draw(labels, {}, 0)) == 120
    assert len({*tokens.draw(labels, {"rows": 30}, 0)}) == 30
    each = tokens.draw(labels, {"per_class": 10}, 0)
    assert np.bincount(labels[each]).tolist() == [10, 10, 10] and len({*each}) == 30
    assert {*each} != {*tokens.draw(labels, {"per_class": 10}, 1)}
    for seed in range(3):
        tail = tokens.draw(labels, {"tail": [40, 10]}, seed)
        assert sorted(np.bincount(labels[tail])) == [10, 20, 40]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_pads_every_column_on_the_tokenizers_side(side):
    rows = [{"input_ids": [7, 8], "labels": [1, -100]}, {"input_ids": [9], "labels": [2]}]
    task = tokens.Prepared("", "tags", 3, {}, {}, 0.0, 1.0, None, 0, 5, side == "left")
    batch = task.collate(rows)
    last = {"left": [[5, 9], [0, 1], [-100, 2]], "right": [[9, 5], [1, 0], [2, -100]]}[side]
    assert [batch[k][1].tolist() for k in ("input_ids", "attention_mask", "labels")] == last


def test_a_word_has_the_tag_of_its_first_token():
    rows = [{"text": ["room", "xcold", "bed"], "label": [0, 1, 2]}]
    tokenizer = tiny_tokenizer()
    (row,) = tokens.tokenize(tokenizer, rows, "tags", 16)
    assert [x for x in row["labels"] if x != -100] == [0, 1, 2] and len(row["labels"]) == len(
        row["input_ids"]
    )
    assert row["labels"][0] == row["labels"][-1] == -100  # [CLS] and [SEP]


BYTES = pytest.mark.skipif(transformers.__version__ < "5", reason="GPT2TokenizerFast itself refuses words")


@pytest.mark.parametrize(
    "name, spaces",
    [pytest.param("mini_gpt2", True, marks=BYTES), ("mini_bert", False), ("mini_xlnet", False)],
)
def test_words_are_the_tokens_that_they_are_in_running_text(name, spaces):
    tokenizer = transformers.AutoTokenizer.from_pretrained(models.ASSETS / name)
    words = ["The", "room", "was", "astonishingly", "clean"]
    running = tokenizer(" " + " ".join(words), add_special_tokens=False)["input_ids"]
    row = tokens.tokenize(tokenizer, [{"text": words, "label": [0, 1, 2, 3, 4]}], "tags", 64)[0]
    special = {*tokenizer.all_special_ids}
    assert [i for i in row["input_ids"] if i not in special] == [i for i in running if i not in special]
    assert [label for label in row["labels"] if label >= 0] == [0, 1, 2, 3, 4]
    assert tokens.spaced(tokenizer) == spaces
