"""FGM, the random direction it has to beat, and AWP: equations (1) and (3) of :mod:`tricks_lib.fgm`."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib.fgm.perturbation import LookUps, Weight
from tricks_lib.fgm.targets import find, input_embeddings, matrices


class FGM:
    """The fast gradient method on the word embeddings, equation (1).

    Under a ``GradScaler`` nothing is to be done: (1) does not depend on the scale, and where the gradient has
    overflowed the weights stay as they are. With the ``DistributedDataParallel`` wrapper as ``model``, the
    processes share the attack of the mean gradient, as one process with the whole batch would have; with the
    model inside it, each attacks its own.

    Under PEFT the tables are usually frozen, and then only ``per_example`` works: r needs no trainable table,
    and the adapters are trained on the look-ups that it moves. A table that PEFT trains as a copy
    (``modules_to_save``) is attacked as any other. LoRA matrices are not embeddings; a ``target`` of their
    name, or :class:`AWP`, attacks them.

    Args:
        model: any module. All its input embeddings are attacked, each with its own norm: the tables of every
            ``get_input_embeddings()`` in it (two towers, an encoder and a decoder), or without one the
            ``nn.Embedding`` with most rows.
        epsilon: the norm of r, positive; with ``relative`` a share.
        target: instead, all trainable parameters with two axes or more whose name contains this, each with
            its own norm.
        per_example: r for each example, by a hook on each ``nn.Embedding``; one look-up per pass, and the
            adversarial pass must see the same batch.
        relative: epsilon is a share of each touched row's length, and so is r's: a norm for each row of the
            last axis.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``epsilon`` is not positive and finite; ``target`` matches no trainable parameter, only
            one-dimensional ones or, with ``per_example``, none of an embedding; ``model`` has no trainable
            input embeddings or is on the meta device.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 2), nn.Linear(2, 1))
        >>> fgm = FGM(model, epsilon=0.5)
        >>> clean, input_ids = model[0].weight.detach().clone(), torch.tensor([[3, 4]])
        >>> model(input_ids).sum().backward()
        >>> with fgm.perturbed():
        ...     model(input_ids).sum().backward()  # adds the adversarial gradient
        ...     print(f"{(model[0].weight - clean).norm():.2f}")
        0.50
        >>> torch.equal(model[0].weight, clean)
        True
    """

    _default = staticmethod(input_embeddings)
    _by_rows = True  # (1) asks nothing of rows without a gradient
    _one_step = True

    def __init__(
        self,
        model: nn.Module,
        epsilon: float = 1.0,
        target: str | None = None,
        per_example: bool = False,
        relative: bool = False,
    ):
        epsilon = positive("epsilon", epsilon)
        for name, value, kind, accepted in (
            ("model", model, nn.Module, "a torch.nn.Module"),
            ("target", target, str | None, "a part of a parameter's name, or None,"),
            ("per_example", per_example, bool, "True or False"),
            ("relative", relative, bool, "True or False"),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: {type(value).__name__} given, {accepted} is accepted")
        found = find(model, target, self._default, look_ups=per_example)
        if any(getattr(module, key).is_meta for places in found for module, key in places):
            raise ValueError(
                f"model: {type(model).__name__} on the meta device given, weights with values are accepted"
            )
        self.model, self.epsilon, self.per_example, self.relative = model, epsilon, per_example, relative
        self._active = False
        parallel = [
            m
            for m in model.modules()
            if isinstance(m, (nn.parallel.DistributedDataParallel, nn.DataParallel))
        ]
        self._group = next((m.process_group for m in parallel if hasattr(m, "process_group")), None)
        self._sites: list[Any]  # one kind: both have perturb, restore, gradient and fresh
        if per_example:
            tables = [module for places in found for module, _ in places]
            self._sites = [LookUps(table) for table in tables if isinstance(table, nn.Embedding)]
        else:
            self._sites = [Weight(places, self._by_rows and not parallel) for places in found]
        for handle in (handle for site in self._sites for handle in site.handles):
            weakref.finalize(self, handle.remove).atexit = False  # the hooks go with this object

    @torch.no_grad()
    def attack(self) -> None:
        """Add r to the weights (``per_example``: to the look-ups of the next passes). Call it after
        ``backward()``.

        Raises:
            RuntimeError: no target has a gradient; a second call without :meth:`restore` (for PGD it is the
                next step).
        """
        if self._active and self._one_step:
            raise RuntimeError("attack: the weights are perturbed already; call restore() first")
        # without a hook having fired, all
        sites = [site for site in self._sites if site.fresh] or self._sites
        sites = [site for site in sites if site.gradient is not None]
        if not sites:
            raise RuntimeError(
                "attack: no target has a gradient; call loss.backward() first, with the model and the "
                "embeddings in it"
            )
        self._active = True
        try:
            for site in sites:
                site.perturb(site.gradient.to_dense(), self._move, self._group)
                site.fresh = False
        except BaseException:
            self.restore()
            raise
        torch.clear_autocast_cache()  # it may hold half precision copies of the clean weights

    @torch.no_grad()
    def restore(self) -> None:
        """Put the clean weights back, bit for bit and in place; without an attack it does nothing."""
        for site in self._sites:
            site.restore()
        self._active = False
        torch.clear_autocast_cache()

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """``with fgm.perturbed(): loss(model).backward()``; the clean weights come back after any exception
        too.
        """
        self.attack()
        try:
            yield
        finally:
            self.restore()

    def _move(self, r: Tensor | None, gradient: Tensor, clean: Tensor) -> Tensor:
        return self.epsilon * self._length(clean) * self._unit(gradient)

    def _length(self, clean: Tensor) -> Tensor | float:
        return self._norm(clean) if self.relative else 1.0

    def _norm(self, x: Tensor) -> Tensor:
        """Of the whole table, of each example, or with ``relative`` of each row."""
        axes = -1 if self.relative else tuple(range(1, x.ndim)) if self.per_example else None
        return torch.linalg.vector_norm(x, dim=axes, keepdim=True)

    def _unit(self, gradient: Tensor) -> Tensor:
        """g / ||g||; zero where the norm is zero, infinite or NaN (half precision that has overflowed)."""
        norm = self._norm(gradient)
        return torch.where((norm > 0) & torch.isfinite(norm), gradient / norm, 0)


class RandomDirection(FGM):
    """A random direction in place of the worst one: what FGM has to beat. r is as long as FGM's, on the
    entries that have a gradient.

    Source: the rows "random perturbation" in the tables of Miyato, Dai & Goodfellow, ICLR 2017.

    Args:
        model, epsilon, target, per_example, relative: as :class:`FGM`, and the same errors. The direction is
            drawn from torch's default generator.
    """

    def _unit(self, gradient):
        noise = torch.randn_like(gradient)
        if self._group is not None and not self.per_example:
            # one direction for all processes: a sum of noise is noise
            dist.all_reduce(noise, group=self._group)
        return super()._unit(noise * (super()._unit(gradient) != 0))


class AWP(FGM):
    """Adversarial weight perturbation, equation (3), of every weight matrix: a step of relative length
    epsilon.

    Args:
        model: any module.
        epsilon: length relative to each matrix, positive.
        target: as :class:`FGM`, and the same errors; default: all trainable parameters with two axes or more
            (no biases, no norms).
    """

    _default = staticmethod(matrices)
    _by_rows = False  # ||W|| is of all rows

    def __init__(self, model: nn.Module, epsilon: float = 0.005, target: str | None = None):
        super().__init__(model, epsilon, target)

    def _length(self, clean):
        return self._norm(clean)


def positive(name: str, value) -> float:
    return number(name, value, 5e-324, accepted="a positive, finite number")
