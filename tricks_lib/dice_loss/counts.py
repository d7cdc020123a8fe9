"""The counts TP and P of :mod:`tricks_lib.dice_loss` with their slopes, in few passes over memory.

Nothing here changes a value: the tests compare it with autograd of the plain sums. It is used in eager mode
on the CPU (:func:`tricks_lib._checks.readable`), for speed alone.
"""

import torch

from tricks_lib._checks import readable
from tricks_lib._labels import one_hot


def counts(x, y, keep, activation):
    """TP, P and Y of equation (1), each (C,)."""
    fast = keep is None and readable(x) and not y.requires_grad
    if fast and activation == "softmax" and y.ndim == 1:
        TP, P, _ = CountsOfClasses.apply(x, y)
        return TP, P, torch.bincount(y, minlength=x.shape[1]).to(x.dtype)
    y = one_hot(y, x) if y.ndim == 1 else y
    if fast and activation == "sigmoid":
        TP, P, _ = CountsOfSigmoid.apply(x, y)
        return TP, P, y.sum(dim=0)
    p = x.softmax(dim=1) if activation == "softmax" else x.sigmoid() if activation == "sigmoid" else x
    if keep is not None:
        p, y = p.masked_fill(~keep, 0), y.masked_fill(~keep, 0)
    return (p * y).sum(dim=0), p.sum(dim=0), y.sum(dim=0)


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
    """Of sigmoid(x) and labels y (N, C) from [0, 1]."""

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
    """Of softmax(x) and class indices t (N,), without a one-hot matrix."""

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
        # the slope of softmax is p (g - mean of g under p), with g = grad_P + grad_TP onehot
        mean = torch.addmv(g_t.squeeze(1), p, grad_P).unsqueeze(1)
        return (grad_P - mean).mul_(p).scatter_add_(1, i, g_t), None
