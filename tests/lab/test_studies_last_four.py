"""The study of the last four layers: pooled states by hand, ridge regression against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from transformers import BertModel

from tricks_lib.lab import fit
from tricks_lib.lab.studies import last_four as study

from .conftest import tiny_config, tiny_tokenizer

TEXTS = [
    "the room was cold",
    "a good bed",
    "very loud and very bad",
    "soup is good",
    "they and we",
    "not a warm bed",
] * 4


def rows():
    from datasets import Dataset

    return fit.tokenize(tiny_tokenizer(), Dataset.from_dict({"text": TEXTS, "label": [0, 1, 2] * 8}), 16)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [5, 64])
def test_layer_means_are_those_of_each_text_alone_in_the_order_of_the_rows(batch_size):
    torch.manual_seed(0)
    model = BertModel(tiny_config(num_hidden_layers=4, initializer_range=0.5)).eval()
    tokenizer = tiny_tokenizer()
    found = study.layer_means(model, rows(), fit.collate(tokenizer), batch_size)
    assert found.shape == (len(TEXTS), 5, 16)
    for i, text in enumerate(TEXTS[:6]):
        hidden_states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        torch.testing.assert_close(
            found[i], torch.stack([h[0].mean(0) for h in hidden_states]), rtol=1e-4, atol=1e-5
        )


def test_words_in():
    table = study.words_in([{"input_ids": [2, 7, 9, 3]}, {"input_ids": [2, 8, 3]}], [9, 8])
    assert table.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("penalty", [0.1, 50.0])
def test_explained_is_the_variance_that_scikit_learns_ridge_regression_predicts(penalty):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)) * [1, 10, 0.1, 3, 1] + 2
    y = x[:, :2] @ rng.normal(size=(2, 3)) + 5 * rng.normal(size=(400, 3))
    centre, spread = x[:300].mean(0), x[:300].std(0, ddof=1)
    ridge = Ridge(alpha=penalty).fit((x[:300] - centre) / spread, y[:300])
    missed = ((y[300:] - ridge.predict((x[300:] - centre) / spread)) ** 2).sum()
    share = 1 - missed / ((y[300:] - y[:300].mean(0)) ** 2).sum()
    sets = [torch.from_numpy(v) for v in (x[:300], y[:300], x[300:], y[300:])]
    assert 0.1 < share < 0.99 and study.explained(*sets, penalty=penalty) == pytest.approx(share, abs=1e-9)
