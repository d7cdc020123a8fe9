"""One training of an arm by ``TricksTrainer``, and the ways in which it is read.

Shapes: N examples, C classes, K checkpoints.
"""

import copy
import math
import time
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from tricks_lib.lab import profiles
from tricks_lib.lab.compare import arms, calibration, classifier, tokens
from tricks_lib.lab.compare.metrics import IGNORED, METRICS, average_precision, fitting
from tricks_lib.trainer import TricksArguments, TricksTrainer

CHECKPOINTS = 8  # of which the best is chosen
TOKENS = 4096  # of an evaluation's batch, padding included
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}  # by precision; fp32 is whole


@dataclass(frozen=True)
class Job:
    """One training and how it is read: all that its result depends on.

    Attributes:
        source, model, metric: what is trained on what, and what chooses. training: what all arms share.
        settings: of the training, see :mod:`.arms`. readings: settings of reading.
        learning_rate, steps, seed: ``steps`` after ``times``. split: "validation" or "test".
    """

    source: tokens.Source
    model: str
    metric: str
    training: dict
    settings: dict
    readings: tuple[dict, ...]
    learning_rate: float
    steps: int
    seed: int
    split: str = "validation"

    more_code: ClassVar[tuple[str, ...]] = ()  # paths in the package that its result depends on, too

    def perform(self) -> dict[str, dict]:
        """What :func:`perform` gives; other kinds of runs have their own."""
        return perform(self)

    def prepared(self) -> tokens.Prepared:
        """Rows and encoder; other kinds of runs have their own."""
        return tokens.prepare(self.source, self.model, self.training["max_length"])

    @property
    def key(self) -> str:
        """What distinguishes it among the jobs of one comparison."""
        rate = f"{self.learning_rate or 0:g}"
        return f"{self.split} | {arms.key(self.settings)} | {self.steps} | {rate} | {self.seed}"


def arguments(settings: dict, training: dict, learning_rate: float, steps: int) -> dict:
    """The arguments of ``TricksArguments`` that a training is made with, other than defaults."""
    steps = round(steps * settings.get("times", 1))
    given = {
        "max_steps": steps,
        "per_device_train_batch_size": training["batch_size"],
        "learning_rate": learning_rate,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(training["warmup"] * steps),
        "weight_decay": training["weight_decay"],
        **{k: v for k, v in settings.items() if k in arms.FIELDS},
    }
    if "head_rate" in settings:
        given["head_learning_rate"] = settings["head_rate"] * learning_rate
    if training["precision"] != "fp32":
        given[training["precision"]] = True
    return given


class Trainer(TricksTrainer):
    """``TricksTrainer`` on batches that are made beforehand: one pass over them is the training."""

    def __init__(self, model, args, batches, callbacks):
        super().__init__(model, args, train_dataset=batches, callbacks=callbacks)
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self):
        return DataLoader(self.train_dataset, batch_size=None)


class Watch(TrainerCallback):
    """The mean of the weights over the second half (SWA), and what ``CHECKPOINTS`` of them give."""

    def __init__(self, steps: int, mean: bool, look):
        self.steps, self.mean, self.look = steps, mean, look
        self.average = None

    def on_step_end(self, args, state, control, model=None, **kwargs):
        step = state.global_step
        if self.mean and step > self.steps // 2:
            self.average = self.average or AveragedModel(model)
            self.average.update_parameters(model)
        if self.look and (step % math.ceil(self.steps / CHECKPOINTS) == 0 or step == self.steps):
            self.look(model)
            model.train()


def perform(job: Job) -> dict[str, dict]:
    """Train once, and score each reading: its key -> ``{"score", further metrics, "predictions"?}``.

    While the rate is chosen, what a reading chooses itself (a checkpoint, a threshold) is chosen on one half
    of validation and scored on the other, both ways; in the test, on the whole of validation.
    """
    started = time.perf_counter()
    run = Run(job, job.prepared())
    run.train()
    read = {arms.key(reading): run.read(reading) for reading in job.readings}
    seconds = round(time.perf_counter() - started, 3)
    return {name: result | {"seconds": seconds} for name, result in read.items()}


