"""Oracles: SciPy's relative entropy in float64, torch's ``kl_div`` and ``cross_entropy``, two separate passes
of a model.
"""

import doctest
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, rel_entr, softmax
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from tricks_lib import _batch_loss
from tricks_lib.dice_loss import DiceLoss
from tricks_lib.focal_loss import FocalLoss
from tricks_lib.rdrop import bernoulli_kl, divergence, forward, loss, rdrop_forward, rdrop_loss, symmetric_kl

TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-5,
}  # half is computed in float32
INF = float("inf")


def pair(*shape, dtype=torch.float32, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(2)
    )


def reference(logits_p, logits_q):
    """1/2 (KL(p || q) + KL(q || p)) of each position, SciPy, float64."""
    p, q = (softmax(x.detach().double().numpy(), axis=-1) for x in (logits_p, logits_q))
    return 0.5 * (rel_entr(p, q) + rel_entr(q, p)).sum(-1)


def official(p, q, pad_mask=None):
    """The function in the README of dropreg/R-Drop, without its stray ``self``; ``pad_mask`` is True on
    padding.
    """
    p_loss = F.kl_div(F.log_softmax(p, dim=-1), F.softmax(q, dim=-1), reduction="none")
    q_loss = F.kl_div(F.log_softmax(q, dim=-1), F.softmax(p, dim=-1), reduction="none")
    if pad_mask is not None:
        p_loss.masked_fill_(pad_mask, 0.0)
        q_loss.masked_fill_(pad_mask, 0.0)
    return (p_loss.sum() + q_loss.sum()) / 2


