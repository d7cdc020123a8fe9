"""The moving average and its place in training, equation (1) of :mod:`tricks_lib.ema`."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tricks_lib._checks import number
from tricks_lib.ema import weights
from tricks_lib.ema.device import Copies, available
from tricks_lib.ema.schedule import GAMMA, SETTINGS, check, decay_at
from tricks_lib.ema.state import checked


class EMA:
    """The moving average of a model's trainable parameters and of its buffers.

    The weights are looked up by name at each step, so that moving the model to another device, or giving it
    to an optimizer, before or after, makes no difference. A tied weight is averaged once. The average of half
    precision weights is kept in float32, since in bfloat16 a step of 0.001 of the difference rounds to
    nothing. Wrappers (``DistributedDataParallel``, ``torch.compile`` of the model or of its blocks) are
    looked through: the names, and so checkpoints, are those of the model inside. Under LoRA only what is
    trained is averaged and stored, not the frozen base.

    The processes of a distributed run have the same weights, so each keeps the same average; under FSDP2
    (``fully_shard``) each keeps that of its own shards, and :meth:`state_dict` holds ``DTensor``. Buffers are
    followed in each process alone. The partitioned weights of DeepSpeed ZeRO-3 are refused.

    Args:
        model: with trainable parameters. Parameters that are frozen now are not averaged.
        decay: d in [0, 1), for each average taken: with ``update_every`` it looks back over
            ``update_every / (1 - d)`` steps.
        warmup: True: (3); "power": (4).
        buffers: also follow buffers: floating-point ones by (1), others are copied. Where an average is not
            finite (masks with -inf), the buffer's value is taken. False: evaluation uses the model's own
            buffers.
        update_every: an average is taken at each such call of :meth:`update`, at least 1; the others only
            count. n of (3) and (4) counts averages.
        start_step: up to this call of :meth:`update` each average that is taken is the weights themselves;
            averaging begins after it.
        device: where the average is kept, and the trained weights while the average is evaluated; default:
            where the weights are. "cpu" spares the memory of a GPU: each average then costs one copy of the
            weights, into page-locked memory.
        gamma: of (4), at least 0; 6.94 looks back over a tenth of the training (as standard deviation),
            16.97 over a twentieth.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is out of range; ``gamma`` is given without "power"; ``model`` has no
            trainable parameter, one on the meta device, or one that ZeRO-3 has emptied; ``device`` is not
            there, or given with shards of FSDP2.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> ema = EMA(model, decay=0.9)
        >>> _ = nn.init.ones_(model.weight)  # stands for optimizer.step()
        >>> ema.update()
        >>> with ema.average_parameters():
        ...     print(f"{model.weight.item():.1f}")
        0.1
        >>> model.weight.item()
        1.0
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.999,
        warmup: bool | str = False,
        buffers: bool = True,
        update_every: int = 1,
        start_step: int = 0,
        device: torch.device | str | None = None,
        gamma: float = GAMMA,
    ):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: {type(model).__name__} given, a torch.nn.Module is accepted")
        if not isinstance(buffers, bool):
            raise TypeError(f"buffers: {buffers!r} given, True or False is accepted")
        check(decay=decay, warmup=warmup, gamma=gamma, update_every=update_every, start_step=start_step)
        self.decay, self.warmup, self.gamma = float(decay), warmup, float(gamma)
        self.update_every, self.start_step = int(update_every), int(start_step)
        self.model, self.buffers, self.num_updates = model, buffers, 0
        self._backup: dict[str, Tensor] | None = None
        self._copies = Copies()
        parameters = weights.trainable(model)
        if not parameters or any(value.is_meta for value in parameters.values()):
            given = "with parameters on the meta device" if parameters else "without a trainable parameter"
            raise ValueError(
                f"model: {type(model).__name__} {given} given, one with trainable weights is accepted"
            )
        self.device = available(device, parameters)
        self._shadow = {name: weights.start(value, self.device) for name, value in parameters.items()}
        self._shadow_buffers = {
            name: weights.start(value, self.device) for name, value in self._buffers().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """One step of (1); call it after ``optimizer.step()``.

        Raises:
            RuntimeError: the model holds the average now (between :meth:`apply_shadow` and :meth:`restore`).
            ValueError: a trainable parameter was added, frozen or resized since; the message names it.
        """
        if self._backup is not None:
            raise RuntimeError("update: the model holds the average; call restore() first")
        decay = decay_at(self.num_updates + 1, **self._settings())
        if decay is None:
            self.num_updates += 1
            return
        parameters = self._checked()
        self.num_updates += 1
        shadows, beside = [], []
        for name, weight in self._copies.beside(self._shadow, parameters).items():
            shadow = self._shadow[name]
            if shadow.dtype == weight.dtype:
                shadows.append(shadow)
                beside.append(weight)
            else:
                shadow.lerp_(weight.to(shadow.dtype), 1 - decay)  # one at a time: no second model
        if shadows:
            torch._foreach_lerp_(shadows, beside, weight=1 - decay)  # one pass: read two, write one
        self._follow_buffers(decay)

    def _follow_buffers(self, decay: float) -> None:
        for name, value in self._buffers().items():
            shadow = self._shadow_buffers.get(name)
            # made or resized on the way, such as a cache of positions
            if shadow is None or shadow.shape != value.shape:
                self._shadow_buffers[name] = weights.start(value, self.device)
            elif value.is_floating_point():
                value = value.to(shadow)
                average = torch.lerp(shadow, value, 1 - decay)
                shadow.copy_(torch.where(average.isfinite(), average, value))
            else:
                shadow.copy_(value)

    def share_of_start(self, steps: int) -> float:
        """The weight that the average's own start still has in it after so many steps: the product of all
        d_n, d^n of (2) where d is constant. Above about 0.01 a smaller decay, or a warm-up, is due.

        Args:
            steps: calls of :meth:`update` from the beginning, at least 0.

        Raises:
            TypeError, ValueError: ``steps`` is not an integer of at least 0.
        """
        number("steps", steps, 0, accepted="an integer of at least 0", integer=True)
        decays = (decay_at(n, **self._settings()) for n in range(self.start_step + 1, steps + 1))
        return math.prod(d for d in decays if d is not None)

    @torch.no_grad()
    def apply_shadow(self) -> None:
        """Put the average into the model, in place, and keep the trained weights aside until :meth:`restore`.

        Raises:
            RuntimeError: it is there already; a second call would lose the trained weights.
            ValueError: as :meth:`update`.
        """
        if self._backup is not None:
            raise RuntimeError("apply_shadow: the model holds the average already; call restore() first")
        targets, average = self._checked() | self._buffers(), self._shadow | self._shadow_buffers
        self._backup = {
            name: value.detach().to(self.device, copy=True)
            for name, value in targets.items()
            if name in average
        }
        weights.fill(targets, average)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the trained weights back, bit for bit. Buffers that have been resized meanwhile stay as they
        are.

        Raises:
            RuntimeError: :meth:`apply_shadow` was not called before.
        """
        if self._backup is None:
            raise RuntimeError("restore: the model holds its own weights; call apply_shadow() first")
        weights.fill(weights.parameters(self.model) | self._buffers(), self._backup)
        self._backup = None

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """``with ema.average_parameters(): evaluate(model)``; the trained weights come back after any
        exception too.
        """
        self.apply_shadow()
        try:
            yield
        finally:
            self.restore()

    def state_dict(self) -> dict:
        """Copies of the average, the settings and the counter, for ``torch.save``: a run resumed from them
        continues bit for bit. Of parameters only the trainable ones.
        """
        shadow, buffers = (
            {name: value.clone() for name, value in part.items()}
            for part in (self._shadow, self._shadow_buffers)
        )
        return {
            **self._settings(),
            "num_updates": self.num_updates,
            "shadow": shadow,
            "buffers": buffers,
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping) -> None:
        """Continue from :meth:`state_dict`, settings included (``device`` stays). Nothing changes if it does
        not fit.

        Args:
            state_dict: of an :class:`EMA` of the same model; its tensors may be on another device. Its
                buffers need not be those that the model has now: the ones it lacks start at the model's.

        Raises:
            TypeError: not a mapping, or an entry of another type.
            ValueError: an entry is missing, or names or shapes are not those of the model; the message says
                which.
        """
        settings = checked(state_dict, self._shadow, self._settings())
        weights.fill(self._shadow, state_dict["shadow"])
        if self.buffers:
            kept = {name: weights.start(value) for name, value in state_dict["buffers"].items()}
            new = {name: weights.start(value) for name, value in self._buffers().items()}
            self._shadow_buffers = new | kept
        self.num_updates = int(state_dict["num_updates"])
        for name, value in settings.items():
            setattr(self, name, value)

    def _settings(self) -> dict:
        return {name: getattr(self, name) for name in SETTINGS}

    def _buffers(self) -> dict[str, Tensor]:
        return weights.buffers(self.model) if self.buffers else {}

    def _checked(self) -> dict[str, Tensor]:
        """The trainable parameters, which must be those of the beginning; the average moves to its device, or
        to where they are.
        """
        parameters = weights.trainable(self.model)
        weights.same("model", self._shadow, parameters)
        for shadow, values in ((self._shadow, parameters), (self._shadow_buffers, self._buffers())):
            for name in shadow.keys() & values.keys():
                shadow[name] = shadow[name].to(self.device or values[name].device)
        return parameters
