"""Oracles: SciPy's pearsonr, NumPy's corrcoef, and the formulas in float64 NumPy."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from tricks_lib.mse_corr_loss import CCCLoss, MSECorrLoss, ccc_loss, mse_corr_loss, pearson_corr

DTYPES = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-5,
    torch.bfloat16: 1e-5,
}  # half precision is exact once in float32
LOSSES = [mse_corr_loss, ccc_loss]


def batch(*shape, dtype=torch.float64, seed=0, offset=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=shape)
    x = 0.6 * y + rng.normal(size=shape)
    return torch.tensor(x * scale + offset).to(dtype), torch.tensor(y * scale + offset).to(dtype)


def oracle_mse_corr(x, y, p=1.5):
    return ((x - y) ** 2).mean() + p * (1 - stats.pearsonr(x, y).statistic)


def oracle_ccc(x, y):
    """Lin 1989, equation (2), with covariances over n."""
    return 1 - 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


ORACLES = {mse_corr_loss: oracle_mse_corr, ccc_loss: oracle_ccc}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [2, 3, 50, 1000])
def test_pearson_equals_scipy(dtype, n):
    x, y = batch(n, dtype=dtype)
    expected = stats.pearsonr(x.double().numpy(), y.double().numpy()).statistic
    np.testing.assert_allclose(pearson_corr(x, y).item(), expected, atol=DTYPES[dtype])


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_pearson_along_any_axis_equals_numpy(dim):
    x, y = batch(7, 5, 6)
    r = pearson_corr(x, y, dim=dim)
    X, Y = (
        np.moveaxis(x.numpy(), dim, 0).reshape(x.shape[dim], -1),
        np.moveaxis(y.numpy(), dim, 0).reshape(x.shape[dim], -1),
    )
    np.testing.assert_allclose(
        r.flatten().numpy(), [np.corrcoef(a, b)[0, 1] for a, b in zip(X.T, Y.T)], atol=1e-12
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loss_equals_the_float64_formula(loss, dtype):
    x, y = batch(40, dtype=dtype)
    value = loss(x, y)
    assert value.shape == () and value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(
        value.item(), ORACLES[loss](x.double().numpy(), y.double().numpy()), rtol=DTYPES[dtype]
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(40, 3), (8, 5, 3), (40, 1)], ids=str)
def test_several_targets_are_the_mean_over_the_columns(loss, shape):
    x, y = batch(*shape)
    X, Y = x.reshape(-1, shape[-1]).numpy().T, y.reshape(-1, shape[-1]).numpy().T
    np.testing.assert_allclose(
        loss(x, y).item(), np.mean([ORACLES[loss](a, b) for a, b in zip(X, Y)]), rtol=1e-12
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf"), 1e30])
def test_masked_positions_count_for_nothing_whatever_they_hold(loss, elementwise, fill):
    x, y = batch(8, 5, 3)
    keep = torch.rand(8, 5, 3 if elementwise else 1, generator=torch.Generator().manual_seed(1)) < 0.6
    wide = keep.expand(8, 5, 3)
    expected = np.mean(
        [ORACLES[loss](x[..., c][wide[..., c]].numpy(), y[..., c][wide[..., c]].numpy()) for c in range(3)]
    )
    x, y = x.masked_fill(~wide, fill).requires_grad_(), y.masked_fill(~wide, fill)
    value = loss(x, y, mask=keep if elementwise else keep.squeeze(-1).long())
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)
    value.backward()
    assert torch.isfinite(x.grad).all() and (x.grad[~wide] == 0).all() and (x.grad[wide] != 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_all_masked_is_zero_with_zero_gradient(loss):
    x = torch.randn(4, 2, requires_grad=True)
    value = loss(x, torch.full((4, 2), float("nan")), mask=torch.zeros(4))
    value.backward()
    assert value.item() == 0 and (x.grad == 0).all()


# Defects of the circulating snippet and of well-known libraries


def test_worked_example_is_2_0341_not_1_9949_as_published():
    x, y = torch.tensor([0.1, 0.2, 0.2, 0.8, 0.4]), torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0])
    assert round(MSECorrLoss(p=1.5)(x, y).item(), 4) == 2.0341
    assert round(MSECorrLoss(p=1.5)(x, y.long()).item(), 4) == 2.0341
    z = lambda v: (v - v.mean(dim=0)) / v.std(dim=0)  # noqa: E731: the snippet divides by n - 1 here and by n in the mean
    assert round((((x - y) ** 2).mean() + 1.5 * (1 - (z(x) * z(y)).mean())).item(), 4) == 1.9949


@pytest.mark.parametrize("loss", [MSECorrLoss(p=1.5), CCCLoss()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n", [1, 2, 5, 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_perfect_prediction_has_loss_zero_not_p_over_n(loss, n, dtype):
    for scale, offset in (1, 0), (1e-3, 0), (1, 100), (0, 3):
        y = batch(n, dtype=dtype, scale=scale, offset=offset)[1]
        assert loss(y, y).item() == 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3), (2, 3, 1)], ids=str)
def test_loss_is_a_scalar_not_of_shape_one(loss, shape):
    assert loss(*batch(*shape)).shape == ()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "constant", ["predictions", "targets", "both", "both, equal", "batch of one", "batch of one, (1, 1)"]
)
def test_constant_batch_and_batch_of_one_are_finite_and_differentiable(loss, dtype, constant):
    x, y = batch(5, dtype=dtype)
    if constant == "predictions" or constant.startswith("both"):
        x = torch.full_like(x, 0.1)
    if constant == "targets" or constant.startswith("both"):
        y = torch.full_like(y, 0.1 if "equal" in constant else 0.3)
    if "one" in constant:
        x, y = (v[:1].reshape((1, 1) if "(" in constant else 1) for v in (x, y))
    x = x.clone().requires_grad_()
    value = loss(x, y)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(x.grad).all()
    assert pearson_corr(x, y).abs().max() == 0


def test_constant_targets_leave_the_squared_error_alone():
    x, y = batch(5)[0], torch.full((5,), 0.1, dtype=torch.float64)
    assert mse_corr_loss(x, y).item() == torch.nn.functional.mse_loss(x, y).item()
    collapsed = mse_corr_loss(y, x)  # constant predictions of targets that differ are not rewarded
    np.testing.assert_allclose(collapsed.item(), ((x - y) ** 2).mean().item() + 1.5)


def test_constant_of_a_value_whose_mean_rounds_is_still_constant():
    for n in (3, 7, 49, 1000):
        x = torch.full((n,), 0.1)
        assert pearson_corr(x, torch.arange(n).float()).item() == 0
        assert pearson_corr(torch.arange(n), x).item() == 0


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_offset_does_not_destroy_the_correlation(offset):
    """N * sum(xy) - sum(x) sum(y) in float32 gives -inf at an offset of 1e4."""
    x, y = batch(64, dtype=torch.float32, offset=offset)
    np.testing.assert_allclose(
        pearson_corr(x, y).item(), stats.pearsonr(x.double().numpy(), y.double().numpy()).statistic, atol=1e-5
    )


def test_integers_with_an_offset_keep_the_correlation():
    """Seconds since 1970 are multiples of 128 in float32."""
    assert pearson_corr(torch.arange(10) + 1_700_000_000, torch.arange(10)).item() == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_round_the_loss_to_half_precision(loss):
    x, y = batch(40, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, y)
    torch.testing.assert_close(value, loss(x, y), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e-8, 1e-4, 1e8, 1e19, 1e30])
def test_small_and_large_scales_keep_the_correlation(scale):
    """An epsilon added to the variances makes 0.77 read 0.9999, or 0."""
    x, y = batch(64, dtype=torch.float32)
    expected = pearson_corr(x.double(), y.double()).item()
    np.testing.assert_allclose(pearson_corr(x * scale, y).item(), expected, atol=1e-5)
    np.testing.assert_allclose(pearson_corr(x * scale, y * scale).item(), expected, atol=1e-5)
    np.testing.assert_allclose(ccc_loss(x * scale, y * scale).item(), ccc_loss(x, y).item(), rtol=1e-4)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(3, 30),
    seed=st.integers(0, 2**16),
    a=st.floats(1e-6, 1e6),
    b=st.floats(-1e3, 1e3),
    sign=st.sampled_from([1, -1]),
    c=st.integers(0, 2**16),
)
def test_correlation_ignores_scale_offset_and_order_and_flips_with_the_sign(n, seed, a, b, sign, c):
    x, y = batch(n, seed=seed)
    assume(abs(b) < 1e6 * a)
    r = pearson_corr(x, y).item()
    assert -1 <= r <= 1
    np.testing.assert_allclose(pearson_corr(sign * a * x + b, y).item(), sign * r, atol=1e-8)
    np.testing.assert_allclose(pearson_corr(y, x).item(), r, atol=1e-12)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(c))
    for loss in LOSSES:
        np.testing.assert_allclose(loss(x[order], y[order]).item(), loss(x, y).item(), atol=1e-12)
    assert ccc_loss(x, y).item() >= 1 - abs(r) - 1e-12  # Lin: |CCC| <= |r|


@pytest.mark.parametrize(
    "function",
    [lambda x, y: pearson_corr(x, y), mse_corr_loss, ccc_loss, lambda x, y: mse_corr_loss(x, y, mask=MASK)],
)
def test_gradient_in_float64(function):
    x, y = batch(5, 2)
    x.requires_grad_()
    assert gradcheck(lambda x: function(x, y), x) and gradgradcheck(lambda x: function(x, y), x)


MASK = torch.tensor([1, 1, 0, 1, 1])


def test_gradient_reaches_targets_too():
    x, y = batch(5)
    assert gradcheck(mse_corr_loss, (x, y.requires_grad_())) and gradcheck(pearson_corr, (x, y))


def test_training_on_it_reaches_the_targets():
    y = batch(32, dtype=torch.float32)[1]
    for loss in (MSECorrLoss(), CCCLoss()):
        w = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([w], lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            value = loss((w[0] + 0.1) * (3 * y - 2) + w[1], y)
            value.backward()
            optimizer.step()
        assert value < 1e-3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", [MSECorrLoss(p=0.7), CCCLoss()], ids=lambda m: type(m).__name__)
def test_compiles_as_one_graph(loss, masked):
    x, y = batch(5, 2, dtype=torch.float32)
    arguments = (x.requires_grad_(), y, MASK) if masked else (x.requires_grad_(), y)
    torch._dynamo.reset()
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(*arguments)
    gradient = torch.autograd.grad(value, x)[0]
    torch.testing.assert_close(value, loss(*arguments))
    torch.testing.assert_close(gradient, torch.autograd.grad(loss(*arguments), x)[0])


def test_modules_keep_their_parameters_and_can_be_copied():
    loss = MSECorrLoss(p=0.5)
    assert loss.p == 0.5
    x, y = batch(5)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other(x, y) == loss(x, y) == mse_corr_loss(x, y, p=0.5)
    assert CCCLoss()(x, y) == ccc_loss(x, y)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_single_examples_by_vmap(loss, masked):
    x, y = batch(4, 5, 2)
    mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(2)) < 0.7
    if masked:
        single = torch.func.grad(lambda x, y, mask: loss(x, y, mask=mask))
        each, examples = torch.func.vmap(single)(x, y, mask), [*zip(x, y, mask)]
    else:
        single = torch.func.grad(lambda x, y, mask: loss(x, y))
        each, examples = torch.func.vmap(single)(x, y, mask), [*zip(x, y, [None] * 4)]
    for gradient, (x, y, mask) in zip(each, examples):
        x = x.clone().requires_grad_()
        expected = torch.autograd.grad(loss(x, y, mask=mask), x)[0]
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    shared = torch.func.vmap(lambda y: loss(x.detach(), y))(batch(3, 5, 2, seed=1)[1])  # one x, several y
    assert shared.shape == (3,)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_hessian_and_forward_mode_agree_with_two_backward_passes(loss, masked):
    x, y = batch(5, 2)
    f = lambda x: loss(x, y, mask=MASK if masked else None)
    expected = torch.autograd.functional.hessian(f, x)
    torch.testing.assert_close(torch.func.hessian(f)(x), expected, rtol=1e-9, atol=1e-12)
    direction, point = torch.randn_like(x), x.clone().requires_grad_()
    slope = (torch.autograd.grad(f(point), point)[0] * direction).sum()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(x, direction))).tangent
        torch.testing.assert_close(tangent, slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_fake_and_meta_tensors_have_a_loss_and_a_gradient(loss, masked):
    x, y = batch(5, 2)
    with FakeTensorMode() as mode:
        fake, targets, mask = (mode.from_tensor(v) for v in (x, y, MASK))
        value = loss(fake.requires_grad_(), targets, mask=mask if masked else None)
        assert value.shape == () and torch.autograd.grad(value, fake)[0].shape == x.shape
    assert loss(x.to("meta"), y.to("meta"), mask=MASK.to("meta") if masked else None).is_meta


def test_squared_error_is_offset_and_scale_and_correlation():
    """Equation (3), by NumPy: the term p (1 - r) adds to the last part alone."""
    x, y = batch(50)
    s_x, s_y, r = x.numpy().std(), y.numpy().std(), np.corrcoef(x, y)[0, 1]
    for p in 0.0, 1.5:
        expected = (x.mean() - y.mean()).item() ** 2 + (s_x - s_y) ** 2 + (2 * s_x * s_y + p) * (1 - r)
        np.testing.assert_allclose(mse_corr_loss(x, y, p=p).item(), expected, rtol=1e-12)


def test_non_contiguous_tensors_are_accepted():
    x, y = batch(6, 4)
    assert mse_corr_loss(x.T, y.T) == mse_corr_loss(x.T.contiguous(), y.T.contiguous())


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_predictions_give_a_nan_loss_not_a_wrong_one(loss):
    x, y = batch(5)
    x[2] = float("nan")
    assert torch.isnan(loss(x, y)) and torch.isnan(pearson_corr(x, y))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", LOSSES)
def test_on_cuda_equals_cpu_and_does_not_synchronise(loss):
    x, y = batch(8, 3, dtype=torch.float32)
    mask = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1])
    on_gpu = x.cuda(), y.cuda(), mask.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = loss(*on_gpu[:2], mask=on_gpu[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(value.cpu(), loss(x, y, mask=mask))


X, Y = torch.zeros(4, 2), torch.ones(4, 2)
BAD_INPUT = {
    "predictions is a list": (mse_corr_loss, ([0.1], Y), {}, TypeError, "predictions"),
    "predictions are integers": (mse_corr_loss, (X.long(), Y), {}, TypeError, "predictions"),
    "predictions are complex": (ccc_loss, (X.to(torch.complex64), Y), {}, TypeError, "predictions"),
    "predictions are a number": (
        mse_corr_loss,
        (torch.tensor(1.0), torch.tensor(1.0)),
        {},
        ValueError,
        "predictions",
    ),
    "empty batch": (mse_corr_loss, (torch.zeros(0, 2), torch.zeros(0, 2)), {}, ValueError, "predictions"),
    "no targets": (ccc_loss, (torch.zeros(4, 0), torch.zeros(4, 0)), {}, ValueError, "predictions"),
    "targets is a NumPy array": (mse_corr_loss, (X, Y.numpy()), {}, TypeError, "targets"),
    "targets are bool": (mse_corr_loss, (X, Y.bool()), {}, TypeError, "targets"),
    "targets are complex": (mse_corr_loss, (X, Y.to(torch.complex64)), {}, TypeError, "targets"),
    "targets (B,) that would broadcast with predictions (B, 1)": (
        mse_corr_loss,
        (X[:, :1], Y[:, 0]),
        {},
        ValueError,
        "targets",
    ),
    "targets of another batch size": (ccc_loss, (X, Y[:3]), {}, ValueError, "targets"),
    "targets transposed": (mse_corr_loss, (X, Y.T), {}, ValueError, "targets"),
    "targets with NaN": (mse_corr_loss, (X, Y * float("nan")), {}, ValueError, "targets"),
    "targets with inf": (ccc_loss, (X, Y * float("inf")), {}, ValueError, "targets"),
    "targets with NaN where the mask is 1": (
        mse_corr_loss,
        (X, Y * float("nan")),
        {"mask": torch.ones(4)},
        ValueError,
        "targets",
    ),
    "targets on another device": (mse_corr_loss, (X, Y.to("meta")), {}, ValueError, "targets"),
    "predictions on another device": (ccc_loss, (X.to("meta"), Y), {}, ValueError, "targets"),
    "mask with infinity": (
        mse_corr_loss,
        (X, Y),
        {"mask": torch.full((4,), float("inf"))},
        ValueError,
        "mask",
    ),
    "mask is a list": (mse_corr_loss, (X, Y), {"mask": [1, 1, 1, 1]}, TypeError, "mask"),
    "mask of another shape": (mse_corr_loss, (X, Y), {"mask": torch.ones(2)}, ValueError, "mask"),
    "mask without the only axis": (
        ccc_loss,
        (X[:, 0], Y[:, 0]),
        {"mask": torch.tensor(1)},
        ValueError,
        "mask",
    ),
    "mask of 2s": (mse_corr_loss, (X, Y), {"mask": torch.full((4,), 2)}, ValueError, "mask"),
    "mask with NaN": (ccc_loss, (X, Y), {"mask": torch.full((4,), float("nan"))}, ValueError, "mask"),
    "mask on another device": (
        mse_corr_loss,
        (X, Y),
        {"mask": torch.ones(4, device="meta")},
        ValueError,
        "mask",
    ),
    "p is negative": (mse_corr_loss, (X, Y), {"p": -0.1}, ValueError, "p"),
    "p is NaN": (MSECorrLoss, (), {"p": float("nan")}, ValueError, "p"),
    "p is infinite": (MSECorrLoss, (), {"p": float("inf")}, ValueError, "p"),
    "p is a string": (MSECorrLoss, (), {"p": "1.5"}, TypeError, "p"),
    "p is a bool": (MSECorrLoss, (), {"p": True}, TypeError, "p"),
    "x is a list": (pearson_corr, ([1.0], X), {}, TypeError, "x"),
    "x is bool": (pearson_corr, (X.bool(), Y), {}, TypeError, "x"),
    "x has no axis": (pearson_corr, (torch.tensor(1.0), torch.tensor(1.0)), {}, ValueError, "x"),
    "x is empty": (pearson_corr, (X[:0], Y[:0]), {}, ValueError, "x"),
    "y has another shape": (pearson_corr, (X, Y[:2]), {}, ValueError, "y"),
    "y on another device": (pearson_corr, (X, Y.to("meta")), {}, ValueError, "y"),
    "dim out of range": (pearson_corr, (X, Y), {"dim": 2}, ValueError, "dim"),
    "dim below range": (pearson_corr, (X, Y), {"dim": -3}, ValueError, "dim"),
    "dim is a float": (pearson_corr, (X, Y), {"dim": 0.0}, TypeError, "dim"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    function, arguments, keywords, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        function(*arguments, **keywords)