@pytest.mark.parametrize("module", [divergence, forward, loss], ids=lambda module: module.__name__)
def test_the_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (1, 2), (3, 70_000)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_equals_scipy_in_float64(shape, dtype):
    p, q = pair(*shape, dtype=dtype)
    expected, tolerance = reference(p, q), TOLERANCE[dtype]
    each = symmetric_kl(p, q, reduction="none")
    assert each.shape == shape[:-1] and each.dtype == (
        torch.float64 if dtype == torch.float64 else torch.float32
    )
    np.testing.assert_allclose(each.double().numpy(), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(symmetric_kl(p, q, reduction="sum").item(), expected.sum(), rtol=tolerance)
    np.testing.assert_allclose(symmetric_kl(p, q).item(), expected.mean(), rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_value_and_gradient_equal_the_official_formula_over_the_batch_size(dtype):
    p, q = (x.requires_grad_() for x in pair(6, 300, dtype=dtype))
    ours, theirs = symmetric_kl(p, q), official(p, q) / 6
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for mine, other in zip(torch.autograd.grad(ours, (p, q)), torch.autograd.grad(theirs, (p, q))):
        torch.testing.assert_close(mine, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.long, torch.float32], ids=str)
def test_mask_equals_the_official_pad_mask_and_leaves_padding_out_of_the_mean(mask_dtype):
    p, q = pair(2, 4, 5, dtype=torch.float64)
    keep = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]]).to(mask_dtype)
    torch.testing.assert_close(
        symmetric_kl(p, q, keep), official(p, q, ~keep.bool().unsqueeze(-1)) / 5, rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(
        symmetric_kl(p, q, keep, "sum"),
        symmetric_kl(p, q, reduction="none")[keep.bool()].sum(),
        rtol=1e-9,
        atol=1e-12,
    )
    assert (symmetric_kl(p, q, keep, "none")[~keep.bool()] == 0).all()


@pytest.mark.parametrize("reduction", ["batchmean", "sum", "none"])
@pytest.mark.parametrize(
    "shape, mask", [((3, 4), None), ((2, 3, 4), [[1, 0, 1], [1, 1, 0]])], ids=["examples", "tokens"]
)
def test_first_and_second_gradient_in_float64(shape, mask, reduction):
    p, q = (x.requires_grad_() for x in pair(*shape, dtype=torch.float64))
    mask = None if mask is None else torch.tensor(mask)
    assert gradcheck(lambda p, q: symmetric_kl(p, q, mask, reduction), (p, q))
    assert gradgradcheck(lambda p, q: symmetric_kl(p, q, mask, reduction), (p, q))
    assert gradgradcheck(lambda p: symmetric_kl(p, q.detach(), mask, reduction), (p,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradient_in_half_precision(dtype):
    p, q = (x.requires_grad_() for x in pair(4, 50, dtype=dtype))
    grads = torch.autograd.grad(symmetric_kl(p, q), (p, q))
    wide = [x.detach().double().requires_grad_() for x in (p, q)]
    for grad, expected in zip(grads, torch.autograd.grad(symmetric_kl(*wide), wide)):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_half_precision_is_computed_in_float32_also_under_autocast():
    p, q = (x.requires_grad_() for x in pair(4, 1000))
    expected = torch.autograd.grad(symmetric_kl(p, q), (p, q))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = symmetric_kl(p, q)
        grads = torch.autograd.grad(loss, (p, q))
    torch.testing.assert_close(loss.item(), reference(p, q).mean(), rtol=1e-5, atol=0)
    for grad, other in zip(grads, expected):
        torch.testing.assert_close(grad, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pad", [INF, -INF, float("nan")])
def test_non_finite_padding_does_not_leak(pad):
    p, q = pair(2, 3, 4)
    keep = torch.tensor([[1, 1, 0], [1, 0, 0]])
    expected = symmetric_kl(p, q, keep)
    p[keep == 0], q[keep == 0] = pad, pad
    p.requires_grad_()
    loss = symmetric_kl(p, q, keep)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert torch.isfinite(p.grad).all() and (p.grad[keep == 0] == 0).all()


def test_mask_that_keeps_nothing_gives_zero_and_zero_gradient():
    p, q = (x.requires_grad_() for x in pair(2, 3))
    loss = symmetric_kl(p, q, torch.zeros(2))
    loss.backward()
    assert loss.item() == 0 and (p.grad == 0).all()


def test_shared_minus_infinity_does_not_give_nan():
    """A class that both passes rule out: every public variant gives NaN."""
    p, q = pair(3, 6, dtype=torch.float64)
    p[:, 2], q[:, 2], p[0, 4], q[0, 4] = -INF, -INF, -INF, -INF
    assert official(p, q).isnan()
    p.requires_grad_()
    each = symmetric_kl(p, q, reduction="none")
    np.testing.assert_allclose(each.detach().numpy(), reference(p, q), rtol=1e-9)
    each.sum().backward()
    assert torch.isfinite(p.grad).all() and (p.grad[:, 2] == 0).all()


def test_class_that_one_pass_alone_rules_out_makes_the_divergence_infinite():
    p, q = torch.tensor([[0.0, -INF], [0.0, -300.0]]), torch.tensor([[0.0, 1.0], [0.0, -INF]])
    assert symmetric_kl(p, q, reduction="none").tolist() == [INF, INF]


@pytest.mark.parametrize("value", [float("nan"), INF])
def test_real_nan_is_not_hidden(value):
    p, q = pair(3, 4)
    p[1, 2] = value
    each = symmetric_kl(p, q, reduction="none")
    assert each.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_logits_are_finite(scale):
    p, q = (
        torch.tensor([[scale, 0.0, -scale]], requires_grad=True),
        torch.tensor([[-scale, 0.0, scale]], requires_grad=True),
    )
    loss = symmetric_kl(p, q)
    loss.backward()
    assert (
        loss.item() == pytest.approx(2 * scale)
        and torch.isfinite(p.grad).all()
        and torch.isfinite(q.grad).all()
    )


def test_shift_between_the_passes_costs_no_digits_in_float32():
    """sum (p - q) (z - w) loses them where z - w is large: softmax does not sum to exactly 1."""
    p, q = (torch.round(64 * x) / 64 for x in pair(4, 50))
    assert symmetric_kl(p, q + 4096).item() == pytest.approx(reference(p, q).mean(), rel=1e-6)


def test_equal_passes_have_no_divergence_and_no_gradient():
    p, _ = pair(4, 9)
    p.requires_grad_()
    loss = symmetric_kl(p, p.detach().clone())
    loss.backward()
    assert loss.item() == 0 and p.grad.abs().max() < 1e-7


def test_strength_does_not_depend_on_the_batch_size():
    """The official ``sum()`` over batch and classes grows with the batch, against a cross-entropy that is a
    mean.
    """
    p, q = pair(3, 5)
    torch.testing.assert_close(symmetric_kl(p.repeat(7, 1), q.repeat(7, 1)), symmetric_kl(p, q))
    torch.testing.assert_close(official(p.repeat(7, 1), q.repeat(7, 1)), 7 * official(p, q))


# the loss of each on (p, q, labels, their alpha), and what the table makes of their alpha, at B = 3, C = 5
ELSEWHERE = {
    "paper": (
        lambda p, q, y, a: F.cross_entropy(p, y) + F.cross_entropy(q, y) + a * official(p, q) / 3,
        1 / 2,
    ),
    "official BERT": (
        lambda p, q, y, a: F.cross_entropy(p, y) + F.cross_entropy(q, y) + a * official(p, q),
        3 / 2,
    ),
    "official README": (
        lambda p, q, y, a: 0.5 * (F.cross_entropy(p, y) + F.cross_entropy(q, y)) + a * official(p, q),
        3,
    ),
    "bert4torch": (
        lambda p, q, y, a: (
            0.5 * (F.cross_entropy(p, y) + F.cross_entropy(q, y)) + a / 4 * 2 * official(p, q) / (3 * 5)
        ),
        1 / 10,
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_table_of_what_alpha_means_elsewhere(name):
    """Their loss at their alpha has the direction of ours at the converted alpha."""
    theirs, factor = ELSEWHERE[name]
    p, q = (x.requires_grad_() for x in pair(3, 5, dtype=torch.float64))
    labels = torch.tensor([0, 3, 1])
    ours = torch.autograd.grad(rdrop_loss(p, q, labels, 0.7 * factor), p)[0]
    other = torch.autograd.grad(theirs(p, q, labels, 0.7), p)[0]
    scale = 2.0 if name in ("paper", "official BERT") else 1.0  # these sum the cross-entropies
    torch.testing.assert_close(other, scale * ours, rtol=1e-9, atol=1e-12)


def test_it_is_a_function_and_not_a_method_with_a_stray_self():
    """What circulates is ``def compute_kl_loss(self, p, q, ...)`` outside a class: a TypeError when called
    with p and q.
    """
    exec("def compute_kl_loss(self, p, q, pad_mask=None): pass", circulating := {})
    with pytest.raises(TypeError):
        circulating["compute_kl_loss"](p=None, q=None)
    assert symmetric_kl(*pair(2, 3)).ndim == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), B=st.integers(1, 6), C=st.integers(2, 9), shift=st.floats(-50, 50))
def test_symmetric_never_negative_unmoved_by_a_shift_and_by_the_order_of_examples_and_classes(
    seed, B, C, shift
):
    p, q = pair(B, C, dtype=torch.float64, seed=seed)
    each = symmetric_kl(p, q, reduction="none")
    assert (each >= 0).all()
    torch.testing.assert_close(symmetric_kl(q, p, reduction="none"), each, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(symmetric_kl(p + shift, q, reduction="none"), each, rtol=1e-9, atol=1e-10)
    rows, classes = torch.randperm(B), torch.randperm(C)
    torch.testing.assert_close(
        symmetric_kl(p[rows][:, classes], q[rows][:, classes], reduction="none"),
        each[rows],
        rtol=1e-9,
        atol=1e-12,
    )


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    extra=st.integers(0, 4),
    left=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_padding_changes_nothing(lengths, extra, left, seed):
    T = max(lengths)
    keep = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    p, q = pair(len(lengths), T, 5, dtype=torch.float64, seed=seed)
    labels = torch.randint(5, keep.shape)
    side = (extra, 0) if left else (0, extra)
    wider = [F.pad(x, (0, 0, *side), value=9.0) for x in (p, q)]
    torch.testing.assert_close(
        symmetric_kl(*wider, F.pad(keep, side)), symmetric_kl(p, q, keep), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(
        rdrop_loss(*wider, F.pad(labels, side), 0.7, F.pad(keep, side)),
        rdrop_loss(p, q, labels, 0.7, keep),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 1, 0], [1, 0, 0]])], ids=["no mask", "mask"])
def test_compiles_as_one_graph(mask):
    p, q = pair(2, 3, 5)
    labels = torch.tensor([[0, 1, -100], [2, 3, 0]])
    p[..., 4], q[..., 4] = -INF, -INF
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda p, q: (symmetric_kl(p, q, mask), rdrop_loss(p, q, labels, 0.5, mask)),
        fullgraph=True,
        backend="aot_eager",
    )
    a, b = [x.clone().requires_grad_() for x in (p, q)], [x.clone().requires_grad_() for x in (p, q)]
    one, two = compiled(*a), (symmetric_kl(*b, mask), rdrop_loss(*b, labels, 0.5, mask))
    torch.testing.assert_close(one, two)
    sum(one).backward()
    sum(two).backward()
    torch.testing.assert_close(a[0].grad, b[0].grad)


def test_shapes_without_values():
    p = torch.zeros(2, 3, 5, device="meta", dtype=torch.bfloat16)
    assert symmetric_kl(p, p, reduction="none").shape == (2, 3) and symmetric_kl(p, p).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_equals_cpu_and_does_not_synchronise():
    p, q = pair(2, 3, 5)
    mask, labels = torch.tensor([[1, 1, 0], [1, 0, 0]]), torch.randint(5, (2, 3))
    on_gpu = [x.cuda() for x in (p, q, mask, labels)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        kl, loss = symmetric_kl(*on_gpu[:3]), rdrop_loss(*on_gpu[:2], on_gpu[3], 0.5, on_gpu[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(kl.cpu(), symmetric_kl(p, q, mask))
    torch.testing.assert_close(loss.cpu(), rdrop_loss(p, q, labels, 0.5, mask))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_loss_is_the_mean_cross_entropy_plus_alpha_times_the_divergence(dtype):
    p, q = pair(6, 4, dtype=dtype)
    labels = torch.tensor([0, 1, 2, 3, 0, 1], dtype=torch.int32)
    entropy = 0.5 * (F.cross_entropy(p.double(), labels.long()) + F.cross_entropy(q.double(), labels.long()))
    expected = entropy.item() + 1.7 * reference(p, q).mean()
    loss = rdrop_loss(p, q, labels, 1.7)
    assert loss.ndim == 0 and loss.item() == pytest.approx(expected, rel=TOLERANCE[dtype])
    assert gradcheck(
        lambda p, q: rdrop_loss(p, q, labels, 1.7), tuple(x.double().requires_grad_() for x in (p, q))
    )


def test_loss_of_tokens_leaves_out_what_the_mask_or_the_label_leaves_out():
    p, q = pair(2, 3, 4, dtype=torch.float64)
    labels = torch.tensor([[1, -100, 99], [3, 0, 2]])  # 99 under the mask is never looked at
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    rows = [(0, 0), (1, 0), (1, 1)]
    entropy = [
        0.5 * (F.cross_entropy(p[r], labels[r]) + F.cross_entropy(q[r], labels[r])).item() for r in rows
    ]
    expected = np.mean([ce + 2.0 * reference(p[r], q[r]) for ce, r in zip(entropy, rows)])
    assert rdrop_loss(p, q, labels, 2.0, mask).item() == pytest.approx(expected, rel=1e-9)
    assert rdrop_loss(p, q, torch.full((2, 3), -100), 2.0).item() == 0


@pytest.mark.parametrize("pad", [INF, -INF, float("nan")])
@pytest.mark.parametrize("by", ["mask", "label", "regression"])
def test_non_finite_padding_does_not_leak_into_the_loss(pad, by):
    p, q = pair(4, 3) if by != "regression" else pair(4, 1)
    labels = torch.tensor([0, 1, 2, 1]) if by != "regression" else torch.tensor([0.5, 1.0, 2.0, pad])
    mask = None if by == "label" else torch.tensor([1, 1, 1, 0])
    expected = rdrop_loss(p[:3], q[:3], labels[:3], 0.7)
    p[3], q[3] = pad, pad
    if by == "label":
        labels[3] = -100
    p.requires_grad_()
    loss = rdrop_loss(p, q, labels, 0.7, mask)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert torch.isfinite(p.grad).all() and (p.grad[3] == 0).all()


@pytest.mark.parametrize("shape", [(5,), (5, 1)], ids=str)
def test_regression_takes_squared_errors(shape):
    x, y = pair(*shape, dtype=torch.float64)
    target = torch.randn(5, dtype=torch.float64)
    x, y = x.requires_grad_(), y.requires_grad_()
    loss = rdrop_loss(x, y, target, 0.8)
    a, b = x.view(5), y.view(5)
    torch.testing.assert_close(
        loss,
        0.5 * (F.mse_loss(a, target) + F.mse_loss(b, target)) + 0.8 * F.mse_loss(a, b),
        rtol=1e-9,
        atol=0,
    )
    assert gradcheck(lambda x, y: rdrop_loss(x, y, target, 0.8), (x, y))
    masked = rdrop_loss(x, y, target.view(5, 1), 0.8, torch.tensor([1, 1, 0, 0, 0]))
    torch.testing.assert_close(masked, rdrop_loss(x[:2], y[:2], target[:2], 0.8), rtol=1e-9, atol=0)


def bert(kind="SequenceClassification", dropout=0.0, **options):
    import transformers

    torch.manual_seed(0)
    options = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        **options,
    }
    config = transformers.BertConfig(
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **options
    )
    return getattr(transformers, f"BertFor{kind}")(config).train()


IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [9, 3, 4, 0]])
MASK = (IDS != 0).long()


def test_forward_runs_once_on_the_doubled_batch_and_equals_the_formula():
    model, calls = bert(dropout=0.3, num_labels=3), []
    model.register_forward_hook(
        lambda module, args, kwargs, output: calls.append((kwargs, output.logits)), with_kwargs=True
    )
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor([0, 2, 1]), "return_dict": True}
    out = rdrop_forward(model, batch, alpha=1.5)
    ((kwargs, logits),) = calls
    assert (
        kwargs["input_ids"].tolist() == IDS.tolist() * 2
        and kwargs["attention_mask"].shape == (6, 4)
        and kwargs["return_dict"] is True
    )
    torch.testing.assert_close(out.logits, logits[:3])
    torch.testing.assert_close(
        out.loss, rdrop_loss(logits[:3], logits[3:], batch["labels"], 1.5), rtol=1e-5, atol=0
    )
    assert not torch.equal(logits[:3], logits[3:])  # another dropout mask
    loss, logits = out  # also a tuple
    assert batch["input_ids"] is IDS and loss is out.loss


