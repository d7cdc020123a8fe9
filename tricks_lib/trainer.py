"""Every training trick of the book in ``transformers.Trainer``, by configuration.

With m the micro-batches of one optimizer step on all processes, B_m the labelled examples (or tokens) of one
and l_i their losses, the step minimises

    L = sum_m (|B_m| / sum_m |B_m|) mean_(i in B_m) l_i                                            (1)

so that 4 micro-batches of 8, or 2 processes with 16, are one batch of 32, whatever the padding. (Trainer, up
to 5.23, takes the loss of a model that accepts loss keywords as divided already, also where it is a plain
mean: 4 micro-batches then weigh four times as much.) The tricks change a step so, any of them together:

    loss              another l
    R-Drop            1/2 (l(p) + l(q)) + alpha D(p, q) for l, each micro-batch written twice
    FGM, PGD, AWP     a further backward pass of the same loss at the attacked weights
    layer decay       a learning rate for each layer
    EMA               an average that follows the weights, in their place when they are evaluated or saved

Sources: those of the tricks' own modules.
"""

import inspect
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from tricks_lib._batch_loss import LOSSES, OF_THE_BATCH, divergence, items, logits_of, loss_of, make_loss
from tricks_lib._checks import number
from tricks_lib.ema import EMA
from tricks_lib.fgm import AWP, FGM, PGD
from tricks_lib.layer_decay import layer_decay_groups

__all__ = ["TricksArguments", "TricksTrainer"]

ATTACKS = {"none": None, "fgm": FGM, "pgd": PGD, "awp": AWP}
EPSILON = {"fgm": 1.0, "pgd": 1.0, "awp": 0.005}
PGD_STEPS, PGD_ALPHA = 3, 0.3  # alpha as a part of epsilon
RESUME = "tricks.pt"  # in a checkpoint: the trained weights and the state of the average


