"""Comparisons on a frozen model: which vector stands for a text, and which layers are read.

The model is not trained. Its states are computed once, in bf16 where the hardware has it, and a linear probe
(:mod:`.probe`) learns on them. Arms, seeds, grid and statistics are those of every comparison; a rate is the
probe's, a step is an iteration of L-BFGS, and a seed draws the training rows.

Shapes: N texts (or words, where each word has a label), T tokens, H hidden, K layers, C classes.
"""

import copy
import functools
import time
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from tricks_lib import mean_pooling
from tricks_lib.lab import profiles
from tricks_lib.lab.compare import arms, tokens, train
from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.comparison import Comparison
from tricks_lib.lab.compare.kinds import probe
from tricks_lib.lab.compare.metrics import IGNORED

POOLS = {
    "first": mean_pooling.cls_pool,
    "mean": mean_pooling.mean_pool,
    "max": mean_pooling.max_pool,
    "weighted": mean_pooling.weighted_mean_pool,
    "last": mean_pooling.last_token_pool,
}
LAST = 4  # layers that are put side by side or weighted
CAUSAL = ("llama", "gpt2")  # architectures whose tokens read only those before them
BATCH = 2048  # tokens, padding included


class ProbeArm(Arm):
    """An arm whose settings say what is read: ``pool`` (:data:`POOLS`; of tags: none), ``layer`` (a number,
    0 being the embeddings; default: the last) and ``read`` (:data:`.probe.READS`, by default "one"); "concat"
    and "weighted" read the last four layers. Long texts have ``part`` and ``windows``, see :mod:`.long`.
    """

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return ("pool", "layer", "read", "part", "windows", *arms.READING)


class ProbeJob(train.Job):
    """One probe. ``training``: ``max_length``, ``precision``, ``rows`` (what a seed draws), and ``pool``
    (of so many training rows, drawn once).
    """

    more_code: ClassVar[tuple[str, ...]] = ("lab/compare/kinds/frozen.py", "lab/compare/kinds/probe.py")

    def features(self, split: str) -> probe.Features:
        """What this arm reads of a split, (N, K, D)."""
        states = states_of(self.source, self.model, self.training["max_length"], self.training["precision"],
                           self.training.get("pool"), *self.wanted)  # fmt: skip
        layers, pools, _ = self.wanted
        return read(states[split], {"layer": max(layers), "pool": pools[0]} | self.settings)

    @property
    def wanted(self) -> tuple:
        """Layers (the last one is read by default) and pools (the first one is) that the arms read, and
        whether states after layer norm are among them: as ``training`` says.
        """
        return tuple(self.training["layers"]), tuple(self.training["pools"]), self.training["normed"]

    def perform(self) -> dict[str, dict]:
        started = time.perf_counter()
        task = self.prepared()
        given, known = self.features("train"), task.labels["train"][pooled_rows(task, self.training)]
        chosen = tokens.draw(known, self.training["rows"], self.seed)
        features, labels = rows_of(given, known, chosen)
        fitted = probe.train(
            features, labels, task.num_labels, self.learning_rate, self.steps, self.seed,
            self.settings.get("read", "one"),
        )  # fmt: skip
        predictions = predicted(fitted, self.features(self.split), task.labels[self.split])
        scores = train.all_scores(task, self.metric, predictions, self.split)
        result = {**scores, "seconds": round(time.perf_counter() - started, 3)}
        if self.split == "test":
            result["predictions"] = train.smallest(predictions, task.num_labels)
        return {arms.key(reading): result for reading in self.readings}


class ProbeComparison(Comparison):
    """A comparison whose runs are probes."""

    performs: ClassVar[type[train.Job]] = ProbeJob

    def pasted(self, task, settings: dict, rate: float, steps: int) -> str:
        """What is read, and the probe."""
        given = {"layer": -1, "read": "one", **settings}
        told = ", ".join(f"{k}={v!r}" for k, v in given.items())
        return f"# frozen {self.model}: {told}\nLogisticRegression(C={rate**2:.4g})  # standardised features"


def pooled_rows(task: tokens.Prepared, training: dict) -> np.ndarray:
    """The training rows that seeds draw from."""
    rows = np.random.default_rng(0).permutation(len(task.rows["train"]))
    return np.sort(rows[: training.get("pool")])


def to_read(source, model: str, max_length: int, precision: str, pool: int | None):
    """Data and model, a copy of the encoder where and as precise as it is run, and the rows of each split."""
    task = tokens.prepare(source, model, max_length)
    encoder = copy.deepcopy(task.encoder).to(profiles.hardware(), train.HALF.get(precision, torch.float32))
    pooled = [task.rows["train"][i] for i in pooled_rows(task, {"pool": pool})]
    return task, encoder, {**task.rows, "train": pooled}


