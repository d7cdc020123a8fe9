"""Comparisons of losses on a frozen encoder: only a linear head is trained, on the mean vector of each text.

The encoder reads every text once. Its vectors, standardised as the training split is, become a table in which
a text's one token is its row, so that training, losses, readings and scores are those of every fine-tuning.
What is measured is the loss on given features; whether the encoder would learn others, it does not say.

Shapes: B batch, N texts of all splits, H hidden.
"""

import dataclasses
import functools
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from tricks_lib.lab.compare import tokens, train
from tricks_lib.lab.compare.comparison import Comparison
from tricks_lib.lab.compare.kinds import frozen


class Vectors(nn.Module):
    """A frozen encoder that has read: ids (B, 1) of texts -> their vectors (B, 1, H). Nothing is trained.

    Args:
        config: the encoder's. table: (N, H).
    """

    def __init__(self, config, table: Tensor):
        super().__init__()
        self.config = config
        self.register_buffer("table", table)

    def forward(self, input_ids, **inputs) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.table[input_ids])


class HeadJob(train.Job):
    """One head, on vectors as precise as ``training`` says."""

    more_code: ClassVar[tuple[str, ...]] = ("lab/compare/kinds/frozen.py", "lab/compare/kinds/heads.py")

    def prepared(self) -> tokens.Prepared:
        return read(self.source, self.model, self.training["max_length"], self.training["precision"])


class HeadComparison(Comparison):
    """A comparison whose runs are heads."""

    performs: ClassVar[type[train.Job]] = HeadJob

    def pasted(self, task, settings: dict, rate: float, steps: int) -> str:
        """An arm as code to paste, and what it is trained on."""
        told = "# a linear head: the encoder's mean vectors are computed once, standardised and not trained"
        return f"{super().pasted(task, settings, rate, steps)}\n{told}"


@functools.lru_cache(maxsize=2)
def read(source: tokens.Source, model: str, max_length: int, precision: str) -> tokens.Prepared:
    """Every text's number in place of its tokens, and :class:`Vectors` in place of the encoder; once in a
    process.
    """
    task, encoder, rows = frozen.to_read(source, model, max_length, precision, None)
    found = {split: vectors(encoder, task, some) for split, some in rows.items()}
    known = found["train"]
    table = (torch.cat([*found.values()]) - known.mean(dim=0)) / known.std(dim=0).clamp(min=1e-6)
    numbered, start = {}, 0
    for split, some in rows.items():
        numbered[split] = [{"input_ids": [start + i], "labels": row["labels"]} for i, row in enumerate(some)]
        start += len(some)
    return dataclasses.replace(task, rows=numbered, encoder=Vectors(encoder.config, table))


def vectors(encoder, task: tokens.Prepared, rows: list[dict]) -> Tensor:
    """Mean (N, H) of the last states of each text, float32."""
    return frozen.states(encoder, task, rows, (-1,), ("mean",), normed=False)[-1, "mean"].float()
