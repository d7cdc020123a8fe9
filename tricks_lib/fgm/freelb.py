"""FreeLB: the gradients of all steps of the attack train the weights, equation (4) of
:mod:`tricks_lib.fgm`.
"""

from collections.abc import Generator

import torch
from torch import nn
from torch.utils.checkpoint import get_device_states, set_device_states

from tricks_lib._checks import number
from tricks_lib.fgm.one_step import FGM
from tricks_lib.fgm.pgd import PGD


class FreeLB(PGD):
    """Free large-batch adversarial training: K passes, each an ascent step further, one mean gradient::

        for _ in freelb.passes():
            loss(model).backward()
        optimizer.step()

    This is the whole step: the first of the K passes, at r = 0, is that of the clean batch, so that with
    ``steps=1`` it is plain training. (The paper may also start at a random r_0.) The K gradients are averaged
    into ``.grad``, where what earlier micro-batches have accumulated stays.

    All K passes see the same dropout mask, as section 3.3 of the paper asks: the state of the random number
    generators, of the CPU and of the model's devices, is kept before the first pass and put back before each
    further one. Whatever else is drawn in a pass repeats too; the next batch draws anew.

    Args:
        model, epsilon, target, relative: as :class:`PGD`, and the same errors. r stays in the ball of radius
            epsilon around the clean embeddings.
        per_example: as the paper has it; False: r is added to the table.
        alpha: the length of a step, positive.
        steps: K, at least 1.

    Raises:
        TypeError, ValueError: as :class:`PGD`; ``steps`` is not a positive integer.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 1))
        >>> freelb, input_ids = FreeLB(model, epsilon=0.5, alpha=0.2, steps=2), torch.tensor([[3, 4]])
        >>> losses = []
        >>> for _ in freelb.passes():
        ...     loss = model(input_ids).sum()
        ...     loss.backward()
        ...     losses.append(loss.item())
        >>> losses[1] >= losses[0]
        True
    """

    def __init__(
        self,
        model: nn.Module,
        epsilon: float = 1.0,
        target: str | None = None,
        per_example: bool = True,
        alpha: float = 0.3,
        steps: int = 3,
        relative: bool = False,
    ):
        self.steps = number("steps", steps, 1, accepted="a positive integer", integer=True)
        super().__init__(model, epsilon, target, per_example, alpha, relative)

    def passes(self) -> Generator[int, None, None]:
        """The numbers of the K passes; :meth:`attack` comes before each, :meth:`restore` at the end."""
        try:
            for k in range(self.steps):
                self.attack()
                yield k
        finally:
            self.restore()

    @torch.no_grad()
    def attack(self) -> None:
        """To be called before each pass: the first call takes note of the gradients and of the generators,
        each further one takes a step of (2) along the gradient of the pass before it.

        Raises:
            RuntimeError: the pass before has left no target a gradient.
        """
        if not self._active:
            for site in self._sites:
                site.restore()  # forgets the gradients of earlier passes
            self._active, self._generators = True, _Generators(self.model)
            self._scale(self.steps)  # in place: DDP may average .grad over the processes in any pass
            return
        FGM.attack(self)  # PGD's would drop the gradient of the pass before
        self._generators.replay()

    @torch.no_grad()
    def restore(self) -> None:
        """Put the clean weights back and the mean gradient of the K passes into ``.grad``; without an attack
        it does nothing.
        """
        if self._active:
            self._scale(1 / self.steps)  # (4)
        super().restore()

    def _scale(self, factor: float) -> None:
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)


class _Generators:
    """The state of the random number generators that a model's dropout draws from."""

    def __init__(self, model: nn.Module):
        one_each = {value.device: value for value in model.parameters()}.values()
        self.cpu, (self.devices, self.states) = torch.get_rng_state(), get_device_states(*one_each)
        self.kind = next((value.device.type for value in one_each if value.device.type != "cpu"), None)

    def replay(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.kind is not None:
            set_device_states(self.devices, self.states, device_type=self.kind)
