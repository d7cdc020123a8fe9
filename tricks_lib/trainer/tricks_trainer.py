"""``transformers.Trainer`` with the tricks."""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback

from tricks_lib._batch_loss import (
    OF_THE_BATCH,
    WeightedCrossEntropy,
    class_weights,
    divergence,
    items,
    labels_of,
    logits_of,
    loss_of,
    make_loss,
)
from tricks_lib.ema import EMA
from tricks_lib.fgm import FGM
from tricks_lib.layer_decay import layer_decay_groups
from tricks_lib.trainer.arguments import TricksArguments
from tricks_lib.trainer.attacks import ATTACKS, make_attack

__all__ = ["TricksTrainer"]

RESUME = "tricks.pt"  # in a checkpoint: the trained weights and the state of the average


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
        if isinstance(loss, WeightedCrossEntropy) and loss.weight is None:
            labels = labels_of(self.train_dataset)
            loss.weight = class_weights(labels, int(labels.max()) + 1)
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
            self._attack = make_attack(  # its hooks must see the first pass
                model,
                args.adversarial,
                args.adversarial_epsilon,
                per_example=args.adversarial_per_example,
                relative=args.adversarial_relative,
            )
        loss = super().training_step(model, inputs, *more)
        if self._attack is None or self.state.global_step < args.adversarial_start_step:
            return loss
        try:
            for _ in range(ATTACKS[args.adversarial].steps):
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
