"""EMA: evaluate the exponential moving average of the weights, not the weights of the last step.

With weights w_n after step n and decay d, the average (here "shadow") starts at the weights given and then
follows

    s_n = d s_(n-1) + (1 - d) w_n = s_(n-1) + (1 - d) (w_n - s_(n-1))                            (1)
    s_n = d^n s_0 + (1 - d) sum_(i=1..n) d^(n-i) w_i                                             (2)

About 1 / (1 - d) steps are averaged. The right side of (1), a linear interpolation, is what is computed:
where the weights rest, it leaves the average at rest, while the left side drifts away by rounding. With
warm-up, step n uses

    d_n = min(d, (1 + n) / (10 + n))                                                             (3)

so that a short training is not averaged with its own start.

Source: Polyak & Juditsky, SIAM J. Control Optim. 30(4), 1992; Tarvainen & Valpola, "Mean teachers", NeurIPS
2017; (3) as in TensorFlow's ExponentialMovingAverage and torch_ema.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tricks_lib._checks import number

__all__ = ["EMA"]


class EMA:
    """The moving average of a model's trainable parameters and of its buffers.

    The weights are looked up by name at each step, so that moving the model to another device, or giving it
    to an optimizer, before or after, makes no difference. A tied weight is averaged once. The average of half
    precision weights is kept in float32, since in bfloat16 a step of 0.001 of the difference rounds to
    nothing. Wrappers (``DistributedDataParallel``, ``torch.compile``) are looked through: the names, and so
    checkpoints, are those of the model inside. The processes of a distributed run have the same weights, so
    each keeps the same average; buffers are followed in each process alone.

    Args:
        model: with trainable parameters. Parameters that are frozen now are not averaged.
        decay: d in [0, 1).
        warmup: use (3).
        buffers: also follow buffers: floating-point ones by (1), others are copied. Where an average is not
            finite (masks with -inf), the buffer's value is taken. Without, the model's own buffers stay in
            evaluation.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``decay`` is outside [0, 1); ``model`` has no trainable parameter, or one on the meta
            device.

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

    def __init__(self, model: nn.Module, decay: float = 0.999, warmup: bool = False, buffers: bool = True):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: {type(model).__name__} given, a torch.nn.Module is accepted")
        number("decay", decay, 0.0, math.nextafter(1.0, 0.0), accepted="a number in [0, 1)")
        for name, value in (("warmup", warmup), ("buffers", buffers)):
            if not isinstance(value, bool):
                raise TypeError(f"{name}: {value!r} given, True or False is accepted")
        self.model, self.decay, self.warmup, self.buffers, self.num_updates = model, decay, warmup, buffers, 0
        self._backup: dict[str, Tensor] | None = None
        self._shadow = {name: _start(value) for name, value in self._parameters().items()}
        self._shadow_buffers = {name: _start(value) for name, value in self._buffers().items()}
        if not self._shadow or any(value.is_meta for value in self._shadow.values()):
            given = "with parameters on the meta device" if self._shadow else "without a trainable parameter"
            raise ValueError(
                f"model: {type(model).__name__} {given} given, one with trainable weights is accepted"
            )

    @torch.no_grad()
    def update(self) -> None:
        """One step of (1); call it after ``optimizer.step()``.

        Raises:
            RuntimeError: the model holds the average now (between :meth:`apply_shadow` and :meth:`restore`).
            ValueError: a trainable parameter was added, frozen or resized since; the message names it.
        """
        if self._backup is not None:
            raise RuntimeError("update: the model holds the average; call restore() first")
        parameters = self._checked()
        self.num_updates += 1
        decay = (
            min(self.decay, (1 + self.num_updates) / (10 + self.num_updates)) if self.warmup else self.decay
        )
        shadows, weights = [], []
        for name, weight in parameters.items():
            shadow = self._shadow[name]
            if shadow.dtype == weight.dtype:
                shadows.append(shadow)
                weights.append(weight)
            else:
                shadow.lerp_(weight.to(shadow.dtype), 1 - decay)  # one at a time: no second copy of the model
        if shadows:
            torch._foreach_lerp_(shadows, weights, weight=1 - decay)  # one pass: read both, write the average
        for name, value in self._buffers().items():
            shadow = self._shadow_buffers.get(name)
            if (
                shadow is None or shadow.shape != value.shape
            ):  # made or resized on the way, such as a cache of positions
                self._shadow_buffers[name] = _start(value)
            elif value.is_floating_point():
                average = torch.lerp(shadow, value.to(shadow.dtype), 1 - decay)
                shadow.copy_(torch.where(average.isfinite(), average, value))
            else:
                shadow.copy_(value)

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
        self._backup = {name: value.detach().clone() for name, value in targets.items() if name in average}
        _fill(targets, average)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the trained weights back, bit for bit. Buffers that have been resized meanwhile stay as they
        are.

        Raises:
            RuntimeError: :meth:`apply_shadow` was not called before.
        """
        if self._backup is None:
            raise RuntimeError("restore: the model holds its own weights; call apply_shadow() first")
        _fill(dict(_unwrap(self.model).named_parameters()) | self._buffers(), self._backup)
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
        """Copies of the average and the counter, for ``torch.save``: a run resumed from them continues bit
        for bit.
        """
        shadow, buffers = (
            {name: value.clone() for name, value in part.items()}
            for part in (self._shadow, self._shadow_buffers)
        )
        return {
            "decay": self.decay,
            "warmup": self.warmup,
            "num_updates": self.num_updates,
            "shadow": shadow,
            "buffers": buffers,
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping) -> None:
        """Continue from :meth:`state_dict`, decay and warm-up included. Nothing changes if it does not fit.

        Args:
            state_dict: of an :class:`EMA` of the same model; its tensors may be on another device. It may
                hold buffers that the model made, or resized, while it was trained.

        Raises:
            TypeError: not a mapping, or an entry of another type.
            ValueError: an entry is missing, or names or shapes are not those of the model; the message says
                which.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: {type(state_dict).__name__} given, a mapping is accepted")
        if missing := {"decay", "warmup", "num_updates", "shadow", "buffers"} - set(state_dict):
            raise ValueError(
                f"state_dict: without {', '.join(sorted(missing))} given, what EMA.state_dict() returns is "
                f"accepted"
            )
        number(
            "state_dict",
            state_dict["num_updates"],
            0,
            accepted="a count of updates, 0 or more,",
            integer=True,
        )
        number("state_dict", state_dict["decay"], 0.0, math.nextafter(1.0, 0.0), accepted="a decay in [0, 1)")
        if not isinstance(state_dict["warmup"], bool):
            raise TypeError(
                f"state_dict: {state_dict['warmup']!r} given as warmup, True or False is accepted"
            )
        for key in ("shadow", "buffers"):
            given = state_dict[key]
            if not isinstance(given, Mapping) or not all(
                isinstance(value, Tensor) for value in given.values()
            ):
                raise TypeError(
                    f"state_dict: under {key} {type(given).__name__} given, a mapping from names to tensors "
                    f"is accepted"
                )
        _same("state_dict", self._shadow, state_dict["shadow"])
        if self.buffers and (missing := self._shadow_buffers.keys() - state_dict["buffers"].keys()):
            raise ValueError(
                f"state_dict: without buffers {', '.join(sorted(missing))} given, all buffers of the model "
                f"are accepted"
            )
        _fill(self._shadow, state_dict["shadow"])
        if self.buffers:
            self._shadow_buffers = {name: _start(value) for name, value in state_dict["buffers"].items()}
        self.num_updates, self.decay, self.warmup = (
            state_dict["num_updates"],
            state_dict["decay"],
            state_dict["warmup"],
        )

    def _parameters(self) -> dict[str, Tensor]:
        return {name: value for name, value in _unwrap(self.model).named_parameters() if value.requires_grad}

    def _buffers(self) -> dict[str, Tensor]:
        return dict(_unwrap(self.model).named_buffers()) if self.buffers else {}

    def _checked(self) -> dict[str, Tensor]:
        """The trainable parameters, which must be those of the beginning; the average moves to where they
        are.
        """
        parameters = self._parameters()
        _same("model", self._shadow, parameters)
        for shadow, values in ((self._shadow, parameters), (self._shadow_buffers, self._buffers())):
            for name in shadow.keys() & values.keys():
                shadow[name] = shadow[name].to(values[name].device)
        return parameters


def _start(value: Tensor) -> Tensor:
    wide = torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype
    return value.detach().to(wide, copy=True)


def _fill(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        if name in targets and targets[name].shape == value.shape:
            targets[name].copy_(value)
    torch.clear_autocast_cache()  # it may hold half precision copies of the old weights


def _same(argument: str, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise unless the names and shapes given are those expected."""
    for names, what in (
        (given.keys() - expected.keys(), "added or unfrozen"),
        (expected.keys() - given.keys(), "missing or frozen"),
    ):
        if names:
            listed = ", ".join(sorted(names))
            raise ValueError(
                f"{argument}: {listed} given as {what}, the tensors averaged from the beginning are "
                f"accepted (else make a new EMA)"
            )
    for name, value in given.items():
        if value.shape != expected[name].shape:
            raise ValueError(
                f"{argument}: {name} of shape {tuple(value.shape)} given, {tuple(expected[name].shape)} is "
                f"accepted"
            )


def _unwrap(model: nn.Module) -> nn.Module:
    while isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)) or hasattr(
        model, "_orig_mod"
    ):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model
