"""Oracles: a float64 NumPy concatenation, ELMo's scalar mix and sentence-transformers' WeightedLayerPooling
written out.
"""

import doctest

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

import tricks_lib.last_four
from tricks_lib.last_four import LastFourClassifier, WeightedLayerPool, concat_last_layers

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}  # half precision: one rounding of the result
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def layers_of(n=6, B=2, T=3, H=5, dtype=torch.float32, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(torch.from_numpy(rng.normal(size=(B, T, H))).to(dtype) for _ in range(n + 1))


def bert(num_hidden_layers=5, hidden_size=8, **config):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = dict(
        num_hidden_layers=num_hidden_layers,
        hidden_size=hidden_size,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return BertModel(
        BertConfig(vocab_size=20, max_position_embeddings=16, initializer_range=0.5, **sizes, **config)
    ).eval()


def test_examples_of_the_docstrings_hold():
    assert doctest.testmod(tricks_lib.last_four).failed == 0


@DTYPES
@pytest.mark.parametrize("num_layers", [1, 2, 4, 7])
@pytest.mark.parametrize("container", [tuple, list])
def test_concat_equals_numpy_with_the_lower_layer_first(dtype, num_layers, container):
    layers = layers_of(dtype=dtype)
    result = concat_last_layers(container(layers), num_layers)
    assert result.dtype == dtype
    expected = np.concatenate([h.double().numpy() for h in layers[len(layers) - num_layers :]], axis=2)
    np.testing.assert_array_equal(result.double().numpy(), expected)


def test_block_order_is_part_of_the_head():
    """The circulating listing hs[-1], hs[-2], hs[-3], hs[-4] holds the same numbers in another order: heads
    do not fit.
    """
    layers = layers_of()
    reversed_listing = torch.cat([layers[-1], layers[-2], layers[-3], layers[-4]], dim=-1)
    ours = concat_last_layers(layers)
    assert not torch.equal(ours, reversed_listing)
    assert torch.equal(torch.cat(ours.split(5, dim=-1)[::-1], dim=-1), reversed_listing)


def test_last_block_is_last_hidden_state():
    encoder = bert()
    out = encoder(torch.tensor([[1, 2, 3]]), output_hidden_states=True)
    assert len(out.hidden_states) == 6
    assert torch.equal(concat_last_layers(out.hidden_states)[..., -8:], out.last_hidden_state)


@DTYPES
def test_weighted_pool_starts_as_the_plain_mean(dtype):
    layers = layers_of(dtype=dtype)
    pooled = WeightedLayerPool(3)(layers)
    assert pooled.dtype == dtype
    expected = np.mean([h.double().numpy() for h in layers[-3:]], axis=0)
    np.testing.assert_allclose(
        pooled.detach().double().numpy(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@DTYPES
def test_weighted_pool_equals_elmo_scalar_mix_in_float64(dtype):
    """Peters et al. 2018, equation 1: gamma * sum_j softmax(w)_j h_j."""
    layers = layers_of(dtype=dtype)
    pool = WeightedLayerPool(4).double()
    with torch.no_grad():
        pool.weights.copy_(torch.tensor([0.3, -1.0, 2.0, 0.1]))
        pool.scale.fill_(1.7)
    w = np.exp(pool.weights.detach().numpy())
    expected = 1.7 * sum(s * h.double().numpy() for s, h in zip(w / w.sum(), layers[-4:]))
    np.testing.assert_allclose(
        pool(layers).detach().double().numpy(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


def test_weighted_pool_equals_sentence_transformers_formula():
    """sentence-transformers, modules/weighted_layer_pooling.py: sum(w_i h_i) / sum(w), here with w = softmax
    of ours.
    """
    layers = layers_of()
    pool = WeightedLayerPool(4)
    nn.init.normal_(pool.weights, generator=torch.Generator().manual_seed(1))
    w = pool.weights.softmax(0)
    expected = (w.view(-1, 1, 1, 1) * torch.stack(layers[-4:])).sum(0) / w.sum()
    torch.testing.assert_close(pool(layers), expected, rtol=1e-5, atol=1e-6)


@DTYPES
def test_each_layer_may_be_normalised_first(dtype):
    """Oracle: Ba et al. 2016 in NumPy and float64, each token over its own H numbers."""
    layers = tuple((i + 1) * h + i for i, h in enumerate(layers_of(dtype=dtype)))
    pool = WeightedLayerPool(3, layer_norm=True).double()
    with torch.no_grad():
        pool.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
    share, expected = pool.weights.softmax(0).detach().numpy(), 0.0
    for s, h in zip(share, layers[-3:]):
        h = h.double().numpy()
        variance = h.var(axis=-1, keepdims=True)
        expected = expected + s * (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(variance + 1e-5)
    tolerance = 4 * TOLERANCE[dtype]
    np.testing.assert_allclose(
        pool(layers).detach().double().numpy(), expected, rtol=tolerance, atol=tolerance
    )
    assert not torch.allclose(pool(layers), WeightedLayerPool(3)(layers))


def test_normalised_layers_depend_neither_on_padding_nor_on_the_rest_of_the_batch():
    """AllenNLP's ScalarMix takes mean and variance over all tokens of the batch."""
    layers, pool = layers_of(B=3, T=4), WeightedLayerPool(4, layer_norm=True)
    alone = pool([h[1:2, :2] for h in layers])
    torch.testing.assert_close(pool(layers)[1:2, :2], alone)


def test_gradient_with_normalised_layers_in_float64():
    layers = [h.requires_grad_() for h in layers_of(n=2, dtype=torch.float64)[-2:]]
    pool = WeightedLayerPool(2, layer_norm=True).double()
    assert gradcheck(lambda *h: pool(h), layers)


@pytest.mark.parametrize("layer_norm", [1, None, "yes"])
def test_bad_layer_norm_is_an_error(layer_norm):
    with pytest.raises(TypeError, match="^layer_norm: .* accepted"):
        WeightedLayerPool(4, layer_norm=layer_norm)


def test_weighted_pool_does_not_overflow_in_half_precision():
    layers = [torch.full((1, 1, 1), 60000.0, dtype=torch.float16)] * 4
    assert WeightedLayerPool(4)(layers).item() == 60000.0


def test_gradients_in_float64():
    layers = [h.requires_grad_() for h in layers_of(dtype=torch.float64)[-4:]]
    pool = WeightedLayerPool(4).double()
    nn.init.normal_(pool.weights)
    assert gradcheck(lambda *h: concat_last_layers(h), layers)
    assert gradcheck(
        lambda w, g, *h: torch.func.functional_call(pool, {"weights": w, "scale": g}, (h,)),
        (pool.weights, pool.scale, *layers),
    )


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 8), k=st.integers(1, 8), permutation=st.permutations(range(4)), seed=st.integers(0, 999)
)
def test_examples_may_be_permuted_and_weights_stay_a_convex_combination(n, k, permutation, seed):
    k = min(k, n + 1)
    layers = layers_of(n, B=4, seed=seed)
    permuted = tuple(h[list(permutation)] for h in layers)
    assert torch.equal(concat_last_layers(permuted, k), concat_last_layers(layers, k)[list(permutation)])
    pool = WeightedLayerPool(k)
    nn.init.normal_(pool.weights)
    mixed = pool(layers).detach()
    low, high = torch.stack(layers[-k:]).amin(0), torch.stack(layers[-k:]).amax(0)
    assert (mixed >= low - 1e-5).all() and (mixed <= high + 1e-5).all()


@pytest.mark.parametrize(
    "make",
    [lambda: concat_last_layers, lambda: WeightedLayerPool(4), lambda: WeightedLayerPool(4, layer_norm=True)],
    ids=["concat_last_layers", "WeightedLayerPool", "WeightedLayerPool with layer_norm"],
)
def test_compiles_as_one_graph(make):
    function, layers = make(), layers_of()
    torch.testing.assert_close(
        torch.compile(function, fullgraph=True, backend="aot_eager")(layers), function(layers)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_equals_cpu():
    layers = layers_of()
    on_gpu = [h.cuda() for h in layers]
    torch.testing.assert_close(concat_last_layers(on_gpu).cpu(), concat_last_layers(layers))
    torch.testing.assert_close(WeightedLayerPool(4).cuda()(on_gpu).cpu(), WeightedLayerPool(4)(layers))
    model = LastFourClassifier(bert(), 2, pool="mean").eval()
    ids = torch.tensor([[1, 2, 3]])
    on_cpu = model(ids).logits
    torch.testing.assert_close(model.cuda()(ids.cuda()).logits.cpu(), on_cpu, rtol=1e-4, atol=1e-5)


POOLS = {"cls": lambda tokens: tokens[0], "mean": lambda tokens: tokens.mean(axis=0)}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_classifier_equals_a_linear_layer_on_each_text_alone(pool, side, dtype):
    """Oracle: the encoder on one unpadded text at a time, then NumPy. Guards against "first token only" under
    left padding.
    """
    encoder = bert().to(dtype)
    model = LastFourClassifier(encoder, num_labels=3, pool=pool).to(dtype).eval()
    texts = [[3, 4, 5, 6], [7, 8], [9]]
    T = 6
    ids, mask, positions = (torch.zeros(3, T, dtype=torch.long) for _ in range(3))
    for i, text in enumerate(texts):
        where = slice(0, len(text)) if side == "right" else slice(T - len(text), T)
        ids[i, where], mask[i, where], positions[i, where] = torch.tensor(text), 1, torch.arange(len(text))
    logits = model(ids, mask, position_ids=positions).logits
    rows = []
    for text in texts:
        states = encoder(torch.tensor([text]), output_hidden_states=True).hidden_states
        z = np.concatenate([h[0].detach().double().numpy() for h in states[-4:]], axis=1)  # (T, 4H)
        rows.append(
            model.classifier.weight.detach().double().numpy() @ POOLS[pool](z)
            + model.classifier.bias.detach().double().numpy()
        )
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-9}[dtype]
    np.testing.assert_allclose(
        logits.detach().double().numpy(), np.stack(rows), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("pool", POOLS)
def test_pooling_each_layer_equals_pooling_the_concatenation(pool):
    from tricks_lib.mean_pooling import cls_pool, mean_pool

    encoder, ids, mask = bert(), torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    model = LastFourClassifier(encoder, 2, pool=pool).eval()
    z = concat_last_layers(encoder(ids, mask, output_hidden_states=True).hidden_states)
    pooled = {"cls": cls_pool, "mean": mean_pool}[pool](z, mask)
    torch.testing.assert_close(model(ids, mask).logits, model.classifier(pooled), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_classifier_in_half_precision_is_close_to_float32(dtype):
    model = LastFourClassifier(bert(), 2, pool="mean").eval()
    ids = torch.tensor([[3, 4, 5], [6, 7, 0]])
    expected = model(ids).logits
    torch.testing.assert_close(model.to(dtype)(ids).logits.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_head_takes_the_dtype_of_a_half_precision_checkpoint(dtype):
    assert LastFourClassifier(bert().to(dtype), 2)(torch.tensor([[1, 2]])).logits.dtype == dtype


def test_forward_returns_the_logits_it_computed():
    """The circulating forward ends in ``return soutput``, a name that does not exist."""
    out = LastFourClassifier(bert(), 3)(torch.tensor([[1, 2]]), labels=torch.tensor([2]))
    assert out.logits.shape == (1, 3) and torch.isfinite(out.loss)
    torch.testing.assert_close(out.loss, nn.functional.cross_entropy(out.logits, torch.tensor([2])))


def other_encoders():
    import transformers as t

    size = dict(
        vocab_size=20,
        num_hidden_layers=4,
        hidden_size=12,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    return {
        "ModernBERT": (
            t.ModernBertModel,
            t.ModernBertConfig(
                **size, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
            ),
        ),
        "DistilBERT": (
            t.DistilBertModel,
            t.DistilBertConfig(vocab_size=20, dim=12, n_layers=4, n_heads=2, hidden_dim=8),
        ),
        "XLNet": (t.XLNetModel, t.XLNetConfig(vocab_size=20, d_model=12, n_layer=4, n_head=2, d_inner=8)),
        "GPT-2": (
            t.GPT2Model,
            t.GPT2Config(vocab_size=20, n_embd=12, n_layer=4, n_head=2, bos_token_id=1, eos_token_id=1),
        ),
        "ELECTRA": (t.ElectraModel, t.ElectraConfig(**size, embedding_size=6)),
    }


@pytest.mark.parametrize("name", ["ModernBERT", "DistilBERT", "XLNet", "GPT-2", "ELECTRA"])
def test_head_takes_its_size_from_the_config_and_not_from_4_times_768(name):
    cls, config = other_encoders()[name]
    model = LastFourClassifier(cls(config), 2)
    assert model.classifier.in_features == 4 * 12
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 2)


def test_classifier_reads_the_number_of_layers_asked_for():
    assert LastFourClassifier(bert(5), 2, num_layers=5).classifier.in_features == 5 * 8


def cut(layers):
    encoder = bert(5)
    encoder.encoder.layer = encoder.encoder.layer[:layers]
    return encoder


def test_the_layers_that_are_there_are_counted_and_not_the_configs():
    """The config still says five: the fourth from the end would be the embedding's output."""
    with pytest.raises(ValueError, match="^num_layers: 4 given, .* the encoder's 3 layers is accepted"):
        LastFourClassifier(cut(3), 2)
    model = LastFourClassifier(cut(3), 2, num_layers=3).eval()
    states = model.encoder(torch.tensor([[1, 2, 3]]), output_hidden_states=True).hidden_states
    expected = model.classifier(torch.cat([h[:, 0] for h in states[-3:]], dim=-1))
    torch.testing.assert_close(model(torch.tensor([[1, 2, 3]])).logits, expected)


@pytest.mark.skipif(transformers.__version__ < "5", reason="BertModel itself fails with more layers")
def test_layers_that_were_added_count_too():
    encoder = bert(3)
    encoder.encoder.layer.extend(bert(2).encoder.layer)
    model = LastFourClassifier(encoder, 2, num_layers=5)
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 2)


def test_layers_that_are_cut_afterwards_are_noticed():
    model = LastFourClassifier(bert(5), 2)
    model.encoder.encoder.layer = model.encoder.encoder.layer[:3]
    with pytest.raises(ValueError, match="^num_layers: 4 given, .* the encoder's 3 layers is accepted"):
        model(torch.tensor([[1, 2, 3]]))


def test_numbers_of_numpy_are_numbers():
    assert LastFourClassifier(bert(), np.int64(2), num_layers=np.int32(3)).classifier.in_features == 3 * 8
    assert torch.equal(concat_last_layers(layers_of(), np.int64(2)), concat_last_layers(layers_of(), 2))
    assert len(WeightedLayerPool(np.int16(3)).weights) == 3


def test_gradient_of_each_text_by_vmap():
    layers, pool = layers_of(dtype=torch.float64), WeightedLayerPool(4, layer_norm=True).double()

    def loss(h):
        return (pool((h[None],) * 4) ** 3).sum() + (concat_last_layers((h[None],) * 4) ** 3).sum()

    expected = torch.stack([torch.func.grad(loss)(h) for h in layers[-1]])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(layers[-1]), expected)


def test_all_padding_row_gives_the_bias():
    model = LastFourClassifier(bert(), 2, pool="mean").eval()
    logits = model(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [0, 0, 0]])).logits
    torch.testing.assert_close(logits[1], model.classifier.bias)


def test_dropout_comes_from_the_encoder():
    assert LastFourClassifier(bert(hidden_dropout_prob=0.3), 2).dropout.p == 0.3
    assert LastFourClassifier(bert(), 2, dropout=0.0).dropout.p == 0.0


def test_gradient_reaches_every_layer_that_is_read():
    model = LastFourClassifier(bert(5), 2, dropout=0.0)
    model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([1])).loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for n, p in model.named_parameters()
        if n.endswith("output.dense.weight")
    )


def test_classifier_trains_under_transformers_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    model = LastFourClassifier(bert(hidden_dropout_prob=0.0), num_labels=2)
    rows = [{"input_ids": [i, i], "attention_mask": [1, 1], "labels": i % 2} for i in range(1, 13)]
    arguments = TrainingArguments(
        tmp_path,
        max_steps=80,
        learning_rate=0.02,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    assert (trainer.predict(rows).predictions.argmax(-1) == np.arange(1, 13) % 2).all()


H = torch.zeros(2, 3, 4)
BAD_INPUT = {
    "hidden_states is None": ((None, 1), TypeError, "hidden_states"),
    "hidden_states is one stacked tensor": ((torch.zeros(5, 2, 3, 4), 4), TypeError, "hidden_states"),
    "hidden_states is a model's output": (({"hidden_states": [H] * 5}, 4), TypeError, "hidden_states"),
    "a layer is a list": (([H, [[0.0]]], 2), TypeError, "hidden_states"),
    "a layer is integer": (([H, H.long()], 2), TypeError, "hidden_states"),
    "layers of two sizes": (([H, torch.zeros(2, 3, 5)], 2), ValueError, "hidden_states"),
    "layers of two batch sizes": (([H, torch.zeros(1, 3, 4)], 2), ValueError, "hidden_states"),
    "layers on two devices": (([H, H.to("meta")], 2), ValueError, "hidden_states"),
    "layers with two axes": (([H[0], H[0]], 2), ValueError, "hidden_states"),
    "empty batch": (([H[:0], H[:0]], 2), ValueError, "hidden_states"),
    "no tokens": (([H[:, :0], H[:, :0]], 2), ValueError, "hidden_states"),
    "no features": (([H[..., :0], H[..., :0]], 2), ValueError, "hidden_states"),
    "fewer layers than asked for": (([H, H, H], 4), ValueError, "num_layers"),
    "no layers": (((), 1), ValueError, "num_layers"),
    "num_layers is 0": (([H, H], 0), ValueError, "num_layers"),
    "num_layers is negative": (([H, H], -1), ValueError, "num_layers"),
    "num_layers is a float": (([H, H], 2.0), TypeError, "num_layers"),
    "num_layers is a bool": (([H, H], True), TypeError, "num_layers"),
    "num_layers is a word": (([H, H], "2"), TypeError, "num_layers"),
}


def weighted(hidden_states, num_layers):
    return WeightedLayerPool(num_layers)(hidden_states)


@pytest.mark.parametrize("function", [concat_last_layers, weighted], ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(function, case):
    arguments, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        function(*arguments)


def test_weighted_pool_on_another_device_is_an_error():
    with pytest.raises(ValueError, match="^hidden_states: on cpu, weights on meta"):
        WeightedLayerPool(2).to("meta")([H, H])


BAD_CLASSIFIER = {
    "encoder is None": (dict(encoder=None), TypeError, "encoder"),
    "encoder is a name": (dict(encoder="bert-base-uncased"), TypeError, "encoder"),
    "encoder without a config": (dict(encoder=nn.Linear(2, 2)), TypeError, "encoder"),
    "encoder of three layers": (dict(encoder=3), ValueError, "num_layers"),
    "more layers than there are": (dict(num_layers=6), ValueError, "num_layers"),
    "num_layers is 0": (dict(num_layers=0), ValueError, "num_layers"),
    "num_layers is a float": (dict(num_layers=4.0), TypeError, "num_layers"),
    "pool is another word": (dict(pool="max"), ValueError, "pool"),
    "pool is None": (dict(pool=None), ValueError, "pool"),
    "num_labels is 0": (dict(num_labels=0), ValueError, "num_labels"),
    "num_labels is a float": (dict(num_labels=2.0), TypeError, "num_labels"),
    "dropout is above 1": (dict(dropout=1.5), ValueError, "dropout"),
    "dropout is NaN": (dict(dropout=float("nan")), ValueError, "dropout"),
    "dropout is a word": (dict(dropout="0.1"), TypeError, "dropout"),
}


@pytest.mark.parametrize("case", BAD_CLASSIFIER)
def test_bad_classifier_argument_is_an_error_that_names_it(case):
    changes, error, name = BAD_CLASSIFIER[case]
    arguments = {"encoder": 5, "num_labels": 2, **changes}
    if isinstance(arguments["encoder"], int):
        arguments["encoder"] = bert(arguments["encoder"])
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        LastFourClassifier(**arguments)


@pytest.mark.parametrize(
    "mask", [torch.ones(2, 2), torch.tensor([[0.0, -1e4, 0.0]] * 2)], ids=["shape", "additive"]
)
def test_bad_mask_is_an_error_that_names_it(mask):
    class Encoder(nn.Module):
        """Any mask passes here, as in an encoder that takes additive ones."""

        def __init__(self):
            super().__init__()
            from types import SimpleNamespace

            self.config = SimpleNamespace(hidden_size=4, num_hidden_layers=4)

        def forward(self, input_ids, attention_mask, output_hidden_states):
            from transformers.modeling_outputs import BaseModelOutput

            return BaseModelOutput(hidden_states=(H,) * 5)

    with pytest.raises(ValueError, match="^attention_mask: .* accepted"):
        LastFourClassifier(Encoder(), 2)(torch.ones(2, 3, dtype=torch.long), mask)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([2]), torch.tensor([-1]), torch.tensor([0, 1]), torch.tensor([0.0])],
    ids=["large", "negative", "many", "float"],
)
def test_bad_labels_are_an_error(labels):
    with pytest.raises(ValueError, match="^labels: .* accepted"):
        LastFourClassifier(bert(), 2)(torch.tensor([[1, 2]]), labels=labels)
