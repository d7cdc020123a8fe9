"""The formulas of :mod:`tricks_lib.dice_loss` and :mod:`tricks_lib.focal_loss` with their slopes, in fewer
passes over memory.

Nothing here changes a value: the tests compare it with autograd of the formulas. It is used in eager mode,
for speed alone.
"""

import torch
import torch.nn.functional as F


def softmax_of_rows(x):
    """softmax(x) along C of (N, C). torch's does not vectorise short rows: take all as one long row, whose
    shares are then those of each.
    """
    if x.shape[1] < 32:
        p = x.reshape(-1).softmax(dim=0).view(x.shape)
        total = p.mv(p.new_ones(x.shape[1]))  # (N,)
        if total.min() * len(x) > 1e-12:  # no row has rounded away beside the others
            return p.div_(total.unsqueeze(1))
    return x.softmax(dim=1)


class Counts(torch.autograd.Function):
    """TP and P of each class, and the probabilities p (N, C) they are counted of, kept for the slope; of
    ``forward(logits, labels)``.
    """

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)  # no zeros for p
        ctx.save_for_backward(*inputs, output[2])


class CountsOfSigmoid(Counts):
    """TP and P of sigmoid(x) for labels y (N, C) of 0 and 1 on the CPU, and p, in few passes over memory."""

    @staticmethod
    def forward(x, y):
        p = x.sigmoid()  # (N, C)
        return (p * y).sum(dim=0), p.sum(dim=0), p

    @staticmethod
    def backward(ctx, grad_TP, grad_P, _):
        if grad_TP is None:
            return None, None
        x, y, p = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the slope will be derived again
            p = x.sigmoid()
        return torch.ops.aten.sigmoid_backward((y * grad_TP).add_(grad_P), p), None


class CountsOfClasses(Counts):
    """TP and P of softmax(x) for class indices t on the CPU: with no one-hot matrix, and few passes over
    memory.
    """

    @staticmethod
    def forward(x, t):
        p = softmax_of_rows(x)  # (N, C)
        p_t = p.gather(1, t.unsqueeze(1)).squeeze(1)  # (N,)
        return (
            torch.bincount(t, p_t.double(), minlength=x.shape[1]).to(x.dtype),
            p.t().mv(p.new_ones(len(p))),
            p,
        )

    @staticmethod
    def backward(ctx, grad_TP, grad_P, _):
        if grad_TP is None:
            return None, None
        x, t, p = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the slope will be derived again
            p = x.softmax(dim=1)
        i = t.unsqueeze(1)
        g_t = grad_TP.index_select(0, t).unsqueeze(1) * p.gather(1, i)  # (N, 1)
        mean = torch.addmv(g_t.squeeze(1), p, grad_P).unsqueeze(
            1
        )  # the slope of softmax is p (g - mean of g under p)
        return (grad_P - mean).mul_(p).scatter_add_(1, i, g_t), None  # with g = grad_P + grad_TP onehot


class WithSlope(torch.autograd.Function):
    """The loss and its slope at once; with ``create_graph=True`` the backward is autograd's of the formula,
    which can be derived again.
    """

    @staticmethod
    def forward(formula, with_slope, x, labels, *parameters):
        return with_slope(x, labels, *parameters)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.formula, _, x, labels, *ctx.parameters = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, labels, output[1])

    @staticmethod
    def backward(ctx, grad, _):
        x, labels, slope = ctx.saved_tensors
        if grad is not None and torch.is_grad_enabled():
            grad = torch.autograd.grad(ctx.formula(x, labels, *ctx.parameters), x, grad, create_graph=True)[0]
        elif grad is not None:
            grad = slope * (grad if grad.ndim == x.ndim else grad.unsqueeze(-1))
        return None, None, grad, None, *[None for _ in ctx.parameters]


def pick(each, t):
    return each.gather(-1, t.unsqueeze(-1)).squeeze(-1)


def of_class_with_slope(x, t, gamma):
    p = torch.softmax(x, dim=-1)
    p_t = pick(p, t)
    # log p_t = x_t - max x + log max p, where p_t may round to 0
    ce = -p_t.log() if p_t.min() > 1e-30 else x.amax(dim=-1) - pick(x, t) - p.amax(dim=-1).log()
    q = 1 - p_t
    ratio = torch.where(
        q > 0, p_t * ce.clamp(max=torch.finfo(q.dtype).max) / q, 1
    )  # p_t ce / q, 1 in the limit
    factor = q**gamma
    slope = (factor * (gamma * ratio + 1)).unsqueeze(-1)  # dFL/dce, and dce/dx = p - onehot
    return factor * ce, p.mul_(slope).scatter_add_(-1, t.unsqueeze(-1), -slope)


def alpha_t(sign, alpha):
    """alpha where the sign is -1, a positive; else 1 - alpha."""
    return 1.0 if alpha is None else 0.5 - (alpha - 0.5) * sign


def binary_with_slope(x, y, gamma, alpha):
    sign = torch.rsub(y.to(x.dtype), 1, alpha=2)  # 1 - 2y
    z = sign * x
    u = F.softplus(z, threshold=50)
    s = z.sigmoid_()
    slope = torch.addcmul(u, u, s, value=-1).mul_(gamma).add_(s)
    factor = s.pow_(gamma).mul_(alpha_t(sign, alpha))
    return u.mul_(factor), slope.mul_(factor).mul_(sign)  # (2), (3) with dz/dx = sign
