"""Comparisons of decoding modes: how far from people's text is what a mode writes?

Nothing is trained and nothing is tuned: each mode has the parameters it is usually shown with, and all
continue the same documents. With l(t) the log-probability per token that the model itself gives to a
continuation t, in nats (temperature 1, no filter), the score of a mode on a seed is

    gap = | mean over documents of l(its continuation) - mean over documents of l(what people wrote) |   (1)

0 is text as probable as people's. A seed draws the tokens; modes that draw nothing write the same for every
seed, so that examples are the only variance of theirs, and that of a difference is plain sampling's.

Beside it, by seed: ``distinct_2``, different 2-grams of all texts over their number; ``repetition``, the
share of a text's 3-grams that stand earlier in it, averaged; ``log_prob``, the first mean of (1).

Shapes: N documents, P tokens of the prompt, R rows written at once.
"""

import functools
import json
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from tricks_lib import decoding
from tricks_lib.lab import models, profiles, tasks
from tricks_lib.lab.compare import arms, train
from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.comparison import Comparison
from tricks_lib.lab.compare.metrics import METRICS

ROWS = 256  # written at once, beams and candidates counted
TOGETHER = 4  # seeds that are written at once


@dataclass(frozen=True)
class Text:
    """Documents cut from the running text of a test split, evenly spread over it.

    Attributes:
        spec: its name in the registry. documents: N. prompt: P. new: tokens that follow.
    """

    spec: str
    documents: int = 64
    prompt: int = 32
    new: int = 60

    @property
    def name(self) -> str:
        return self.spec

    @property
    def sha256(self) -> dict[str, str]:
        return tasks.digests(self.spec)

    @property
    def sizes(self) -> dict[str, int]:
        return {"train": 0, "validation": 0, "test": self.documents}

    def read(self) -> "Text":
        """Itself: what a record says of its data."""
        return self

    def tokens(self, tokenizer) -> torch.Tensor:
        """Prompts and what people wrote on, (N, P + new)."""
        lines = tasks.load_task(self.spec)["test"]["text"]
        ids = tokenizer("\n".join(lines), add_special_tokens=False, verbose=False)["input_ids"]
        length = self.prompt + self.new
        starts = np.linspace(0, len(ids) - length, self.documents).astype(int)
        if np.diff(starts).min() < length:
            raise ValueError(f"{self.spec}: {len(ids)} tokens, too few for {self.documents} of {length}")
        return torch.tensor([ids[start : start + length] for start in starts])


class WriteArm(Arm):
    """An arm whose settings are a function of :mod:`tricks_lib.decoding`, ``mode``, and its arguments; the
    default is ``sample``, with neither temperature nor filter.
    """

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return (
            "mode", "num_beams", "num_beam_groups", "diversity_penalty", "penalty_alpha", "top_k", "top_p",
            "temperature", "min_p", "typical_p", "top_n_sigma", "repetition_penalty", *arms.READING,
        )  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What a record needs to know of the data: log-probability of what people wrote, by document."""

    labels: dict[str, np.ndarray]
    parameters: int
    people: dict[str, float]
    kind: str = "texts"
    num_labels: int = 1
    warnings: tuple[str, ...] = (
        "seeds draw tokens, not documents; searches draw nothing and write the same for every seed",
        "the model has probably read this text in its training",
    )


class WriteJob(train.Job):
    """One mode on one seed."""

    more_code: ClassVar[tuple[str, ...]] = (
        "decoding/*.py", "lab/compare/kinds/writing.py",
    )  # fmt: skip

    def perform(self) -> dict[str, dict]:
        started = time.perf_counter()
        labels = prepared(self.source, self.model, self.training["precision"]).labels["test"]
        draws = self.settings.get("mode", "sample") == "sample"
        of_seed = self.seed % TOGETHER if draws else 0
        log_p, texts = written(
            self.source, self.model, self.training["precision"], arms.key(self.settings),
            self.seed // TOGETHER if draws else 0,
        )  # fmt: skip
        kept = log_p[of_seed].astype(np.float16)
        score = round(float(METRICS[self.metric].score(kept[None], labels)[0]), 6)
        result = {"score": score, self.metric: score, **beside(log_p[of_seed], texts[of_seed])}
        seconds = round(time.perf_counter() - started, 3)
        return {arms.key(r): {**result, "predictions": kept, "seconds": seconds} for r in self.readings}


class WriteComparison(Comparison):
    """A comparison of modes of decoding. ``steps`` are the new tokens; there are no rates."""

    performs: ClassVar[type[train.Job]] = WriteJob

    def prepared(self) -> Written:
        return prepared(self.source, self.model, self.training["precision"])

    def beside(self) -> dict:
        return {"people": self.prepared().people}

    def pasted(self, task, settings: dict, rate, steps: int) -> str:
        """The call."""
        given = {k: v for k, v in settings.items() if k != "mode"}
        options = "".join(f", {k}={v!r}" for k, v in given.items())
        return f"{settings.get('mode', 'sample')}(model, input_ids, max_new_tokens={steps}{options})"


# ---- Texts and what is counted in them ----


def write(model, input_ids, new: int, seed: int, mode: str, **settings):
    """Prompts (B, P) continued by ``new`` tokens, (B, P + new), end tokens like any other: all texts have the
    same length.
    """
    if mode == "sample":
        settings["generator"] = torch.Generator(input_ids.device).manual_seed(seed)
    return getattr(decoding, mode)(model, input_ids, new, eos_token_id=[], **settings)


def ngrams(row: list, n: int) -> list[tuple]:
    return list(zip(*(row[i:] for i in range(n))))


def repeated(row: list, n: int) -> float:
    """Share of a text's n-grams that occur earlier in it."""
    found = ngrams(row, n)
    return 1 - len({*found}) / len(found)


