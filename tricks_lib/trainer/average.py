"""The average of one training run: begun, followed, shown in place of the weights, kept in checkpoints."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from tricks_lib.ema import EMA
from tricks_lib.ema.weights import trainable

FILE = (
    "tricks.pt"  # in a checkpoint, whose model is the average: the trained weights, and the average's state
)


class Average:
    """An :class:`~tricks_lib.ema.EMA` that knows whether the model holds it, and how to be resumed.

    Args:
        model: as the trainer has it; its processes hold whole weights.
        settings: of :class:`~tricks_lib.ema.EMA`; they replace those of a checkpoint.
        device, buffers: as :class:`~tricks_lib.ema.EMA`.

    Raises:
        ValueError: as :class:`~tricks_lib.ema.EMA`; the weights are split by FSDP.
    """

    def __init__(self, model: nn.Module, settings: dict, **kwargs):
        _refuse_fsdp(model)
        self.model, self.settings, self.shown = model, settings, False
        self.ema = EMA(model, **settings, **kwargs)

    def update(self) -> None:
        self.ema.update()

    def show(self) -> None:
        """The model holds the average from now on; nothing if it does already."""
        if not self.shown:
            self.ema.apply_shadow()
            self.shown = True

    def hide(self) -> None:
        """The model holds the trained weights from now on; nothing if it does already."""
        if self.shown:
            self.ema.restore()
            self.shown = False

    @contextmanager
    def parameters(self) -> Iterator[None]:
        """The average within the ``with`` block; what was there before comes back after any exception too."""
        before = self.shown
        self.show()
        try:
            yield
        finally:
            if not before:
                self.hide()

    def save(self, folder: str) -> None:
        """Write the trained weights and the state of the average into a checkpoint; no frozen weights."""
        frozen = {
            name
            for name, value in self.model.named_parameters(remove_duplicate=False)
            if not value.requires_grad
        }
        with self._weights():
            kept = {name: value for name, value in self.model.state_dict().items() if name not in frozen}
            torch.save({"model": kept, "ema": self.ema.state_dict()}, os.path.join(folder, FILE))

    def load(self, folder: str | Path, loaded: bool = False) -> None:
        """Go on from a checkpoint: the trained weights come into the model.

        Args:
            folder: of the checkpoint.
            loaded: the model must hold the checkpoint's average, as it does where a trainer has loaded it.

        Raises:
            ValueError: the checkpoint holds no average, or one of another model, or one that was not loaded.
        """
        if (saved := read(folder)) is None:
            raise ValueError(
                f"resume_from_checkpoint: {folder} given, without an average; a checkpoint saved with one is "
                f"accepted"
            )
        if loaded and not _holds(self.model, saved["ema"]["shadow"]):
            raise ValueError(
                f"resume_from_checkpoint: the average in {folder} given, the model has been loaded from "
                f"another checkpoint; that one is accepted"
            )
        self.ema.load_state_dict({**saved["ema"], **self.settings})
        self.model.load_state_dict(saved["model"], strict=False)

    def is_in_model(self) -> bool:
        """The average is shown, and nothing has changed the model since."""
        return self.shown and _holds(self.model, self.ema.state_dict()["shadow"])

    def warn_of_start(self, name: str, steps: int) -> None:
        """Warn, as about the argument ``name``, where the weights of the start are a part of the average at
        the end of a run of so many steps.
        """
        decay, taken = self.ema.decay, (steps - self.ema.start_step) // self.ema.update_every
        if taken <= 0:
            return
        share, fitting = self.ema.share_of_start(steps), 10 / (taken + 10)  # (n / (n + 10))^n: about exp(-10)
        if share > 0.01 and 1 - decay < 0.99 * fitting:
            warnings.warn(
                f"{name}: with {decay} the weights of the start are {share:.1%} of the average at the end of "
                f"{steps} steps; {1 - float(f'{fitting:.3g}'):.6g} fits, or a warm-up",
                stacklevel=2,
            )

    @contextmanager
    def _weights(self) -> Iterator[None]:
        """The trained weights within the ``with`` block."""
        before = self.shown
        self.hide()
        try:
            yield
        finally:
            if before:
                self.show()


def read(folder: str | Path) -> dict | None:
    """What :meth:`Average.save` wrote into a checkpoint: ``model`` and ``ema``; None if it has not."""
    file = os.path.join(folder, FILE)
    return torch.load(file, map_location="cpu", weights_only=True) if os.path.isfile(file) else None


def _holds(model: nn.Module, average: Mapping[str, Tensor]) -> bool:
    """Whether the trainable weights are the average, in their own precision."""
    weights = trainable(model)
    return weights.keys() == average.keys() and all(
        value.shape == average[name].shape and torch.equal(value.detach(), average[name].to(value))
        for name, value in weights.items()
    )


def _refuse_fsdp(model: nn.Module) -> None:
    kinds = {type(each).__name__ for each in (*model.modules(), *model.parameters())}
    if split := kinds & {"FullyShardedDataParallel", "DTensor"}:
        raise ValueError(
            f"model: weights split by FSDP ({', '.join(split)}) given, whole ones are accepted; "
            f"tricks_lib.ema.EMA follows the shards of FSDP2 in a loop of your own"
        )
