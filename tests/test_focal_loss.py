"""Oracles: F.cross_entropy and binary_cross_entropy_with_logits at gamma 0, the formulas of torchvision,
MONAI, Keras and kornia in float64, NumPy.
"""

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from tricks_lib.focal_loss import BinaryFocalLoss, FocalLoss, binary_focal_loss, focal_loss

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
HALF = [torch.float16, torch.bfloat16]
GAMMAS = [0, 0.1, 0.5, 1.0, 2.0, 3.5, 5]
EXTREME = (1e4, -1e4, 104.0, -104.0, 88.7, -88.7, 20.0, -20.0, 0.0)


def binary(*shape, dtype=torch.float64, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
    return logits.requires_grad_(), (torch.rand(*shape, generator=generator) < 0.4).long()


def classes(*shape, C=5, dtype=torch.float64, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(*shape, C, generator=generator, dtype=torch.float64) * scale).to(dtype)
    return logits.requires_grad_(), torch.randint(C, shape, generator=generator)


def torchvision_formula(logits, labels, alpha=0.25, gamma=2.0):
    """torchvision, ops/focal_loss.py, sigmoid_focal_loss with reduction="none"."""
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    loss = cross_entropy * (1 - (p * labels + (1 - p) * (1 - labels))) ** gamma
    return loss if alpha is None else (alpha * labels + (1 - alpha) * (1 - labels)) * loss


def monai_formula(logits, one_hot, gamma=2.0):
    """MONAI, losses/focal_loss.py, softmax_focal_loss, classes in the last axis, summed over them."""
    log_p = logits.log_softmax(-1)
    return (-((1 - log_p.exp()) ** gamma) * log_p * one_hot).sum(-1)


def kornia_formula(logits, labels, alpha=0.25, gamma=2.0, pos_weight=1.0):
    """kornia, losses/focal.py, binary_focal_loss_with_logits with reduction="none"; labels in [0, 1]."""
    p = torch.sigmoid(logits)
    positive = -alpha * pos_weight * (1 - p) ** gamma * labels * F.logsigmoid(logits)
    return positive - (1 - alpha) * p**gamma * (1 - labels) * F.logsigmoid(-logits)


def distributions(*shape, C=5, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, C, generator=generator, dtype=torch.float64).mul(2).softmax(-1).to(dtype)


def grad(loss, logits):
    return torch.autograd.grad(loss.sum(), logits)[0]


def without_slope(function, logits, *arguments, **keywords):
    """The value by the plain formula, which is what runs where no gradient is asked for."""
    with torch.no_grad():
        return function(logits, *arguments, **keywords)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5, 5])
@pytest.mark.parametrize("alpha", [0.25, 0.9, 0, 1, None])
def test_binary_equals_torchvision_formula_with_its_gradient(dtype, gamma, alpha):
    logits, labels = binary(40, 6, dtype=dtype)
    wide = logits.detach().double().requires_grad_()
    expected = torchvision_formula(wide, labels.double(), alpha, gamma)
    loss = binary_focal_loss(logits, labels, gamma, alpha, "none")
    assert loss.shape == logits.shape
    for value, target in (
        (loss, expected),
        (without_slope(binary_focal_loss, logits, labels, gamma, alpha, "none"), expected),
    ):
        torch.testing.assert_close(value.double(), target, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    torch.testing.assert_close(
        grad(loss, logits).double(), grad(expected, wide), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5])
def test_several_classes_equal_monai_formula_with_its_gradient(dtype, gamma):
    logits, labels = classes(40, dtype=dtype)
    wide = logits.detach().double().requires_grad_()
    expected = monai_formula(wide, F.one_hot(labels, 5), gamma)
    loss = focal_loss(logits, labels, gamma, reduction="none")
    for value in loss, without_slope(focal_loss, logits, labels, gamma, reduction="none"):
        torch.testing.assert_close(value.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    torch.testing.assert_close(
        grad(loss, logits).double(), grad(expected, wide), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("label_smoothing", [0.1, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_label_smoothing_is_focal_loss_of_every_class_weighted_by_the_smoothed_label(
    label_smoothing, weighted
):
    """Keras, CategoricalFocalCrossentropy: the factor (1 - p_c)^gamma of each class on the smoothed one-hot
    label.
    """
    logits, labels = classes(20)
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0], dtype=torch.float64) if weighted else None
    smoothed = F.one_hot(labels, 5).double() * (1 - label_smoothing) + label_smoothing / 5
    expected = monai_formula(logits, smoothed * (1 if weight is None else weight))
    loss = focal_loss(logits, labels, weight=weight, label_smoothing=label_smoothing, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_gamma_zero_is_cross_entropy(reduction, label_smoothing, weighted, ignored):
    logits, labels = classes(6, 7)
    labels[0, :3] = ignored
    options = {
        "weight": torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0], dtype=torch.float64) if weighted else None,
        "ignore_index": ignored, "label_smoothing": label_smoothing, "reduction": reduction,
    }  # fmt: skip
    expected = F.cross_entropy(logits.movedim(-1, 1), labels, **options)
    loss = focal_loss(logits, labels, gamma=0.0, **options)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad(loss, logits), grad(expected, logits), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_gamma_zero_is_binary_cross_entropy(reduction):
    logits, labels = binary(6, 7)
    expected = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction=reduction)
    loss = binary_focal_loss(logits, labels, gamma=0.0, alpha=None, reduction=reduction)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad(loss, logits), grad(expected, logits), rtol=1e-9, atol=1e-9)


def test_two_classes_are_one_logit():
    logits, labels = binary(30)
    pair = torch.stack([torch.zeros_like(logits), logits], dim=-1)
    torch.testing.assert_close(
        focal_loss(pair, labels), binary_focal_loss(logits, labels, alpha=None), rtol=1e-12, atol=1e-12
    )


def test_by_hand():
    assert binary_focal_loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(
        0.25 * 0.5**2 * math.log(2)
    )
    assert binary_focal_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(
        0.75 * 0.5**2 * math.log(2)
    )
    assert focal_loss(torch.zeros(1, 4), torch.tensor([3])).item() == pytest.approx(0.75**2 * math.log(4))