@pytest.mark.filterwarnings("ignore:.*without active dropout:UserWarning")
@pytest.mark.parametrize("mode", ["evaluation", "no dropout"])
def test_without_dropout_the_divergence_is_zero(mode):
    model = bert(dropout=0.3 if mode == "evaluation" else 0.0, num_labels=3).train(mode != "evaluation")
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor([0, 2, 1])}
    torch.testing.assert_close(
        rdrop_forward(model, batch, alpha=100.0).loss, model(**batch).loss, rtol=1e-5, atol=1e-6
    )


def test_doubled_batch_equals_two_passes_in_value_and_gradient():
    """Dropout replaced by a fixed one for each half, so that one doubled pass and two passes can be
    compared.
    """
    noise = torch.rand(2, 3, 8) + 0.5

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, 4)

        def forward(self, input_ids, labels, noise):
            from types import SimpleNamespace

            logits = self.head(self.embedding(input_ids).mean(1) * noise)
            return SimpleNamespace(loss=F.cross_entropy(logits, labels), logits=logits)

    torch.manual_seed(0)
    model, labels = Noisy(), torch.tensor([0, 1, 3])
    first, second = (model(IDS, labels, half).logits for half in noise)
    expected = torch.autograd.grad(rdrop_loss(first, second, labels, 2.0), list(model.parameters()))
    with_noise = Noisy.forward
    model.forward = lambda input_ids, labels: with_noise(model, input_ids, labels, noise.view(6, 8))
    grads = torch.autograd.grad(
        rdrop_forward(model, {"input_ids": IDS, "labels": labels}, 2.0).loss, list(model.parameters())
    )
    for mine, other in zip(grads, expected):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def last_logits(model):
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(output.logits))
    return seen


