"""What the tricks are: ``TrainingArguments`` with a field for each choice."""

import math
import sys
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor
from transformers import TrainingArguments

from tricks_lib._batch_loss import LOSSES, OF_THE_BATCH, make_loss
from tricks_lib._checks import number
from tricks_lib.trainer.attacks import ATTACKS

__all__ = ["TricksArguments"]


@dataclass
class TricksArguments(TrainingArguments):
    """``TrainingArguments`` and the tricks; as they stand, all tricks are off.

    Args:
        loss: "cross_entropy" is the model's own loss, be it cross-entropy, binary cross-entropy or squared
            error. In its place, means over examples: "weighted", cross-entropy with class weights
            n / (C n_c) for n labels of C classes, n_c of class c, counted in ``train_dataset`` (a class that
            is absent there is taken as seen once); "focal"; "self_adjusting_dice". Over the whole batch:
            "dice" (macro), "dice_ce", cross-entropy plus Dice; for numbers "mse_corr" and "ccc". A label of
            -100 counts for nothing.
        loss_kwargs: arguments of ``FocalLoss`` ("weighted" is one with gamma 0), ``DiceLoss``,
            ``SelfAdjustingDiceLoss`` or ``MSECorrLoss``; lists and tensors alike, of which lists are kept
            (``{"weight": [1.0, 3.0]}``). "focal" with ``alpha`` is ``BinaryFocalLoss``, for multi-label.
        rdrop_alpha: weight of R-Drop's divergence, at least 0; 0 is off. Twice the work.
        rdrop_two_passes: R-Drop by two passes over the batch, not one over the batch written twice, for
            models that mix the rows of a batch or take them packed.
        adversarial: "fgm", "awp" or "random", twice the work; "pgd", three steps of 0.3 epsilon and four
            times the work; "freelb", three passes at steps of 0.3 epsilon whose mean gradient is taken,
            three times the work; "none" is off. "random" is FGM's control: a direction drawn at random, of
            the same length.
        adversarial_epsilon: length of the attack, positive; default: 1, for "awp" 0.005 of each matrix's
            norm, with ``adversarial_relative`` 0.05.
        adversarial_start_step: optimizer steps without attack at the beginning.
        adversarial_per_example: each example is attacked for itself, with its own norm, instead of the table
            (as in the paper of FreeLB).
        adversarial_relative: epsilon is a share of the length of each embedding that the batch looks up.
        ema_decay: in [0, 1). The average of the weights is evaluated and saved; training goes on with the
            trained weights.
        ema_warmup: of the average's decay, as :class:`~tricks_lib.ema.EMA`: True, "power" or False.
        layer_decay: in (0, 1]; the rate of each layer is that of the next one times this. ``learning_rate``
            is the top layer's.
        head_learning_rate: of everything outside the encoder, at least 0; default: ``learning_rate``.
        gather_batch_losses: the losses over the whole batch see that of all processes, so that two processes
            equal one.

    With gradient accumulation a loss over the whole batch becomes the mean of those of the micro-batches, and
    each micro-batch is attacked on its own; a ``UserWarning`` says so.

    Raises:
        TypeError: a number, bool or dict of another type.
        ValueError: an argument out of range, or one that the others leave without effect; the message begins
            with its name.

    Example:
        >>> TricksArguments("out", rdrop_alpha=1.0, ema_decay=0.999, report_to="none").adversarial
        'none'
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_kwargs"]  # as JSON on a command line

    loss: str = "cross_entropy"
    loss_kwargs: dict | str | None = None
    rdrop_alpha: float = 0.0
    rdrop_two_passes: bool = False
    adversarial: str = "none"
    adversarial_epsilon: float | None = None
    adversarial_start_step: int = 0
    adversarial_per_example: bool = False
    adversarial_relative: bool = False
    ema_decay: float | None = None
    ema_warmup: Literal[False, True, "power"] = False
    layer_decay: float | None = None
    head_learning_rate: float | None = None
    gather_batch_losses: bool = True

    def __post_init__(self):
        super().__post_init__()
        self.check_tricks()
        self._warn_of_micro_batches()

    @property
    def of_layers(self) -> list[str]:
        """Which arguments ask for parameter groups by layer."""
        return [name for name in ("layer_decay", "head_learning_rate") if getattr(self, name) is not None]

    def check_tricks(self) -> None:
        """Raise as the class says; after ``__post_init__``, wherever a field may have been set since."""
        self._check_loss()
        self._check_ranges()
        self._check_effects()
        self._check_weights_are_whole()

    def _check_loss(self):
        _one_of("loss", self.loss, LOSSES)
        if isinstance(self.loss_kwargs, dict):  # fields are written as JSON
            self.loss_kwargs = {
                k: v.tolist() if isinstance(v, (Tensor, np.ndarray, np.generic)) else v
                for k, v in self.loss_kwargs.items()
            }
        make_loss(self.loss, self.loss_kwargs)

    def _check_ranges(self):
        _one_of("adversarial", self.adversarial, ATTACKS)
        self.rdrop_alpha = number("rdrop_alpha", self.rdrop_alpha, 0.0)
        self.adversarial_start_step = number(
            "adversarial_start_step",
            self.adversarial_start_step,
            0,
            sys.maxsize,
            accepted="an integer of at least 0",
            integer=True,
        )
        for name, low, high, accepted in (
            ("adversarial_epsilon", 5e-324, sys.float_info.max, "a positive, finite number, or None,"),
            ("ema_decay", 0.0, math.nextafter(1.0, 0.0), "a number in [0, 1), or None,"),
            ("layer_decay", sys.float_info.min, 1.0, "a number in (0, 1], or None,"),
            ("head_learning_rate", 0.0, sys.float_info.max, "a finite number of at least 0, or None,"),
        ):
            if getattr(self, name) is not None:
                setattr(self, name, number(name, getattr(self, name), low, high, accepted=accepted))
        for name in (
            "gather_batch_losses",
            "adversarial_per_example",
            "adversarial_relative",
            "rdrop_two_passes",
        ):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}: {getattr(self, name)!r} given, True or False is accepted")
        if not (isinstance(self.ema_warmup, bool) or self.ema_warmup == "power"):
            raise ValueError(f"ema_warmup: {self.ema_warmup!r} given, False, True or 'power' is accepted")

    def _check_effects(self):
        """What is set has an effect."""
        attack = ATTACKS[self.adversarial]
        effective = set() if attack is None else {"epsilon", "start_step", *attack.options}
        for option, default in (
            ("epsilon", None),
            ("start_step", 0),
            ("per_example", False),
            ("relative", False),
        ):
            value = getattr(self, f"adversarial_{option}")
            if option not in effective and value != default:
                raise ValueError(
                    f"adversarial_{option}: {value} given with adversarial {self.adversarial!r}, where only "
                    f"the default is accepted"
                )
        if self.rdrop_two_passes and not self.rdrop_alpha:
            raise ValueError("rdrop_two_passes: True given with rdrop_alpha 0, False is accepted")
        if self.ema_warmup and self.ema_decay is None:
            raise ValueError(f"ema_warmup: {self.ema_warmup!r} given without ema_decay, False is accepted")
        self.check_attack_begins(self.max_steps)
        if not self.gather_batch_losses and self.loss not in OF_THE_BATCH:
            raise ValueError(f"gather_batch_losses: False given with loss {self.loss!r}, True is accepted")
        if self.loss != "cross_entropy" and self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor: {self.label_smoothing_factor} given with loss {self.loss!r}, 0 is "
                f"accepted"
            )

    def check_attack_begins(self, steps: int) -> None:
        """Raise if the attack would begin after the end of a training of so many steps (-1: not known)."""
        if 0 < steps <= self.adversarial_start_step:
            raise ValueError(
                f"adversarial_start_step: {self.adversarial_start_step} given, less than the number of "
                f"steps, {steps}, is accepted"
            )

    def _check_weights_are_whole(self):
        tricks = ["adversarial"] if self.adversarial != "none" else []
        tricks += ([] if self.ema_decay is None else ["ema_decay"]) + self.of_layers
        if tricks and (self.fsdp or self.deepspeed):
            with_what = "FSDP, which splits the weights and their gradients"
            if self.deepspeed:
                zero = " ZeRO-3" if self.hf_deepspeed_config.is_zero3() else ""
                with_what = f"DeepSpeed{zero}, which keeps weights or gradients to itself"
            raise ValueError(
                f"{tricks[0]}: {getattr(self, tricks[0])!r} given with {with_what}; "
                f"DistributedDataParallel is accepted"
            )

    def _warn_of_micro_batches(self):
        split = [f"loss {self.loss!r}"] * (self.loss in OF_THE_BATCH)
        split += [f"adversarial {self.adversarial!r}"] * (self.adversarial != "none")
        if split and self.gradient_accumulation_steps > 1:
            warnings.warn(
                f"{' and '.join(split)}: under gradient accumulation of each micro-batch alone, not of the "
                f"whole batch",
                stacklevel=4,
            )


def _one_of(name: str, value, known) -> None:
    if value not in tuple(known):
        raise ValueError(f"{name}: {value!r} given, one of {', '.join(map(repr, known))} is accepted")