def test_worked_example_gives_0_0908():
    logits = torch.tensor([[0.3992, 0.2232, 0.6435], [0.3800, 0.3044, 0.3241]])
    labels = torch.tensor([[0, 1, 1], [1, 0, 1]])
    for given_labels in (
        labels,
        labels.float(),
        labels.bool(),
        labels.to(torch.uint8),
        labels.double(),
        labels.half(),
    ):
        assert round(BinaryFocalLoss()(logits, given_labels).item(), 4) == 0.0908
        assert round(BinaryFocalLoss()(logits.requires_grad_(), given_labels).item(), 4) == 0.0908


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_computed_in_float32(dtype):
    logits, labels = binary(40, 6, dtype=dtype)
    loss = binary_focal_loss(logits, labels)
    assert loss.dtype == torch.float32 and grad(binary_focal_loss(logits, labels), logits).dtype == dtype
    torch.testing.assert_close(loss, binary_focal_loss(logits.float(), labels), rtol=0, atol=0)
    logits, labels = classes(40, dtype=dtype)
    loss = focal_loss(logits, labels)
    assert loss.dtype == torch.float32 and grad(focal_loss(logits, labels), logits).dtype == dtype
    torch.testing.assert_close(loss, focal_loss(logits.float(), labels), rtol=0, atol=0)


def test_autocast_does_not_round_the_loss_to_half_precision():
    for loss, (logits, labels) in (
        (BinaryFocalLoss(), binary(40, 6, dtype=torch.float32)),
        (FocalLoss(), classes(40, dtype=torch.float32)),
    ):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(logits, labels)
        torch.testing.assert_close(value, loss(logits, labels), rtol=0, atol=0)


# Soft labels and weights of the positives


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5])
@pytest.mark.parametrize(
    "weights", [{}, {"alpha": 0.9}, {"pos_weight": 3.0}, {"alpha": 0.1, "pos_weight": 0.2}]
)
def test_soft_binary_labels_equal_kornia_formula_with_its_gradient(dtype, gamma, weights):
    logits, _ = binary(40, 6, dtype=dtype)
    labels = torch.rand(40, 6, generator=torch.Generator().manual_seed(1))
    labels[0] = torch.tensor([0.0, 1.0, 0.5, 1e-4, 1 - 1e-4, 0.25])
    wide = logits.detach().double().requires_grad_()
    expected = kornia_formula(wide, labels.double(), gamma=gamma, **weights)
    loss = binary_focal_loss(logits, labels, gamma, reduction="none", **weights)
    plain = without_slope(binary_focal_loss, logits, labels, gamma, reduction="none", **weights)
    for value in loss, plain:
        torch.testing.assert_close(value.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    gradients = grad(loss, logits).double(), grad(expected, wide)
    torch.testing.assert_close(*gradients, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("pos_weight", [None, 3.0, 1e6, 1e-6, torch.tensor([0.0, 1.0, 4.0, 1e-6, 0.5, 1e6])])
def test_binary_gamma_zero_is_binary_cross_entropy_with_its_pos_weight(reduction, soft, pos_weight):
    logits, labels = binary(7, 6)
    labels = 0.8 * labels.double() + 0.1 if soft else labels.double()
    theirs = pos_weight if pos_weight is None else torch.as_tensor(pos_weight).double()
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction=reduction, pos_weight=theirs)
    options = {"gamma": 0.0, "alpha": None, "reduction": reduction, "pos_weight": pos_weight}
    loss = binary_focal_loss(logits, labels, **options)
    for value in loss, without_slope(binary_focal_loss, logits, labels, **options):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(grad(loss, logits), grad(expected, logits), rtol=1e-6, atol=1e-9)


def test_extreme_weights_of_float32_positives_lose_no_digits():
    """w0 + (w1 - w0) y, in float32, has 3 % error for a positive that weighs a millionth."""
    for alpha, pos_weight in (1e-6, None), (None, 1e-6), (None, 1e6):
        for label in 0.0, 1.0:
            logits = torch.zeros(1, requires_grad=True)
            weight = (alpha or 1.0) * (pos_weight or 1.0) if label else 1 - (alpha or 0.0)
            loss = binary_focal_loss(logits, torch.tensor([label]), 2.0, alpha, pos_weight=pos_weight)
            assert loss.item() == pytest.approx(weight * math.log(2) / 4, rel=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_soft_labels_equal_keras_formula_with_its_gradient(dtype, gamma, label_smoothing, weighted):
    """Keras, CategoricalFocalCrossentropy: alpha (1 - p)^gamma times -y log p, summed over the classes."""
    logits, _ = classes(40, dtype=dtype)
    labels, wide = distributions(40, dtype=dtype), logits.detach().double().requires_grad_()
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0], dtype=dtype) if weighted else None
    y = labels.double() * (1 - label_smoothing) + label_smoothing / 5
    expected = monai_formula(wide, y if weight is None else y * weight.double(), gamma)
    loss = focal_loss(logits, labels, gamma, weight, label_smoothing=label_smoothing, reduction="none")
    torch.testing.assert_close(loss.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    gradients = grad(loss, logits).double(), grad(expected, wide)
    torch.testing.assert_close(*gradients, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_is_cross_entropy_with_soft_labels(reduction, label_smoothing, weighted):
    logits, _ = classes(6, 7)
    labels, options = distributions(6, 7), {"label_smoothing": label_smoothing, "reduction": reduction}
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0], dtype=torch.float64) if weighted else None
    expected = F.cross_entropy(logits.movedim(-1, 1), labels.movedim(-1, 1), weight, **options)
    loss = focal_loss(logits, labels, 0.0, weight, **options)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad(loss, logits), grad(expected, logits), rtol=1e-9, atol=1e-9)


def test_hard_labels_are_soft_labels_of_one_share():
    logits, labels = classes(30)
    one_hot = F.one_hot(labels, 5).double()
    torch.testing.assert_close(focal_loss(logits, one_hot), focal_loss(logits, labels), rtol=1e-9, atol=1e-9)
    multi, hard = binary(30, 3)
    nearly = hard.double().requires_grad_()  # whoever differentiates by labels gets the soft form
    loss = binary_focal_loss(multi, nearly)
    torch.testing.assert_close(loss, binary_focal_loss(multi, hard), rtol=1e-9, atol=1e-9)
    assert (grad(loss, nearly) != 0).all()