@dataclass
class Run:
    """A training that goes on, and the outputs of its weights."""

    job: Job
    task: tokens.Prepared
    checkpoints: list = field(default_factory=list)  # outputs on validation, (N, ...) each
    best: dict | None = None  # weights of the checkpoint that validation likes best
    outputs_of: dict = field(default_factory=dict)

    def train(self) -> None:
        job, task = self.job, self.task
        wanted = {reading["weights"] for reading in job.readings}
        given = arguments(job.settings, job.training, job.learning_rate, job.steps)
        steps = given["max_steps"]
        if "ema" in wanted:
            given.setdefault("ema_decay", arms.fitted_decay(steps))
        chosen = tokens.draw(task.labels["train"], job.training["rows"], job.seed)
        labels = task.labels["train"][chosen]
        model = classifier.build(task.encoder, task.kind, task.num_labels, job.settings, job.seed, labels)
        rows, on_cpu = [task.rows["train"][i] for i in chosen], profiles.hardware().type == "cpu"
        lengths = [len(r["input_ids"]) for r in rows]
        order = tokens.batches(lengths, job.training["batch_size"], steps, job.seed)
        args = TricksArguments(
            "unused", seed=job.seed, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, remove_unused_columns=False, use_cpu=on_cpu, **given,
        )  # fmt: skip
        watch = Watch(steps, "swa" in wanted, self.look if "best checkpoint" in wanted else None)
        made = [task.collate([rows[i] for i in batch]) for batch in order]
        self.trainer = Trainer(model, args, made, [watch])
        self.trainer.train()
        self.model, self.average = self.trainer.model, watch.average

    def look(self, model) -> None:
        """Keep what the weights of now give on validation and, for the test, the best weights."""
        self.checkpoints.append(self.outputs("validation", model))
        scores = [self.score(decided(logits, self.task.kind), "validation") for logits in self.checkpoints]
        if self.job.split == "test" and scores.index(self.better(scores)) == len(scores) - 1:
            self.best = copy.deepcopy(model.state_dict())

    def better(self, scores):
        return (max if METRICS[self.job.metric].higher_is_better else min)(scores)

    def score(self, predictions, split: str, rows=slice(None)) -> float:
        predictions = self.task.as_given(predictions)
        return float(METRICS[self.job.metric].score(predictions[None], self.task.labels[split][rows])[0])

    def outputs(self, split: str, model) -> np.ndarray:
        return outputs(model, self.task, split, self.job.training["precision"])

    def of_weights(self, weights: str, split: str) -> np.ndarray:
        """Outputs (N, C) of the weights of that name, computed once."""
        if (weights, split) not in self.outputs_of:
            if weights == "ema":
                with self.trainer.average_parameters():
                    found = self.outputs(split, self.model)
            elif weights == "best checkpoint":
                last = copy.deepcopy(self.model.state_dict())
                self.model.load_state_dict(self.best)
                found = self.outputs(split, self.model)
                self.model.load_state_dict(last)
            else:
                found = self.outputs(split, self.average.module if weights == "swa" else self.model)
            self.outputs_of[weights, split] = found
        return self.outputs_of[weights, split]

    def read(self, reading: dict) -> dict:
        """Score and predictions of one way to read the training."""
        weights, tuned = reading["weights"], reading["threshold"] == "tuned"
        kind = self.task.kind
        if self.job.split == "test":
            threshold = self.threshold(self.of_weights(weights, "validation"), slice(None)) if tuned else None
            logits = self.of_weights(weights, "test")
            predictions = self.kept(decided(logits, kind, threshold))
            found = all_scores(self.task, self.job.metric, predictions, "test")
            scores = found | self.beside(weights, logits)
            return {**scores, "predictions": predictions}
        stack = self.checkpoints if weights == "best checkpoint" else [self.of_weights(weights, "validation")]
        predictions = np.empty_like(decided(stack[0], kind))
        halves = slice(0, None, 2), slice(1, None, 2)
        for held, asked in (halves, halves[::-1]):
            known = [self.score(decided(logits[held], kind), "validation", held) for logits in stack]
            logits = stack[known.index(self.better(known))]
            threshold = self.threshold(logits, held) if tuned else None
            predictions[asked] = decided(logits[asked], kind, threshold)
        return {"score": round(self.score(predictions, "validation"), 6)}

    def threshold(self, logits, rows) -> float:
        """Where the probability of class 1 is best cut, by the metric on those rows of validation."""
        p = probability_of_one(logits[rows])
        cuts = np.quantile(p, np.linspace(0, 1, 101))
        labels = self.task.labels["validation"][rows]
        scores = METRICS[self.job.metric].score((p >= cuts[:, None]).astype(int), labels)
        return float(cuts[int(np.argmax(scores))])

    def beside(self, weights: str, logits) -> dict:
        """Of the outputs themselves: average precision of two classes and, if asked for, calibration."""
        found, labels = {}, self.task.labels
        if self.task.kind == "classes" and self.task.num_labels == 2:
            precision = average_precision(probability_of_one(logits), labels["test"])
            found["average_precision"] = round(float(precision), 6)
        if self.job.training.get("calibration"):
            known = self.of_weights(weights, "validation")
            found |= calibration.measured(known, labels["validation"], logits, labels["test"])
        return found

    def kept(self, predictions) -> np.ndarray:
        """As small as they may be kept."""
        if self.task.kind == "numbers":
            given = self.task.as_given(predictions)
            with np.errstate(over="ignore"):  # to infinity, where a number is too large
                small = given.astype(np.float16)
            near = np.abs(small - given).max() < 0.01 * self.task.spread
            return small if near else given.astype(np.float32)
        return smallest(predictions, self.task.num_labels)


