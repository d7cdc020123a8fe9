"""The average of the weights in any ``transformers.Trainer``, by its events."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tricks_lib.ema.schedule import GAMMA, check
from tricks_lib.trainer.average import Average

__all__ = ["EMACallback"]


class EMACallback(TrainerCallback):
    """Evaluates and saves the moving average of the weights, in any ``transformers.Trainer``::

        trainer = Trainer(model, args, train_dataset=rows, callbacks=[EMACallback(0.999)])

    Training goes on with the trained weights. The average stands in the model while it is evaluated or saved,
    and from the end of training on; :meth:`restore` puts the trained weights back. Checkpoints hold the
    trained weights beside the average, and resume bit for bit. With ``load_best_model_at_end`` the model ends
    with the best average. Under LoRA only what is trained is averaged and stored.

    :class:`~tricks_lib.trainer.TricksTrainer` has the same by ``ema_decay``. There ``evaluate``, called at
    any time, sees the average; here, in training, those evaluations and checkpoints see it that the arguments
    ask for, or a callback that stands before this one.

    Args:
        decay, warmup, buffers, update_every, start_step, device, gamma: as :class:`~tricks_lib.ema.EMA`.
        resume_from_checkpoint: what ``train`` is given, where it is no folder of ``output_dir``.

    Raises:
        TypeError, ValueError: as :class:`~tricks_lib.ema.EMA`. When training begins: as that for the model,
            ``buffers`` and ``device``; and ValueError: its weights are split by FSDP; the checkpoint to be
            resumed holds no average, or another one than was loaded.

    Warns:
        UserWarning: at the end of the run the weights of its start would be more than 1 % of the average; an
            evaluation or a checkpoint did not see the average.

    Example:
        >>> EMACallback(0.99, warmup="power").average is None  # before training
        True
    """

    def __init__(
        self,
        decay: float = 0.999,
        warmup: bool | str = False,
        buffers: bool = True,
        update_every: int = 1,
        start_step: int = 0,
        device: torch.device | str | None = None,
        gamma: float = GAMMA,
        resume_from_checkpoint: str | Path | None = None,
    ):
        self.settings: dict[str, Any] = {
            "decay": decay,
            "warmup": warmup,
            "update_every": update_every,
            "start_step": start_step,
            "gamma": gamma,
        }
        check(**self.settings)
        self.kwargs: dict[str, Any] = {"buffers": buffers, "device": device}
        self.resume_from_checkpoint = resume_from_checkpoint
        self.average: Average | None = None

    def restore(self) -> None:
        """Put the trained weights back; without an average in the model it does nothing."""
        if self.average is not None:
            self.average.hide()

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Begins the average, or goes on with that of the checkpoint."""
        if self.average is not None and self.average.model is model and self.average.is_in_model():
            self.restore()  # a second training goes on with the trained weights
        self.average = Average(model, self.settings, **self.kwargs)
        self.average.warn_of_start("decay", state.max_steps)
        if state.global_step > 0:
            self.average.load(self._checkpoint(args, state), loaded=True)
        if args.eval_on_start:
            self.average.show()

    def on_step_begin(self, args, state, control, **kwargs):
        """The model holds the trained weights."""
        self.average.hide()

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        """A step of the average, unless a ``GradScaler`` has skipped that of the weights."""
        if not getattr(optimizer, "step_was_skipped", False):
            self.average.update()

    def on_step_end(self, args, state, control, **kwargs):
        """The model holds the average, if it is to be evaluated or saved."""
        if control.should_evaluate or control.should_save:
            self.average.show()

    on_epoch_end = on_step_end

    def on_evaluate(self, args, state, control, **kwargs):
        """Warns where another callback has come between."""
        if self.average is not None and not self.average.shown:
            warnings.warn(
                f"EMACallback: evaluated or saved after {state.global_step} steps without the average; a "
                f"callback that asks for it stands before EMACallback",
                stacklevel=2,
            )

    def on_save(self, args, state, control, **kwargs):
        """The trained weights and the state of the average into the checkpoint."""
        self.on_evaluate(args, state, control)
        if args.should_save and not (args.save_only_model or state.is_hyper_param_search):
            self.average.save(_folder(args, state))

    def on_train_end(self, args, state, control, **kwargs):
        """The model holds the average, or what ``load_best_model_at_end`` has loaded."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self.average = None
        else:
            self.average.show()

    def _checkpoint(self, args, state) -> str | Path:
        given = self.resume_from_checkpoint or args.resume_from_checkpoint
        return given if isinstance(given, (str, Path)) else _folder(args, state)


def _folder(args, state) -> str:
    return os.path.join(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