def test_two_soft_classes_are_one_logit():
    logits, _ = binary(30)
    labels = torch.rand(30, dtype=torch.float64)
    pair, shares = (torch.stack(two, dim=-1) for two in ((0 * logits, logits), (1 - labels, labels)))
    expected = binary_focal_loss(logits, labels, alpha=None)
    torch.testing.assert_close(focal_loss(pair, shares), expected, rtol=1e-12, atol=1e-12)


def test_gradient_of_soft_labels():
    logits, _ = binary(4, 3)
    labels = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(binary_focal_loss, (logits, labels)) and gradgradcheck(
        binary_focal_loss, (logits, labels)
    )
    logits, shares = classes(4)[0], distributions(4)
    f = lambda x, z: focal_loss(x, z.softmax(-1), reduction="none")
    assert gradcheck(f, (logits, shares.requires_grad_())) and gradgradcheck(f, (logits, shares))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_soft_labels_in_half_precision_need_not_sum_to_one_exactly(dtype):
    logits, shares = classes(20, C=3)[0], distributions(20, C=3, dtype=dtype)
    assert (shares.double().sum(-1) != 1).any()
    torch.testing.assert_close(focal_loss(logits, shares), focal_loss(logits, shares.double()))


@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [-100, 0, 1])
def test_ignored_soft_labels_count_for_nothing_whatever_their_logits(fill, reduction, ignored):
    keep = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)) < 0.6
    logits, shares = classes(4, 6)[0], distributions(4, 6)
    weight = torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0])
    x = logits.detach().masked_fill(~keep.unsqueeze(-1), fill).requires_grad_()
    y = shares.masked_fill(~keep.unsqueeze(-1), ignored)
    loss = focal_loss(x, y, weight=weight, ignore_index=ignored, reduction=reduction)
    alone = focal_loss(logits[keep], shares[keep], weight=weight, reduction=reduction)
    torch.testing.assert_close(loss[keep] if reduction == "none" else loss, alone)
    assert (grad(loss, x)[~keep] == 0).all()
    multi, labels = binary(4, 6)[0], torch.rand(4, 6, generator=torch.Generator().manual_seed(4))
    x = multi.detach().masked_fill(~keep, fill).requires_grad_()
    loss = binary_focal_loss(x, labels.masked_fill(~keep, -1), reduction=reduction, ignore_index=-1)
    alone = binary_focal_loss(multi[keep], labels[keep], reduction=reduction)
    torch.testing.assert_close(loss[keep] if reduction == "none" else loss, alone)
    assert (grad(loss, x)[~keep] == 0).all()


def test_masked_out_class_without_a_share_gets_no_gradient_from_soft_labels():
    """F.cross_entropy gives NaN here, 0 times infinity."""
    logits, shares = classes(10, C=4)[0], distributions(10, C=4)
    masked = F.pad(logits.detach(), (0, 1), value=float("-inf")).requires_grad_()
    loss, without = focal_loss(masked, F.pad(shares, (0, 1))), focal_loss(logits, shares)
    torch.testing.assert_close(loss, without)
    torch.testing.assert_close(grad(loss, masked), F.pad(grad(without, logits), (0, 1)))


# Defects of the circulating snippets and of well-known libraries


@pytest.mark.parametrize("gap", [0.5, 4.0, 12.0, 16.0, 24.0, 60.0])
@pytest.mark.parametrize("offset", [0.0, 1024.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("form", ["training", "plain", "second derivative", "soft", "smoothed", "binary"])
def test_nearly_certain_examples_keep_all_digits(gap, offset, gamma, form):
    """1 - p_t is off by 6 % at a gap of 16 in float32, -log p_t too, and both are 0 from 17 on."""
    odds = 3 * math.exp(-gap)  # of three other classes against the true one
    p, q, ce = 1 / (1 + odds), odds / (1 + odds), math.log1p(odds)
    value, slope = q**gamma * ce, q**gamma * (gamma * p * ce / q + 1)  # slope: dFL/dce
    wrong, e = -math.log(q / 3), 1e-6 * (form == "smoothed")
    if form == "binary":
        logits = torch.tensor([gap - math.log(3)], requires_grad=True)
        loss = binary_focal_loss(logits, torch.ones(1), gamma, None, "sum")
    else:
        logits = torch.tensor([[gap, 0.0, 0.0, 0.0]]).add_(offset).requires_grad_()
        labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]]) if form == "soft" else torch.tensor([0])
        function = without_slope if form == "plain" else lambda f, *arguments, **more: f(*arguments, **more)
        loss = function(focal_loss, logits, labels, gamma, label_smoothing=e, reduction="sum")
    value = (1 - 0.75 * e) * value + 0.75 * e * (1 - q / 3) ** gamma * wrong
    assert loss.item() == pytest.approx(value, rel=1e-5)
    if form == "smoothed":
        assert grad(loss, logits).sum().abs() < 1e-6
    elif form != "plain":
        g = torch.autograd.grad(loss, logits, create_graph=form == "second derivative")[0].flatten()
        assert g[0].item() == pytest.approx(-slope * q, rel=1e-5)
        assert g[1:].tolist() == pytest.approx([slope * q / 3] * (len(g) - 1), rel=1e-5)


