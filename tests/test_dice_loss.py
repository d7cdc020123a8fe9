"""Oracles: MONAI's DiceLoss and TverskyLoss with batch=True, written out in float64; a soft F1 score counted
by scikit-learn and by hand.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from tricks_lib.dice_loss import (
    DiceLoss,
    SelfAdjustingDiceLoss,
    TverskyLoss,
    dice_loss,
    self_adjusting_dice_loss,
    tversky_loss,
)

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
HALF = [torch.float16, torch.bfloat16]
LOSSES = {"dice": dice_loss, "tversky": tversky_loss, "self-adjusting": self_adjusting_dice_loss}


def batch(*shape, C=4, dtype=torch.float64, seed=0):
    """Logits (..., C), class indices (...) and multi-label 0 and 1 (..., C)."""
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(*shape, C, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    return (
        logits,
        torch.randint(C, shape, generator=generator),
        (torch.rand(*shape, C, generator=generator) < 0.4).long(),
    )


def monai_formula(p, y, smooth=1.0, alpha=None, beta=None):
    """MONAI 1.6, losses/dice.py and losses/tversky.py with batch=True, reduction="none", smooth_nr =
    smooth_dr, on probabilities (N, C).
    """
    tp = (p * y).sum(0)
    if alpha is None:
        fp, fn = 0.5 * (p.sum(0) - tp), 0.5 * (y.sum(0) - tp)
        return 1 - (2 * tp + smooth) / (2 * (tp + fp + fn) + smooth)
    fp, fn = alpha * (p * (1 - y)).sum(0), beta * ((1 - p) * y).sum(0)
    return 1 - (tp + smooth) / (tp + fp + fn + smooth)


def fursovia_formula(logits, labels, alpha, smooth):
    """fursovia/self-adj-dice: SelfAdjDiceLoss with reduction="none"."""
    p = torch.softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    f = (1 - p) ** alpha * p
    return 1 - (2 * f + smooth) / (f + 1 + smooth)


def grad(loss, logits):
    return torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0]


def without_slope(function, logits, *arguments, **keywords):
    with torch.no_grad():
        return function(logits, *arguments, **keywords)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
@pytest.mark.parametrize("form", ["classes", "one-hot", "multi-label", "probabilities"])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.3, "beta": 0.7}], ids=["dice", "tversky"])
def test_equals_monai_formula_with_its_gradient(dtype, smooth, form, options):
    logits, labels, multi = batch(50, dtype=dtype)
    one_hot = F.one_hot(labels, 4)
    wide = logits.detach().double().requires_grad_()
    if form == "multi-label":
        p, y, arguments = wide.sigmoid(), multi, (logits, multi, "sigmoid")
    elif form == "probabilities":
        p, y, arguments = wide.softmax(1), one_hot, (logits.softmax(1), labels, None)
    else:
        p, y, arguments = (
            wide.softmax(1),
            one_hot,
            (logits, labels if form == "classes" else one_hot, "softmax"),
        )
    expected = monai_formula(p, y.double(), smooth, **options)
    x, y, activation = arguments
    function = tversky_loss if options else dice_loss
    keywords = {"smooth": smooth, "activation": activation, **options}
    for reduction, target in ("none", expected), ("macro", expected.mean()):
        loss = function(x, y, reduction=reduction, **keywords)
        for value in loss, without_slope(function, x, y, reduction=reduction, **keywords):
            torch.testing.assert_close(value.double(), target, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        gradients = grad(loss, logits).double(), grad(target, wide)
        torch.testing.assert_close(*gradients, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("average", ["macro", "micro", None])
def test_hard_predictions_score_one_minus_f1(average):
    _, labels, multi = batch(60)
    predictions = batch(60, seed=1)[2]
    loss = dice_loss(predictions.double(), multi, smooth=0.0, reduction=average or "none", activation=None)
    np.testing.assert_allclose(
        loss.numpy(), 1 - f1_score(multi.numpy(), predictions.numpy(), average=average), atol=1e-12
    )
    guesses = torch.randint(4, (60,), generator=torch.Generator().manual_seed(2))
    loss = dice_loss(
        F.one_hot(guesses, 4).double(), labels, smooth=0.0, reduction=average or "none", activation=None
    )
    np.testing.assert_allclose(
        loss.numpy(), 1 - f1_score(labels.numpy(), guesses.numpy(), average=average), atol=1e-12
    )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", None])
def test_micro_equals_the_widely_known_flattened_form(activation):
    logits, _, multi = batch(20, 3)
    p = {"sigmoid": logits.sigmoid(), "softmax": logits.softmax(-1), None: logits.sigmoid()}[activation]
    p_flat, y_flat = p.reshape(-1), multi.double().reshape(-1)
    expected = 1 - (2.0 * (p_flat * y_flat).sum() + 1) / (p_flat.sum() + y_flat.sum() + 1)
    loss = dice_loss(p if activation is None else logits, multi, reduction="micro", activation=activation)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad(loss, logits), grad(expected, logits), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("smooth", [1e-4, 1.0])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_self_adjusting_equals_the_formula_of_the_true_class(alpha, smooth, dtype):
    logits, labels, _ = batch(30, dtype=dtype)
    wide = logits.detach().double().requires_grad_()
    expected = fursovia_formula(wide, labels, alpha, smooth)
    for x, y, activation in (
        (logits, labels, "softmax"),
        (logits, F.one_hot(labels, 4).float(), "softmax"),
        (logits.softmax(1), labels, None),
    ):
        loss = self_adjusting_dice_loss(x, y, alpha, smooth, "none", activation)
        torch.testing.assert_close(loss.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        torch.testing.assert_close(
            self_adjusting_dice_loss(x, y, alpha, smooth, "mean", activation), loss.mean()
        )
        torch.testing.assert_close(
            self_adjusting_dice_loss(x, y, alpha, smooth, "sum", activation), loss.sum()
        )
        gradients = grad(loss, logits).double(), grad(expected, wide)
        torch.testing.assert_close(*gradients, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_self_adjusting_of_multi_label_equals_the_formula_element_by_element(alpha):
    logits, _, multi = batch(6, 5)
    p, y = logits.sigmoid(), multi.double()
    f = (1 - p) ** alpha * p
    expected = 1 - (2 * f * y + 1) / (f + y + 1)
    for x, activation in (logits, "sigmoid"), (p, None):
        loss = self_adjusting_dice_loss(x, multi, alpha, reduction="none", activation=activation)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.3, "beta": 0.7}], ids=["dice", "tversky"])
@pytest.mark.parametrize("ignored", [False, True])
def test_soft_labels_are_counted_by_the_same_products(dtype, activation, options, ignored):
    """MONAI takes soft labels in the same formula (soft_label=False)."""
    logits, labels, _ = batch(50, dtype=dtype)
    y = batch(50, dtype=dtype, seed=1)[0].detach().softmax(1)
    wide = logits.detach().double().requires_grad_()
    act = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, None: torch.sigmoid}[activation]
    x, p = act(logits) if activation is None else logits, act(wide)
    expected = (
        monai_formula(p[5:], y[5:].double(), **options)
        if ignored
        else monai_formula(p, y.double(), **options)
    )
    function = tversky_loss if options else dice_loss
    if ignored:
        y = torch.cat([torch.full_like(y[:5], -100), y[5:]])
    for reduction, target in ("none", expected), ("macro", expected.mean()):
        loss = function(x, y, activation=activation, reduction=reduction, **options)
        torch.testing.assert_close(loss.double(), target, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        gradients = grad(loss, logits).double(), grad(target, wide)
        torch.testing.assert_close(*gradients, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_soft_labels_pull_each_probability_to_the_side_of_half_the_score():
    y = torch.tensor([[0.9], [0.45], [0.2], [0.05]])
    for i in range(4):  # by one probability alone the slope never changes its sign
        signs = set()
        for own in 0.0, 0.3, 0.7, 1.0:
            p = torch.tensor([[0.8], [0.5], [0.3], [0.1]])
            p[i] = own
            p.requires_grad_()
            loss = dice_loss(p, y, smooth=0.0, activation=None)
            signs.add(torch.sign(grad(loss, p)[i]).item())
            assert (y[i] > (1 - loss) / 2) == (grad(loss, p)[i] < 0)
        assert len(signs) == 1
    assert dice_loss(y, y, activation=None) > 0.1  # p = y is not perfect


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_two_classes_of_a_softmax_have_the_threshold_of_equation_7(smooth):
    """A label of exactly q* leaves the first example's probability where it is; one beside it does not."""
    generator = torch.Generator().manual_seed(0)
    p1, q = torch.rand(2, 20, generator=generator, dtype=torch.float64)
    p = torch.stack([1 - p1, p1], dim=1)
    for _ in range(200):  # q* depends on Dice, and Dice on the label
        y = torch.stack([1 - q, q], dim=1)
        Z_0, Z_1 = Z = p.sum(0) + y.sum(0) + smooth
        dice_0, dice_1 = (2 * (p * y).sum(0) + smooth) / Z
        q[0] = (dice_1 * Z_0 + (2 - dice_0) * Z_1) / (2 * (Z_0 + Z_1))
    slopes = []
    for shift in (-0.05, 0.0, 0.05):
        x, beside = p.log().requires_grad_(), y.clone()
        beside[0] += torch.tensor([-shift, shift])
        slopes.append(torch.autograd.grad(dice_loss(x, beside, smooth=smooth), x)[0][0, 1].item())
    assert slopes[0] > 1e-4 and slopes[1] == pytest.approx(0, abs=1e-12) and slopes[2] < -1e-4