def test_forward_of_a_token_classifier_counts_labelled_tokens_only():
    model, labels = (
        bert("TokenClassification", dropout=0.3, num_labels=3),
        torch.tensor([[0, 1, 2, 0], [1, -100, -100, -100], [2, 0, 1, -100]]),
    )
    seen = last_logits(model)
    out = rdrop_forward(model, {"input_ids": IDS, "attention_mask": MASK, "labels": labels}, alpha=1.5)
    torch.testing.assert_close(out.loss, rdrop_loss(*seen[0].chunk(2), labels, 1.5), rtol=1e-5, atol=0)


def causal(name):
    import transformers

    torch.manual_seed(0)
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=30, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config).train()
    if name == "xlnet":
        return transformers.XLNetLMHeadModel(
            transformers.XLNetConfig(vocab_size=30, d_model=8, n_layer=1, n_head=2, d_inner=8)
        ).train()
    sizes = {
        "vocab_size": 30,
        "d_model": 8,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
        "max_position_embeddings": 16,
    }
    return transformers.BartForCausalLM(transformers.BartConfig(**sizes, dropout=0.3, pad_token_id=0)).train()


WRAPPERS = {
    "alone": lambda model: model,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "compiled in parallel": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize(
    "name, wrapper",
    [
        ("gpt2", "alone"),
        ("gpt2", "compiled"),
        ("gpt2", "compiled in parallel"),
        ("xlnet", "alone"),
        ("bart", "alone"),
    ],
)
def test_forward_of_a_causal_model_counts_the_positions_that_its_own_loss_counts(name, wrapper):
    """GPT-2 shifts the labels, also behind a wrapper's name; XLNet and the decoders of encoder-decoders do
    not.
    """
    model = causal(name)
    seen, labels = last_logits(model), torch.tensor([[-100, -100, 5, 6], [-100, 8, 0, -100], [9, 3, 4, 2]])
    with torch.compiler.set_stance("force_eager"):  # the wrapper is what matters here
        out = rdrop_forward(WRAPPERS[wrapper](model), {"input_ids": IDS, "labels": labels}, alpha=1.5)
    first, second = seen[0].chunk(2)
    if name == "gpt2":
        first, second, labels = first[:, :-1], second[:, :-1], labels[:, 1:]
    torch.testing.assert_close(out.loss, rdrop_loss(first, second, labels, 1.5), rtol=1e-5, atol=0)


def test_forward_of_an_encoder_decoder():
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(**sizes, dropout_rate=0.3, decoder_start_token_id=0, pad_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).train()
    seen = last_logits(model)
    labels = torch.tensor([[5, 1], [6, -100], [7, 1]])
    out = rdrop_forward(model, {"input_ids": IDS, "attention_mask": MASK, "labels": labels}, alpha=1.5)
    torch.testing.assert_close(out.loss, rdrop_loss(*seen[0].chunk(2), labels, 1.5), rtol=1e-5, atol=0)


def test_forward_of_a_regression_takes_squared_errors():
    model, target = bert(dropout=0.3, num_labels=1), torch.tensor([0.5, 1.0, -1.0])
    seen = last_logits(model)
    out = rdrop_forward(model, {"input_ids": IDS, "attention_mask": MASK, "labels": target}, alpha=1.5)
    torch.testing.assert_close(out.loss, rdrop_loss(*seen[0].chunk(2), target, 1.5), rtol=1e-5, atol=0)


@pytest.mark.filterwarnings("ignore:.*without active dropout:UserWarning")
def test_forward_through_data_parallel_wrapper():
    model = bert(num_labels=3)
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor([0, 2, 1])}
    torch.testing.assert_close(
        rdrop_forward(nn.DataParallel(model), batch, 1.0).loss, model(**batch).loss, rtol=1e-5, atol=1e-6
    )


