"""The loss of a batch from a formula: in training the value together with its slope, then the mean."""

import torch

from tricks_lib._checks import eager


def value(form, x, labels, *parameters):
    """The loss, in training together with its slope."""
    formula, *slopes = form
    if x.requires_grad and not labels.requires_grad and eager(x):
        return WithSlope.apply(formula, *slopes, x, labels, *parameters)[0]
    return formula(x, labels, *parameters)


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


def reduced(loss, keep, divisor, reduction):
    """``divisor``: of the mean, as a tensor to sum; None: the number of losses."""
    if keep is not None:
        loss = loss.masked_fill(~keep, 0)
    if reduction != "mean":
        return loss.sum() if reduction == "sum" else loss
    if divisor is None:
        return loss.sum() / loss.numel()  # the backward of mean() would write a gradient for each of them
    divisor = divisor.sum()
    return loss.sum() / divisor.masked_fill(divisor == 0, 1)
