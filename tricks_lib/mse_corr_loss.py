"""Mean squared error plus one minus the correlation: for regression that is judged by Pearson's r.

    loss = mean (x - y)^2 + p (1 - r(x, y)),   r = sum dx dy / sqrt(sum dx^2 sum dy^2)          (1)

with x the predictions, y the targets and dx, dy their differences from their means, over the examples of the
batch. All three sums of r have the same number of terms, so no n or n - 1 enters, and a perfect prediction
has r = 1.

Squared error already holds the correlation, beside offset and scale, to which r is blind. With the standard
deviations s_x and s_y over n

    mean (x - y)^2 = (mean x - mean y)^2 + (s_x - s_y)^2 + 2 s_x s_y (1 - r)                    (2)

The concordance correlation coefficient weighs all three in one number, 1 only where x = y:

    CCC = 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2),   with the covariance over n          (3)

The gradient of squared error has three orthogonal parts: offset, scale and correlation. For a fresh head,
whose predictions are nearly constant, the last is by far the longest. The gradient of r has its direction, so
p (1 - r) multiplies that part by

    1 + p / (2 s_x s_y)                                                                         (6)

and changes no other. An optimizer that normalises or clips the gradient takes the length away again; what
remains is less weight on offset and scale. Equations (4) and (5) of the chapter derive this.

r is computed from values shifted by one of them, then by their mean, then scaled to at most 1: an offset of
1e4 loses no digits, a scale of 1e-6 needs no epsilon, and a constant batch is recognised exactly.

Source of (3): Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 1989.
The sum (1) circulates without a paper.
Shapes: B batch, T tokens, C targets.
"""

import torch
from torch import Tensor, nn

from tricks_lib._checks import number, require, same_device, tensor

__all__ = ["pearson_corr", "mse_corr_loss", "ccc_loss", "MSECorrLoss", "CCCLoss"]


def pearson_corr(x: Tensor, y: Tensor, dim: int = 0) -> Tensor:
    """Pearson's correlation along one axis.

    Args:
        x: any shape with at least one axis, real; half precision is computed in float32, integers in float64.
        y: same shape and device.
        dim: the axis of the examples.

    Returns:
        the shape without ``dim``, in [-1, 1], float32 or float64; 0, with a finite gradient, where x or y is
        constant along ``dim``, as with a single example.

    Raises:
        TypeError: x or y is not a real tensor, ``dim`` not an integer.
        ValueError: shapes or devices differ, an axis is empty, ``dim`` is out of range.

    Example:
        >>> pearson_corr(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
        tensor(0.5000)
    """
    _check("x", x, "y", y)
    number("dim", dim, -x.ndim, x.ndim - 1, accepted=f"an integer in [{-x.ndim}, {x.ndim - 1}]", integer=True)
    x, y = (v if v.is_floating_point() else v.double() for v in (x, y))  # float32 would round 1,700,000,001
    wide = _wide(x, y)
    return _pearson(x.to(wide).movedim(dim, 0), y.to(wide).movedim(dim, 0), None)[0]


def mse_corr_loss(
    predictions: Tensor,
    targets: Tensor,
    p: float = 1.5,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean squared error plus p (1 - r), equation (1).

    Args:
        predictions: (B,), (B, C) or (B, T, C), floating point: C targets in the last axis, each with its own
            r over all examples.
        targets: same shape and device, real and finite where they count.
        p: weight of the correlation, at least 0.
        mask: the shape of ``targets``, or without its last axis; 1 for what counts, 0 for missing targets and
            padding, be they NaN.

    Returns:
        scalar, float32 (float64 if an argument is); the mean over the targets. A column whose targets are all
        equal (a batch of one) says nothing about order, so there (1 - r) is left out; constant predictions of
        targets that differ have r = 0.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: wrong shape or device, an empty batch, negative ``p``; where tensors can be read without a
            synchronisation (eager mode on the CPU), targets that are not finite, mask values other than 0
            and 1.

    Example:
        >>> mse_corr_loss(torch.tensor([0.1, 0.2, 0.2, 0.8, 0.4]), torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0]))
        tensor(2.0341)
    """
    number("p", p, 0.0)
    x, y, keep, count = _prepare(predictions, targets, mask)
    error = (x - y).square().sum(dim=0) / count  # (C,)
    r, flat = _pearson(x, y, keep)
    return (error + p * (1 - r).masked_fill(flat, 0)).mean()  # (1)


def ccc_loss(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus the concordance correlation coefficient, equation (3), the mean over the targets.

    Args:
        predictions, targets, mask: as :func:`mse_corr_loss`.

    Returns:
        scalar in [0, 2]; where both are constant 0 if they are equal, else 1.

    Raises:
        TypeError, ValueError: as :func:`mse_corr_loss`.

    Example:
        >>> ccc_loss(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 4.0]))  # r = 1, and off by 1
        tensor(0.4286)

        which is 1 - (4 / 3) / (4 / 3 + 1).
    """
    x, y, keep, count = _prepare(predictions, targets, mask)
    origin = _first(y, keep)
    dx, mean_x = _centred(x - origin, keep, count)
    dy, mean_y = _centred(y - origin, keep, count)
    gap = mean_x - mean_y
    largest = [dx.abs().amax(dim=0), dy.abs().amax(dim=0), gap.abs().squeeze(0)]
    scale = torch.stack(largest).amax(dim=0).detach()  # (C,)
    same = scale == 0
    scale = scale.masked_fill(same, 1)  # CCC is free of a common scale; squares of 1e-30 are not
    dx, dy, gap = dx / scale, dy / scale, gap.squeeze(0) / scale
    denominator = (dx.square() + dy.square()).sum(dim=0) / count + gap.square()
    ccc = 2 * (dx * dy).sum(dim=0) / count / denominator.masked_fill(same, 1)  # (3)
    return (1 - ccc).masked_fill(same, 0).mean()


