"""PGD: several steps around the clean weights, equation (2) of :mod:`tricks_lib.fgm`."""

import torch
from torch import Tensor, nn

from tricks_lib.fgm.one_step import FGM, positive


class PGD(FGM):
    """Projected gradient descent, equation (2): each :meth:`attack` is one step, around the clean weights::

        loss.backward()
        for _ in range(3):
            pgd.attack()
            loss(model).backward()
        pgd.restore()

    Only the last adversarial gradient is added to that of the clean loss: each further step puts ``.grad``
    back first.

    Args:
        model, epsilon, target, per_example, relative: as :class:`FGM`, and the same errors; epsilon is the
            radius.
        alpha: the length of a step, positive; with ``relative`` a share as well.
    """

    _by_rows = False  # the next step may see another batch
    _one_step = False

    def __init__(
        self,
        model: nn.Module,
        epsilon: float = 1.0,
        target: str | None = None,
        per_example: bool = False,
        alpha: float = 0.3,
        relative: bool = False,
    ):
        self.alpha = positive("alpha", alpha)
        self._clean_gradients: list[tuple[nn.Parameter, Tensor | None]] = []
        super().__init__(model, epsilon, target, per_example, relative)

    @torch.no_grad()
    def attack(self) -> None:
        """One step of (2); the same errors as :meth:`FGM.attack`."""
        first = not self._active
        super().attack()
        if first:
            self._clean_gradients = gradients(self.model)
            return
        for parameter, clean in self._clean_gradients:
            parameter.grad = None if clean is None else clean.clone()

    def restore(self) -> None:
        """As :meth:`FGM.restore`."""
        super().restore()
        self._clean_gradients = []

    def _move(self, r, gradient, clean):
        length = self._length(clean)
        step = self.alpha * length * self._unit(gradient)
        r = step if r is None else r + step
        norm, radius = self._norm(r), self.epsilon * length
        return torch.where(norm > radius, r * (radius / norm), r)


def gradients(model: nn.Module) -> list[tuple[nn.Parameter, Tensor | None]]:
    """Copies of ``.grad`` as it is now, of each trainable parameter."""
    return [
        (value, None if value.grad is None else value.grad.clone())
        for value in model.parameters()
        if value.requires_grad
    ]