def test_gradient_reaches_soft_labels():
    logits, y = batch(5)[0], batch(5, seed=1)[0].detach().sigmoid().requires_grad_()
    for activation in "softmax", "sigmoid":
        f = lambda x, y: tversky_loss(x, y, activation=activation)
        assert gradcheck(f, (logits, y)) and gradgradcheck(f, (logits, y))


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 3.0, 4.0])], ids=["", "weight"])
@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_ignore_empty_leaves_absent_classes_out_of_the_mean(name, weight):
    """MONAI, compute_dice(ignore_empty=True): a class without ground truth does not count."""
    logits, labels, _ = batch(30)
    labels[labels == 2] = 1
    each = LOSSES[name](logits, labels, reduction="none")
    w = (torch.ones(4) if weight is None else weight).double()
    w[2] = 0
    options = {"weight": weight, "ignore_empty": True}
    loss = LOSSES[name](logits, labels, **options)
    torch.testing.assert_close(loss, (each * w).sum() / w.sum())
    torch.testing.assert_close(LOSSES[name](logits, labels, reduction="none", **options), each * w)
    assert each[2] > 0.5 and loss != LOSSES[name](logits, labels, weight=weight)
    present = batch(30)[1]
    torch.testing.assert_close(
        LOSSES[name](logits, present, **options), LOSSES[name](logits, present, weight=weight)
    )