# ---- Several labels an example


def bernoulli_reference(logits_p, logits_q):
    """1/2 (KL(p || q) + KL(q || p)) of each label, by SciPy, in float64."""
    p, q = (expit(x.detach().double().numpy()) for x in (logits_p, logits_q))
    return 0.5 * (rel_entr(p, q) + rel_entr(q, p) + rel_entr(1 - p, 1 - q) + rel_entr(1 - q, 1 - p))


@pytest.mark.parametrize("shape", [(5, 3), (7,), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_bernoulli_equals_scipy_in_float64(shape, dtype):
    p, q = pair(*shape, dtype=dtype)
    expected, tolerance = bernoulli_reference(p, q), TOLERANCE[dtype]
    each = bernoulli_kl(p, q, reduction="none")
    assert each.shape == shape and each.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(each.double().numpy(), expected, rtol=tolerance, atol=tolerance)
    assert bernoulli_kl(p, q, reduction="sum").item() == pytest.approx(expected.sum(), rel=tolerance)
    assert bernoulli_kl(p, q).item() == pytest.approx(expected.mean(), rel=tolerance)


@pytest.mark.parametrize("reduction", ["batchmean", "sum", "none"])
@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 0, 1], [0, 1, 1]])], ids=["all", "mask"])
def test_gradient_of_bernoulli_in_float64(mask, reduction):
    p, q = (x.requires_grad_() for x in pair(2, 3, dtype=torch.float64))
    assert gradcheck(lambda p, q: bernoulli_kl(p, q, mask, reduction), (p, q))
    assert gradgradcheck(lambda p, q: bernoulli_kl(p, q, mask, reduction), (p, q))


def test_bernoulli_is_half_of_the_divergence_of_two_classes_spelt_out():
    """A yes or no is the softmax of two logits, z and 0."""
    p, q = pair(5, dtype=torch.float64)
    two = [torch.stack([x, torch.zeros_like(x)], dim=-1) for x in (p, q)]
    torch.testing.assert_close(bernoulli_kl(p, q, reduction="none"), symmetric_kl(*two, reduction="none"))


@pytest.mark.parametrize("pad", [INF, -INF, float("nan")])
def test_non_finite_padding_does_not_leak_into_bernoulli(pad):
    p, q = pair(2, 3)
    keep = torch.tensor([[1, 1, 0], [1, 0, 0]])
    expected = bernoulli_kl(p[keep == 1], q[keep == 1])
    p[keep == 0], q[keep == 0] = pad, pad
    p.requires_grad_()
    loss = bernoulli_kl(p, q, keep)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert torch.isfinite(p.grad).all() and (p.grad[keep == 0] == 0).all()


def test_bernoulli_of_infinite_and_of_large_logits():
    p = torch.tensor([INF, -INF, INF, 1e4, 0.0], requires_grad=True)
    each = bernoulli_kl(p, torch.tensor([INF, -INF, 0.0, -1e4, 0.0]), reduction="none")
    assert each.tolist() == [0.0, 0.0, INF, 1e4, 0.0]
    each[[0, 1, 3, 4]].sum().backward()
    assert p.grad[[0, 1, 3, 4]].isfinite().all()


def test_loss_of_several_labels_an_example():
    p, q = pair(4, 3, dtype=torch.float64)
    labels = torch.tensor([[1.0, 0, 1], [0, 0.5, 0], [1, 1, -100], [1, 1, 1]], dtype=torch.float64)
    mask, counts = torch.tensor([1, 1, 1, 0]), torch.ones(4, 3).bool()
    counts[3], counts[2, 2] = False, False
    entropy = sum(F.binary_cross_entropy_with_logits(x[counts], labels[counts]) for x in (p, q)) / 2
    expected = entropy.item() + 1.7 * bernoulli_reference(p, q)[counts.numpy()].mean()
    assert rdrop_loss(p, q, labels, 1.7, mask).item() == pytest.approx(expected, rel=1e-9)
    p.requires_grad_()
    assert gradcheck(lambda p: rdrop_loss(p, q, labels, 1.7, mask), (p,))
    assert rdrop_loss(p, q, torch.full((4, 3), -100.0), 1.7).item() == 0


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_forward_of_several_labels_or_numbers_an_example(problem):
    model = bert(dropout=0.3, num_labels=3, problem_type=problem)
    seen, labels = last_logits(model), torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0]])
    out = rdrop_forward(model, {"input_ids": IDS, "attention_mask": MASK, "labels": labels}, alpha=1.5)
    first, second = seen[0].chunk(2)
    expected = rdrop_loss(first, second, labels, 1.5)
    if problem == "regression":
        expected = 0.5 * (F.mse_loss(first, labels) + F.mse_loss(second, labels))
        expected += 1.5 * F.mse_loss(first, second)
    torch.testing.assert_close(out.loss, expected, rtol=1e-5, atol=0)


