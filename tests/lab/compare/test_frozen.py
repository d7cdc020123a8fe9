"""Frozen read-outs. Oracles: scikit-learn's logistic regression, the package's poolings on whole batches, and
``verify`` on a record in miniature.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tricks_lib import mean_pooling
from tricks_lib.lab import __main__ as cli
from tricks_lib.lab.compare import records, run, tokens, verify
from tricks_lib.lab.compare.kinds import frozen, probe
from tricks_lib.lab.studies import readouts
from tricks_lib.last_four import WeightedLayerPool, concat_last_layers

TOPICS = tokens.Source("guest_notes/topic")


@pytest.fixture(scope="module")
def task():
    return tokens.prepare(TOPICS, "mini_bert", 24)


@pytest.fixture(scope="module")
def hidden(task):
    """Hidden states and mask of nine notes of different lengths, in one padded batch."""
    batch = task.collate(task.rows["test"][:9])
    del batch["labels"]
    with torch.inference_mode():
        return task.encoder(**batch, output_hidden_states=True).hidden_states, batch["attention_mask"]


def states(task, rows=9, pools=("mean",), layers=(0, 1, 2, 3, 4)):
    return frozen.states(task.encoder, task, task.rows["test"][:rows], layers, pools, True)


# ---- The probe ----


def random_features(K=1, N=80, D=6, C=3):
    torch.manual_seed(0)
    x, labels = 3 * torch.randn(N, K, D) + 1, torch.randint(C, (N,))
    return probe.Features(x + labels.view(-1, 1, 1) * torch.randn(D)), labels


@pytest.mark.parametrize("read, K", [("one", 1), ("concat", 3)])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_the_probe_is_scikit_learns_logistic_regression(read, K, rate):
    features, labels = random_features(K)
    x = StandardScaler().fit_transform(features.x.flatten(1).double().numpy()) * (79 / 80) ** 0.5
    oracle = LogisticRegression(C=rate**2, tol=1e-10, max_iter=10_000).fit(x, labels)
    fitted = probe.train(features, labels, 3, rate, 500, read=read)
    with torch.no_grad():
        p = fitted(fitted.standardised(features)).softmax(-1).numpy()
    assert p == pytest.approx(oracle.predict_proba(x), abs=2e-3)


def test_attention_reads_no_window_that_there_is_not_and_learns_which_one_counts():
    torch.manual_seed(0)
    x, labels = torch.randn(200, 5, 4), torch.randint(2, (200,))
    real = torch.arange(5) < torch.randint(2, 6, (200, 1))
    x[torch.arange(200), torch.randint(2, (200,)), :2] = torch.stack(
        [torch.full((200,), 4.0), 8.0 * labels - 4], 1
    )
    features = probe.Features(x, real)
    fitted = probe.train(features, labels, 2, 1.0, 100, read="attention")
    other = probe.Features(x.masked_fill(~real.unsqueeze(-1), 99.0), real)
    with torch.no_grad():
        logits = fitted(fitted.standardised(features))
        assert torch.equal(logits, fitted(fitted.standardised(other)))
    assert (logits.argmax(-1) == labels).float().mean() > 0.95


def test_weights_of_layers_find_the_layer_that_knows():
    features, labels = random_features()
    noise = torch.randn(80, 2, 6)
    several = probe.Features(torch.cat([noise[:, :1], features.x, noise[:, 1:]], dim=1))
    fitted = probe.train(several, labels, 3, 1.0, 200, read="weighted")
    assert fitted.layers.weights.softmax(0).argmax() == 1 and fitted.layers.scale == 1


def test_random_features_are_as_many_as_those_of_three_more_layers_and_the_seed_draws_them():
    features, labels = random_features()
    made = [probe.train(features, labels, 3, 1.0, 5, seed=s, read="wide") for s in (0, 0, 1)]
    assert (
        made[0].head.in_features
        == probe.train(random_features(4)[0], labels, 3, 1.0, 1, read="concat").head.in_features
    )
    assert torch.equal(made[0].random, made[1].random) and not torch.equal(made[0].random, made[2].random)


def test_another_way_to_read_is_refused():
    with pytest.raises(ValueError, match="read: 'two' given, one of 'one', .* is accepted"):
        probe.Probe(random_features()[0], 3, "two")


# ---- States ----


@pytest.mark.parametrize("pool", frozen.POOLS)
def test_states_are_those_of_one_padded_batch_in_the_order_of_the_rows(task, hidden, pool):
    found = states(task, pools=(pool,))
    names = {"first": "cls_pool", "last": "last_token_pool", "weighted": "weighted_mean_pool"}
    oracle = getattr(mean_pooling, names.get(pool, f"{pool}_pool"))
    for layer in (0, 3, 4):
        assert found[layer, pool] == pytest.approx(oracle(hidden[0][layer], hidden[1]), abs=1e-5)


def test_weighted_and_concatenated_layers_are_those_of_the_package(task, hidden):
    found = states(task)
    weighted = frozen.read(found, {"layer": 4, "pool": "mean", "read": "weighted"})
    module = WeightedLayerPool(4)
    module.weights.data = torch.tensor([0.3, -0.2, 0.5, 0.1])
    ours = module([layer.unsqueeze(1) for layer in weighted.x.unbind(1)])[:, 0]
    theirs = WeightedLayerPool(4, layer_norm=True)
    theirs.load_state_dict(module.state_dict())
    expected = mean_pooling.mean_pool(theirs(hidden[0]), hidden[1])
    assert ours.detach() == pytest.approx(expected.detach(), abs=1e-5)
    side_by_side = frozen.read(found, {"layer": 4, "pool": "mean", "read": "concat"}).x.flatten(1)
    expected = mean_pooling.mean_pool(concat_last_layers(hidden[0]), hidden[1])
    assert side_by_side == pytest.approx(expected, abs=1e-5)


def test_a_words_state_is_its_first_tokens_or_for_a_causal_model_its_last_ones():
    """Words of 1, 2 and 1 tokens between two special ones; words of 3 and 1 without special ones."""
    hidden = torch.arange(12).view(2, 6, 1).float()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    labels = torch.tensor([[-100, 3, 4, -100, 5, -100], [7, -100, -100, 8, -100, -100]])
    assert frozen.of_words(hidden, mask, labels, causal=False)[:, 0].tolist() == [1, 2, 4, 6, 9]
    labels = torch.tensor([[3, 4, -100, 5, -100, -100], [7, -100, -100, 8, -100, -100]])
    assert frozen.of_words(hidden, mask, labels, causal=True)[:, 0].tolist() == [0, 2, 5, 8, 9]


def test_chosen_rows_of_tags_are_all_their_words():
    labels = np.array([[1, -100, 2], [-100, 3, -100], [4, 5, 6]])
    features = probe.Features(torch.arange(6).view(6, 1, 1))
    some, known = frozen.rows_of(features, labels, np.array([2, 0]))
    assert some.x.flatten().tolist() == [3, 4, 5, 0, 1] and known.tolist() == [4, 5, 6, 1, 2]


# ---- Comparisons ----


def small(name, model, arms, training, **changes):
    given = readouts.PROBED | {"rows": {"rows": 80}, "pool": 90, "max_length": 16} | training
    return frozen.ProbeComparison(
        name,
        TOPICS,
        model,
        arms,
        "accuracy",
        given,
        readouts.RATES,
        8,
        (101, 102, 103),
        command="run",
        **changes,
    )


def ran(comparison, folder):
    file = records.path(comparison.name, folder)
    run.run(comparison, file, progress=False)
    record, predictions = records.load_file(file)
    verify.verify(record, predictions, file.name)
    return record


def test_layers_of_an_encoder_in_miniature(tmp_path):
    arms = {k: v for k, v in readouts.of_layers((2,)).items() if k != "layer 2"}
    record = ran(small("layers/mini", "mini_bert", arms, readouts.READ | {"layers": (1, 2, 3, 4)}), tmp_path)
    assert record["families"]["rivals"] == [
        ["last four side by side", "as wide"], ["last four, weighted", "one layer, tuned"],
    ]  # fmt: skip
    assert record["arms"]["one layer, tuned"]["candidates"] == [{}, {"layer": 2}]
    assert record["training"]["rate"] == "expected weight" and record["data"]["rows"] == {"rows": 80}
    scores = {tuple(run["score"] for run in arm["runs"]) for arm in record["arms"].values()}
    assert len(scores) >= 4, "arms that read something else score otherwise"


def test_poolings_of_a_decoder_in_miniature(tmp_path):
    training = readouts.DECODER | {"layers": (2, 4)}
    record = ran(small("pooling/mini", "mini_gpt2", readouts.of_decoder((2, 4)), training), tmp_path)
    assert record["baseline"] == "last token, layer 4" and len(record["arms"]) == 7
    assert ["mean, layer 2", "last token, layer 2"] in record["families"]["rivals"]


def test_the_rows_of_the_table_are_listed_and_their_arms_read_what_is_computed(monkeypatch):
    made = {name: cli.comparisons()[name]() for name in readouts.ROWS}
    assert {"pooling/en_trec", "layers/en_wnut17", "pooling_smollm2/en_banking77"} <= {*made}
    for name, each in made.items():
        layers, pools = each.training["layers"], each.training["pools"]
        assert f"run {name}" in each.command and len(each.rates) >= 4
        for own in ({**arm.settings, **more} for arm in each.arms.values() for more in arm.candidates):
            assert own.get("layer", layers[-1]) in layers and own.get("pool", pools[0]) in pools
            several = own.get("read") in ("concat", "weighted")
            assert not several or (
                each.training["normed"] and {*frozen.last_layers(max(layers))} <= {*layers}
            )


def test_a_setting_that_a_probe_has_not_is_refused():
    with pytest.raises(ValueError, match="settings: 'dropout' given; pool, layer, read, .* are accepted"):
        frozen.ProbeArm({"dropout": 0.1})