@dataclass
class TricksArguments(TrainingArguments):
    """``TrainingArguments`` and the tricks; as they stand, all tricks are off.

    Args:
        loss: "cross_entropy" is the model's own loss, be it cross-entropy, binary cross-entropy or squared
            error. In its place: "focal" and "self_adjusting_dice", means over examples; "dice" (macro), over
                the whole batch; for numbers "mse_corr"
            and "ccc", over the whole batch. A label of -100 counts for nothing.
        loss_kwargs: arguments of ``FocalLoss``, ``DiceLoss``, ``SelfAdjustingDiceLoss`` or ``MSECorrLoss``; a
            list is taken as a tensor (``{"weight": [1.0, 3.0]}``). "focal" with ``alpha`` is
            ``BinaryFocalLoss``, for multi-label.
        rdrop_alpha: weight of R-Drop's divergence, at least 0; 0 is off. Twice the work.
        adversarial: "fgm" or "awp", twice the work, or "pgd", three steps of 0.3 epsilon and four times the
            work; "none" is off.
        adversarial_epsilon: length of the attack, positive; default: 1 for "fgm" and "pgd", 0.005 of each
            matrix's norm for "awp".
        adversarial_start_step: optimizer steps without attack at the beginning.
        ema_decay: in [0, 1). The average of the weights is evaluated and saved; training goes on with the
            trained weights.
        layer_decay: in (0, 1]; the rate of each layer is that of the next one times this. ``learning_rate``
            is the top layer's.
        head_learning_rate: of everything outside the encoder, at least 0; default: ``learning_rate``.
        gather_batch_losses: the losses over the whole batch see that of all processes, so that two processes
            equal one.

    With gradient accumulation a loss over the whole batch becomes the mean of those of the micro-batches, and
    each micro-batch is attacked on its own; a ``UserWarning`` says so.

    Raises:
        TypeError: an argument of another type.
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
    adversarial: str = "none"
    adversarial_epsilon: float | None = None
    adversarial_start_step: int = 0
    ema_decay: float | None = None
    layer_decay: float | None = None
    head_learning_rate: float | None = None
    gather_batch_losses: bool = True

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("loss", tuple(LOSSES)), ("adversarial", tuple(ATTACKS))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: {getattr(self, name)!r} given, one of {', '.join(map(repr, known))} is accepted"
                )
        make_loss(self.loss, self.loss_kwargs)
        number("rdrop_alpha", self.rdrop_alpha, 0.0)
        number(
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
                number(name, getattr(self, name), low, high, accepted=accepted)
        if not isinstance(self.gather_batch_losses, bool):
            raise TypeError(
                f"gather_batch_losses: {self.gather_batch_losses!r} given, True or False is accepted"
            )
        attack = self.adversarial != "none"
        if not attack and (self.adversarial_epsilon is not None or self.adversarial_start_step):
            name = "adversarial_epsilon" if self.adversarial_epsilon is not None else "adversarial_start_step"
            raise ValueError(
                f"{name}: {getattr(self, name)} given with adversarial 'none', where only the default is "
                f"accepted"
            )
        if 0 < self.max_steps <= self.adversarial_start_step:
            raise ValueError(
                f"adversarial_start_step: {self.adversarial_start_step} given, less than max_steps, "
                f"{self.max_steps}, is accepted"
            )
        if self.loss != "cross_entropy" and self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor: {self.label_smoothing_factor} given with loss {self.loss!r}, 0 is "
                f"accepted"
            )
        whole = ["adversarial"] * attack + [
            name
            for name in ("ema_decay", "layer_decay", "head_learning_rate")
            if getattr(self, name) is not None
        ]
        if whole and (self.fsdp or self.deepspeed):
            raise ValueError(
                f"{whole[0]}: {getattr(self, whole[0])!r} given with FSDP or DeepSpeed, weights that are "
                f"not split are accepted"
            )
        if self.gradient_accumulation_steps > 1 and (attack or self.loss in OF_THE_BATCH):
            split = " and ".join(
                [f"loss {self.loss!r}"] * (self.loss in OF_THE_BATCH)
                + [f"adversarial {self.adversarial!r}"] * attack
            )
            warnings.warn(
                f"{split}: under gradient accumulation of each micro-batch alone, not of the whole batch",
                stacklevel=3,
            )


class TricksTrainer(Trainer):
    """``transformers.Trainer`` with :class:`TricksArguments`, for classification of sequences or tokens and
    for regression.

    With all tricks off the weights are Trainer's bit for bit, except that gradient accumulation and several
    processes follow equation (1). R-Drop and attacks log their parts: ``loss_<name>`` and ``loss_rdrop``
    (alpha D), whose sum is ``loss``, and ``loss_adversarial``, the loss at the attacked weights.

    With ``ema_decay``, :meth:`evaluate`, :meth:`predict`, :meth:`save_model` and checkpoints take the
    average, and ``trainer.model`` holds the trained weights, also at the end (with ``load_best_model_at_end``
    the best average); :meth:`average_parameters` puts the average there. Checkpoints hold the trained weights
    beside it, and resume bit for bit.

    Args:
        model: a model whose output has ``logits``, and ``loss`` if labels are given and ``loss`` is
            "cross_entropy".
        args: what the tricks are.
        more, kwargs: Trainer's.

    Raises:
        TypeError: ``args`` is not :class:`TricksArguments`.
        ValueError: ``compute_loss_func`` with another loss or R-Drop; in training, a batch without labels, or
            labels that do not fit the loss; ``train`` is to resume, with ``ema_decay``, a checkpoint without
            an average.
    """

    def __init__(self, model=None, args: TricksArguments | None = None, *more, **kwargs):
        if not isinstance(args, TricksArguments):
            raise TypeError(f"args: {type(args).__name__} given, TricksArguments is accepted")
        super().__init__(model, args, *more, **kwargs)
        if self.compute_loss_func is not None and (args.loss != "cross_entropy" or args.rdrop_alpha):
            raise ValueError(
                f"compute_loss_func: given with loss {args.loss!r} and rdrop_alpha {args.rdrop_alpha}, None "
                f"is accepted"
            )
        self.model_accepts_loss_kwargs = (
            False  # to Trainer: the loss is a mean, to be divided by the number of micro-batches
        )
        loss = make_loss(args.loss, args.loss_kwargs)
        self._loss = loss and loss.to(args.device)
        self._gather = (
            args.gather_batch_losses and args.loss in OF_THE_BATCH and self.accelerator.num_processes > 1
        )
        self._processes = self.accelerator.num_processes if args.average_tokens_across_devices else 1
        self._ema: EMA | None = None
        self._attack: FGM | None = None
        self._averaged, self._clean = False, True  # the model holds the average; its weights are not attacked
        self._parts: dict[
            str, tuple
        ] = {}  # of the loss since the last log: sum, and number of optimizer steps
        self.add_callback(_Steps(self))

    def get_batch_samples(self, *args):
        """The micro-batches of one step, and their number of labelled examples or tokens."""
        batches, _ = super().get_batch_samples(*args)
        labels = [batch.get("labels") for batch in batches]
        if not labels or not all(isinstance(each, Tensor) for each in labels):
            return batches, None
        total = sum(items(self._loss, each.to(self.args.device)) for each in labels)
        return batches, self.accelerator.reduce(total) if self._processes > 1 else total

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a batch; in training with R-Drop and the weight of (1), the logits being those of the
        first pass.
        """
        if self.compute_loss_func is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch=num_items_in_batch)
        labels, training = inputs.get("labels"), model.training
        rdrop, gather = training and self.args.rdrop_alpha > 0, training and self._gather
        if labels is None and (rdrop or self._loss is not None):
            raise ValueError(f"inputs: {', '.join(inputs)} given, labels beside them are accepted")
        if rdrop:
            B = len(labels)
            inputs = {
                k: torch.cat([v, v]) if isinstance(v, Tensor) and v.ndim and len(v) == B else v
                for k, v in inputs.items()
            }
        if self._loss is None:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
            passes = logits_of(outputs, 1).chunk(2) if rdrop else ()
        else:
            outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
            passes = logits_of(outputs, 0).chunk(2 if rdrop else 1)
            loss = sum(loss_of(self._loss, logits, labels, gather) for logits in passes) / len(passes)
            outputs = outputs if isinstance(outputs, Mapping) else (loss, *outputs)
        if not training:
            return (loss, outputs) if return_outputs else loss
        steps = self.current_gradient_accumulation_steps
        share = of_loss = torch.tensor(1 / steps, device=loss.device)
        if num_items_in_batch is not None:
            share = (
                self._processes * items(self._loss, labels) / num_items_in_batch.clamp(min=1e-30)
            )  # the processes' gradients are averaged
            of_loss = (
                self.accelerator.reduce(share, "mean") if gather else share
            )  # a gathered loss is already that of all
        loss = loss.masked_fill(of_loss == 0, 0) * of_loss  # the mean over nothing is NaN
        if rdrop:
            extra = self.args.rdrop_alpha * divergence(self._loss, *passes, labels) * share
            self._log_part(f"loss_{self.args.loss}", loss)
            self._log_part("loss_rdrop", extra)
            loss = loss + extra
            if isinstance(outputs, Mapping):
                outputs["logits"] = passes[0]
        loss = loss * steps  # by which training_step will divide
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, *more):
        """Trainer's, and once more at the attacked weights."""
        args = self.args
        if args.adversarial != "none" and (self._attack is None or self._attack.model is not model):
            epsilon = (
                EPSILON[args.adversarial] if args.adversarial_epsilon is None else args.adversarial_epsilon
            )
            alpha = {"alpha": PGD_ALPHA * epsilon} if args.adversarial == "pgd" else {}
            self._attack = ATTACKS[args.adversarial](
                model, epsilon, **alpha
            )  # its hooks must see the first pass
        loss = super().training_step(model, inputs, *more)
        if self._attack is None or self.state.global_step < args.adversarial_start_step:
            return loss
        try:
            for _ in range(PGD_STEPS if args.adversarial == "pgd" else 1):
                self._attack.attack()
                self._clean = False
                adversarial = super().training_step(model, inputs, *more)
        finally:
            self._attack.restore()
            self._clean = True
        self._log_part("loss_adversarial", adversarial)
        return loss

    def create_optimizer(self, *args):
        """Trainer's; with layer decay or a rate for the head, of the groups of
        :func:`~tricks_lib.layer_decay.layer_decay_groups`.
        """
        a = self.args
        if self.optimizer is None and (a.layer_decay is not None or a.head_learning_rate is not None):
            kind, kwargs = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(a, self.model)
            if (
                not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer))
                or {"params", "model", "optimizer_dict"} & kwargs.keys()
            ):
                raise ValueError(
                    f"optim: {a.optim} given with layer_decay or head_learning_rate; an optimizer of "
                    f"parameter groups is accepted"
                )
            decay = 1.0 if a.layer_decay is None else a.layer_decay
            groups = layer_decay_groups(
                self.model, a.learning_rate, decay, a.head_learning_rate, a.weight_decay
            )
            self.optimizer = kind(
                sorted(groups, key=lambda group: group["lr"] != a.learning_rate), **kwargs
            )  # the first one's rate is logged
        return super().create_optimizer(*args)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """``with trainer.average_parameters():`` the model holds the average; without ``ema_decay`` it stays
        as it is.
        """
        if self._ema is None or self._averaged:
            yield
            return
        with self._ema.average_parameters():
            self._averaged = True
            try:
                yield
            finally:
                self._averaged = False

    def evaluate(self, *args, **kwargs):
        """Trainer's, with the average."""
        with self.average_parameters():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        """Trainer's, with the average."""
        with self.average_parameters():
            return super().predict(*args, **kwargs)

    def save_model(self, *args, **kwargs):
        """Trainer's, with the average."""
        with self.average_parameters():
            super().save_model(*args, **kwargs)

    def log(self, logs, *args, **kwargs):
        """Trainer's; beside ``loss`` its parts, means over the steps since the last time and over the
        processes.
        """
        if "loss" in logs:
            parts, self._parts = self._parts, {}
            logs |= {
                name: self.accelerator.reduce(total, "mean").item() / steps
                for name, (total, steps) in parts.items()
            }
        super().log(logs, *args, **kwargs)

    def _log_part(self, name, value):
        if self._clean:
            total, steps = self._parts.get(name, (0.0, 0.0))
            self._parts[name] = (
                total + value.detach().mean(),
                steps + 1 / self.current_gradient_accumulation_steps,
            )

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self._ema is not None and self.args.should_save:
            torch.save(
                {"model": self.model.state_dict(), "ema": self._ema.state_dict()},
                os.path.join(output_dir, RESUME),
            )

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        file, decay = os.path.join(checkpoint, RESUME), self.args.ema_decay
        if os.path.isfile(file):
            saved = torch.load(file, map_location="cpu", weights_only=True)
            self.model.load_state_dict(saved["model"])  # Trainer has loaded the average
            if decay is not None:
                self._ema = EMA(self.model, decay)
                self._ema.load_state_dict({**saved["ema"], "decay": decay})
        elif decay is not None:
            raise ValueError(
                f"resume_from_checkpoint: {checkpoint} given, without an average; a checkpoint saved with "
                f"ema_decay is accepted"
            )

    def _load_best_model(self):
        super()._load_best_model()
        self._ema = None  # what was loaded is an average

    def _set_signature_columns_if_needed(self):
        """A classifier that passes ``**inputs`` on to its encoder, as those of tricks_lib do, uses the
        encoder's columns too.
        """
        new = self._signature_columns is None
        super()._set_signature_columns_if_needed()
        if new and "inputs" in self._signature_columns and hasattr(self.model, "encoder"):
            self._signature_columns += inspect.signature(self.model.encoder.forward).parameters


class _Steps(TrainerCallback):
    """What happens to the average and the attack beside the trainer's own methods."""

    def __init__(self, trainer: TricksTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer._parts, self.trainer._attack = {}, None
        if args.ema_decay is None:
            self.trainer._ema = None
        elif state.global_step == 0:  # else it has come with the checkpoint
            self.trainer._ema = EMA(self.trainer.model, args.ema_decay)

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer._ema is not None and not self.trainer.accelerator.optimizer_step_was_skipped:
            self.trainer._ema.update()

    def on_train_end(self, args, state, control, **kwargs):
        self.trainer._attack = None  # its hooks go with it
