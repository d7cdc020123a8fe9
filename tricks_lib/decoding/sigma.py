"""Top-n-sigma: tokens whose logit lies within n standard deviations of the largest.

    l_v >= max(l) - n * sigma(l),  sigma the standard deviation of the V logits                 (12)

Most logits are noise around their mean; what stands out above it is what the model means. Dividing all logits
by a temperature divides both sides of (12), so that the set does not depend on it.

Source: Tang et al., "Top-n-sigma: Not All Logits Are You Need", 2024, algorithm 1; sigma with divisor V - 1,
as in the authors' code.
Shapes: ... any leading dimensions, V vocabulary.
"""

import torch
from torch import Tensor

from tricks_lib._checks import number, truth
from tricks_lib.decoding.filters import INF, largest_logits, wide

__all__ = ["top_n_sigma_filter"]


def top_n_sigma_filter(logits: Tensor, top_n_sigma: float) -> Tensor:
    """Tokens that satisfy equation (12), over the tokens that are not blocked already.

    Args:
        logits: (..., V), floating point, the largest of each row finite.
        top_n_sigma: n, at least 0 and at most 1e6; the paper uses 1; 0 keeps the most probable token.

    Returns:
        (..., V), the logits, -inf for the tokens left out.

    Raises:
        TypeError, ValueError: as :func:`~tricks_lib.decoding.top_k_filter`.

    Example:
        >>> top_n_sigma_filter(torch.tensor([4.0, 3.0, 0.0, 0.0, 0.0]), 1.0)
        tensor([4., 3., -inf, -inf, -inf])
    """
    highest = largest_logits(logits).to(wide(logits))  # (..., 1)
    top_n_sigma = number("top_n_sigma", top_n_sigma, 0.0, 1e6)
    sigma = _standard_deviation(logits.detach().to(wide(logits)))  # (..., 1)
    return torch.where(logits >= highest - top_n_sigma * sigma, logits, -INF)


def _standard_deviation(logits: Tensor) -> Tensor:
    """Of the finite logits (..., V) of each row, (..., 1); 0 for a single one."""
    if logits.shape[-1] > 1:
        sigma = logits.std(dim=-1, keepdim=True)  # NaN where a token is blocked
        if truth(sigma.isfinite().all()):
            return sigma
    finite = logits > -INF
    count = finite.sum(dim=-1, keepdim=True)  # (..., 1)
    mean = logits.masked_fill(~finite, 0).sum(dim=-1, keepdim=True) / count
    square = (logits - mean).masked_fill(~finite, 0).square().sum(dim=-1, keepdim=True)
    return (square / (count - 1).clamp(min=1)).sqrt()
