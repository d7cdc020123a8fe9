"""FGM, PGD, AWP: train also on the batch as it looks after a small step of the weights in the worst
direction.

With g the gradient of the loss by the word embeddings E (V, H), one norm over the whole table:

    FGM   r = epsilon g / ||g||                                                                      (1)
    PGD   r <- P(r + alpha g / ||g||) at each step, P the projection into the ball ||r|| <= epsilon     (2)
    AWP   r = epsilon ||W|| g / ||g|| for each weight matrix W                                       (3)

    loss.backward(); attack(): E + r; loss_adversarial.backward(); restore(): E; optimizer.step()

With ``per_example`` r is added not to the table but to what is looked up in it, (T, H) for each example, each
with its own norm. This is (1) as published; the paper also normalises the embeddings (mean 0, variance 1),
which here the encoder's first LayerNorm has to do. The form over the table is the one that circulates.

g is the gradient of the last backward pass alone, whatever ``.grad`` has accumulated before: a hook sees it
first. In a batch only some rows of the table occur. If the table is used for look-ups only, which the first
attack finds out, the others have no gradient and FGM leaves them alone; an output projection tied to the
table puts gradient on every row.

Source: FGM: Miyato, Dai & Goodfellow, ICLR 2017, section 3; PGD: Madry et al., ICLR 2018, section 2.1;
AWP: Wu, Xia & Wang, NeurIPS 2020, section 4.
Shapes: B batch, T tokens, H hidden, V vocabulary.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib._targets import LookUps, Weight

__all__ = ["FGM", "PGD", "AWP"]


class FGM:
    """The fast gradient method on the word embeddings, equation (1).

    Under a ``GradScaler`` nothing is to be done: (1) does not depend on the scale, and where the gradient has
    overflowed the weights stay as they are. With the ``DistributedDataParallel`` wrapper as ``model``, the
    processes share the attack of the mean gradient, as one process with the whole batch would have; with the
    model inside it, each attacks its own.

    Args:
        model: any module. Its input embeddings are found by ``get_input_embeddings()``, of itself or of a
            module in it, else the ``nn.Embedding`` with most rows is taken.
        epsilon: the norm of r, positive.
        target: instead, all trainable parameters whose name contains this, each with its own norm.
        per_example: r for each example, by a hook on ``nn.Embedding``; one look-up a pass, and the
            adversarial pass must see the same batch.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``epsilon`` is not positive and finite; ``target`` matches no trainable parameter, or
            ``model`` has no trainable embeddings or is on the meta device.

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

    _by_rows = True  # (1) asks nothing of rows without a gradient

    def __init__(
        self, model: nn.Module, epsilon: float = 1.0, target: str | None = None, per_example: bool = False
    ):
        _positive("epsilon", epsilon)
        for name, value, kind, accepted in (
            ("model", model, nn.Module, "a torch.nn.Module"),
            ("target", target, str | None, "a part of a parameter's name, or None,"),
            ("per_example", per_example, bool, "True or False"),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: {type(value).__name__} given, {accepted} is accepted")
        self.model, self.epsilon, self.per_example, self._active = model, epsilon, per_example, False
        found = self._find(model, target)
        if any(getattr(module, key).is_meta for module, key, _ in found):
            raise ValueError(
                f"model: {type(model).__name__} on the meta device given, weights with values are accepted"
            )
        if per_example and not all(isinstance(module, nn.Embedding) for module, _, _ in found):
            raise ValueError(
                f"target: {target!r} given with per_example, parameters of nn.Embedding alone are accepted"
            )
        parallel = [
            m
            for m in model.modules()
            if isinstance(m, (nn.parallel.DistributedDataParallel, nn.DataParallel))
        ]
        self._group = next((m.process_group for m in parallel if hasattr(m, "process_group")), None)
        by_rows = self._by_rows and not parallel
        self._sites = [
            LookUps(module) if per_example else Weight(module, key, by_rows and not tied)
            for module, key, tied in found
        ]
        for handle in (handle for site in self._sites for handle in site.handles):
            weakref.finalize(self, handle.remove).atexit = False  # the hooks go with this object

    @torch.no_grad()
    def attack(self) -> None:
        """Add r to the weights (``per_example``: to the look-ups of the next passes). Call it after
        ``backward()``.

        Raises:
            RuntimeError: no target has a gradient; a second call without :meth:`restore` (PGD: is its next
                step).
        """
        if self._active and not isinstance(self, PGD):
            raise RuntimeError("attack: the weights are perturbed already; call restore() first")
        sites = [
            site for site in self._sites if site.fresh
        ] or self._sites  # without a hook having fired, all
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

    def _find(self, model, target) -> list[tuple[nn.Module, str, bool]]:
        """Of each target the module, the attribute and whether it is tied; a tied one once, where it comes
        first.
        """
        found: dict[int, tuple] = {}
        for module in model.modules():
            for key, value in module.named_parameters(recurse=False):
                if value.requires_grad:
                    found[id(value)] = (
                        (*found[id(value)][:2], True) if id(value) in found else (module, key, False)
                    )
        if target is None:
            wanted = self._default(model)
        else:
            wanted = {
                id(value)
                for name, value in model.named_parameters(remove_duplicate=False)
                if target and target in name
            }
        if not wanted & found.keys():
            tables = [
                name
                for name, module in model.named_modules()
                if isinstance(module, nn.Embedding) and id(module.weight) in found
            ]
            raise ValueError(
                f"target: {target!r} given, it matches no trainable parameter; a part of a name is "
                f"accepted, of embeddings here {tables}"
            )
        return [site for key, site in found.items() if key in wanted]

    def _default(self, model) -> set[int]:
        for module in model.modules():
            with suppress(AttributeError, NotImplementedError):
                return {id(module.get_input_embeddings().weight)}
        tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
        return {id(max(tables, key=len))} if tables else set()

    def _move(self, clean: Tensor, current: Tensor, gradient: Tensor) -> Tensor:
        return clean + self.epsilon * self._unit(gradient)

    def _norm(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(
            x, dim=tuple(range(1, x.ndim)) if self.per_example else None, keepdim=True
        )

    def _unit(self, gradient: Tensor) -> Tensor:
        """g / ||g||; zero where the norm is zero, infinite or NaN (half precision that has overflowed)."""
        norm = self._norm(gradient)
        return torch.where((norm > 0) & torch.isfinite(norm), gradient / norm, 0)


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
        model, epsilon, target, per_example: as :class:`FGM`, and the same errors; epsilon is the radius.
        alpha: the length of a step, positive.
    """

    _by_rows = False  # the next step may see another batch

    def __init__(
        self,
        model: nn.Module,
        epsilon: float = 1.0,
        target: str | None = None,
        per_example: bool = False,
        alpha: float = 0.3,
    ):
        _positive("alpha", alpha)
        super().__init__(model, epsilon, target, per_example)
        self.alpha, self._clean_gradients = alpha, []

    @torch.no_grad()
    def attack(self) -> None:
        """One step of (2); the same errors as :meth:`FGM.attack`."""
        first = not self._active
        super().attack()
        if first:
            self._clean_gradients = [
                (p, None if p.grad is None else p.grad.clone())
                for p in self.model.parameters()
                if p.requires_grad
            ]
            return
        for parameter, clean in self._clean_gradients:
            parameter.grad = None if clean is None else clean.clone()

    def restore(self) -> None:
        """As :meth:`FGM.restore`."""
        super().restore()
        self._clean_gradients = []

    def _move(self, clean, current, gradient):
        r = current - clean + self.alpha * self._unit(gradient)
        return clean + r * (self.epsilon / self._norm(r)).clamp(max=1)


class AWP(FGM):
    """Adversarial weight perturbation, equation (3), of every weight matrix: a step of relative length
    epsilon.

    Args:
        model: any module.
        epsilon: length relative to each matrix, positive.
        target: as :class:`FGM`, and the same errors; default: all trainable parameters with two axes or more
            (no biases, no norms).
    """

    _by_rows = False  # ||W|| is of all rows

    def __init__(self, model: nn.Module, epsilon: float = 0.005, target: str | None = None):
        super().__init__(model, epsilon, target)

    def _default(self, model):
        return {id(value) for value in model.parameters() if value.ndim > 1}

    def _move(self, clean, current, gradient):
        return clean + self.epsilon * self._norm(clean) * self._unit(gradient)


def _positive(name: str, value) -> None:
    number(name, value, 5e-324, accepted="a positive, finite number")