def test_only_class_that_is_not_masked_out_is_certain():
    for gamma in 0.0, 0.5, 2.0:
        for labels in torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]]):
            logits = torch.tensor([[3.0, float("-inf"), float("-inf")]], requires_grad=True)
            for create_graph in False, True:
                loss = focal_loss(logits, labels, gamma)
                g = torch.autograd.grad(loss, logits, create_graph=create_graph)[0]
                assert loss.item() == pytest.approx(0, abs=1e-20) and g.abs().max() < 1e-20
            assert without_slope(focal_loss, logits, labels, gamma).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_log_of_sigmoid_does_not_overflow_at_saturated_logits(dtype, gamma, reduction):
    """torch.log(torch.sigmoid(x)): value inf and gradient NaN at logit 20 in float32, right or wrong;
    torchvision's gradient is NaN for gamma < 1.
    """
    for label in 0, 1:
        logits = torch.tensor(EXTREME, dtype=dtype).requires_grad_()
        labels = torch.full((len(EXTREME),), label)
        loss = binary_focal_loss(logits, labels, gamma, reduction=reduction)
        plain = without_slope(binary_focal_loss, logits, labels, gamma, reduction=reduction)
        assert torch.isfinite(loss).all() and torch.isfinite(grad(loss, logits)).all()
        torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
        values = binary_focal_loss(logits, labels, gamma, alpha=None, reduction="none")
        wrong, right = (1, 0) if label else (0, 1)
        assert values[wrong] == logits[wrong].abs() and values[right] == 0  # -log p_t is |x|, its slope 1
        slopes = grad(binary_focal_loss(logits, labels, gamma, alpha=None, reduction="none"), logits)
        assert slopes[wrong] == (-1 if label else 1) and slopes[right] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_several_classes_are_finite_at_saturated_logits(dtype, gamma, label_smoothing):
    for size in 1e4, 104.0, 20.0, 16.0:
        for logits in (
            torch.tensor([[size, -size, 0.0]] * 3),
            torch.tensor([[-size, size, size]] * 3),
            torch.full((3, 3), size),
        ):
            logits = logits.to(dtype).requires_grad_()
            labels = torch.tensor([0, 1, 2])
            loss = focal_loss(logits, labels, gamma, label_smoothing=label_smoothing, reduction="none")
            plain = without_slope(
                focal_loss, logits, labels, gamma, label_smoothing=label_smoothing, reduction="none"
            )
            assert torch.isfinite(loss).all() and torch.isfinite(grad(loss, logits)).all()
            torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.01, 0.1, 0.5, 0.9])
def test_gradient_for_gamma_below_one_is_not_nan_at_a_perfect_prediction(gamma):
    """(1 - p)^gamma has an infinite slope at p = 1: torchvision and smp give NaN."""
    logits = torch.tensor([40.0, 1000.0], requires_grad=True)
    assert torch.isnan(grad(torchvision_formula(logits, torch.ones(2), gamma=gamma), logits)).any()
    for compute in (
        lambda: binary_focal_loss(logits, torch.ones(2), gamma),
        lambda: focal_loss(torch.stack([logits, -logits], dim=-1), torch.zeros(2, dtype=torch.long), gamma),
        lambda: focal_loss(
            torch.stack([logits, -logits], dim=-1),
            torch.zeros(2, dtype=torch.long),
            gamma,
            label_smoothing=1e-3,
        ),
    ):
        for create_graph in False, True:
            assert torch.isfinite(torch.autograd.grad(compute(), logits, create_graph=create_graph)[0]).all()


def test_badly_wrong_examples_keep_their_gradient():
    """log(p + 1e-9) has gradient 0 where the model is most wrong."""
    logits = torch.tensor([-30.0, -100.0, -1e4], requires_grad=True)
    torch.testing.assert_close(
        grad(binary_focal_loss(logits, torch.ones(3), alpha=None, reduction="none"), logits), -torch.ones(3)
    )


def test_mean_is_over_examples_not_over_examples_times_classes():
    """kornia's "mean" divides by the number of classes as well."""
    logits, labels = classes(40)
    kornia = (-((1 - logits.log_softmax(1).exp()) ** 2) * logits.log_softmax(1) * F.one_hot(labels, 5)).mean()
    torch.testing.assert_close(focal_loss(logits, labels), 5 * kornia)
    torch.testing.assert_close(
        focal_loss(logits, labels), focal_loss(logits, labels, reduction="none").mean()
    )


def test_weights_move_with_the_module_not_left_on_the_cpu():
    for loss, name in (
        (FocalLoss(weight=torch.ones(5)), "weight"),
        (BinaryFocalLoss(alpha=torch.full((5,), 0.3)), "alpha"),
        (BinaryFocalLoss(pos_weight=torch.full((5,), 3.0)), "pos_weight"),
    ):
        assert dict(loss.named_buffers()).keys() == {name}
        assert getattr(loss.to("meta"), name).device.type == "meta"
        assert getattr(loss, name) is dict(loss.named_buffers())[name]
    assert not list(FocalLoss().buffers()) and not list(BinaryFocalLoss().buffers())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_on_cuda_equals_cpu_and_does_not_synchronise(dtype):
    logits, labels = classes(6, 7, dtype=dtype)
    labels[0, :3] = -100
    multi, targets = binary(6, 7, dtype=dtype)
    losses = FocalLoss(weight=torch.rand(5)), BinaryFocalLoss(alpha=torch.rand(7))
    expected = losses[0](logits, labels), losses[1](multi, targets)
    arguments = [
        v.detach().cuda().requires_grad_(v.is_floating_point()) for v in (logits, labels, multi, targets)
    ]
    moved = [loss.cuda() for loss in losses]
    torch.cuda.set_sync_debug_mode("error")
    try:
        values = moved[0](*arguments[:2]), moved[1](*arguments[2:])
        (values[0] + values[1]).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for value, target, x in zip(values, expected, (0, 2)):
        torch.testing.assert_close(value.cpu(), target, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            arguments[x].grad.cpu(), grad(target, (logits, None, multi)[x]), rtol=1e-2, atol=1e-5
        )


# Shapes, ignored labels, weights


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_tokens_are_examples(reduction):
    logits, labels = classes(4, 6)
    loss, flat = (
        focal_loss(logits, labels, reduction=reduction),
        focal_loss(logits.reshape(-1, 5), labels.reshape(-1), reduction=reduction),
    )
    torch.testing.assert_close(loss.flatten(), flat.flatten())
    assert loss.shape == (labels.shape if reduction == "none" else ())


@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight": torch.tensor([0.5, 1, 2, 0.1, 3])}, {"label_smoothing": 0.1}],
    ids=["", "weight", "smoothing"],
)
def test_ignored_examples_count_for_nothing_whatever_their_logits(fill, reduction, options):
    logits, labels = classes(4, 6, dtype=torch.float32)
    keep = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)) < 0.6
    x = logits.detach().masked_fill(~keep.unsqueeze(-1), fill).requires_grad_()
    loss = focal_loss(x, labels.masked_fill(~keep, -100), reduction=reduction, **options)
    alone = focal_loss(logits[keep], labels[keep], reduction=reduction, **options)
    torch.testing.assert_close(loss[keep] if reduction == "none" else loss, alone, rtol=1e-6, atol=1e-6)
    g = grad(loss, x)
    assert (g[~keep] == 0).all()
    torch.testing.assert_close(g[keep], grad(alone, logits)[keep], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("floating", [True, False])
def test_ignored_binary_labels_count_for_nothing_whatever_their_logits(fill, reduction, floating):
    logits, labels = binary(4, 6, dtype=torch.float32)
    keep = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)) < 0.6
    x = logits.detach().masked_fill(~keep, fill).requires_grad_()
    labels = labels.float() if floating else labels
    loss = binary_focal_loss(x, labels.masked_fill(~keep, -1), reduction=reduction, ignore_index=-1)
    alone = binary_focal_loss(logits[keep], labels[keep], reduction=reduction)
    torch.testing.assert_close(loss[keep] if reduction == "none" else loss, alone, rtol=1e-6, atol=1e-6)
    g = grad(loss, x)
    assert (g[~keep] == 0).all()
    torch.testing.assert_close(g[keep], grad(alone, logits)[keep], rtol=1e-5, atol=1e-7)


