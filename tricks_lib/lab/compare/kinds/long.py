"""Comparisons on long texts: what of a whole text does a frozen encoder have to read?

Nothing is cut before a part is taken: the tail is the end of the text. Parts and windows are those of
:mod:`tricks_lib.xlnet_long_text`, and a window's vector is the mean of its tokens. The probe is that of
:mod:`.frozen`; the attention over windows is learned with it.

Shapes: N texts, T tokens, W windows, H hidden.
"""

import functools
from typing import ClassVar

import torch
from torch import nn

from tricks_lib.lab.compare import tokens, train
from tricks_lib.lab.compare.kinds import probe
from tricks_lib.lab.compare.kinds.frozen import ProbeComparison, ProbeJob, by_size, to_read
from tricks_lib.mean_pooling import mean_pool
from tricks_lib.xlnet_long_text import SlidingWindowClassifier, truncate_head_tail

PARTS = {  # (1, T) ids of a whole text and a length -> ids of what is read
    "head": lambda ids, length: ids[:, :length],
    "tail": lambda ids, length: ids[:, -length:],
    "head and tail": truncate_head_tail,
}


class LongJob(ProbeJob):
    """One probe on a part of each text or its windows; ``training`` has their ``length`` and ``stride``."""

    more_code: ClassVar[tuple[str, ...]] = (*ProbeJob.more_code, "lab/compare/kinds/long.py")

    def features(self, split: str) -> probe.Features:
        t = self.training
        found = vectors_of(
            self.source, self.model, t["max_length"], t["precision"], t["pool"], t["length"], t["stride"]
        )[split]
        part, windows = self.settings.get("part", "head"), self.settings.get("windows")
        if windows is None:
            return probe.Features(found[part].unsqueeze(1))
        x, real = found["windows"]  # (N, W, H), (N, W)
        if windows == "attention":
            return probe.Features(x, real)
        if windows == "mean":
            return probe.Features(mean_pool(x, real).unsqueeze(1))
        return probe.Features(x.masked_fill(~real.unsqueeze(-1), float("-inf")).amax(dim=1, keepdim=True))


class LongComparison(ProbeComparison):
    """A comparison whose runs are probes on long texts."""

    performs: ClassVar[type[train.Job]] = LongJob


@functools.lru_cache(maxsize=1)
def vectors_of(source, model: str, max_length: int, precision: str, pool, length: int, stride: int) -> dict:
    """Split -> what is read -> vectors, computed once in a process: (N, H) of a part; of windows (N, W, H),
    and which there are, (N, W).
    """
    task, encoder, rows = to_read(source, model, max_length, precision, pool)
    found: dict[str, dict] = {}
    for split, some in rows.items():
        ids = [torch.tensor([row["input_ids"]]) for row in some]
        found[split] = {
            name: part_vectors(encoder, task, [cut(each, length)[0] for each in ids])
            for name, cut in PARTS.items()
        }
        found[split]["windows"] = window_vectors(encoder, ids, length, stride)
    return found


@torch.inference_mode()
def part_vectors(encoder, task: tokens.Prepared, ids: list) -> torch.Tensor:
    """Mean vector (N, H) of each row of ids."""
    rows = [{"input_ids": each.tolist(), "labels": 0} for each in ids]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    out = torch.empty(len(rows), encoder.config.hidden_size, dtype=encoder.dtype)
    for some in by_size(order, rows):
        batch = {k: v.to(encoder.device) for k, v in task.collate([rows[i] for i in some]).items()}
        mask = batch["attention_mask"]
        states = encoder(batch["input_ids"], attention_mask=mask).last_hidden_state
        out[some] = mean_pool(states, mask).cpu()
    return out


@torch.inference_mode()
def window_vectors(encoder, ids: list, length: int, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (N, W, H) of the windows that ``SlidingWindowClassifier`` cuts, and which there are (N, W)."""
    reader = SlidingWindowClassifier(encoder, 2, window_length=length, stride=stride, pool="attention").eval()
    asked: list[torch.Tensor] = []  # what its attention is asked about
    reader.attention.register_forward_hook(lambda module, given, out: asked.append(given[0][0].cpu()))
    for each in ids:
        reader(each.to(encoder.device))
    x = nn.utils.rnn.pad_sequence(asked, batch_first=True)
    count = torch.tensor([len(windows) for windows in asked])
    return x, torch.arange(x.shape[1]) < count.unsqueeze(1)