@functools.lru_cache(maxsize=1)
def states_of(
    source, model: str, max_length: int, precision: str, pool, layers, pools, normed
) -> dict[str, dict]:
    """Split -> (layer, pool) -> (N, H), computed once in a process; see :func:`states`."""
    task, encoder, rows = to_read(source, model, max_length, precision, pool)
    return {split: states(encoder, task, some, layers, pools, normed) for split, some in rows.items()}


@torch.inference_mode()
def states(encoder, task: tokens.Prepared, rows: list[dict], layers, pools, normed: bool) -> dict:
    """What is kept of the states of some rows, in their order.

    Returns:
        ``(layer, pool)`` -> (N, H) for each layer and pool, of the states as they are; with ``normed``
        ``("normed", layer, pool)`` for the last four layers, of the states after layer norm, token by token.
        Where each word has a label, N are the words, and the pool is a name alone.
    """
    last_four = last_layers(max(layers)) if normed else ()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    found: dict[tuple, list] = {}
    for some in by_size(order, rows):
        batch = task.collate([rows[i] for i in some])
        batch = {name: column.to(encoder.device) for name, column in batch.items()}
        labels, mask = batch.pop("labels"), batch["attention_mask"]
        hidden = encoder(**batch, output_hidden_states=True).hidden_states
        kept = {(layer,): hidden[layer] for layer in layers}
        kept |= {("normed", i): F.layer_norm(hidden[i], hidden[i].shape[-1:]) for i in last_four}
        for key, pool in ((key, pool) for key in kept for pool in pools):
            if task.kind == "tags":
                vectors = of_words(kept[key], mask, labels, encoder.config.model_type in CAUSAL)
            else:
                vectors = POOLS[pool](kept[key], mask)
            found.setdefault((*key, pool), []).append(vectors.cpu())
    counts = [sum(x != IGNORED for x in rows[i]["labels"]) if task.kind == "tags" else 1 for i in order]
    back = torch.from_numpy(np.argsort(np.repeat(order, counts), kind="stable"))
    return {key: torch.cat(parts)[back] for key, parts in found.items()}


def by_size(order: list[int], rows: list[dict]):
    """Batches of at most :data:`BATCH` tokens, of rows sorted by length."""
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(rows[order[stop]]["input_ids"]) <= BATCH:
            stop += 1
        yield order[start:stop]
        start = stop


def last_layers(depth: int) -> range:
    return range(depth - LAST + 1, depth + 1)


def of_words(hidden, mask, labels, causal: bool):
    """States (words, H): of a word's first token or, where tokens read only what is before, of its last."""
    chosen = labels != IGNORED  # (B, T), the first ones
    if causal:
        position, length = torch.arange(mask.shape[1], device=mask.device), mask.sum(dim=1, keepdim=True)
        before_next = torch.roll(chosen, -1, dims=1) & (position < length - 1)
        chosen = (before_next | (position == length - 1)) & (chosen.cumsum(dim=1) > 0)
    return hidden[chosen]


def read(states: dict, settings: dict) -> probe.Features:
    """What an arm reads; ``settings`` with ``layer``, the last one where four are read, and ``pool``."""
    layer, pool, how = settings["layer"], settings["pool"], settings.get("read", "one")
    several = {"weighted": ("normed",), "concat": ()}
    keys = [(*several[how], i, pool) for i in last_layers(layer)] if how in several else [(layer, pool)]
    return probe.Features(torch.stack([states[key] for key in keys], dim=1))


def rows_of(features: probe.Features, labels: np.ndarray, chosen: np.ndarray):
    """Features and labels of the chosen rows, in float32; of tags those of all their words."""
    if labels.ndim == 2:
        words = (labels != IGNORED).sum(axis=1)
        starts = np.concatenate([[0], words.cumsum()])
        index = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in chosen])
        known = np.concatenate([labels[i][labels[i] != IGNORED] for i in chosen])
    else:
        index, known = chosen, labels[chosen]
    some = features.rows(torch.from_numpy(index))
    return probe.Features(some.x.float(), some.real), torch.from_numpy(known)


@torch.inference_mode()
def predicted(fitted: probe.Probe, features: probe.Features, labels: np.ndarray) -> np.ndarray:
    """Classes (N,), or (N, T) of tags with -100 where no word is."""
    wide = probe.Features(features.x.float(), features.real)
    found = fitted(fitted.standardised(wide)).argmax(dim=-1).numpy()
    if labels.ndim == 1:
        return found
    whole = np.full(labels.shape, IGNORED)
    whole[labels != IGNORED] = found
    return whole