def test_all_ignored_is_zero_not_nan():
    for loss, labels in (
        (FocalLoss(), torch.full((3,), -100)),
        (FocalLoss(weight=torch.ones(4)), torch.full((3,), -100)),
        (BinaryFocalLoss(), torch.full((3, 4), -100)),
    ):
        x = torch.full((3, 4), float("nan"), requires_grad=True)
        value = loss(x, labels)
        value.backward()
        assert value.item() == 0 and (x.grad == 0).all()


def test_batch_without_positives_is_finite_and_falls_as_logits_fall():
    values = [
        binary_focal_loss(torch.full((4, 3), x), torch.zeros(4, 3)).item() for x in (5.0, 0.0, -5.0, -50.0)
    ]
    assert values == sorted(values, reverse=True) and 0 <= values[-1] < 1e-9


def test_masked_out_classes_at_minus_infinity_get_no_gradient():
    logits, labels = classes(10)
    masked = logits.detach().clone()
    masked[:, 4] = float("-inf")
    masked.requires_grad_()
    labels = labels.clamp(max=3)
    loss, without = focal_loss(masked, labels), focal_loss(logits[:, :4], labels)
    torch.testing.assert_close(loss, without)
    torch.testing.assert_close(grad(loss, masked), F.pad(grad(without, logits)[:, :4], (0, 1)))


def test_label_on_a_class_at_minus_infinity_has_infinite_loss_and_finite_gradient():
    logits = torch.tensor([[float("-inf"), 0.0], [0.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 1]), reduction="none")
    assert loss[0] == float("inf")
    torch.testing.assert_close(grad(loss, logits)[0], torch.tensor([-1.0, 1.0]))


def test_mean_with_weights_divides_by_the_sum_of_the_weights():
    logits, labels = classes(20)
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0])
    each = focal_loss(logits, labels, reduction="none") * weight[labels]
    torch.testing.assert_close(
        focal_loss(logits, labels, weight=weight), each.sum() / weight[labels].sum().double()
    )
    assert (
        focal_loss(logits, torch.full((20,), 3), weight=weight).item() == 0
    )  # every weight in the batch is 0


def test_alpha_of_each_class_is_a_column_with_that_alpha():
    logits, labels = binary(10, 3)
    alpha = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    loss = binary_focal_loss(logits, labels, alpha=alpha, reduction="none")
    for c in range(3):
        torch.testing.assert_close(
            loss[:, c], binary_focal_loss(logits[:, c], labels[:, c], alpha=alpha[c].item(), reduction="none")
        )
    torch.testing.assert_close(
        without_slope(binary_focal_loss, logits, labels, alpha=alpha, reduction="none"), loss
    )
    torch.testing.assert_close(
        grad(loss, logits)[:, 0],
        grad(binary_focal_loss(logits[:, 0], labels[:, 0], alpha=0.1, reduction="none"), logits)[:, 0],
    )


def test_ignore_index_may_be_a_class():
    logits, labels = classes(20)
    torch.testing.assert_close(
        focal_loss(logits, labels, ignore_index=0), focal_loss(logits[labels != 0], labels[labels != 0])
    )
    logits, labels = binary(20)
    for y in labels, labels.bool(), labels.float():
        torch.testing.assert_close(
            binary_focal_loss(logits, y, ignore_index=0),
            binary_focal_loss(logits[labels != 0], labels[labels != 0]),
        )


def test_non_contiguous_logits_and_labels_are_accepted():
    logits, labels = binary(6, 4)
    torch.testing.assert_close(binary_focal_loss(logits.T, labels.T), binary_focal_loss(logits, labels))
    torch.testing.assert_close(
        binary_focal_loss(logits.T, labels.T.float()), binary_focal_loss(logits, labels)
    )
    logits, labels = classes(6, 4)
    torch.testing.assert_close(focal_loss(logits.transpose(0, 1), labels.T), focal_loss(logits, labels))


def test_inputs_are_not_modified_and_backward_may_run_twice():
    for function, (logits, labels) in (
        (binary_focal_loss, binary(5, 3, dtype=torch.float32)),
        (focal_loss, classes(5, dtype=torch.float32)),
    ):
        before, targets = logits.detach().clone(), labels.clone()
        loss = function(logits, labels)
        loss.backward(retain_graph=True)
        first = logits.grad.clone()
        loss.backward()
        torch.testing.assert_close(logits.grad, 2 * first)
        assert torch.equal(logits.detach(), before) and torch.equal(labels, targets)


# Gradient, compile, properties