# ---- Two passes, and none that differ


def test_two_passes_over_a_batch_that_cannot_be_doubled():
    """Its rows are centred by their mean: a doubled batch is another function. Dropout makes the passes
    differ.
    """

    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head, self.dropout = nn.Embedding(30, 8), nn.Linear(8, 4), nn.Dropout(0.3)

        def forward(self, input_ids, labels):
            from types import SimpleNamespace

            pooled = self.dropout(self.embedding(input_ids).mean(1))
            logits = self.head(pooled - pooled.mean(0))
            return SimpleNamespace(loss=F.cross_entropy(logits, labels), logits=logits)

    torch.manual_seed(0)
    model, labels = Centred(), torch.tensor([0, 1, 3])
    sizes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["labels"])), with_kwargs=True
    )
    torch.manual_seed(1)
    first, second = (model(input_ids=IDS, labels=labels).logits for _ in range(2))
    expected = torch.autograd.grad(rdrop_loss(first, second, labels, 2.0), list(model.parameters()))
    torch.manual_seed(1)
    out = rdrop_forward(model, {"input_ids": IDS, "labels": labels}, 2.0, two_passes=True)
    assert sizes == [3] * 4
    torch.testing.assert_close(out.logits, first)
    for mine, other in zip(torch.autograd.grad(out.loss, list(model.parameters())), expected):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)
    torch.manual_seed(1)
    doubled = rdrop_forward(model, {"input_ids": IDS, "labels": labels}, 2.0)
    assert sizes[4:] == [6] and not torch.allclose(doubled.loss, out.loss)


def modern(name, dropout):
    import transformers

    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "pad_token_id": 0}
    if name == "ModernBERT":
        sizes |= {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
        config = transformers.ModernBertConfig(**sizes, classifier_dropout=dropout, num_labels=2)
        return transformers.ModernBertForSequenceClassification(config).train()
    config = transformers.LlamaConfig(**sizes, num_key_value_heads=2, attention_dropout=dropout, num_labels=2)
    return transformers.LlamaForSequenceClassification(config).train()


@pytest.mark.parametrize("name", ["ModernBERT", "Llama"])
def test_model_without_dropout_is_warned_of_once(name):
    """Their configurations say 0.0 wherever they speak of dropout."""
    model = modern(name, 0.0)
    with pytest.warns(UserWarning, match="^model: .*without active dropout"):
        rdrop_forward(model, BATCH, 1.0)
    rdrop_forward(model, BATCH, 1.0)  # a warning would be an error
    rdrop_forward(modern(name, 0.0).eval(), BATCH, 1.0)  # whoever evaluates knows


@pytest.mark.parametrize("name", ["ModernBERT", "Llama"])
def test_model_with_dropout_is_not_warned_of(name):
    rdrop_forward(modern(name, 0.3), BATCH, 1.0)  # of Llama, a number and not a module


def test_noise_of_ones_own_is_not_warned_of():
    model = bert()
    model.bert.register_forward_hook(
        lambda module, args, output: setattr(
            output, "pooler_output", output.pooler_output + torch.randn_like(output.pooler_output)
        )
    )
    rdrop_forward(model, BATCH, 1.0)


class Holds(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, **batch):
        return self.inner(**batch)


class Story:
    """Made of the class of the model: its name says nothing."""


@pytest.mark.parametrize("how", ["subclass", "wrapper", "LoRA", "LoRA in parallel"])
def test_forward_of_a_causal_model_by_whatever_name(how):
    model, seen = causal("gpt2"), []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output))
    outer = model
    if how == "subclass":
        model.__class__ = type("Story", (Story, type(model)), {})
    elif how == "wrapper":
        outer = Holds(model)
    else:
        peft = pytest.importorskip("peft")
        with warnings.catch_warnings():  # peft asks for what transformers has renamed
            warnings.simplefilter("ignore", FutureWarning)
            outer = peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=2,
                    target_modules=["c_attn"],
                    task_type="CAUSAL_LM",
                    lora_dropout=0.5,
                    fan_in_fan_out=True,
                ),
            )
        outer = nn.DataParallel(outer) if how == "LoRA in parallel" else outer
    labels = torch.tensor([[-100, -100, 5, 6], [-100, 8, 0, -100], [9, 3, 4, 2]])
    out = rdrop_forward(outer, {"input_ids": IDS, "labels": labels}, alpha=1.5)
    first, second = (x[:, :-1] for x in seen[0].chunk(2))
    torch.testing.assert_close(out.loss, rdrop_loss(first, second, labels[:, 1:], 1.5), rtol=1e-5, atol=0)


