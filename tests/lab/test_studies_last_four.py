"""The study of the last four layers: pooled states by hand, heads against scikit-learn, and a probe whose
answer is known.
"""

import numpy as np
import pytest
import torch
from transformers import BertModel

from tricks_lib.lab import fit
from tricks_lib.lab.studies import last_four as study
from tricks_lib.last_four import LastFourClassifier

from .conftest import tiny_config, tiny_tokenizer

TEXTS = [
    "the room was cold",
    "a good bed",
    "very loud and very bad",
    "soup is good",
    "they and we",
    "not a warm bed",
] * 4
CONCAT, SUM, WEIGHTED = ({"read": name, "layers": 4} for name in ("concat", "sum", "weighted"))


def encoder(layers=4):
    torch.manual_seed(0)
    return BertModel(tiny_config(num_hidden_layers=layers, initializer_range=0.5)).eval()


def dataset():
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
    return Dataset.from_dict({"text": TEXTS, "label": [0, 1, 2] * 8}, features=features)


def rows():
    return fit.tokenize(tiny_tokenizer(), dataset(), 16)


def states(N=60, L=4, H=5, seed=0):
    return torch.randn(N, L + 1, H, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [5, 64])
def test_layer_means_are_those_of_each_text_alone_in_the_order_of_the_rows(batch_size):
    model, tokenizer = encoder(), tiny_tokenizer()
    found = study.layer_means(model, rows(), fit.collate(tokenizer), batch_size)
    assert found.shape == (len(TEXTS), 5, 16)
    for i, text in enumerate(TEXTS[:6]):
        hidden_states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        torch.testing.assert_close(
            found[i], torch.stack([h[0].mean(0) for h in hidden_states]), rtol=1e-4, atol=1e-5
        )


def test_every_arm_reads_what_it_says():
    x = states()
    assert torch.equal(study.read(x, {"read": "layer", "layer": 0}), x[:, 0])
    assert torch.equal(study.read(x, CONCAT), x[:, 1:].flatten(1))
    torch.testing.assert_close(study.read(x, SUM), x[:, 1:].mean(1))
    assert torch.equal(study.read(x, {"read": "concat", "layers": 5}), x.flatten(1))
    wide = study.read(x, {"read": "widened", "times": 4}, seed=3)
    assert wide.shape == (60, 20) and torch.equal(wide[:, :5], x[:, -1])
    other = x.clone()
    other[:, :-1] = 0
    assert torch.equal(
        study.read(other, {"read": "widened", "times": 4}, seed=3), wide
    )  # nothing of the lower layers
    torch.testing.assert_close(study.read(x[7:9], {"read": "widened", "times": 4}, seed=3), wide[7:9])


@pytest.mark.parametrize("arm", [CONCAT, SUM, {"read": "layer", "layer": 4}], ids=lambda arm: arm["read"])
def test_head_equals_scikit_learn(arm):
    from sklearn.linear_model import LogisticRegression

    x = states(N=90)
    y = torch.from_numpy(np.random.default_rng(0).integers(0, 3, 90))
    head = study.fit_head(x, y, 3, arm, C=0.1)
    vectors = study.read(x, arm)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0)
    reference = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-8).fit(vectors.numpy(), y.numpy())
    ours = head(head.vector(x)).softmax(-1).detach().numpy()
    np.testing.assert_allclose(ours, reference.predict_proba(vectors.numpy()), atol=1e-4)


def test_weights_find_the_layer_that_holds_the_answer():
    x = states(N=300)
    y = x[:, 2, :3].argmax(1)
    head = study.fit_head(x, y, 3, WEIGHTED, C=1.0)
    assert head.shares()[1] > 0.9 and sum(head.shares()) == pytest.approx(1)
    assert study.accuracy(head, x, y) > 0.95 > study.accuracy(study.fit_head(x, y, 3, SUM), x, y)
    assert study.accuracy(head, x, y) > 0.3 + study.accuracy(
        study.fit_head(x, y, 3, {"read": "layer", "layer": 4}), x, y
    )


def test_weighted_starts_as_the_mean_of_its_layers_each_standardised():
    """Oracle: NumPy. One centre and spread for all layers would let the loudest layer win."""
    x, y = states(), torch.arange(60) % 3
    x = x * torch.tensor([1.0, 100.0, 1.0, 0.01, 1.0])[:, None] + torch.arange(5.0)[:, None]
    layers = x.numpy()[:, 1:]
    expected = ((layers - layers.mean(0)) / layers.std(0, ddof=1)).mean(1)
    head = study.Head(x, 3, WEIGHTED)
    np.testing.assert_allclose(head.layers(head.vector(x))[:, 0].detach().numpy(), expected, atol=1e-12)
    assert study.fit_head(x, y, 3, WEIGHTED, iterations=1).layers.scale.item() == 1