def all_scores(task: tokens.Prepared, chooses: str, predictions: np.ndarray, split: str) -> dict:
    """The score by the metric that chooses, and every other metric that fits."""
    labels = task.labels[split]
    found = {
        name: round(float(METRICS[name].score(predictions[None], labels)[0]), 6)
        for name in fitting(task.kind, task.names)
    }
    return {"score": found[chooses], **found}


def smallest(classes: np.ndarray, num_labels: int) -> np.ndarray:
    """Class indices, and perhaps -100, in the smallest type that holds them."""
    return classes.astype(np.int8 if num_labels <= 127 else np.int16)


def decided(logits: np.ndarray, kind: str, threshold: float | None = None) -> np.ndarray:
    """Predictions of logits (N, C) or, of tags, (N, T, C): classes, 0 and 1, or standardised numbers."""
    if kind == "numbers":
        return logits[:, 0]
    if kind == "labels":
        return (logits > 0).astype(int)
    if threshold is not None:
        return (probability_of_one(logits) >= threshold).astype(int)
    return logits.argmax(-1)


def probability_of_one(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().softmax(-1)[:, 1].numpy()


@torch.inference_mode()
def outputs(model, task: tokens.Prepared, split: str, precision: str) -> np.ndarray:
    """Logits (N, C) or (N, T, C) of a split in the order of its rows, computed by length."""
    rows, where = task.rows[split], next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    half = torch.autocast(where.type, HALF.get(precision), precision != "fp32")
    out, start = [None] * len(rows), 0
    model.eval()
    while start < len(order):
        longest = len(rows[order[min(start + TOKENS // 8, len(order) - 1)]]["input_ids"])
        some = order[start : start + max(1, TOKENS // longest)]
        batch = {k: v.to(where) for k, v in task.collate([rows[i] for i in some]).items() if k != "labels"}
        with half:
            logits = model(**batch).logits
        logits = logits.float().nan_to_num(0.0).cpu().numpy()  # a run that diverged has guessed
        for i, row in zip(some, logits):
            out[i] = row
        start += len(some)
    if task.kind != "tags":
        return np.stack(out)
    whole = np.full((len(out), task.labels[split].shape[1], task.num_labels), float(IGNORED), np.float32)
    for i, row in enumerate(out):
        n = len(rows[i]["input_ids"])
        whole[i, :n] = row[len(row) - n :] if task.pad_left else row[:n]
    return whole
