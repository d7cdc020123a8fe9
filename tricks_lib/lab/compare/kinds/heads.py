"""Comparisons of losses on a frozen encoder: only a linear head is trained, on the mean vector of each text.

The encoder reads every text once. Its vectors, standardised as all texts of the training split are, become a
table in which a text's one token is its row, so that training, losses, readings and scores are those of every
fine-tuning. What is measured is the loss on given features; what an encoder would learn under it, is not.

Shapes: B batch, N texts of all splits, H hidden.
"""

import dataclasses
import functools
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from tricks_lib.lab.compare import arms, tokens, train
from tricks_lib.lab.compare.comparison import Comparison
from tricks_lib.lab.compare.kinds import frozen

SETTINGS = ("loss", "loss_kwargs", "label_smoothing_factor", "prior_bias", "times", *arms.READING)


class Vectors(nn.Module):
    """A frozen encoder that has read: ids (B, 1) of texts -> their vectors (B, 1, H). Nothing is trained.

    Args:
        config: the encoder's. table: (N, H).
    """

    def __init__(self, config, table: Tensor):
        super().__init__()
        self.config = config
        self.register_buffer("table", table, persistent=False)

    def forward(self, input_ids, **inputs) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.table[input_ids])


class HeadJob(train.Job):
    """One head, on vectors as precise as ``training`` says."""

    more_code: ClassVar[tuple[str, ...]] = ("lab/compare/kinds/frozen.py", "lab/compare/kinds/heads.py")

    def prepared(self) -> tokens.Prepared:
        """As :func:`read` gives it."""
        return read(self.source, self.model, self.training["max_length"], self.training["precision"])


class HeadComparison(Comparison):
    """A comparison whose runs are heads.

    Raises:
        ValueError: as :class:`Comparison`; an arm has a setting that is none of a head's (:data:`SETTINGS`).
    """

    performs: ClassVar[type[train.Job]] = HeadJob

    def __post_init__(self):
        super().__post_init__()
        for name, arm in self.arms.items():
            for setting in {*arm.settings, *(key for each in arm.candidates for key in each)} - {*SETTINGS}:
                raise ValueError(f"{name}: {setting!r} given; of a head {', '.join(SETTINGS)} are accepted")

    def pasted(self, task, settings: dict, rate: float, steps: int) -> str:
        """An arm as code to paste, its encoder a table of vectors."""
        lines = super().pasted(task, settings, rate, steps).splitlines()
        model = next(i for i, line in enumerate(lines) if line.startswith("model = "))
        source = {
            k: v for k, v in dataclasses.asdict(self.source).items() if v != getattr(tokens.Source, k, "")
        }
        given = f"{self.model!r}, {self.training['max_length']}, {self.training['precision']!r}"
        made = f"tokens.Source({', '.join(f'{k}={v!r}' for k, v in source.items())})"
        return "\n".join([f"task = heads.read({made}, {given})", "encoder = task.encoder", *lines[model:]])


@functools.lru_cache(maxsize=2)
def read(source: tokens.Source, model: str, max_length: int, precision: str) -> tokens.Prepared:
    """Every text's number in place of its tokens, and :class:`Vectors` in place of the encoder; once in a
    process.

    Raises:
        ValueError: the labels are those of words; a text has one vector.
    """
    task, encoder, rows = frozen.to_read(source, model, max_length, precision, None)
    if task.kind == "tags":
        raise ValueError("source: tags given, labels of whole texts are accepted")
    found = {
        split: frozen.states(encoder, task, some, (-1,), ("mean",), normed=False)[-1, "mean"].float()
        for split, some in rows.items()
    }
    known = found["train"]
    table = (torch.cat([*found.values()]) - known.mean(dim=0)) / known.std(dim=0).clamp(min=1e-6)
    numbered, start = {}, 0
    for split, some in rows.items():
        numbered[split] = [{"input_ids": [start + i], "labels": row["labels"]} for i, row in enumerate(some)]
        start += len(some)
    return dataclasses.replace(task, rows=numbered, encoder=Vectors(encoder.config, table))