def test_weights_do_not_depend_on_the_scale_of_a_layer():
    x = states(N=200)
    y = x[:, 2, :3].argmax(1)
    loud = x * torch.tensor([1.0, 1.0, 0.01, 1.0, 100.0])[:, None]
    heads = [study.fit_head(each, y, 3, WEIGHTED, C=1.0) for each in (x, loud)]
    assert heads[0].shares() == pytest.approx(heads[1].shares(), abs=1e-3)


def test_compare_gives_a_number_a_seed_and_repeats_itself():
    x, y = {s: states(seed=i) for i, s in enumerate(("train", "validation", "test"))}, {}
    for split in x:
        y[split] = x[split][:, 3, :3].argmax(1)
    of_arms = {"last": {"read": "layer", "layer": 4}, "concat": CONCAT}
    first, again = (
        study.compare(x, y, of_arms, rows=50, seeds=range(3), penalties=[0.01, 0.1]) for _ in range(2)
    )
    assert (
        first == again
        and {len(v) for v in first.values()} == {3}
        and min(first["concat"]) > max(first["last"])
    )


def test_compare_is_the_mean_of_the_answers():
    x = {s: states(seed=i) for i, s in enumerate(("train", "validation", "test"))}
    y = {split: x[split][:, 3, :3].argmax(1) for split in x}
    of_arms, options = {"last": {"read": "layer", "layer": 4}}, {"rows": 50, "seeds": (0, 1)}
    found = study.answers(x, y, of_arms, **options, penalties=[0.1])["last"]
    assert found.shape == (2, 60) and found.dtype == bool
    assert study.compare(x, y, of_arms, **options, penalties=[0.1])["last"] == found.mean(1).tolist()


def test_layer_scores_are_one_a_layer_and_the_concatenation_last():
    x, y = states(N=200), states(N=200)[:, 2, :3].argmax(1)
    found = study.layer_scores(x[:150], y[:150], x[150:], y[150:], C=0.1)
    assert len(found) == 6 and max(range(5), key=lambda i: found[i]) == 2 and found[5] > found[4] + 0.2


def test_words_in_and_explained():
    table = study.words_in([{"input_ids": [2, 7, 9, 3]}, {"input_ids": [2, 8, 3]}], [9, 8])
    assert table.tolist() == [[1, 0], [0, 1]]
    x = states(N=400)
    assert (
        study.explained(
            x[:300, 1],
            x[:300, 1, :2] @ torch.ones(2, 2).double(),
            x[300:, 1],
            x[300:, 1, :2] @ torch.ones(2, 2).double(),
        )
        > 0.99
    )
    assert study.explained(x[:300, 1], x[:300, 2], x[300:, 1], x[300:, 2]) < 0.05


def test_the_same_rows_are_drawn_frozen_and_fine_tuned():
    assert fit.draw(list(range(9)), 4, 2) == study.draw(9, 4, 2).tolist()


def test_finetune_reads_the_layers_it_is_told_and_repeats_itself():
    ready = {s: rows() for s in ("train", "test")}, fit.collate(tiny_tokenizer()), encoder()
    before = {k: v.clone() for k, v in ready[2].state_dict().items()}
    first, again = (study.finetune(ready, 4, 1e-2, seed=1, rows=20, steps=3) for _ in range(2))
    assert isinstance(first, LastFourClassifier) and first.classifier.in_features == 4 * 16
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert study.finetune(ready, 1, 1e-2, seed=1, rows=20, steps=1).classifier.in_features == 16
    assert all(torch.equal(v, before[k]) for k, v in ready[2].state_dict().items())


def test_experiments_have_one_arm_for_each_layer_and_the_fine_tuned_arms_differ_in_what_is_read_only():
    by_task = {e.task: e for e in study.EXPERIMENTS}
    for task, depth in (("en_trec", 4), ("en_trec_minilm", 6)):
        alone = [arm["layer"] for arm in by_task[task].arms.values() if arm["read"] == "layer"]
        assert alone == list(range(depth + 1))
    assert [arm["layers"] for arm in by_task["en_trec_finetuned"].arms.values()] == [1, 4]
    assert set(by_task["en_trec_finetuned"].seeds) <= set(by_task["en_trec"].seeds)