def test_ignore_empty_looks_at_what_is_not_ignored_and_is_zero_where_nothing_is_left():
    logits, _, multi = batch(6)
    multi[:, 1] = torch.tensor([1, 0, 0, 0, 0, 0])
    multi[0, 1] = -100
    columns = [0, 2, 3]
    loss = dice_loss(logits, multi, activation="sigmoid", ignore_empty=True)
    expected = dice_loss(logits[:, columns], multi[:, columns], activation="sigmoid")
    torch.testing.assert_close(loss, expected)
    nothing = dice_loss(logits, torch.zeros(6, 4), activation="sigmoid", ignore_empty=True)
    assert nothing.item() == 0 and (grad(nothing, logits) == 0).all()


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(dtype, name):
    logits, labels, multi = batch(50, dtype=dtype)
    for y, activation in (labels, "softmax"), (multi, "sigmoid"):
        loss = LOSSES[name](logits, y, activation=activation)
        assert (
            loss.dtype == torch.float32
            and grad(LOSSES[name](logits, y, activation=activation), logits).dtype == dtype
        )
        torch.testing.assert_close(
            loss, LOSSES[name](logits.float(), y, activation=activation), rtol=0, atol=0
        )
    many = torch.zeros(70000, 2, dtype=dtype)  # the counts are beyond what float16 and bfloat16 can hold
    assert dice_loss(many, torch.arange(70000) % 2).item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_round_the_loss_to_half_precision(name):
    """A matrix product such as ``loss @ weight`` would be done in bfloat16."""
    logits, labels, multi = batch(50, dtype=torch.float32)
    weight = {} if name == "self-adjusting" else {"weight": torch.tensor([1.0, 2.0, 3.0, 5.0])}
    for x, y, options in (
        (logits, labels, {}),
        (logits.detach(), labels, weight),
        (logits, multi, {**weight, "activation": "sigmoid"}),
    ):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = LOSSES[name](x, y, **options)
        torch.testing.assert_close(loss, LOSSES[name](x, y, **options), rtol=0, atol=0)


# Defects of the circulating snippet and of well-known libraries


def test_rare_classes_do_not_drown_as_in_the_flattened_form():
    labels = torch.tensor([0] * 98 + [1, 2])
    never_rare = torch.tensor([9.0, 0.0, 0.0]).repeat(100, 1)
    assert (
        dice_loss(never_rare, labels, smooth=0.0, reduction="micro")
        < 0.03
        < 0.65
        < dice_loss(never_rare, labels, smooth=0.0)
    )


def test_weight_is_used_not_silently_ignored():
    logits, labels, _ = batch(50)
    weight = torch.tensor([1.0, 2.0, 0.0, 5.0], dtype=torch.float64)
    for function in dice_loss, tversky_loss:
        each = function(logits, labels, reduction="none")
        torch.testing.assert_close(function(logits, labels, weight=weight), (each * weight).sum() / 8)
        torch.testing.assert_close(function(logits, labels, weight=weight, reduction="none"), each * weight)
    p, y = logits.softmax(1), F.one_hot(labels, 4).double()
    generalised = 1 - (2 * (p * y * weight).sum() + 1) / ((p * weight).sum() + (y * weight).sum() + 1)
    torch.testing.assert_close(dice_loss(logits, labels, weight=weight, reduction="micro"), generalised)
    for reduction in "macro", "micro":
        torch.testing.assert_close(
            dice_loss(logits, labels, weight=torch.ones(4), reduction=reduction),
            dice_loss(logits, labels, reduction=reduction),
            rtol=1e-6,
            atol=1e-6,
        )
    with pytest.raises(TypeError):
        DiceLoss(size_average=True)


@pytest.mark.parametrize("name", LOSSES)
def test_non_contiguous_tensors_are_accepted(name):
    logits, labels, multi = batch(5, 6)
    for y, activation in (
        (labels, "softmax"),
        (F.one_hot(labels, 4), "softmax"),
        (multi, "sigmoid"),
        (multi.float(), "sigmoid"),
    ):
        loss = LOSSES[name](logits.transpose(0, 1), y.transpose(0, 1), activation=activation)
        torch.testing.assert_close(loss, LOSSES[name](logits, y, activation=activation))


@pytest.mark.parametrize("N", [4, 16, 64, 256])
@pytest.mark.parametrize(
    "loss",
    [DiceLoss(), DiceLoss(reduction="micro"), DiceLoss(smooth=0.0), TverskyLoss()],
    ids=["macro", "micro", "smooth 0", "tversky"],
)
def test_perfect_four_class_prediction_has_loss_zero_not_three_to_four(N, loss):
    """ShannonAI's DiceLoss gives 3.00, 3.75, 3.94 and 3.98, as it adds up the predictions before it
    multiplies.
    """
    labels = torch.arange(N) % 4
    assert loss(F.one_hot(labels, 4) * 1e4, labels).item() == 0
    assert loss((F.one_hot(labels, 4) * 1e4).half().requires_grad_(), labels).item() == 0


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5, 1.0, 2.0])
def test_self_adjusting_loss_is_smallest_at_one_over_one_plus_alpha_and_half_at_a_perfect_prediction(alpha):
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64).unsqueeze(1)
    y = torch.ones_like(p)
    losses = self_adjusting_dice_loss(p, y, alpha, activation=None, reduction="none")
    assert p[losses.argmin()].item() == pytest.approx(1 / (1 + alpha), abs=1e-5)
    assert (
        losses[-1].item()
        == self_adjusting_dice_loss(torch.ones(1, 1), torch.ones(1, 1), alpha, activation=None).item()
        == 0.5
    )
    perfect = torch.tensor([[1e4, 0.0]])
    assert self_adjusting_dice_loss(perfect, torch.tensor([0]), alpha).item() == 0.5
    assert (
        self_adjusting_dice_loss(
            perfect, torch.tensor([[1, 0]]), alpha, activation="sigmoid", reduction="none"
        )[0, 0].item()
        == 0.5
    )


