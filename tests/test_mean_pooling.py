"""Oracle: a float64 mean over each example's real tokens, computed one example at a time with NumPy."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

import tricks_lib.mean_pooling.masks
import tricks_lib.mean_pooling.pools
from tricks_lib.mean_pooling import (
    MeanPoolingClassifier,
    classification_loss,
    cls_pool,
    exclude_prompt,
    last_token_pool,
    max_pool,
    mean_pool,
    weighted_mean_pool,
)

POOLS = {
    mean_pool: lambda tokens: tokens.mean(axis=0),
    max_pool: lambda tokens: tokens.max(axis=0),
    cls_pool: lambda tokens: tokens[0],
    last_token_pool: lambda tokens: tokens[-1],
    weighted_mean_pool: lambda tokens: np.average(tokens, axis=0, weights=np.arange(1, len(tokens) + 1)),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def ragged(lengths=(5, 1, 9, 3), H=6, side="right", dtype=torch.float32, fill=7.0, seed=0):
    """A padded batch (B, T, H), its mask (B, T) and the list of each example's own tokens in float64."""
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(n, H)) + 1 for n in lengths]
    T = max(lengths) + 2
    hidden_states, mask = (
        torch.full((len(rows), T, H), fill, dtype=torch.float64),
        torch.zeros(len(rows), T, dtype=torch.long),
    )
    for i, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(T - len(row), T)
        hidden_states[i, where], mask[i, where] = torch.from_numpy(row), 1
    hidden_states = hidden_states.to(dtype)
    kept = [hidden_states[i][mask[i].bool()].double().numpy() for i in range(len(rows))]
    return hidden_states, mask, kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("finite", [True, False], ids=["in one read", "padding is infinite"])
@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.__name__)
def test_autocast_changes_nothing(pool, finite, dtype):
    """The weights of 512 tokens sum to more than float16 holds."""
    hidden_states, mask, _ = ragged((512, 3), fill=7.0 if finite else float("inf"))
    with torch.autocast("cpu", dtype=dtype):
        found = pool(hidden_states, mask)
    assert torch.equal(found, pool(hidden_states, mask))


def test_examples_of_the_docstrings_hold():
    for module in (tricks_lib.mean_pooling.pools, tricks_lib.mean_pooling.masks):
        result = doctest.testmod(module)
        assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("mask_dtype", [torch.long, torch.bool, torch.float32], ids=str)
