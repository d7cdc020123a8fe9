"""The formulas of :mod:`tricks_lib.focal_loss` with their slopes, in fewer passes over memory.

Nothing here changes a value beyond rounding: the tests compare it with the plain formulas, their autograd,
and both in float64. It is used in eager mode (:func:`tricks_lib._checks.eager`), for speed alone. Equation
numbers are those of :mod:`tricks_lib.focal_loss`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tricks_lib._checks import readable


class WithSlope(torch.autograd.Function):
    """The loss of ``formula(x, labels, *parameters)`` and what its gradient takes, at once.

    ``with_slope`` of the same arguments gives the loss and tensors of slopes, ``gradient`` of the loss's
    gradient, the labels and these tensors that of x. With ``create_graph=True`` the backward is autograd's of
    the formula, which can be derived again.
    """

    @staticmethod
    def forward(formula, with_slope, gradient, x, labels, *parameters):
        return with_slope(x, labels, *parameters)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.formula, _, ctx.gradient, x, labels, *ctx.parameters = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, labels, *output[1:])

    @staticmethod
    def backward(ctx, grad, *_):
        x, labels, *slopes = ctx.saved_tensors
        if grad is not None and torch.is_grad_enabled():
            grad = torch.autograd.grad(ctx.formula(x, labels, *ctx.parameters), x, grad, create_graph=True)[0]
        elif grad is not None:
            grad = ctx.gradient(grad, labels, *slopes)
        return None, None, None, grad, None, *[None for _ in ctx.parameters]


def pick(each, t):
    return each.gather(-1, t.unsqueeze(-1)).squeeze(-1)


def of_class_with_slope(x, t, gamma):
    p, i = torch.softmax(x, dim=-1), t.unsqueeze(-1)  # (..., C), (..., 1)
    p_t = pick(p, t)
    low, high = p_t.aminmax() if readable(p) else (0, 1)
    # log p_t = x_t - max x + log max p, where p_t may round to 0
    far = p_t.log() if low > 1e-30 else pick(x, t) - x.amax(-1) + p.amax(-1).log()
    p.scatter_add_(-1, i, -p_t.unsqueeze(-1))
    q = 1 - p_t if high < 0.5 else p.sum(dim=-1)  # where p_t may round to 1, the others' share
    ce = -torch.where(q < 0.5, torch.log1p(-q), far)
    finite = torch.finfo(q.dtype)
    ratio = p_t * ce.clamp(max=finite.max) / q.clamp(min=finite.tiny)  # where q is 0, so is q^gamma or gamma
    factor = q**gamma
    slope = torch.addcmul(factor, factor, ratio, value=gamma)  # dFL/dce of (4)
    return factor * ce, p.scatter_add_(-1, i, -q.unsqueeze(-1)), slope  # dce/dx = p - onehot


def gradient_of_class(grad, t, dce_dx, slope):
    return dce_dx * (grad * slope).unsqueeze(-1)


def binary_with_slope(x, y, gamma, weights):
    """Of labels 0 and 1."""
    sign = torch.rsub(y, 1, alpha=2)  # 1 - 2y
    weight = None if weights is None else _weight(y, *weights)
    loss, slope = _of_logit(sign * x, gamma, weight)
    return loss, slope.mul_(sign)  # dz/dx = sign


def soft_binary_with_slope(x, y, gamma, weights):
    """Of labels from [0, 1], equation (5)."""
    positive, negative = (1.0, 1.0) if weights is None else weights
    loss, slope = _of_logit(x.clone(), gamma, (1 - y) * negative)
    loss_of_positive, slope_of_positive = _of_logit(-x, gamma, y * positive)
    return loss.add_(loss_of_positive), slope.sub_(slope_of_positive)


def gradient_of_binary(grad, y, slope):
    return grad * slope


def _of_logit(z, gamma, weight):
    """(2) and (3), in place of z."""
    u = F.softplus(z, threshold=50)
    s = z.sigmoid_()
    slope = torch.addcmul(u, u, s, value=-1)
    torch.add(s, slope, alpha=gamma, out=slope)
    factor = s.pow_(gamma)
    if weight is not None:
        factor.mul_(weight)
    return u.mul_(factor), slope.mul_(factor)


def _weight(y, positive, negative):
    """y positive + (1 - y) negative, for numbers in two passes."""
    if isinstance(positive, Tensor):
        return y * positive + (1 - y) * negative
    return torch.rsub(y, negative, alpha=negative).add_(y, alpha=positive)