class MSECorrLoss(nn.Module):
    """:func:`mse_corr_loss` as a module; ``p`` is an attribute.

    Example:
        >>> MSECorrLoss(p=1.5)(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
        tensor(0.)
    """

    def __init__(self, p: float = 1.5):
        super().__init__()
        number("p", p, 0.0)
        self.p = p

    def forward(self, predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        return mse_corr_loss(predictions, targets, self.p, mask)


class CCCLoss(nn.Module):
    """:func:`ccc_loss` as a module.

    Example:
        >>> CCCLoss()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
        tensor(0.)
    """

    def forward(self, predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        return ccc_loss(predictions, targets, mask)


def _pearson(x, y, keep):
    """r over axis 0 of (N, ...), and where y is constant."""
    count = x.shape[0] if keep is None else keep.sum(dim=0).clamp(min=1)
    dx, flat_x = _scaled(_centred(x - _first(x, keep), keep, count)[0])
    dy, flat_y = _scaled(_centred(y - _first(y, keep), keep, count)[0])
    norms = (dx * dx).sum(dim=0) * (dy * dy).sum(dim=0)
    # sqrt(a * a) is a in floating point too, so r(x, x) is exactly 1
    r = (dx * dy).sum(dim=0) / norms.masked_fill(flat_x | flat_y, 1).sqrt()  # (1)
    return r.clamp(-1, 1), flat_y


def _scaled(d):
    """``d`` scaled in place to a largest absolute value of 1 over axis 0, and where it is all 0; r does not
    change with it, so it needs no gradient.
    """
    scale = d.detach().abs().amax(dim=0)
    flat = scale == 0
    return d.div_(scale.masked_fill(flat, 1)), flat


def _first(z, keep):
    """One of the values that count, (1, ...): what a constant column is shifted to exactly 0 by."""
    z = z.detach()
    return z[:1] if keep is None else z.gather(0, keep.int().argmax(dim=0, keepdim=True))


def _centred(z, keep, count):
    """``z``, changed in place, less its mean over axis 0 (0 where masked), and the mean."""
    if keep is not None:
        z = z.masked_fill(~keep, 0)
    mean = z.sum(dim=0, keepdim=True) / count
    return z.sub_(mean) if keep is None else z.sub_(mean).masked_fill(~keep, 0), mean


def _prepare(predictions, targets, mask):
    """Checked predictions and targets (N, C), 0 where masked; the mask (N, C) or None; the number that
    counts, (C,) or N.
    """
    tensor("predictions", predictions, floating=True)
    _check("predictions", predictions, "targets", targets)
    C, wide = predictions.shape[-1] if predictions.ndim > 1 else 1, _wide(predictions, targets)
    x, y, keep = predictions.to(wide).reshape(-1, C), targets.to(wide).reshape(-1, C), None
    if mask is not None:
        tensor("mask", mask)
        same_device("mask", mask, "predictions", predictions)
        if mask.shape not in (predictions.shape, predictions.shape[:-1] if predictions.ndim > 1 else None):
            raise ValueError(
                f"mask: shape {tuple(mask.shape)} given, {tuple(predictions.shape)} or the same without its "
                f"last axis is accepted"
            )
        require(((mask == 0) | (mask == 1)).all(), "mask: {} given, only 0 and 1 are accepted", mask)
        keep = mask.bool().reshape(x.shape[0], -1).expand(x.shape)
        x, y = x.masked_fill(~keep, 0), y.masked_fill(~keep, 0)
    ends = torch.stack(y.detach().aminmax())  # one pass: a NaN is both
    require(
        torch.isfinite(ends).all(),
        "targets: {} given, finite numbers are accepted where the mask is not 0",
        y,
    )
    return x, y, keep, x.shape[0] if keep is None else keep.sum(dim=0).clamp(min=1)


def _check(name_x, x, name_y, y):
    for name, value in (name_x, x), (name_y, y):
        tensor(name, value)
        if value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{name}: dtype {value.dtype} given, a real number is accepted")
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"{name_x}: shape {tuple(x.shape)} given, at least one axis and no zero is accepted")
    if y.shape != x.shape:
        raise ValueError(
            f"{name_y}: shape {tuple(y.shape)} given with {name_x} {tuple(x.shape)}, the same shape is "
            f"accepted"
        )
    same_device(name_y, y, name_x, x)


def _wide(x, y):
    return torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
