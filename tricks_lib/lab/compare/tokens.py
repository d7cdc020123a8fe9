"""A table as token ids, read and tokenised once per process, with the encoder that will be trained on them.

Only the rows of the word-embedding table that occur in the data are trained on: all others have no gradient,
and weight decay changes nothing that is read. Left in the table they cost half of a step, because clipping,
zeroing and the optimizer visit all of them. So the table is cut to the tokens of all splits.

Shapes: B batch, T tokens, N rows.
"""

import copy
import functools
import gc
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from tricks_lib.lab import fit, models
from tricks_lib.lab.compare import data
from tricks_lib.lab.compare.metrics import IGNORED

CUTTABLE = (
    "bert",
    "distilbert",
    "electra",
    "roberta",
    "xlm-roberta",
)  # each with a test that it trains the same
VALIDATION_ROWS = 1000  # at most
POOL = 8  # batches that are sorted by length together


@dataclass(frozen=True)
class Source:
    """How to read a table: the arguments of :func:`tricks_lib.lab.compare.data.read`.

    ``rare``: the class that is labelled 1, all others 0; None: the labels as they are.
    """

    spec: str | tuple[str, ...]
    text: str = "text"
    text_b: str | None = None
    label: str = "label"
    split: str = "split"
    kind: str | None = None
    encoding: str = "utf-8-sig"
    rare: str | None = None

    def read(self) -> data.Table:
        """The table; read once in a process."""
        return _read(self)


@functools.lru_cache(maxsize=2)
def _read(source: Source) -> data.Table:
    given = {k: v for k, v in asdict(source).items() if k not in ("spec", "rare")}
    return data.read(list(source.spec) if isinstance(source.spec, tuple) else source.spec, **given)