X = torch.zeros(2, 3)
BAD_KL = {
    "logits_p is a list": (([[0.0, 1.0]], X), TypeError, "logits_p"),
    "logits_p is integer": ((X.long(), X), TypeError, "logits_p"),
    "logits_q is None": ((X, None), TypeError, "logits_q"),
    "logits_q is integer": ((X, X.long()), TypeError, "logits_q"),
    "logits_p has one axis": ((X[0], X[0]), ValueError, "logits_p"),
    "empty batch": ((X[:0], X[:0]), ValueError, "logits_p"),
    "no classes": ((X[:, :0], X[:, :0]), ValueError, "logits_p"),
    "one class": ((X[:, :1], X[:, :1]), ValueError, "logits_p"),
    "other batch size": ((X, torch.zeros(4, 3)), ValueError, "logits_q"),
    "other number of classes": ((X, torch.zeros(2, 4)), ValueError, "logits_q"),
    "logits_q on another device": ((X, X.to("meta")), ValueError, "logits_q"),
    "mask is a list": ((X, X, [1, 1]), TypeError, "mask"),
    "mask of the logits' shape": ((X, X, torch.ones(2, 3)), ValueError, "mask"),
    "mask on another device": ((X, X, torch.ones(2, device="meta")), ValueError, "mask"),
    "mask of 2s": ((X, X, torch.full((2,), 2)), ValueError, "mask"),
    "mask with NaN": ((X, X, torch.full((2,), float("nan"))), ValueError, "mask"),
    "reduction mean": ((X, X, None, "mean"), ValueError, "reduction"),
    "reduction None": ((X, X, None, None), ValueError, "reduction"),
}
LABELS = torch.tensor([0, 2])
BAD_LOSS = {
    "labels are a list": ((X, X, [0, 2], 1.0), TypeError, "labels"),
    "logits_1 is a list": (([[0.0]], X, LABELS, 1.0), TypeError, "logits_1"),
    "logits_1 is integer": ((X.long(), X, LABELS, 1.0), TypeError, "logits_1"),
    "logits_2 is None": ((X, None, LABELS, 1.0), TypeError, "logits_2"),
    "one class": ((X[:, :1], X[:, :1], torch.zeros(2).long(), 1.0), ValueError, "logits_1"),
    "no tokens": (
        (torch.zeros(2, 0, 3), torch.zeros(2, 0, 3), torch.zeros(2, 0).long(), 1.0),
        ValueError,
        "logits_1",
    ),
    "other number of classes": ((X, torch.zeros(2, 4), LABELS, 1.0), ValueError, "logits_2"),
    "logits_2 on another device": ((X, X.to("meta"), LABELS, 1.0), ValueError, "logits_2"),
    "mask of 2s": ((X, X, LABELS, 1.0, torch.full((2,), 2)), ValueError, "mask"),
    "alpha is a bool": ((X, X, LABELS, True), TypeError, "alpha"),
    "label too large": ((X, X, torch.tensor([0, 3]), 1.0), ValueError, "labels"),
    "label negative": ((X, X, torch.tensor([0, -1]), 1.0), ValueError, "labels"),
    "one-hot labels": ((X, X, torch.tensor([[1, 0, 0], [0, 0, 1]]), 1.0), ValueError, "labels"),
    "floating labels for classes": ((X, X, torch.tensor([0.0, 2.0]), 1.0), ValueError, "labels"),
    "labels of other classes": ((X, X, torch.zeros(2, 4), 1.0), ValueError, "labels"),
    "labels of 2s for each class": ((X, X, torch.full((2, 3), 2.0), 1.0), ValueError, "labels"),
    "labels of each token and class": (
        (X.view(2, 1, 3), X.view(2, 1, 3), torch.zeros(2, 1, 3), 1.0),
        ValueError,
        "labels",
    ),
    "mask of each label": ((X, X, torch.zeros(2, 3), 1.0, torch.ones(2, 3)), ValueError, "mask"),
    "too few labels": ((X, X, LABELS[:1], 1.0), ValueError, "labels"),
    "labels on another device": ((X, X, LABELS.to("meta"), 1.0), ValueError, "labels"),
    "numbers of another batch size": ((X[:, 0], X[:1, 0], torch.zeros(2), 1.0), ValueError, "logits_2"),
    "second numbers are integer": ((X[:, 0], X[:, 0].long(), torch.zeros(2), 1.0), TypeError, "logits_2"),
    "no numbers": ((X[:0, 0], X[:0, 0], torch.zeros(0), 1.0), ValueError, "logits_1"),
    "a scalar": ((X[0, 0], X[0, 0], torch.zeros(1), 1.0), ValueError, "labels"),
    "alpha is negative": ((X, X, LABELS, -0.1), ValueError, "alpha"),
    "alpha is NaN": ((X, X, LABELS, float("nan")), ValueError, "alpha"),
    "alpha is infinite": ((X, X, LABELS, INF), ValueError, "alpha"),
    "alpha is a string": ((X, X, LABELS, "1"), TypeError, "alpha"),
    "alpha is None": ((X, X, LABELS, None), TypeError, "alpha"),
    "mask of another shape": ((X, X, LABELS, 1.0, torch.ones(3)), ValueError, "mask"),
}


class Lenient(nn.Module):
    """Takes any labels."""

    def forward(self, input_ids, labels):
        from types import SimpleNamespace

        return SimpleNamespace(loss=torch.zeros(()), logits=torch.rand(len(input_ids), 2))