def test_equals_the_float64_result_of_each_example_alone(pool, side, dtype, mask_dtype):
    hidden_states, mask, kept = ragged(side=side, dtype=dtype)
    pooled = pool(hidden_states, mask.to(mask_dtype))
    assert pooled.dtype == dtype and pooled.shape == (4, 6)
    expected = np.stack([POOLS[pool](tokens) for tokens in kept])
    np.testing.assert_allclose(
        pooled.double().numpy(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("fill", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_non_finite_padding_does_not_leak(pool, side, fill, dtype):
    hidden_states, mask, kept = ragged(side=side, dtype=dtype, fill=fill)
    hidden_states.requires_grad_()
    pooled = pool(hidden_states, mask)
    expected = np.stack([POOLS[pool](tokens) for tokens in kept])
    np.testing.assert_allclose(
        pooled.detach().double().numpy(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )
    pooled.sum().backward()
    assert torch.isfinite(hidden_states.grad).all()
    assert (hidden_states.grad[mask == 0] == 0).all()


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("fill", [1.0, float("inf")])
def test_all_padding_row_gives_zeros_and_zero_gradient(pool, dtype, fill):
    hidden_states = torch.ones(2, 3, 4, dtype=dtype)
    hidden_states[0] = fill
    hidden_states.requires_grad_()
    pooled = pool(hidden_states, torch.tensor([[0, 0, 0], [1, 1, 0]]))
    assert pooled.tolist() == [[0.0] * 4, [1.0] * 4]
    pooled.sum().backward()
    assert (hidden_states.grad[0] == 0).all() and torch.isfinite(hidden_states.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool", [mean_pool, weighted_mean_pool], ids=lambda f: f.__name__)
def test_half_precision_sum_of_4096_tokens_does_not_overflow(dtype, pool):
    hidden_states = torch.full(
        (1, 4096, 3), 100.0, dtype=dtype
    )  # the sum, 409,600, is beyond float16's 65,504
    assert pool(hidden_states, torch.ones(1, 4096)).tolist() == [[100.0] * 3]


def test_half_precision_is_summed_in_float32():
    hidden_states = torch.randn(2, 4096, 5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    expected = hidden_states.double().mean(dim=1).to(torch.bfloat16)
    torch.testing.assert_close(mean_pool(hidden_states, torch.ones(2, 4096)), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("side", ["right", "left"])
def test_gradient_in_float64(pool, side):
    hidden_states, mask, _ = ragged(side=side, dtype=torch.float64)
    assert gradcheck(lambda h: pool(h, mask), hidden_states.requires_grad_())


def test_gradient_of_the_mean_is_one_over_the_number_of_tokens():
    hidden_states = torch.randn(1, 5, 2, requires_grad=True)
    mean_pool(hidden_states, torch.tensor([[1, 1, 1, 1, 0]])).sum().backward()
    torch.testing.assert_close(
        hidden_states.grad, torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]).view(1, 5, 1).expand(1, 5, 2)
    )


def test_real_infinities_and_nans_are_not_hidden():
    hidden_states = torch.tensor([[[float("inf"), float("nan")], [1.0, 1.0]]])
    pooled = mean_pool(hidden_states, torch.tensor([[1, 1]]))
    assert torch.isinf(pooled[0, 0]) and torch.isnan(pooled[0, 1])


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    extra=st.integers(0, 9),
    seed=st.integers(0, 2**16),
    pool=st.sampled_from(list(POOLS)),
)
def test_result_depends_neither_on_padding_nor_on_the_rest_of_the_batch(lengths, extra, seed, pool):
    hidden_states, mask, kept = ragged(tuple(lengths), seed=seed)
    alone = torch.cat(
        [pool(torch.tensor(tokens, dtype=torch.float32)[None], torch.ones(1, len(tokens))) for tokens in kept]
    )
    wider = torch.nn.functional.pad(hidden_states, (0, 0, extra, 0), value=-50.0)
    torch.testing.assert_close(
        pool(wider, torch.nn.functional.pad(mask, (extra, 0))), alone, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
def test_compiles_as_one_graph(pool):
    hidden_states, mask, _ = ragged()
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(hidden_states, mask), pool(hidden_states, mask))


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_equals_cpu_and_does_not_synchronise(pool):
    hidden_states, mask, _ = ragged(fill=float("inf"))
    on_gpu = hidden_states.cuda(), mask.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pooled = pool(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(pooled.cpu(), pool(hidden_states, mask))


def sentence_transformers(mode, h, mask, prompt_length=None):
    """sentence-transformers 5, Pooling, written out; a prompt is excluded as by ``include_prompt=False``."""
    if prompt_length is not None:
        start = mask.int().argmax(dim=1, keepdim=True)  # padding on the left
        mask = mask.masked_fill(torch.arange(mask.shape[1]) < start + prompt_length, 0)
    m = mask.unsqueeze(-1).expand(h.size()).to(h.dtype)
    if mode == "max":
        return h.masked_fill(m == 0, float("-inf")).max(dim=1).values
    if mode == "weightedmean":
        m = m * torch.arange(1, h.shape[1] + 1).view(1, -1, 1)
    if mode in ("mean", "weightedmean"):
        return (h * m).sum(1) / m.sum(1).clamp(min=1e-9)
    at = mask.int().argmax(dim=1) if mode == "cls" else mask.shape[1] - 1 - mask.flip(1).max(1).indices
    return (h * m).gather(1, at.view(-1, 1, 1).expand(-1, 1, h.shape[2])).squeeze(1)


MODES = {
    "mean": mean_pool,
    "max": max_pool,
    "cls": cls_pool,
    "lasttoken": last_token_pool,
    "weightedmean": weighted_mean_pool,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prompt_length", [None, 0, 2])
@pytest.mark.parametrize("side", ["right", "left"])
def test_equals_sentence_transformers_formula(mode, prompt_length, side):
    hidden_states, mask, _ = ragged((5, 3, 9, 4), side=side)
    kept = mask if prompt_length is None else exclude_prompt(mask, prompt_length)
    if mode == "weightedmean":  # theirs counts padding on the left and the prompt: ask it of the bare tokens
        pooled = [h[k.bool()][None] for h, k in zip(hidden_states, kept)]
        expected = torch.cat(
            [sentence_transformers(mode, h, torch.ones(1, h.shape[1]).long()) for h in pooled]
        )
    else:
        expected = sentence_transformers(mode, hidden_states, mask, prompt_length)
    torch.testing.assert_close(MODES[mode](hidden_states, kept), expected, rtol=1e-5, atol=1e-6)


def test_weights_count_tokens_where_sentence_transformers_counts_padding():
    """Two texts that differ in their padding alone: there 0.2 apart, here equal."""
    h = torch.tensor([[[0.0], [1.0]]])
    padded, mask = torch.nn.functional.pad(h, (0, 0, 2, 0)), torch.tensor([[0, 0, 1, 1]])
    theirs = [sentence_transformers("weightedmean", x, m) for x, m in ((h, mask[:, 2:]), (padded, mask))]
    assert theirs[0].item() == pytest.approx(2 / 3) and theirs[1].item() == pytest.approx(4 / 7)
    assert weighted_mean_pool(padded, mask).item() == weighted_mean_pool(h, mask[:, 2:]).item()


# ---------------------------------------------------------------- prompts, packed rows


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "dtype", [torch.long, torch.int32, torch.bool, torch.float32, torch.float16], ids=str
)
def test_a_prompt_is_left_out_on_either_side(side, dtype):
    _, mask, _ = ragged((5, 3, 9, 4), side=side)
    mask, before = mask.to(dtype), mask.clone()
    kept = exclude_prompt(mask, 3)
    assert kept.dtype == dtype and torch.equal(mask.long(), before), "the mask given is left as it is"
    for row, old, n in zip(kept.bool().tolist(), mask.bool().tolist(), (5, 3, 9, 4)):
        first = old.index(True)
        assert [i for i, keep in enumerate(row) if keep] == list(range(first + 3, first + n))


def test_each_row_may_have_its_own_prompt():
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]])
    kept = exclude_prompt(mask, torch.tensor([0, 1, 3]))
    assert kept.tolist() == [[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert torch.equal(exclude_prompt(mask, torch.tensor(2)), exclude_prompt(mask, 2))
    assert torch.equal(exclude_prompt(mask, np.int64(2)), exclude_prompt(mask, 2))


def test_a_row_without_tokens_behind_its_prompt_is_pooled_to_zeros():
    hidden_states, kept = torch.ones(1, 3, 2), exclude_prompt(torch.tensor([[1, 1, 0]]), 2)
    assert kept.tolist() == [[0, 0, 0]]
    assert all(not pool(hidden_states, kept).any() for pool in POOLS)


BAD_PROMPT = {
    "mask is a list": (([[1, 1]], 1), TypeError, "attention_mask"),
    "mask has one axis": ((torch.ones(3), 1), ValueError, "attention_mask"),
    "mask is additive": ((torch.tensor([[0.0, -1e4]]), 1), ValueError, "attention_mask"),
    "mask has gaps": ((torch.tensor([[1, 1, 0, 1]]), 1), ValueError, "attention_mask"),
    "prompt_length is negative": ((torch.ones(2, 3), -1), ValueError, "prompt_length"),
    "prompt_length is a float": ((torch.ones(2, 3), 1.0), TypeError, "prompt_length"),
    "prompt_length is None": ((torch.ones(2, 3), None), TypeError, "prompt_length"),
    "prompt_length is a bool": ((torch.ones(2, 3), True), TypeError, "prompt_length"),
    "prompt_length of another batch": (
        (torch.ones(2, 3), torch.tensor([1, 1, 1])),
        ValueError,
        "prompt_length",
    ),
    "prompt_length of floats": ((torch.ones(2, 3), torch.tensor([1.0, 1.0])), TypeError, "prompt_length"),
    "one prompt_length is negative": ((torch.ones(2, 3), torch.tensor([1, -1])), ValueError, "prompt_length"),
}


@pytest.mark.parametrize("case", BAD_PROMPT)
def test_bad_prompt_is_an_error_that_names_the_argument(case):
    arguments, error, name = BAD_PROMPT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        exclude_prompt(*arguments)


@pytest.mark.parametrize("pool", [last_token_pool, weighted_mean_pool], ids=lambda f: f.__name__)
@pytest.mark.parametrize("row", [[1, 0, 1], [1, 1, 0, 1, 1, 0], [0, 1, 0, 1]], ids=str)
def test_texts_packed_into_one_row_are_refused(pool, row):
    """Which of its texts would the last token be?"""
    mask = torch.tensor([[1] * len(row), row])
    with pytest.raises(
        ValueError, match="^attention_mask: rows with 1 to 2 runs of tokens given, .* accepted"
    ):
        pool(torch.zeros(2, len(row), 3), mask)


# ---------------------------------------------------------------- functional transforms


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mask_dtype", [torch.long, torch.bool], ids=str)
def test_gradient_of_each_example_by_vmap(pool, mask_dtype):
    """Oracle: autograd, one example at a time."""
    hidden_states, mask, _ = ragged(dtype=torch.float64)
    mask = mask.to(mask_dtype)

    def loss(h, m):
        return pool(h[None], m[None]).pow(3).sum()

    by_vmap = torch.func.vmap(torch.func.grad(loss))(hidden_states, mask)
    one_by_one = [torch.func.grad(loss)(h, m) for h, m in zip(hidden_states, mask)]
    torch.testing.assert_close(by_vmap, torch.stack(one_by_one))
    shared_mask = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(hidden_states, mask[0])
    torch.testing.assert_close(shared_mask[0], one_by_one[0])


def test_a_prompt_is_left_out_under_vmap():
    _, mask, _ = ragged()
    lengths = torch.tensor([2, 0, 5, 1])
    by_vmap = torch.func.vmap(lambda m, n: exclude_prompt(m[None], n)[0])(mask, lengths)
    assert torch.equal(by_vmap, exclude_prompt(mask, lengths))


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
def test_works_on_fake_tensors(pool):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        pooled = pool(torch.randn(4, 9, 6, dtype=torch.bfloat16), torch.ones(4, 9))
    assert pooled.shape == (4, 6) and pooled.dtype == torch.bfloat16


GOOD = (torch.zeros(2, 3, 4), torch.ones(2, 3))
BAD_INPUT = {
    "hidden_states is a list": (([[1.0]], GOOD[1]), TypeError, "hidden_states"),
    "hidden_states is integer": (
        (torch.zeros(2, 3, 4, dtype=torch.long), GOOD[1]),
        TypeError,
        "hidden_states",
    ),
    "hidden_states has two axes": ((torch.zeros(2, 3), GOOD[1]), ValueError, "hidden_states"),
    "hidden_states has four axes": ((torch.zeros(2, 3, 4, 5), GOOD[1]), ValueError, "hidden_states"),
    "empty batch": ((torch.zeros(0, 3, 4), torch.ones(0, 3)), ValueError, "hidden_states"),
    "no tokens": ((torch.zeros(2, 0, 4), torch.ones(2, 0)), ValueError, "hidden_states"),
    "no features": ((torch.zeros(2, 3, 0), GOOD[1]), ValueError, "hidden_states"),
    "mask is None": ((GOOD[0], None), TypeError, "attention_mask"),
    "mask is transposed": ((GOOD[0], torch.ones(3, 2)), ValueError, "attention_mask"),
    "mask has three axes": ((GOOD[0], torch.ones(2, 3, 1)), ValueError, "attention_mask"),
    "mask for another batch size": ((GOOD[0], torch.ones(1, 3)), ValueError, "attention_mask"),
    "additive mask": ((GOOD[0], torch.tensor([[0.0, 0.0, -1e4]] * 2)), ValueError, "attention_mask"),
    "mask of 2s": ((GOOD[0], torch.full((2, 3), 2)), ValueError, "attention_mask"),
    "mask with NaN": ((GOOD[0], torch.full((2, 3), float("nan"))), ValueError, "attention_mask"),
    "mask on another device": ((GOOD[0], torch.ones(2, 3, device="meta")), ValueError, "attention_mask"),
}


@pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(pool, case):
    arguments, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        pool(*arguments)


class Encoder(nn.Module):
    """Stands for a Hugging Face encoder: an embedding, and the states it makes of padding are not zero."""

    def __init__(self, vocab_size=20, hidden_size=8):
        super().__init__()
        from types import SimpleNamespace

        self.config = SimpleNamespace(hidden_size=hidden_size, hidden_dropout_prob=0.5)
        self.embedding = nn.Embedding(vocab_size, hidden_size)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.embedding(input_ids))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder()


def test_classifier_is_linear_on_the_mean_of_the_last_layer(encoder):
    model = MeanPoolingClassifier(encoder, num_labels=3).eval()
    input_ids, mask = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]]), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    out = model(input_ids, mask, labels=torch.tensor([2, 0]))
    means = torch.stack(
        [encoder.embedding.weight[[3, 4, 5]].mean(0), encoder.embedding.weight[[6, 7]].mean(0)]
    )
    expected = means @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(out.logits, expected)
    torch.testing.assert_close(out.loss, nn.functional.cross_entropy(expected, torch.tensor([2, 0])))


