"""The formulas of :mod:`tricks_lib.focal_loss` with their slopes, in fewer passes over memory.

Nothing here changes a value beyond rounding: the tests compare it with the plain formulas, their autograd,
and both in float64. It is used in eager mode (:func:`tricks_lib._checks.eager`), for speed alone. Equation
numbers are those of :mod:`tricks_lib.focal_loss`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tricks_lib._checks import readable


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


def of_shares_with_slope(x, y, gamma, weight):
    """Of shares y (..., C), equation (5). Only the largest p can round to 1: it is taken from the others."""
    log_p = F.log_softmax(x, dim=-1)
    p = log_p.exp()
    p_top, top = p.max(dim=-1, keepdim=True)  # (..., 1)
    rest = p.scatter_(-1, top, 0).sum(dim=-1, keepdim=True)
    p.scatter_(-1, top, p_top)
    q = torch.rsub(p, 1).scatter_(-1, top, rest)
    ce_top = -torch.where(rest < 0.5, torch.log1p(-rest), log_p.gather(-1, top))
    ce = log_p.neg_().scatter_(-1, top, ce_top)
    finite_ce = ce
    if not (readable(ce) and ce.max() < float("inf")):
        ce.masked_fill_((y == 0) & (ce == float("inf")), 0)  # a masked class without a share
        finite_ce = ce.clamp(max=torch.finfo(ce.dtype).max)

    ratio = (p * finite_ce).div_(q.clamp_(min=torch.finfo(q.dtype).tiny))  # p ce / q, as above
    factor = q.pow_(gamma).mul_(y)
    factor = factor if weight is None else factor.mul_(weight)
    slope = ratio.mul_(gamma).add_(1).mul_(factor)  # y_c dFL_c/dce_c; dce_c/dx = p - onehot of c
    slope_top = slope.gather(-1, top)
    others = slope.scatter_(-1, top, 0).sum(dim=-1, keepdim=True)
    gradient = p.mul_(slope_top + others).sub_(slope).scatter_(-1, top, p_top * others - rest * slope_top)
    return factor.mul_(ce).sum(dim=-1), gradient


def gradient_of_shares(grad, y, slope):
    return slope * grad.unsqueeze(-1)


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