@pytest.mark.parametrize("alpha", [0.25, 1.0, 2.0])
def test_self_adjusting_loss_of_a_negative_is_largest_at_one_over_one_plus_alpha_and_0_where_surely_wrong(
    alpha,
):
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64).unsqueeze(1)
    losses = self_adjusting_dice_loss(p, torch.zeros_like(p), alpha, activation=None, reduction="none")
    f = (1 - p) ** alpha * p
    torch.testing.assert_close(losses, f / (f + 1))
    assert p[losses.argmax()].item() == pytest.approx(1 / (1 + alpha), abs=1e-5)
    assert losses[0] == losses[-1] == 0
    if alpha == 1:
        assert losses[99_000].item() == pytest.approx(0.01, abs=3e-4)


def test_self_adjusting_default_alpha_is_small():
    assert SelfAdjustingDiceLoss().alpha == 0.01
    assert self_adjusting_dice_loss(torch.tensor([[1e4, 0.0]]), torch.tensor([0]), alpha=0.0).item() == 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
@pytest.mark.parametrize("value", [-1e4, -20.0, 0.0, 20.0])
def test_batch_without_positives_is_finite_even_with_smooth_zero(name, smooth, value):
    logits = torch.full((4, 3), value, requires_grad=True)
    for activation in "sigmoid", None:
        x = (logits > 0) * 1.0 * (logits - logits.detach() + 1) if activation is None else logits
        loss = LOSSES[name](x, torch.zeros(4, 3), smooth=smooth, activation=activation)
        assert torch.isfinite(loss) and torch.isfinite(grad(loss, logits)).all()
    if value == -1e4:
        assert LOSSES[name](logits, torch.zeros(4, 3), smooth=smooth, activation="sigmoid").item() == 0