CLASSIFIER_POOLS = {
    "mean": mean_pool,
    "max": max_pool,
    "cls": cls_pool,
    "last": last_token_pool,
    "weighted": weighted_mean_pool,
}


@pytest.mark.parametrize("pool", CLASSIFIER_POOLS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_classifier_reads_the_pooling_asked_for(encoder, pool, side):
    """Oracle: NumPy on each text's own tokens."""
    model = MeanPoolingClassifier(encoder, num_labels=3, pool=pool).eval()
    texts = [[3, 4, 5, 9], [6, 7]]
    ids = torch.tensor([texts[0], texts[1] + [0, 0] if side == "right" else [0, 0] + texts[1]])
    rows = [POOLS[CLASSIFIER_POOLS[pool]](encoder.embedding.weight[text].detach().numpy()) for text in texts]
    expected = np.stack(rows) @ model.classifier.weight.detach().numpy().T
    np.testing.assert_allclose(model(ids, (ids > 0).long()).logits.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", ["lasttoken", None, "attention"])
def test_bad_pool_is_an_error(encoder, pool):
    with pytest.raises(ValueError, match="^pool: .* accepted"):
        MeanPoolingClassifier(encoder, 2, pool=pool)


def test_classifier_without_mask_takes_every_position(encoder):
    model = MeanPoolingClassifier(encoder, num_labels=2).eval()
    input_ids = torch.tensor([[3, 4, 0]])
    torch.testing.assert_close(model(input_ids).logits, model(input_ids, torch.ones(1, 3)).logits)
    assert model(input_ids).loss is None


def test_classifier_takes_size_and_dropout_from_the_encoder(encoder):
    model = MeanPoolingClassifier(encoder, num_labels=2)
    assert model.classifier.in_features == 8 and model.dropout.p == 0.5
    assert MeanPoolingClassifier(encoder, 2, dropout=0.0).dropout.p == 0.0


def test_encoder_without_parameters_gets_a_head_of_the_default_dtype():
    class Nothing(nn.Module):
        config = type("Config", (), {"hidden_size": 4})()

    assert MeanPoolingClassifier(Nothing(), 2).classifier.weight.dtype == torch.get_default_dtype()


def test_classifier_trains_under_transformers_trainer(encoder, tmp_path):
    from transformers import Trainer, TrainingArguments

    model = MeanPoolingClassifier(encoder, num_labels=2, dropout=0.0)
    rows = [{"input_ids": [i, i], "attention_mask": [1, 1], "labels": i % 2} for i in range(20)]
    arguments = TrainingArguments(
        tmp_path,
        max_steps=60,
        learning_rate=0.1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    predictions = trainer.predict(rows).predictions.argmax(-1)
    assert (predictions == np.arange(20) % 2).all()


def test_loss_follows_the_labels():
    logits = torch.tensor([[0.2, -1.0], [1.5, 0.3]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(
        classification_loss(logits, targets), nn.functional.binary_cross_entropy_with_logits(logits, targets)
    )
    torch.testing.assert_close(
        classification_loss(logits[:, :1], torch.tensor([1.0, 2.0])),
        torch.tensor(((0.2 - 1) ** 2 + (1.5 - 2) ** 2) / 2),
    )
    torch.testing.assert_close(
        classification_loss(logits, torch.tensor([0, 1], dtype=torch.int32)),
        nn.functional.cross_entropy(logits, torch.tensor([0, 1])),
    )


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0, 1, 1]), torch.rand(3, 2), torch.tensor([[0.5], [1.0], [2.0]])],
    ids=["classes", "multi-label", "numbers"],
)
def test_loss_of_each_example_by_vmap(labels):
    logits = torch.randn(3, labels.shape[1] if labels.ndim == 2 else 2)

    def loss(x, y):
        return classification_loss(x[None], y[None])

    by_vmap = torch.func.vmap(torch.func.grad(loss))(logits, labels)
    torch.testing.assert_close(
        by_vmap, torch.stack([torch.func.grad(loss)(x, y) for x, y in zip(logits, labels)])
    )


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 2]),
        torch.tensor([-1, 0]),
        torch.tensor([0]),
        torch.tensor([[0, 1], [1, 0]]),
        torch.tensor([0.0, 1.0]),
        torch.zeros(2, 3),
    ],
    ids=["too large", "negative", "too few", "integer matrix", "floating classes", "too many columns"],
)
def test_bad_labels_are_an_error(labels):
    with pytest.raises(ValueError, match="^labels: .* accepted"):
        classification_loss(torch.zeros(2, 2), labels)