@pytest.mark.parametrize("gamma", [0, 0.5, 2.0, 5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_and_second_gradient_in_float64(gamma, reduction):
    logits, labels = binary(4, 3, scale=1.0)
    labels[0, 0] = -100
    soft = torch.rand(4, 3, dtype=torch.float64)
    for y in labels, soft:
        f = lambda x: binary_focal_loss(x, y, gamma, reduction=reduction)
        assert gradcheck(f, logits) and gradgradcheck(f, logits)
    logits, labels = classes(4, C=3, scale=1.0)
    labels[0] = -100
    for options in (
        {},
        {"weight": torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)},
        {"label_smoothing": 0.1},
    ):
        for y in labels, distributions(4, C=3):
            f = lambda x: focal_loss(x, y, gamma, reduction=reduction, **options)
            assert gradcheck(f, logits) and gradgradcheck(f, logits)


def test_gradient_with_and_without_graph_agree():
    for function, (logits, labels) in (binary_focal_loss, binary(50)), (focal_loss, classes(50)):
        with_graph = torch.autograd.grad(function(logits, labels), logits, create_graph=True)[0]
        assert with_graph.requires_grad
        torch.testing.assert_close(with_graph, grad(function(logits, labels), logits), rtol=1e-9, atol=1e-12)
        functional = torch.func.grad(lambda x: function(x, labels))(logits.detach())  # noqa: B023
        torch.testing.assert_close(functional, with_graph.detach(), rtol=1e-9, atol=1e-12)


# Every form: a function of logits and labels, its logits and labels. Each must do what F.cross_entropy does.
FORMS = {
    "binary": (binary_focal_loss, *binary(4, 3)),
    "binary, floating": (binary_focal_loss, binary(4, 3)[0], binary(4, 3)[1].double()),
    "binary, soft": (binary_focal_loss, binary(4, 3)[0], torch.rand(4, 3).double()),
    "binary, weights": (
        lambda x, y: binary_focal_loss(x, y, 0.5, torch.full((3,), 0.3), pos_weight=torch.arange(3.0)),
        *binary(4, 3),
    ),
    "classes": (focal_loss, *classes(4, 3)),
    "classes, weight": (lambda x, y: focal_loss(x, y, 0.5, torch.arange(5.0)), *classes(4, 3)),
    "classes, smoothed": (lambda x, y: focal_loss(x, y, label_smoothing=0.1), *classes(4, 3)),
    "classes, soft": (focal_loss, classes(4, 3)[0], distributions(4, 3)),
}


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_single_examples_by_vmap(form, ignored):
    """Opacus, influence functions, meta-learning. Value checks branched on a batched tensor."""
    function, logits, labels = FORMS[form]
    logits, labels = logits.detach(), labels.clone()
    if ignored:
        labels[1] = -100
    single = torch.func.grad(lambda x, y: function(x[None], y[None]))
    each = torch.stack([single(x, y) for x, y in zip(logits, labels)])
    torch.testing.assert_close(torch.func.vmap(single)(logits, labels), each, rtol=1e-9, atol=1e-12)
    rows = zip(logits.requires_grad_(), labels)
    alone = [torch.autograd.grad(function(x[None], y[None]), x)[0] for x, y in rows]
    torch.testing.assert_close(torch.stack(alone), each, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("form", FORMS)
def test_hessian_and_forward_mode_agree_with_two_backward_passes(form):
    function, logits, labels = FORMS[form]
    f, x = lambda x: function(x, labels), logits.detach()
    expected = torch.autograd.functional.hessian(f, x)
    torch.testing.assert_close(torch.func.hessian(f)(x), expected, rtol=1e-9, atol=1e-12)
    direction = torch.randn_like(x)
    slope = (grad(f(logits), logits) * direction).sum()
    torch.testing.assert_close(torch.func.jvp(f, (x,), (direction,))[1], slope, rtol=1e-9, atol=1e-12)
    with forward_ad.dual_level():
        for point in x, logits:
            tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(point, direction))).tangent
            torch.testing.assert_close(tangent, slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_fake_and_meta_tensors_have_a_loss_and_a_gradient(form):
    function, logits, labels = FORMS[form]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(logits.detach()).requires_grad_()
        loss = function(fake, mode.from_tensor(labels))
        assert loss.shape == () and grad(loss, fake).shape == logits.shape
    if "weight" not in form:  # those are on the CPU
        loss = function(logits.to("meta"), labels.to("meta"))
        assert loss.shape == () and loss.is_meta


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 7)], ids=str)
def test_channels_in_the_second_axis_are_refused_with_the_remedy(shape):
    logits = torch.randn(shape)
    for labels in torch.zeros(2, *shape[2:]).long(), torch.zeros(2, 1, *shape[2:]).long():
        with pytest.raises(ValueError, match=r"^labels: .*channels last: .* logits\.movedim\(1, -1\)"):
            focal_loss(logits, labels)
    assert torch.isfinite(focal_loss(logits.movedim(1, -1), labels.squeeze(1)))