@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [20.0, 104.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_self_adjusting_gradient_is_finite_at_saturated_logits(alpha, size, dtype):
    """(1 - p)^alpha has an infinite slope at p = 1."""
    logits = torch.tensor([[size, -size], [-size, size], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    for activation, labels in (
        ("softmax", torch.tensor([0, 0, 0])),
        ("sigmoid", torch.tensor([[1, 0], [1, 0], [0, 1]])),
    ):
        loss = self_adjusting_dice_loss(logits, labels, alpha, activation=activation)
        assert torch.isfinite(loss) and torch.isfinite(grad(loss, logits)).all()
    p = torch.tensor([[1.0, 0.0]], requires_grad=True)
    assert torch.isfinite(
        grad(self_adjusting_dice_loss(p, torch.tensor([[1, 1]]), alpha, activation=None), p)
    ).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("form", ["classes", "one-hot rows", "elements, sigmoid", "elements, probabilities"])
def test_ignored_labels_count_for_nothing_whatever_their_logits(name, fill, form):
    """A mask (N,) against (N, C) fails in public code; here it is a label."""
    logits, labels, multi = batch(4, 6)
    keep = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)) < 0.6
    if form.startswith("elements"):
        activation = "sigmoid" if form.endswith("sigmoid") else None
        keep = torch.rand(4, 6, 4, generator=torch.Generator().manual_seed(3)) < 0.6
        start = logits.detach().sigmoid() if activation is None else logits.detach()
        x = start.masked_fill(~keep, fill).requires_grad_()
        losses = [LOSSES[name](x, multi.masked_fill(~keep, -100), activation=activation)]
        if name == "self-adjusting":
            expected = [
                LOSSES[name](start[keep].unsqueeze(1), multi[keep].unsqueeze(1), activation=activation)
            ]
        else:
            columns = [
                (start[..., c][keep[..., c]].unsqueeze(1), multi[..., c][keep[..., c]].unsqueeze(1))
                for c in range(4)
            ]
            expected = [
                torch.stack([LOSSES[name](*column, activation=activation) for column in columns]).mean()
            ]
    else:
        x = logits.detach().masked_fill(~keep.unsqueeze(-1), fill).requires_grad_()
        y = (
            labels.masked_fill(~keep, -1)
            if form == "classes"
            else F.one_hot(labels, 4).masked_fill(~keep.unsqueeze(-1), -1)
        )
        reductions = ("mean", "sum") if name == "self-adjusting" else ("macro", "micro", "none")
        losses = [LOSSES[name](x, y, reduction=r, ignore_index=-1) for r in reductions]
        expected = [LOSSES[name](logits[keep], labels[keep], reduction=r) for r in reductions]
    for loss, alone in zip(losses, expected):
        torch.testing.assert_close(loss, alone, rtol=1e-9, atol=1e-9)
        g = grad(loss, x)
        assert (g[~keep] == 0).all() and torch.isfinite(g).all()


def test_an_ignored_element_leaves_the_softmax_of_the_others_alone():
    logits, labels, _ = batch(8)
    y = F.one_hot(labels, 4)
    y[:, 3] = -100
    torch.testing.assert_close(
        dice_loss(logits, y, reduction="none")[:3], dice_loss(logits, labels, reduction="none")[:3]
    )


def test_ignore_index_may_be_a_class():
    logits, labels, _ = batch(30)
    torch.testing.assert_close(
        dice_loss(logits, labels, ignore_index=0), dice_loss(logits[labels != 0], labels[labels != 0])
    )
    one, positive = logits[:, :1], (labels > 1).unsqueeze(1)
    for y in positive, positive.long():  # bool too
        loss = self_adjusting_dice_loss(one, y, activation="sigmoid", ignore_index=0)
        torch.testing.assert_close(
            loss,
            self_adjusting_dice_loss(
                one[positive].unsqueeze(1), y[positive].unsqueeze(1), activation="sigmoid"
            ),
        )


def test_an_ignored_row_need_not_be_one_hot():
    logits, labels, _ = batch(6)
    one_hot = F.one_hot(labels, 4)
    one_hot[0], one_hot[1, :3] = -100, -100
    torch.testing.assert_close(
        self_adjusting_dice_loss(logits, one_hot), self_adjusting_dice_loss(logits[2:], labels[2:])
    )


def test_all_ignored_is_finite_with_zero_gradient():
    for smooth in 0.0, 1.0:
        for function in LOSSES.values():
            x = torch.full((3, 4), float("nan"), requires_grad=True)
            loss = function(x, torch.full((3,), -100), smooth=smooth)
            loss.backward()
            assert loss.item() == 0 and (x.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_tokens_are_examples(name):
    logits, labels, multi = batch(4, 6)
    torch.testing.assert_close(
        LOSSES[name](logits, labels), LOSSES[name](logits.reshape(-1, 4), labels.reshape(-1))
    )
    torch.testing.assert_close(
        LOSSES[name](logits, multi, activation="sigmoid"),
        LOSSES[name](logits.reshape(-1, 4), multi.reshape(-1, 4), activation="sigmoid"),
    )


def test_none_has_a_loss_for_each_term():
    logits, labels, multi = batch(4, 6)
    assert (
        dice_loss(logits, labels, reduction="none").shape
        == tversky_loss(logits, labels, reduction="none").shape
        == (4,)
    )
    assert self_adjusting_dice_loss(logits, labels, reduction="none").shape == (4, 6)
    assert self_adjusting_dice_loss(logits, multi, reduction="none", activation="sigmoid").shape == (4, 6, 4)


@pytest.mark.parametrize("name", LOSSES)
def test_label_forms_agree(name):
    logits, labels, _ = batch(30)
    one_hot = F.one_hot(labels, 4)
    expected = LOSSES[name](logits, labels)
    for y in one_hot, one_hot.float(), one_hot.bool(), one_hot.half(), labels.to(torch.uint8), labels.int():
        torch.testing.assert_close(LOSSES[name](logits, y), expected, rtol=1e-12, atol=1e-12)
    if name != "self-adjusting":
        torch.testing.assert_close(
            LOSSES[name](logits, labels, activation="sigmoid"),
            LOSSES[name](logits, one_hot, activation="sigmoid"),
        )


@pytest.mark.parametrize("name", LOSSES)
def test_one_logit_takes_labels_with_and_without_the_last_axis(name):
    logits, labels, _ = batch(30, C=2)
    one = logits[:, :1]
    expected = LOSSES[name](one, labels.unsqueeze(1), activation="sigmoid")
    for y in labels, labels.double(), labels.bool():
        torch.testing.assert_close(LOSSES[name](one, y, activation="sigmoid"), expected)


def test_tversky_of_one_half_is_dice_with_twice_the_smoothing():
    logits, labels, _ = batch(30)
    torch.testing.assert_close(
        tversky_loss(logits, labels, 0.5, 0.5, smooth=1.0),
        dice_loss(logits, labels, smooth=2.0),
        rtol=1e-12,
        atol=1e-12,
    )


def test_tversky_prices_false_positives_by_alpha_and_false_negatives_by_beta():
    missed = torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([[1], [1], [0]])
    invented = torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([[1], [0], [0]])
    assert tversky_loss(*missed, 0.2, 0.8, smooth=0.0, activation=None).item() == pytest.approx(1 - 1 / 1.8)
    assert tversky_loss(*invented, 0.2, 0.8, smooth=0.0, activation=None).item() == pytest.approx(1 - 1 / 1.2)


def test_nan_logits_give_a_nan_loss_not_a_wrong_one():
    logits, labels, multi = batch(5)
    for smooth in 0.0, 1.0:
        for function in LOSSES.values():
            for requires_grad in False, True:
                x = logits.detach().clone()
                x[2, labels[2]] = float("nan")
                assert torch.isnan(function(x.requires_grad_(requires_grad), labels, smooth=smooth))
            assert torch.isnan(function(x, torch.ones(5, 4), smooth=smooth, activation="sigmoid"))


# Gradient, compile, properties

FORMS = {
    "classes": (lambda x: x, 0, {}),
    "classes, micro": (lambda x: x, 0, {"reduction": "micro"}),
    "classes, smooth 0": (lambda x: x, 0, {"smooth": 0.0}),
    "classes, weight": (lambda x: x, 0, {"weight": torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)}),
    "multi-label": (lambda x: x, 1, {"activation": "sigmoid"}),
    "probabilities": (lambda x: x.sigmoid(), 1, {"activation": None, "reduction": "none"}),
}


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_and_second_gradient_in_float64(name, form, ignored):
    transform, which, options = FORMS[form]
    logits, *labels = batch(4, C=3)
    labels = labels[which]
    if ignored:
        labels[0] = -100
    options = dict(options)
    if name == "self-adjusting":
        options.pop("weight", None)
        options["reduction"] = "none" if "reduction" in options else "mean"
        options["alpha"] = 0.5
    f = lambda x: LOSSES[name](transform(x), labels, **options)  # noqa: E731
    assert gradcheck(f, logits) and gradgradcheck(f, logits)


def test_gradient_with_and_without_graph_agree_and_backward_may_run_twice():
    logits, labels, _ = batch(40)
    loss = dice_loss(logits, labels)
    with_graph = torch.autograd.grad(loss, logits, create_graph=True)[0]
    once, twice = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert with_graph.requires_grad and torch.equal(once, twice)
    torch.testing.assert_close(with_graph, once, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(
        torch.func.grad(lambda x: dice_loss(x, labels))(logits.detach()), once, rtol=1e-9, atol=1e-15
    )


# Every form: a function of logits and labels, and which labels it takes. Each does what cross_entropy does.
TRANSFORMED = {
    "dice": (dice_loss, 0),
    "dice, one-hot": (lambda x, y: dice_loss(x, one_hot_labels(y)), 0),
    "dice, micro": (lambda x, y: dice_loss(x, y, reduction="micro", activation="sigmoid"), 1),
    "dice, floating": (lambda x, y: dice_loss(x, y.double(), activation="sigmoid", smooth=0.0), 1),
    "dice, probabilities": (lambda x, y: dice_loss(x.sigmoid(), y, activation=None), 1),
    "dice, ignore_empty": (lambda x, y: dice_loss(x, y, ignore_empty=True), 0),
    "tversky, weight": (lambda x, y: tversky_loss(x, y, weight=torch.arange(1.0, 5.0)), 0),
    "self-adjusting": (self_adjusting_dice_loss, 0),
    "self-adjusting, multi-label": (lambda x, y: self_adjusting_dice_loss(x, y, activation="sigmoid"), 1),
}


def one_hot_labels(y):
    return torch.where(
        (y < 0).unsqueeze(-1), -100, (y.unsqueeze(-1) == torch.arange(4, device=y.device)).long()
    )


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("form", TRANSFORMED)
def test_gradients_of_single_examples_by_vmap(form, ignored):
    function, which = TRANSFORMED[form]
    logits, *labels = batch(4, 3)
    logits, labels = logits.detach(), labels[which]
    if ignored:
        labels[1] = -100
    single = torch.func.grad(lambda x, y: function(x[None], y[None]))
    each = torch.func.vmap(single)(logits, labels)
    rows = zip(logits.requires_grad_(), labels)
    alone = [torch.autograd.grad(function(x[None], y[None]), x)[0] for x, y in rows]
    torch.testing.assert_close(each, torch.stack(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("form", TRANSFORMED)
def test_hessian_and_forward_mode_agree_with_two_backward_passes(form):
    function, which = TRANSFORMED[form]
    logits, *labels = batch(4, 2)
    f, x = lambda x: function(x, labels[which]), logits.detach()
    expected = torch.autograd.functional.hessian(f, x)
    torch.testing.assert_close(torch.func.hessian(f)(x), expected, rtol=1e-9, atol=1e-12)
    direction = torch.randn_like(x)
    slope = (grad(f(logits), logits) * direction).sum()
    with forward_ad.dual_level():
        for point in x, logits:
            tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(point, direction))).tangent
            torch.testing.assert_close(tangent, slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", TRANSFORMED)
def test_fake_and_meta_tensors_have_a_loss_and_a_gradient(form):
    function, which = TRANSFORMED[form]
    logits, *labels = batch(4, 2)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(logits.detach()).requires_grad_()
        loss = function(fake, mode.from_tensor(labels[which]))
        assert loss.shape == () and grad(loss, fake).shape == logits.shape
    if "weight" not in form:  # that is on the CPU
        loss = function(logits.to("meta"), labels[which].to("meta"))
        assert loss.shape == () and loss.is_meta


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 7)], ids=str)
def test_channels_in_the_second_axis_are_refused_with_the_remedy(name, shape):
    """One-hot labels of the same shape as the logits would give a number, of classes that are columns."""
    logits, indices = torch.randn(shape), torch.arange(2 * shape[2] * (shape + (1,))[3]) % 3
    indices = indices.view(2, *shape[2:])
    one_hot = F.one_hot(indices, 3).movedim(-1, 1)
    for labels in indices, indices.unsqueeze(1), one_hot, one_hot.float(), one_hot.bool():
        with pytest.raises(ValueError, match=r"^labels: .*channels last.*movedim\(1, -1\)"):
            LOSSES[name](logits, labels)
    right = LOSSES[name](logits.movedim(1, -1), one_hot.movedim(1, -1))
    torch.testing.assert_close(right, LOSSES[name](logits.movedim(1, -1), indices))


