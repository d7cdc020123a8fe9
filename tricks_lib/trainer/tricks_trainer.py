"""``transformers.Trainer`` with the tricks."""

import inspect
from collections.abc import Iterator
from contextlib import closing, contextmanager

import torch
from transformers import TrainerCallback

from tricks_lib._classifier import EncoderClassifier
from tricks_lib._shift import unwrapped
from tricks_lib.fgm import FGM
from tricks_lib.layer_decay import layer_decay_groups
from tricks_lib.trainer.arguments import TricksArguments
from tricks_lib.trainer.attacks import ATTACKS, make_attack, passes
from tricks_lib.trainer.average import Average, read
from tricks_lib.trainer.loss import LossTrainer

__all__ = ["TricksTrainer"]


class TricksTrainer(LossTrainer):
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

    Warns:
        UserWarning: in training, R-Drop without dropout; the weights of the start would be more than 1 % of
            the average at the end.
    """

    def __init__(self, model=None, args: TricksArguments | None = None, *more, **kwargs):
        if not isinstance(args, TricksArguments):
            raise TypeError(f"args: {type(args).__name__} given, TricksArguments is accepted")
        super().__init__(model, args, *more, **kwargs)
        if self.optimizer is not None and args.of_layers:
            raise ValueError(
                f"optimizers: an optimizer given with {args.of_layers[0]}, None is accepted: its parameter "
                f"groups are made here"
            )
        self._ema: Average | None = None
        self._attack: FGM | None = None
        self._resumed: str | None = None  # the checkpoint that a training goes on with
        self.add_callback(_Steps(self))

    def training_step(self, model, inputs, *more):
        """Trainer's, and again at the attacked weights."""
        args, losses = self.args, []
        if args.adversarial != "none" and (self._attack is None or self._attack.model is not model):
            self._attack = make_attack(  # its hooks must see the first pass
                model,
                args.adversarial,
                args.adversarial_epsilon,
                per_example=args.adversarial_per_example,
                relative=args.adversarial_relative,
            )
        if self._attack is None or self.state.global_step < args.adversarial_start_step:
            return super().training_step(model, inputs, *more)
        with closing(passes(self._attack, ATTACKS[args.adversarial].steps)) as attacked:
            for each in attacked:
                self._clean = not each
                losses.append(super().training_step(model, inputs, *more))
        self._clean = True
        self._log_part("loss_adversarial", losses[-1])
        return losses[0]

    def create_optimizer(self, *args):
        """Trainer's; with layer decay or a rate for the head, of the groups of
        :func:`~tricks_lib.layer_decay.layer_decay_groups`.
        """
        a, by_layer = self.args, self.optimizer is None and bool(self.args.of_layers)
        if by_layer:
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
            groups.sort(key=lambda group: group["lr"] != a.learning_rate)  # the first one's rate is logged
        optimizer = super().create_optimizer(*args)
        if by_layer:  # Trainer's optimizer, with what it does around it, on other groups
            optimizer.param_groups.clear()
            for group in groups:
                optimizer.add_param_group(group)
        return optimizer

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """``with trainer.average_parameters():`` the model holds the average; without ``ema_decay`` it stays
        as it is.
        """
        if self._ema is None:
            yield
            return
        with self._ema.parameters():
            yield

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

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        model = unwrapped(self.model)
        if isinstance(model, EncoderClassifier):  # of which Trainer writes the weights alone
            model.save_config(output_dir or self.args.output_dir)

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self._ema is not None and self.args.should_save:
            self._ema.save(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        self._resumed = checkpoint

    def _begin_average(self, checkpoint: str | None):
        """The average begins, or goes on with that of a checkpoint, and so do the trained weights."""
        args, self._ema = self.args, None
        if args.ema_decay is not None:
            self._ema = Average(self.model, {"decay": args.ema_decay, "warmup": args.ema_warmup})
            self._ema.warn_of_start("ema_decay", self.state.max_steps)
            if checkpoint is not None:
                self._ema.load(checkpoint)
        elif checkpoint is not None and (saved := read(checkpoint)) is not None:
            self.model.load_state_dict(saved["model"], strict=False)  # Trainer has loaded the average

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
    """What the trainer does at events that are no methods of its own."""

    def __init__(self, trainer: TricksTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        args.check_tricks()  # a search may have changed them
        args.check_attack_begins(state.max_steps)
        trainer = self.trainer
        trainer._check_loss_func()
        trainer._parts, trainer._attack, trainer._clean = {}, None, True
        trainer._begin_average(trainer._resumed)
        trainer._resumed = None

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer._ema is not None and not self.trainer.accelerator.optimizer_step_was_skipped:
            self.trainer._ema.update()

    def on_train_end(self, args, state, control, **kwargs):
        self.trainer._attack = None  # its hooks go with it