COMPILED = {
    "binary": (BinaryFocalLoss(), binary(4, 3, dtype=torch.float32)),
    "binary, floating labels": (
        BinaryFocalLoss(pos_weight=2.0),
        (FORMS["binary"][1].float(), torch.rand(4, 3)),
    ),
    "classes, soft": (FocalLoss(), (classes(4, 3)[0].float(), distributions(4, 3).float())),
    "binary, alpha a class, sum": (
        BinaryFocalLoss(alpha=torch.rand(3), reduction="sum"),
        binary(4, 3, dtype=torch.float32),
    ),
    "classes": (FocalLoss(gamma=0.5), classes(4, 3, dtype=torch.float32)),
    "classes, weight, smoothing": (
        FocalLoss(weight=torch.rand(5), label_smoothing=0.1),
        classes(4, 3, dtype=torch.float32),
    ),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiles_as_one_graph(case):
    loss, (logits, labels) = COMPILED[case]
    logits, labels = logits.detach().requires_grad_(), labels.clone()
    labels[0, 0] = -100
    torch._dynamo.reset()
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, labels)
    torch.testing.assert_close(value, loss(logits, labels))
    torch.testing.assert_close(grad(value, logits), grad(loss(logits, labels), logits))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    C=st.integers(2, 6),
    gamma=st.floats(0, 5),
    scale=st.floats(0.01, 100),
    seed=st.integers(0, 2**16),
    shift=st.floats(-50, 50),
)
def test_order_shift_and_rest_of_the_batch_do_not_matter(n, C, gamma, scale, seed, shift):
    logits, labels = classes(n, C=C, scale=scale, seed=seed)
    each = focal_loss(logits, labels, gamma, reduction="none")
    alone = torch.stack([focal_loss(logits[i : i + 1], labels[i : i + 1], gamma) for i in range(n)])
    torch.testing.assert_close(each, alone, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(focal_loss(logits + shift, labels, gamma), each.mean(), rtol=1e-6, atol=1e-12)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        focal_loss(logits[order], labels[order], gamma, reduction="none"), each[order], rtol=1e-9, atol=1e-12
    )
    assert (each >= 0).all() and (each <= F.cross_entropy(logits, labels, reduction="none") + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(gamma=st.floats(0, 5), alpha=st.floats(0, 1), seed=st.integers(0, 2**16), scale=st.floats(0.01, 1e4))
def test_binary_loss_falls_as_the_logit_moves_to_its_label_and_mirrors(gamma, alpha, seed, scale):
    logits, labels = binary(20, seed=seed, scale=scale)
    loss = binary_focal_loss(logits, labels, gamma, alpha, "none")
    assert (loss >= 0).all() and torch.isfinite(loss).all()
    assert (grad(loss, logits) * (1 - 2 * labels) >= 0).all()
    mirrored = binary_focal_loss(-logits, 1 - labels, gamma, 1 - alpha, "none")
    torch.testing.assert_close(
        mirrored, binary_focal_loss(logits, labels, gamma, alpha, "none"), rtol=1e-9, atol=1e-9
    )


# Modules and errors


def test_parameters_are_attributes_of_the_same_name_and_are_read_at_each_call():
    loss = BinaryFocalLoss(gamma=1.5, alpha=0.4, reduction="sum", pos_weight=2.0)
    assert (loss.gamma, loss.alpha, loss.reduction, loss.pos_weight) == (1.5, 0.4, "sum", 2.0)
    weight = torch.rand(5)
    classes_loss = FocalLoss(gamma=1.5, weight=weight, ignore_index=-1, label_smoothing=0.1, reduction="none")
    assert (
        classes_loss.gamma,
        classes_loss.ignore_index,
        classes_loss.label_smoothing,
        classes_loss.reduction,
    ) == (1.5, -1, 0.1, "none")
    assert torch.equal(classes_loss.weight, weight) and FocalLoss().weight is None
    logits, labels = binary(5, dtype=torch.float32)
    loss.gamma = 0.0
    assert loss(logits, labels) == binary_focal_loss(logits, labels, 0.0, 0.4, "sum", pos_weight=2.0)
    for module in loss, classes_loss:
        other = copy.deepcopy(module)
        other.load_state_dict(module.state_dict())


def test_importing_it_imports_torch_only():
    names = ", ".join(f"tricks_lib.{name}" for name in ("focal_loss", "dice_loss", "mse_corr_loss"))
    code = f"import sys, {names}; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_nan_logits_give_a_nan_loss_not_a_wrong_one():
    logits, labels = binary(5)
    assert torch.isnan(binary_focal_loss(logits.detach().masked_fill(labels == 1, float("nan")), labels))
    logits, labels = classes(5)
    for requires_grad in False, True:
        x = logits.detach().clone()
        x[2, 3] = float("nan")
        assert torch.isnan(focal_loss(x.requires_grad_(requires_grad), labels))


X, Y = torch.zeros(4, 3), torch.zeros(4, 3)
L = torch.zeros(4, dtype=torch.long)
BAD_INPUT = {
    "binary: logits is a list": (binary_focal_loss, ([0.0], Y), {}, TypeError, "logits"),
    "binary: logits are integers": (binary_focal_loss, (X.long(), Y), {}, TypeError, "logits"),
    "binary: empty batch": (binary_focal_loss, (X[:0], Y[:0]), {}, ValueError, "logits"),
    "binary: labels is None": (binary_focal_loss, (X, None), {}, TypeError, "labels"),
    "binary: labels are class indices": (binary_focal_loss, (X, L), {}, ValueError, "labels"),
    "binary: labels that would broadcast": (binary_focal_loss, (X, Y[:1]), {}, ValueError, "labels"),
    "binary: label 2": (binary_focal_loss, (X, Y + 2), {}, ValueError, "labels"),
    "binary: label -1": (binary_focal_loss, (X, Y.long() - 1), {}, ValueError, "labels"),
    "binary: label 1.5": (binary_focal_loss, (X, Y + 1.5), {}, ValueError, "labels"),
    "binary: label -0.5": (binary_focal_loss, (X, Y - 0.5), {}, ValueError, "labels"),
    "binary: one label 1.5 beside an ignored one": (
        binary_focal_loss,
        (X[0], torch.tensor([1.5, -100, 1])),
        {},
        ValueError,
        "labels",
    ),
    "pos_weight negative": (BinaryFocalLoss, (), {"pos_weight": -0.1}, ValueError, "pos_weight"),
    "pos_weight infinite": (BinaryFocalLoss, (), {"pos_weight": float("inf")}, ValueError, "pos_weight"),
    "pos_weight is a list": (BinaryFocalLoss, (), {"pos_weight": [1.0]}, TypeError, "pos_weight"),
    "pos_weight is an integer tensor": (
        BinaryFocalLoss,
        (),
        {"pos_weight": torch.ones(3, dtype=torch.long)},
        TypeError,
        "pos_weight",
    ),
    "pos_weight tensor with NaN": (
        BinaryFocalLoss,
        (),
        {"pos_weight": torch.full((3,), float("nan"))},
        ValueError,
        "pos_weight",
    ),
    "binary: pos_weight of another length": (
        binary_focal_loss,
        (X, Y),
        {"pos_weight": torch.ones(2)},
        ValueError,
        "pos_weight",
    ),
    "binary: labels with NaN": (binary_focal_loss, (X, Y * float("nan")), {}, ValueError, "labels"),
    "binary: labels with inf": (binary_focal_loss, (X, Y + float("inf")), {}, ValueError, "labels"),
    "binary: label 156 in uint8, which is -100 there": (
        binary_focal_loss,
        (X, Y.to(torch.uint8) + 156),
        {},
        ValueError,
        "labels",
    ),
    "binary: label inf in float16, which is 1e6 there": (
        binary_focal_loss,
        (X, Y.half() + float("inf")),
        {"ignore_index": 10**6},
        ValueError,
        "labels",
    ),
    "binary: logits on another device": (binary_focal_loss, (X.to("meta"), Y), {}, ValueError, "labels"),
    "binary: labels on another device": (binary_focal_loss, (X, Y.to("meta")), {}, ValueError, "labels"),
    "binary: ignored label with another ignore_index": (
        binary_focal_loss,
        (X, Y - 100),
        {"ignore_index": -1},
        ValueError,
        "labels",
    ),
    "binary: alpha of another length": (
        binary_focal_loss,
        (X, Y),
        {"alpha": torch.ones(2)},
        ValueError,
        "alpha",
    ),
    "binary: alpha on another device": (
        binary_focal_loss,
        (X, Y),
        {"alpha": torch.ones(3, device="meta")},
        ValueError,
        "alpha",
    ),
    "alpha above 1": (BinaryFocalLoss, (), {"alpha": 1.1}, ValueError, "alpha"),
    "alpha -1, as torchvision has it for None": (BinaryFocalLoss, (), {"alpha": -1}, ValueError, "alpha"),
    "alpha NaN": (BinaryFocalLoss, (), {"alpha": float("nan")}, ValueError, "alpha"),
    "alpha is a list": (BinaryFocalLoss, (), {"alpha": [0.25, 0.75]}, TypeError, "alpha"),
    "alpha is an integer tensor": (
        BinaryFocalLoss,
        (),
        {"alpha": torch.ones(3, dtype=torch.long)},
        TypeError,
        "alpha",
    ),
    "alpha tensor above 1": (BinaryFocalLoss, (), {"alpha": torch.full((3,), 2.0)}, ValueError, "alpha"),
    "alpha tensor with NaN": (
        BinaryFocalLoss,
        (),
        {"alpha": torch.full((3,), float("nan"))},
        ValueError,
        "alpha",
    ),
    "gamma negative": (BinaryFocalLoss, (), {"gamma": -0.1}, ValueError, "gamma"),
    "gamma NaN": (FocalLoss, (), {"gamma": float("nan")}, ValueError, "gamma"),
    "gamma infinite": (FocalLoss, (), {"gamma": float("inf")}, ValueError, "gamma"),
    "gamma is a string": (FocalLoss, (), {"gamma": "2"}, TypeError, "gamma"),
    "gamma is None": (BinaryFocalLoss, (), {"gamma": None}, TypeError, "gamma"),
    "reduction unknown": (BinaryFocalLoss, (), {"reduction": "batchmean"}, ValueError, "reduction"),
    "reduction is None": (FocalLoss, (), {"reduction": None}, ValueError, "reduction"),
    "ignore_index is a float": (FocalLoss, (), {"ignore_index": -100.0}, TypeError, "ignore_index"),
    "ignore_index beyond 64 bits": (
        focal_loss,
        (X, L + 3),
        {"ignore_index": 2**63},
        ValueError,
        "ignore_index",
    ),
    "label_smoothing NaN": (FocalLoss, (), {"label_smoothing": float("nan")}, ValueError, "label_smoothing"),
    "alpha infinite": (BinaryFocalLoss, (), {"alpha": float("inf")}, ValueError, "alpha"),
    "ignore_index is None": (BinaryFocalLoss, (), {"ignore_index": None}, TypeError, "ignore_index"),
    "label_smoothing above 1": (FocalLoss, (), {"label_smoothing": 1.5}, ValueError, "label_smoothing"),
    "label_smoothing negative": (FocalLoss, (), {"label_smoothing": -0.1}, ValueError, "label_smoothing"),
    "weight is a list": (FocalLoss, (), {"weight": [1.0, 2.0]}, TypeError, "weight"),
    "weight is integer": (FocalLoss, (), {"weight": torch.ones(3, dtype=torch.long)}, TypeError, "weight"),
    "weight negative": (FocalLoss, (), {"weight": -torch.ones(3)}, ValueError, "weight"),
    "weight with NaN": (FocalLoss, (), {"weight": torch.full((3,), float("nan"))}, ValueError, "weight"),
    "weight infinite": (FocalLoss, (), {"weight": torch.full((3,), float("inf"))}, ValueError, "weight"),
    "classes: weight of another length": (
        focal_loss,
        (X, L),
        {"weight": torch.ones(4)},
        ValueError,
        "weight",
    ),
    "classes: weight on another device": (
        focal_loss,
        (X, L),
        {"weight": torch.ones(3, device="meta")},
        ValueError,
        "weight",
    ),
    "classes: logits is None": (focal_loss, (None, L), {}, TypeError, "logits"),
    "classes: logits are integers": (focal_loss, (X.long(), L), {}, TypeError, "logits"),
    "classes: logits have one axis": (focal_loss, (X[0], L), {}, ValueError, "logits"),
    "classes: one logit": (focal_loss, (X[:, :1], L), {}, ValueError, "logits"),
    "classes: empty batch": (focal_loss, (X[:0], L[:0]), {}, ValueError, "logits"),
    "classes: no class": (focal_loss, (X[:, :0], L), {}, ValueError, "logits"),
    "classes: labels are floating": (focal_loss, (X, L.float()), {}, TypeError, "labels"),
    "classes: labels are one-hot integers": (focal_loss, (X, Y.long()), {}, ValueError, "labels"),
    "classes: soft labels that do not sum to 1": (focal_loss, (X, Y + 0.3), {}, ValueError, "labels"),
    "classes: soft labels below 0": (
        focal_loss,
        (X, Y + torch.tensor([1.5, -0.5, 0.0])),
        {},
        ValueError,
        "labels",
    ),
    "classes: soft labels with NaN": (focal_loss, (X, Y * float("nan")), {}, ValueError, "labels"),
    "classes: soft labels of another shape": (focal_loss, (X, Y.T + 1 / 4), {}, TypeError, "labels"),
    "classes: soft labels on another device": (
        focal_loss,
        (X, Y.to("meta")),
        {},
        ValueError,
        "labels",
    ),
    "classes: too few labels": (focal_loss, (X, L[:3]), {}, ValueError, "labels"),
    "classes: classes in the second axis": (
        focal_loss,
        (torch.zeros(4, 3, 6), torch.zeros(4, 6, dtype=torch.long)),
        {},
        ValueError,
        "labels",
    ),
    "classes: label C": (focal_loss, (X, L + 3), {}, ValueError, "labels"),
    "classes: label 156 in uint8, which is -100 there": (
        focal_loss,
        (X, L.to(torch.uint8) + 156),
        {},
        ValueError,
        "labels",
    ),
    "classes: logits on another device": (focal_loss, (X.to("meta"), L), {}, ValueError, "labels"),
    "classes: label -1": (focal_loss, (X, L - 1), {}, ValueError, "labels"),
    "classes: labels on another device": (focal_loss, (X, L.to("meta")), {}, ValueError, "labels"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    function, arguments, keywords, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        function(*arguments, **keywords)