BATCH = {"input_ids": IDS, "labels": torch.tensor([0, 1, 0])}
BAD_FORWARD = {
    "model is a function": ((print, BATCH, 1.0), TypeError, "model"),
    "batch is a tensor": ((bert(), IDS, 1.0), TypeError, "batch"),
    "batch without labels": ((bert(), {"input_ids": IDS}, 1.0), ValueError, "batch"),
    "labels are a list": ((bert(), {"input_ids": IDS, "labels": [0, 1, 0]}, 1.0), ValueError, "batch"),
    "empty batch": (
        (bert(), {"input_ids": IDS[:0], "labels": torch.zeros(0).long()}, 1.0),
        ValueError,
        "batch",
    ),
    "numbers for classes": (
        (Lenient(), {"input_ids": IDS, "labels": torch.zeros(3)}, 1.0),
        ValueError,
        "labels",
    ),
    "two_passes is a number": ((bert(), {**BATCH}, 1.0, 1), TypeError, "two_passes"),
    "labels are a scalar": (
        (bert(), {"input_ids": IDS, "labels": torch.tensor(1)}, 1.0),
        ValueError,
        "batch",
    ),
    "loss as a sum": ((bert(), {**BATCH, "num_items_in_batch": torch.tensor(3)}, 1.0), ValueError, "batch"),
    "model is None": ((None, BATCH, 1.0), TypeError, "model"),
    "alpha is negative": ((bert(), BATCH, -1.0), ValueError, "alpha"),
    "alpha is infinite": ((bert(), BATCH, INF), ValueError, "alpha"),
    "alpha is NaN": ((bert(), BATCH, float("nan")), ValueError, "alpha"),
    "alpha is a string": ((bert(), BATCH, "1"), TypeError, "alpha"),
}


BAD_BERNOULLI = {
    "logits_p is a list": (([[0.0]], X), TypeError, "logits_p"),
    "logits_q is integer": ((X, X.long()), TypeError, "logits_q"),
    "no logits": ((X[:0], X[:0]), ValueError, "logits_p"),
    "other shape": ((X, X[:1]), ValueError, "logits_q"),
    "on another device": ((X, X.to("meta")), ValueError, "logits_q"),
    "mask of examples": ((X, X, torch.ones(2)), ValueError, "mask"),
    "mask of 2s": ((X, X, torch.full((2, 3), 2)), ValueError, "mask"),
    "reduction mean": ((X, X, None, "mean"), ValueError, "reduction"),
}


@pytest.mark.parametrize("case", BAD_BERNOULLI)
def test_bad_input_of_bernoulli_kl(case):
    arguments, error, name = BAD_BERNOULLI[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        bernoulli_kl(*arguments)


@pytest.mark.parametrize("case", BAD_KL)
def test_bad_input_of_symmetric_kl(case):
    arguments, error, name = BAD_KL[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        symmetric_kl(*arguments)


@pytest.mark.parametrize("case", BAD_LOSS)
def test_bad_input_of_rdrop_loss(case):
    arguments, error, name = BAD_LOSS[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        rdrop_loss(*arguments)


@pytest.mark.parametrize("case", BAD_FORWARD)
def test_bad_input_of_rdrop_forward(case):
    arguments, error, name = BAD_FORWARD[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        rdrop_forward(*arguments)


def test_model_without_a_loss_is_an_error():
    class Bare(nn.Module):
        def forward(self, input_ids, labels):
            return torch.zeros(len(input_ids), 2)

    with pytest.raises(ValueError, match="^model: Bare .* accepted"):
        rdrop_forward(Bare(), BATCH, 1.0)


def test_gradients_of_single_examples_by_vmap():
    p, q, y = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    for f in (
        lambda p, q, y: symmetric_kl(p[None], q[None]),
        lambda p, q, y: rdrop_loss(p[None], q[None], y[None], 1.0),
    ):
        each = torch.func.vmap(torch.func.grad(f))(p, q, y)
        for gradient, x, *others in zip(each, p, q, y):
            x = x.clone().requires_grad_()
            torch.testing.assert_close(gradient, torch.autograd.grad(f(x, *others), x)[0])


def test_several_numbers_are_compared_by_squares_and_none_is_ignored():
    """As the model's own loss compares them, and as the Trainer's R-Drop does (problem_type "regression")."""
    p, q = torch.randn(2, 5, 3, dtype=torch.float64)
    labels = torch.randn(5, 3, dtype=torch.float64)
    labels[0] = -100.0
    for found in (
        divergence.divergence_of_own_loss(p, q, labels, "regression"),
        _batch_loss.divergence(None, p, q, labels, "regression"),
    ):
        torch.testing.assert_close(found, F.mse_loss(p, q))


def test_divergence_of_a_loss_ignores_what_the_loss_ignores():
    p, q = torch.randn(2, 6, 3, dtype=torch.float64)
    labels, keep = torch.tensor([0, 1, 2, 7, 7, 0]), torch.tensor([0, 1, 2, 5])
    for criterion in (FocalLoss(ignore_index=7), DiceLoss(ignore_index=7)):
        found = _batch_loss.divergence(criterion, p, q, labels, None)
        torch.testing.assert_close(found, symmetric_kl(p[keep], q[keep]))


def test_divergence_of_class_indices_under_a_sigmoid_is_that_of_yes_and_no():
    """A shift of all logits changes sigmoids, and no softmax."""
    p = torch.randn(4, 3, dtype=torch.float64)
    loss, labels, kept = (
        DiceLoss(activation="sigmoid"),
        torch.tensor([0, 2, -100, 1]),
        torch.tensor([0, 1, 3]),
    )
    found = _batch_loss.divergence(loss, p, p + 5, labels, None)
    torch.testing.assert_close(found, bernoulli_kl(p[kept], p[kept] + 5))


def test_dice_plus_cross_entropy_of_soft_labels_and_of_none():
    logits = torch.randn(3, 4, dtype=torch.float64)
    soft = torch.rand(3, 4, dtype=torch.float64).softmax(dim=-1)
    soft[1] = -100.0
    kept, both = torch.tensor([0, 2]), _batch_loss.DiceCE()
    torch.testing.assert_close(both(logits, soft), both(logits[kept], soft[kept]))
    cross_entropy = both(logits[kept], soft[kept]) - DiceLoss()(logits[kept], soft[kept])
    torch.testing.assert_close(cross_entropy, F.cross_entropy(logits[kept], soft[kept]))
    assert torch.isfinite(both(logits, torch.full((3,), -100)))
