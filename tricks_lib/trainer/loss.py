"""The loss of one step, equation (1) of :mod:`tricks_lib.trainer`, by any loss and with R-Drop."""

from collections.abc import Mapping, MutableMapping

import torch
from torch import Tensor
from transformers import Trainer

from tricks_lib._batch_loss import (
    OF_THE_BATCH,
    WeightedCrossEntropy,
    divergence,
    items,
    labels_of,
    logits_of,
    loss_of,
    make_loss,
)
from tricks_lib._shift import shifts_labels
from tricks_lib.rdrop.dropout import warn_without_dropout
from tricks_lib.rdrop.forward import doubled, problem_type


class LossTrainer(Trainer):
    """``Trainer`` with the ``loss`` and ``rdrop_alpha`` of :class:`~tricks_lib.trainer.TricksArguments`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # To Trainer: the loss is a mean, to be divided by the number of micro-batches.
        self.model_accepts_loss_kwargs = False
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self._made_loss: tuple = (("cross_entropy", {}), None)  # what it was made of, and the loss
        self._counted: object = None  # the dataset whose labels its weights were counted in
        self._clean = True  # not at attacked weights
        self._parts: dict[str, tuple] = {}  # since the last log: name -> sum, number of optimizer steps
        self._check_loss_func()

    def _check_loss_func(self):
        args = self.args
        if self.compute_loss_func is not None and (args.loss != "cross_entropy" or args.rdrop_alpha):
            raise ValueError(
                f"compute_loss_func: given with loss {args.loss!r} and rdrop_alpha {args.rdrop_alpha}, None "
                f"is accepted"
            )

    @property
    def _loss(self) -> torch.nn.Module | None:
        """The loss that the arguments name now, a search may have changed them; None: the model's own."""
        of = (self.args.loss, dict(self.args.loss_kwargs or {}))
        stale = self._counted is not None and self._counted is not self.train_dataset
        if of != self._made_loss[0] or stale:
            loss, self._counted = make_loss(*of), None
            if isinstance(loss, WeightedCrossEntropy) and loss.weight is None:
                loss.count(labels_of(self.train_dataset, loss.ignore_index))
                self._counted = self.train_dataset
            self._made_loss = of, loss and loss.to(self.args.device)
        return self._made_loss[1]

    @property
    def _processes(self) -> int:
        return self.accelerator.num_processes if self.args.average_tokens_across_devices else 1

    def get_batch_samples(self, *args):
        """The micro-batches of one step, and their number of labelled examples or tokens."""
        batches, count = super().get_batch_samples(*args)
        labels = [batch.get("labels") for batch in batches]
        if self.compute_loss_func is not None:
            return batches, count
        if not labels or not all(isinstance(each, Tensor) for each in labels):
            return batches, None
        with self.compute_loss_context_manager():
            shifts = shifts_labels(self.model_wrapped, self._prepare_inputs(batches[0]))
        labels = [each[:, 1:] if shifts else each for each in labels]
        total = sum(items(self._loss, each.to(self.args.device)) for each in labels)
        return batches, self.accelerator.reduce(total) if self._processes > 1 else total

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a batch; in training with R-Drop and the weight of (1), the logits being those of the
        first pass.
        """
        if self.compute_loss_func is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch=num_items_in_batch)
        args, training, labels = self.args, model.training, inputs.get("labels")
        rdrop = training and args.rdrop_alpha > 0
        if labels is None and (rdrop or self._loss is not None):
            raise ValueError(f"inputs: {', '.join(inputs)} given, labels beside them are accepted")
        loss, passes, labels, outputs = self._forward(model, inputs, rdrop)
        if training:
            share, of_loss = self._shares(labels, num_items_in_batch, loss.device)
            loss = loss.masked_fill(of_loss == 0, 0) * of_loss  # the mean over nothing is NaN
            if rdrop:
                warn_without_dropout(model, *passes)
                apart = divergence(self._loss, *passes, labels, problem_type(model))
                extra = args.rdrop_alpha * apart * share
                self._log_part(f"loss_{args.loss}", loss)
                self._log_part("loss_rdrop", extra)
                loss = loss + extra
            loss = loss * self.current_gradient_accumulation_steps  # by which training_step will divide
        return (loss, outputs) if return_outputs else loss

    def _forward(self, model, inputs, rdrop: bool):
        """Loss, logits of each pass, labels beside them, and the outputs of the first pass."""
        labels, training = inputs.get("labels"), model.training
        own = self._loss is None and (self.label_smoother is None or labels is None)
        runs = [self._run(model, batch, own) for batch in self._batches(inputs, rdrop)]
        outputs, passes = runs[0][1], []
        if rdrop or not own:
            halves = (1 + rdrop) // len(runs)
            passes = [half for _, out in runs for half in logits_of(out, int(own)).chunk(halves)]
        if rdrop and isinstance(outputs, MutableMapping):
            outputs["logits"] = passes[0]
        if (training or not own) and shifts_labels(model, inputs):
            labels, passes = labels[:, 1:], [logits[:, :-1] for logits in passes]
        if own:
            losses = [loss for loss, _ in runs]
        else:
            gather = training and self._gathers
            losses = [loss_of(self._criterion, logits, labels, gather) for logits in passes]
        loss = sum(losses) / len(losses)
        if not own and not isinstance(outputs, Mapping):
            outputs = (loss, *outputs)
        return loss, passes, labels, outputs

    def _batches(self, inputs, rdrop: bool) -> list:
        """What the model sees: with R-Drop the batch twice, below itself or once more."""
        if rdrop and self.args.rdrop_two_passes:
            return [inputs, inputs]
        return [doubled(inputs)] if rdrop else [inputs]

    def _run(self, model, inputs, own: bool):
        """The model's own loss, or None, and its outputs."""
        if own:
            return super().compute_loss(model, inputs, return_outputs=True)
        return None, model(**{k: v for k, v in inputs.items() if k != "labels"})

    @property
    def _criterion(self):
        """What takes the place of the model's own loss."""
        return self._loss or (lambda logits, labels: self.label_smoother({"logits": logits}, labels))

    @property
    def _gathers(self) -> bool:
        args = self.args
        return args.gather_batch_losses and args.loss in OF_THE_BATCH and self.accelerator.num_processes > 1

    def _shares(self, labels, num_items_in_batch, device) -> tuple[Tensor, Tensor]:
        """|B_m| / sum |B_m| of (1), of a mean over this micro-batch, and of its loss."""
        if num_items_in_batch is None:
            share = torch.tensor(1 / self.current_gradient_accumulation_steps, device=device)
            return share, share
        # The processes' gradients will be averaged.
        share = self._processes * items(self._loss, labels) / num_items_in_batch.clamp(min=1e-30)
        if self._gathers:
            return share, self.accelerator.reduce(share, "mean")  # a gathered loss is already that of all
        return share, share

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