def distinct(rows: list[list], n: int) -> float:
    """Different n-grams of all texts together, over their number (Li et al. 2016)."""
    found = [gram for row in rows for gram in ngrams(row, n)]
    return len({*found}) / len(found)


# ---- Computed once in a process ----


@functools.lru_cache(maxsize=1)
def loaded(source: Text, model: str, precision: str):
    """The model where and as precise as it is run, and the documents."""
    decoder, tokenizer = models.load_decoder(model)
    where = profiles.hardware()
    decoder = decoder.to(where, train.HALF.get(precision, torch.float32))
    return decoder, source.tokens(tokenizer).to(where)


@functools.lru_cache(maxsize=1)
def prepared(source: Text, model: str, precision: str) -> Written:
    decoder, documents = loaded(source, model, precision)
    log_p = scored(decoder, documents, source.prompt)
    people = beside(log_p, documents[:, source.prompt :].tolist())
    return Written(
        dict.fromkeys(("validation", "test"), log_p.astype(np.float64)),
        sum(p.numel() for p in decoder.parameters()), people,
    )  # fmt: skip


@functools.lru_cache(maxsize=1)
def written(source: Text, model: str, precision: str, settings: str, group: int):
    """Log-probabilities (seeds, N) and new tokens, seeds of N lists, of the seeds of a group."""
    decoder, documents = loaded(source, model, precision)
    given = {"mode": "sample", **json.loads(settings)}
    times = TOGETHER if given["mode"] == "sample" else 1
    prompts = documents[:, : source.prompt].repeat(times, 1)
    width = given["num_beams"] if "num_beams" in given else 4 if given["mode"] == "contrastive_search" else 1
    parts = prompts.split(max(1, ROWS // width))
    torch.manual_seed(group)
    rows = torch.cat([write(decoder, part, source.new, group, **given) for part in parts])
    log_p = scored(decoder, rows, source.prompt).reshape(times, -1)
    texts = rows[:, source.prompt :].reshape(times, len(documents), -1).tolist()
    return log_p, texts


@torch.no_grad()
def scored(decoder, rows, prompt: int) -> np.ndarray:
    """Log-probability per token (R,) of what follows the prompts."""
    parts = (
        decoding.sequence_log_prob(decoder, part, prompt, length_penalty=1.0, eos_token_id=[])
        for part in rows.split(64)
    )
    return torch.cat([*parts]).float().cpu().numpy()


def beside(log_p: np.ndarray, texts: list[list]) -> dict[str, float]:
    """What stands beside the gap, of the texts of one seed."""
    return {
        "log_prob": round(float(log_p.mean()), 6),
        "distinct_2": round(distinct(texts, 2), 6),
        "repetition": round(float(np.mean([repeated(text, 3) for text in texts])), 6),
    }