COMPILED = {
    "dice, soft, ignore_empty": (DiceLoss(ignore_empty=True, activation="sigmoid"), 1),
    "dice": (DiceLoss(), 0),
    "dice, micro, weight": (DiceLoss(reduction="micro", activation="sigmoid", weight=torch.rand(4)), 1),
    "tversky, smooth 0": (TverskyLoss(smooth=0.0), 0),
    "self-adjusting": (SelfAdjustingDiceLoss(), 0),
    "self-adjusting, multi-label": (SelfAdjustingDiceLoss(activation="sigmoid", reduction="sum"), 1),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiles_as_one_graph(case):
    loss, which = COMPILED[case]
    logits, *labels = batch(4, 3, dtype=torch.float32)
    labels = labels[which] * 0.9 if "soft" in case else labels[which]
    labels[0, 0] = -100
    torch._dynamo.reset()
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, labels)
    torch.testing.assert_close(value, loss(logits, labels))
    torch.testing.assert_close(grad(value, logits), grad(loss(logits, labels), logits))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20),
    C=st.integers(2, 5),
    seed=st.integers(0, 2**16),
    smooth=st.floats(0, 10),
    a=st.floats(0.01, 2),
    b=st.floats(0.01, 2),
)
def test_order_of_examples_and_of_classes_does_not_matter_and_losses_stay_in_range(n, C, seed, smooth, a, b):
    logits, labels, _ = batch(n, C=C, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    order, classes = torch.randperm(n, generator=generator), torch.randperm(C, generator=generator)
    renamed = torch.argsort(classes)[labels]
    for function in (
        lambda x, y, r: dice_loss(x, y, smooth, r),
        lambda x, y, r: tversky_loss(x, y, a, b, smooth, r),
    ):
        for reduction in "macro", "micro", "none":
            loss = function(logits, labels, reduction)
            assert (loss >= -1e-12).all() and (loss <= 1 + 1e-12).all()
            torch.testing.assert_close(
                function(logits[order], labels[order], reduction), loss, rtol=1e-9, atol=1e-9
            )
            other = function(logits[:, classes], renamed, reduction)
            torch.testing.assert_close(
                other, loss[classes] if reduction == "none" else loss, rtol=1e-9, atol=1e-9
            )


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 10), seed=st.integers(0, 2**16), alpha=st.floats(0, 2), smooth=st.floats(0.01, 2))
def test_self_adjusting_does_not_depend_on_the_rest_of_the_batch(n, seed, alpha, smooth):
    logits, labels, _ = batch(n, seed=seed)
    each = self_adjusting_dice_loss(logits, labels, alpha, smooth, "none")
    alone = [self_adjusting_dice_loss(logits[i : i + 1], labels[i : i + 1], alpha, smooth) for i in range(n)]
    torch.testing.assert_close(each, torch.stack(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "loss", [DiceLoss(), TverskyLoss(), SelfAdjustingDiceLoss()], ids=lambda m: type(m).__name__
)
def test_training_on_it_separates_the_classes(loss):
    labels = torch.tensor([0] * 45 + [1] * 5)
    inputs = torch.stack([labels - 0.5, torch.ones(50)], dim=1)
    weight = torch.zeros(2, 2, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(inputs @ weight, labels).backward()
        optimizer.step()
    assert ((inputs @ weight).argmax(1) == labels).all()


# Modules and errors


def test_parameters_are_attributes_of_the_same_name_and_weights_move_with_the_module():
    weight = torch.rand(4)
    assert (DiceLoss().ignore_empty, TverskyLoss(ignore_empty=True).ignore_empty) == (False, True)
    dice = DiceLoss(0.5, "micro", "sigmoid", weight, -1)
    assert (dice.smooth, dice.reduction, dice.activation, dice.ignore_index) == (
        0.5,
        "micro",
        "sigmoid",
        -1,
    ) and torch.equal(dice.weight, weight)
    tversky = TverskyLoss(0.2, 0.8, weight=weight)
    assert (tversky.alpha, tversky.beta, tversky.smooth, tversky.reduction) == (0.2, 0.8, 1.0, "macro")
    adjusting = SelfAdjustingDiceLoss(0.1, 0.5, "sum", None, -1)
    assert (
        adjusting.alpha,
        adjusting.smooth,
        adjusting.reduction,
        adjusting.activation,
        adjusting.ignore_index,
    ) == (0.1, 0.5, "sum", None, -1)
    for module in dice, tversky, adjusting:
        other = copy.deepcopy(module)
        other.load_state_dict(module.state_dict())
    logits, labels, multi = batch(9)
    assert dice(logits, multi) == dice_loss(logits, multi, 0.5, "micro", "sigmoid", weight)
    assert tversky(logits, labels) == tversky_loss(logits, labels, 0.2, 0.8, weight=weight)
    assert adjusting(logits.sigmoid(), labels) == self_adjusting_dice_loss(
        logits.sigmoid(), labels, 0.1, 0.5, "sum", None
    )
    assert dice.to("meta").weight.device.type == "meta" and DiceLoss().weight is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "loss",
    [DiceLoss(), TverskyLoss(weight=torch.rand(4)), SelfAdjustingDiceLoss()],
    ids=lambda m: type(m).__name__,
)
def test_on_cuda_equals_cpu_and_does_not_synchronise(loss):
    logits, labels, _ = batch(6, 7, dtype=torch.float32)
    labels[0, :3] = -100
    expected = loss(logits, labels)
    x, y = logits.detach().cuda().requires_grad_(), labels.cuda()
    moved = copy.deepcopy(loss).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = moved(x, y)
        value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(value.cpu(), expected)
    torch.testing.assert_close(x.grad.cpu(), grad(expected, logits))


X, Y = torch.zeros(4, 3), torch.zeros(4, 3)
L = torch.zeros(4, dtype=torch.long)
NAN = float("nan")
BAD_INPUT = {
    "logits is a list": (([[0.0]], L), {}, TypeError, "logits"),
    "logits are integers": ((X.long(), L), {}, TypeError, "logits"),
    "logits have one axis": ((X[:, 0], L), {}, ValueError, "logits"),
    "empty batch": ((X[:0], L[:0]), {}, ValueError, "logits"),
    "no class": ((X[:, :0], L), {}, ValueError, "logits"),
    "logits where probabilities are asked for": ((X + 3, L), {"activation": None}, ValueError, "logits"),
    "negative probabilities": ((X - 0.1, L), {"activation": None}, ValueError, "logits"),
    "probabilities with NaN": ((X * NAN, L), {"activation": None}, ValueError, "logits"),
    "softmax over one class": ((X[:, :1], L), {}, ValueError, "activation"),
    "labels is None": ((X, None), {}, TypeError, "labels"),
    "floating class indices": ((X, L.float()), {}, TypeError, "labels"),
    "too few labels": ((X, L[:3]), {}, ValueError, "labels"),
    "labels transposed": ((X, Y.T), {}, ValueError, "labels"),
    "labels that would broadcast": ((X, Y[:1]), {}, ValueError, "labels"),
    "label C": ((X, L + 3), {}, ValueError, "labels"),
    "label -1": ((X, L - 1), {}, ValueError, "labels"),
    "one-hot of 2s": ((X, Y + 2), {}, ValueError, "labels"),
    "soft labels above 1": ((X, Y + 1.3), {}, ValueError, "labels"),
    "soft labels below 0": ((X, Y - 0.3), {}, ValueError, "labels"),
    "one-hot with NaN": ((X, Y * NAN), {}, ValueError, "labels"),
    "label 156 in uint8, which is -100 there": ((X, L.to(torch.uint8) + 156), {}, ValueError, "labels"),
    "labels on another device": ((X, L.to("meta")), {}, ValueError, "labels"),
    "logits on another device": ((X.to("meta"), L), {}, ValueError, "labels"),
    "smooth infinite": ((X, L), {"smooth": float("inf")}, ValueError, "smooth"),
    "smooth negative": ((X, L), {"smooth": -1.0}, ValueError, "smooth"),
    "smooth NaN": ((X, L), {"smooth": NAN}, ValueError, "smooth"),
    "smooth is a string": ((X, L), {"smooth": "1"}, TypeError, "smooth"),
    "reduction unknown": ((X, L), {"reduction": "batchmean"}, ValueError, "reduction"),
    "activation unknown": ((X, L), {"activation": "tanh"}, ValueError, "activation"),
    "activation is a function": ((X, L), {"activation": torch.sigmoid}, ValueError, "activation"),
    "ignore_index is a float": ((X, L), {"ignore_index": 0.5}, TypeError, "ignore_index"),
    "ignore_index beyond 64 bits": ((X, L + 3), {"ignore_index": 2**63}, ValueError, "ignore_index"),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case, name):
    arguments, keywords, error, argument = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{argument}: .* accepted"):
        LOSSES[name](*arguments, **keywords)


BAD_PARAMETERS = {
    "weight is a list": (dice_loss, {"weight": [1.0, 1.0, 1.0]}, TypeError, "weight"),
    "weight is integer": (tversky_loss, {"weight": torch.ones(3, dtype=torch.long)}, TypeError, "weight"),
    "weight of another length": (dice_loss, {"weight": torch.ones(4)}, ValueError, "weight"),
    "weight negative": (dice_loss, {"weight": torch.tensor([1.0, -1.0, 1.0])}, ValueError, "weight"),
    "weight all zero": (tversky_loss, {"weight": torch.zeros(3)}, ValueError, "weight"),
    "weight with NaN": (dice_loss, {"weight": torch.tensor([1.0, NAN, 1.0])}, ValueError, "weight"),
    "weight infinite": (dice_loss, {"weight": torch.full((3,), float("inf"))}, ValueError, "weight"),
    "weight whose sum overflows": (dice_loss, {"weight": torch.full((3,), 3e38)}, ValueError, "weight"),
    "weight on another device": (dice_loss, {"weight": torch.ones(3, device="meta")}, ValueError, "weight"),
    "alpha negative": (tversky_loss, {"alpha": -0.1}, ValueError, "alpha"),
    "alpha NaN": (self_adjusting_dice_loss, {"alpha": NAN}, ValueError, "alpha"),
    "alpha infinite": (self_adjusting_dice_loss, {"alpha": float("inf")}, ValueError, "alpha"),
    "alpha is None": (self_adjusting_dice_loss, {"alpha": None}, TypeError, "alpha"),
    "beta infinite": (tversky_loss, {"beta": float("inf")}, ValueError, "beta"),
    "beta negative": (tversky_loss, {"beta": -0.1}, ValueError, "beta"),
    "beta is a bool": (tversky_loss, {"beta": True}, TypeError, "beta"),
    "alpha and beta 0": (tversky_loss, {"alpha": 0, "beta": 0.0}, ValueError, "alpha"),
    "ignore_empty is a number": (dice_loss, {"ignore_empty": 1}, TypeError, "ignore_empty"),
    "ignore_empty without a mean": (
        tversky_loss,
        {"ignore_empty": True, "reduction": "micro"},
        ValueError,
        "ignore_empty",
    ),
    "macro of a loss by example": (self_adjusting_dice_loss, {"reduction": "macro"}, ValueError, "reduction"),
    "mean of a loss by class": (dice_loss, {"reduction": "mean"}, ValueError, "reduction"),
}


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_self_adjusting_loss_refuses_soft_labels(activation):
    with pytest.raises(ValueError, match="^labels: .* only 0 and 1 .* accepted"):
        self_adjusting_dice_loss(X, torch.full((4, 3), 1 / 3), activation=activation)


@pytest.mark.parametrize("row", [[1, 1, 0], [0, 0, 0]], ids=["two classes", "none"])
def test_self_adjusting_loss_of_exclusive_classes_refuses_rows_that_are_not_one_hot(row):
    with pytest.raises(ValueError, match="^labels: .* accepted"):
        self_adjusting_dice_loss(X, torch.tensor([row] * 4))


MODULES = {dice_loss: DiceLoss, tversky_loss: TverskyLoss, self_adjusting_dice_loss: SelfAdjustingDiceLoss}


@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_bad_parameters_are_an_error_in_the_function_and_in_the_module(case):
    function, keywords, error, name = BAD_PARAMETERS[case]
    for compute in lambda: function(X, L, **keywords), lambda: MODULES[function](**keywords)(X, L):
        with pytest.raises(error, match=f"^{name}: .* accepted"):
            compute()