@dataclass(frozen=True)
class Prepared:
    """Rows of each split as token ids, their labels, and the encoder.

    Attributes:
        name: of the table. kind: of the labels: "classes", "labels", "tags" or "numbers".
        num_labels: C, outputs of the head.
        rows: split -> list of ``{"input_ids", "token_type_ids"?, "labels"}``; numbers are standardised.
        labels: split -> (N,), (N, C) or, of tags, (N, T) padded with -100, as they were given.
        center, spread: of the numbers of the training split; 0 and 1 where there are none.
        encoder: in evaluation mode, float32, on the CPU; copy it before it is trained.
        parameters: of the encoder before its table was cut.
        warnings: of the table, and of texts that are cut. names: of classes, labels or tags.
    """

    name: str
    kind: str
    num_labels: int
    rows: dict[str, list[dict]]
    labels: dict[str, np.ndarray]
    center: float
    spread: float
    encoder: nn.Module
    parameters: int
    pad_token_id: int
    pad_left: bool
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def as_given(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions in the unit of the labels: numbers no longer standardised."""
        return predictions * self.spread + self.center if self.kind == "numbers" else predictions

    def collate(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """A batch: ids, mask and labels, padded to the longest row."""
        T = max(len(row["input_ids"]) for row in rows)
        padding = {
            "input_ids": self.pad_token_id,
            "token_type_ids": 0,
            "attention_mask": 0,
            "labels": IGNORED,
        }

        def stack(name, values):
            out = torch.full((len(values), T), padding[name])
            for i, value in enumerate(values):
                out[i, slice(T - len(value), T) if self.pad_left else slice(len(value))] = torch.as_tensor(
                    value
                )
            return out

        batch = {k: stack(k, [row[k] for row in rows]) for k in rows[0] if k != "labels"}
        batch["attention_mask"] = stack("attention_mask", [[1] * len(row["input_ids"]) for row in rows])
        labels = [row["labels"] for row in rows]
        return batch | {"labels": stack("labels", labels) if self.kind == "tags" else torch.tensor(labels)}


@functools.lru_cache(maxsize=2)
def prepare(source: Source, model: str, max_length: int) -> Prepared:
    """Read, tokenise and load; once in a process.

    Args:
        model: name for :func:`tricks_lib.lab.models.load_encoder`; its table of word embeddings is cut to
            the tokens that occur, where the architecture allows it. max_length: in tokens.

    Raises:
        ValueError: as the two readers; ``source.rare`` is the name of no class.
    """
    table, (encoder, tokenizer) = source.read(), models.load_encoder(model)
    names, splits = list(table.names), dict(table.splits)
    splits["validation"] = fit.draw(splits["validation"], VALIDATION_ROWS, seed=0)
    if source.rare is not None:
        if table.kind != "classes" or source.rare not in names:
            accepted = f"one of {names}" if table.kind == "classes" else f"None for {table.kind}"
            raise ValueError(f"rare: {source.rare!r} given, {accepted} is accepted")
        index = names.index(source.rare)
        splits = {
            s: [{**row, "label": int(row["label"] == index)} for row in rows] for s, rows in splits.items()
        }
        names = ["rest", source.rare]
    numbers = table.kind == "numbers"
    given = np.array([row["label"] for row in splits["train"]], dtype=float) if numbers else np.zeros(1)
    center, spread = (float(given.mean()), float(given.std()) or 1.0) if numbers else (0.0, 1.0)
    rows = {s: tokenize(tokenizer, split, table.kind, max_length) for s, split in splits.items()}
    labels = {s: labels_of(split, table.kind) for s, split in rows.items()}
    if numbers:
        for row in (row for split in rows.values() for row in split):
            row["labels"] = (row["labels"] - center) / spread
    parameters = sum(p.numel() for p in encoder.parameters())
    if encoder.config.model_type in CUTTABLE:
        encoder = cut_table(encoder, rows, tokenizer)
    gc.freeze()  # what stays for good is not searched for garbage at the start of every training
    told = [*table.warnings]
    if source.rare is None and table.kind == "classes" and len(names) == 2:
        told.append(f"f1, average precision and a tuned threshold are those of class {names[1]!r}")
    if too_long := data.too_long(table, tokenizer, max_length):
        told.append(too_long)
    return Prepared(
        table.name, table.kind, 1 if numbers else len(names), rows, labels, center, spread, encoder,
        parameters, tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        tokenizer.padding_side == "left",
        tuple(told), tuple(names),
    )  # fmt: skip


def tokenize(tokenizer, rows: list[dict], kind: str, max_length: int) -> list[dict]:
    """Token ids and labels of each row; of tags the first token of a word has its label, all others -100."""
    words = kind == "tags"
    texts = [[row["text"] for row in rows]] + (
        [[row["text_b"] for row in rows]] if "text_b" in rows[0] else []
    )
    if words and spaced(tokenizer):
        texts = [[[f" {word}" for word in text] for text in texts[0]]]
    encoded = tokenizer(*texts, truncation=True, max_length=max_length, is_split_into_words=words)
    out = []
    for i, row in enumerate(rows):
        label = row["label"]
        if words:
            of_token = [None, *encoded.word_ids(i)[:-1]]  # the word of the token before
            label = [
                IGNORED if word is None or word == before else label[word]
                for before, word in zip(of_token, encoded.word_ids(i))
            ]
        elif kind == "labels":
            label = [float(x) for x in label]
        out.append(
            {k: encoded[k][i] for k in ("input_ids", "token_type_ids") if k in encoded} | {"labels": label}
        )
    return out


def spaced(tokenizer) -> bool:
    """Whether a word after a space is another token than the same letters without one, as GPT-2 has it."""
    alone, after = tokenizer.tokenize("a"), tokenizer.tokenize(" a")
    return alone != after and len(after) == 1


def labels_of(rows: list[dict], kind: str) -> np.ndarray:
    labels = [row["labels"] for row in rows]
    if kind == "tags":
        T = max(map(len, labels))
        return np.array([row + [IGNORED] * (T - len(row)) for row in labels])
    return np.array(labels, dtype=np.float64 if kind == "numbers" else np.int64)


def cut_table(encoder: nn.Module, rows: dict[str, list[dict]], tokenizer) -> nn.Module:
    """The encoder with a table of only those tokens that occur in ``rows``, whose ids are changed in place.

    All ids up to that of padding stay, because some architectures count positions from it.
    """
    known = {t for split in rows.values() for row in split for t in row["input_ids"]}
    kept = sorted(known | {*range(tokenizer.pad_token_id + 1)} | {*tokenizer.all_special_ids})
    new = {old: i for i, old in enumerate(kept)}
    for row in (row for split in rows.values() for row in split):
        row["input_ids"] = [new[t] for t in row["input_ids"]]
    encoder = copy.deepcopy(encoder)
    table = encoder.get_input_embeddings()
    smaller = nn.Embedding(len(kept), table.embedding_dim, padding_idx=table.padding_idx)
    smaller.weight.data.copy_(table.weight.data[kept])
    encoder.set_input_embeddings(smaller)
    encoder.config.vocab_size = len(kept)
    return encoder


def batches(lengths: list[int], size: int, steps: int, seed: int) -> list[list[int]]:
    """Row numbers of each of ``steps`` batches: every epoch a new order, batches of rows of like length.

    ``POOL`` batches are drawn at a time and sorted by length, so that little padding is computed; then their
    order is drawn. What is left of an epoch after the last full batch is left out, as is usual.
    """
    rng, out = np.random.default_rng((seed, 1)), []  # another stream than that of the rows
    N = len(lengths)
    full = N // size * size or N
    while len(out) < steps:
        order, epoch = rng.permutation(N)[:full], []
        for start in range(0, full, size * POOL):
            part = sorted(order[start : start + size * POOL].tolist(), key=lambda i: lengths[i])
            epoch += [part[i : i + size] for i in range(0, len(part), size)]
        out += [epoch[i] for i in rng.permutation(len(epoch))]
    return out[:steps]


def draw(labels: np.ndarray, how: dict, seed: int) -> np.ndarray:
    """The training rows (M,) of a seed.

    Args:
        labels: (N,) class indices, where ``how`` speaks of classes.
        how: ``{}`` (all rows), ``{"rows": n}``, ``{"per_class": n}``, or ``{"tail": [most, least]}``: the
            rows of a class fall from ``most`` to ``least`` by one factor from rank to rank, and the
            seed draws the ranks.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    if "rows" in how:
        return order[: how["rows"]]
    if not how:
        return np.arange(len(labels))
    C = 1 + int(labels.max())
    wanted = (
        np.full(C, how["per_class"])
        if "per_class" in how
        else rng.permutation(np.geomspace(*how["tail"], C).round().astype(int))
    )
    shuffled = labels[order]
    rank = np.empty(len(order), dtype=int)  # how many of its class stand before a row
    for c in range(C):
        rank[shuffled == c] = np.arange((shuffled == c).sum())
    return order[rank < wanted[shuffled]]