def test_numbers_of_numpy_are_numbers(encoder):
    model = MeanPoolingClassifier(encoder, np.int64(3), dropout=np.float32(0.25))
    assert model.classifier.out_features == 3 and model.dropout.p == 0.25


@pytest.mark.parametrize("num_labels", [0, -1, 2.0, "3", True])
def test_bad_num_labels_is_an_error(encoder, num_labels):
    with pytest.raises((TypeError, ValueError), match="^num_labels: .* accepted"):
        MeanPoolingClassifier(encoder, num_labels)


@pytest.mark.parametrize("wrong", [None, nn.Linear(2, 2), "bert-base-uncased"])
def test_bad_encoder_is_an_error(wrong):
    with pytest.raises(TypeError, match="^encoder: "):
        MeanPoolingClassifier(wrong, 2)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, 2, "0.1"])
def test_bad_dropout_is_an_error(encoder, dropout):
    with pytest.raises((TypeError, ValueError), match="^dropout: .* accepted"):
        MeanPoolingClassifier(encoder, 2, dropout=dropout)


def test_head_has_the_encoders_dtype(encoder):
    """transformers 5 loads a checkpoint in the dtype it is stored in."""
    model = MeanPoolingClassifier(encoder.to(torch.bfloat16), num_labels=2).eval()
    out = model(torch.tensor([[3, 4, 0]]), torch.tensor([[1, 1, 0]]), labels=torch.tensor([1]))
    assert out.logits.dtype == torch.bfloat16 and out.loss.dtype == torch.float32
