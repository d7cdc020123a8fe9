"""Whether two passes of a model differ at all: without dropout R-Drop does nothing."""

import warnings
import weakref

import torch
from torch import Tensor, nn

CHECKED: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def warn_without_dropout(model: nn.Module, logits_p: Tensor, logits_q: Tensor) -> None:
    """Warn, once for each model in training mode, if its two passes agree and none of its parts drops
    anything.

    Half precision makes equal rows differ a little; dropout makes them differ much more.
    """
    if not model.training or model in CHECKED:
        return
    CHECKED.add(model)
    agree = torch.allclose(logits_p.float(), logits_q.float(), rtol=0.05, atol=1e-3)
    if agree and not any(_drops(module) for module in model.modules()):
        warnings.warn(
            f"model: {type(model).__name__} without active dropout given: both passes of R-Drop are equal, "
            f"and it only doubles the work; set the dropout of its configuration, or add nn.Dropout",
            stacklevel=3,
        )


def _drops(module: nn.Module) -> bool:
    """Whether a module in training mode has a rate of dropout above 0, as ``p`` or by a name."""
    if not module.training:
        return False
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return any(
        "drop" in name and isinstance(value, float) and value > 0 for name, value in vars(module).items()
    )
