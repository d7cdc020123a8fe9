"""Named entities, one label a word: which loss finds them, and which layers of a frozen encoder know them.

A word is its first token. A batch of texts (B, T) is a list of its M words: logits (M, C), labels (M,), so
all losses of texts apply. Most words are no entity, tag O; what is scored are whole entities.
Shapes: B batch, T tokens, H hidden, C classes, L layers, M words.
"""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from tricks_lib.lab import device, fit, models, stats, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.studies import dice_loss, finetuned, last_four
from tricks_lib.mean_pooling import classification_loss

MODEL, OUTSIDE, SENTENCES = finetuned.MODEL, "O", 500
COMMON = {"steps": 420, "batch_size": 16, "max_length": 128}


# ---- Entities ----


def entities(tags) -> set[tuple[str, int, int]]:
    """(kind, first word, word after the last) of each entity of a text's BIO tags; an I- that continues
    nothing begins one, as in conlleval.
    """
    found, kind, start = set(), None, 0
    for i, tag in enumerate([*tags, OUTSIDE]):
        begin_or_in, _, now = tag.partition("-")
        if kind is not None and (begin_or_in, now) != ("I", kind):
            found.add((kind, start, i))
            kind = None
        if kind is None and tag != OUTSIDE:
            kind, start = now, i
    return found


def entity_f1(predicted, tags) -> float:
    """2 TP / (P + Y) over the entities of all texts, each a list of tags; right is an entity of the right
    kind with the right ends.
    """
    pairs = [(entities(p), entities(t)) for p, t in zip(predicted, tags, strict=True)]
    return 2 * sum(len(p & t) for p, t in pairs) / max(1, sum(len(p) + len(t) for p, t in pairs))


# ---- Words as rows, and their classifier ----


def tokenize(tokenizer, dataset, max_length: int) -> list[dict]:
    """Rows ``{"input_ids", "attention_mask", "words", "labels", "tags"}``: ``words``, the place of the first
    token of each word; ``labels``, as many.
    ``tags``: the labels of all words, -1 in ``seen`` for those that have no token, or one behind
    ``max_length``, else the index in ``labels``."""
    encoded, out = (
        tokenizer(list(dataset["tokens"]), is_split_into_words=True, truncation=True, max_length=max_length),
        [],
    )
    for i, tags in enumerate(dataset["label"]):
        words = encoded.word_ids(i)
        first = {w: t for t, w in reversed([*enumerate(words)]) if w is not None}  # word: its first token
        seen = sorted(first)
        columns = {k: encoded[k][i] for k in ("input_ids", "attention_mask")}
        out.append(
            {
                **columns,
                "words": [first[w] for w in seen],
                "labels": [tags[w] for w in seen],
                "seen": seen,
                "tags": list(tags),
            }
        )
    return out


def collate(tokenizer):
    """Pads a list of rows on the right; ``words`` (M,) counts through the flattened batch (B * T,),
    ``labels`` (M,) go with it.
    """

    def stack(rows):
        batch = tokenizer.pad(
            [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows],
            padding_side="right",
            return_tensors="pt",
        )
        T = batch["input_ids"].shape[1]
        words = torch.cat(
            [b * T + torch.tensor(row["words"], dtype=torch.long) for b, row in enumerate(rows)]
        )
        return {**batch, "words": words, "labels": torch.tensor([y for row in rows for y in row["labels"]])}

    return stack


class Tagger(finetuned.Classifier):
    """An encoder, dropout and one linear layer on the first token of each word: logits (M, C)."""

    def forward(self, input_ids, attention_mask, words, labels=None, **inputs):
        vectors = self.states(input_ids, attention_mask, **inputs).flatten(0, 1)[words]
        logits = self.classifier(self.dropout(vectors))
        return SequenceClassifierOutput(
            loss=None if labels is None else classification_loss(logits, labels), logits=logits
        )


@functools.cache
def prepared(model: str, data: str, max_length: int):
    """Encoder, ``rows`` of each split, ``stack``, which makes a batch of them, ``make(seed)``, a fresh model,
    and the ``names`` of the tags.
    """
    dataset, (encoder, tokenizer) = tasks.load_task(data), models.load_encoder(model)
    names = dataset["train"].features["label"].feature.names
    rows = {split: tokenize(tokenizer, dataset[split], max_length) for split in dataset}
    for some in rows.values():  # less padding to compute; scores know no order
        some.sort(key=lambda row: len(row["input_ids"]))

    def make(seed: int):
        torch.manual_seed(seed)
        return Tagger(copy.deepcopy(encoder), len(names))

    return SimpleNamespace(encoder=encoder, rows=rows, stack=collate(tokenizer), make=make, names=names)


def score(predicted, rows, names) -> dict[str, float]:
    """F1 of the entities, and macro-F1 of the words' tags, of the class (M,) of each word of the rows; a word
    that has none is outside.
    """
    ends = np.cumsum([len(row["words"]) for row in rows])[:-1]
    found, true = [], [[names[y] for y in row["tags"]] for row in rows]
    for row, classes in zip(rows, np.split(predicted, ends)):
        tags = [OUTSIDE] * len(row["tags"])
        for w, c in zip(row["seen"], classes):
            tags[w] = names[c]
        found.append(tags)
    flat, labels = (np.array([tag for tags in each for tag in tags]) for each in (found, true))
    macro = np.mean([stats.f1(flat == name, labels == name) for name in names])
    return {"entity_f1": round(entity_f1(found, true), 6), "macro_f1": round(float(macro), 6)}


# ---- Runs ----


def run(experiment, settings, seed, split):
    """Fine-tuned: each word's likeliest tag, or an entity wherever all tags but O together are above a
    threshold chosen on held-out rows.
    """
    task = prepared(experiment.model, experiment.data, settings["max_length"])
    (known, true), (asked, _) = probabilities(
        experiment.model, experiment.data, finetuned.shared(settings, "threshold"), seed, split
    )
    outside = task.names.index(OUTSIDE)
    threshold = (
        dice_loss.best_threshold(1 - known[:, outside], (true != outside).astype(int))
        if settings.get("threshold") == "tuned"
        else None
    )
    return score(
        finetuned.decide(asked, outside, threshold), finetuned.halves(task.rows, split)[1], task.names
    )


@functools.cache
def probabilities(model: str, data: str, settings: tuple, seed: int, split: str):
    """As :func:`finetuned.probabilities`, of words."""
    settings = dict(settings)
    task = prepared(model, data, settings["max_length"])
    model = task.make(seed)
    finetuned.train(model, task.rows["train"], task.stack, settings, seed)
    return [
        finetuned.probability(*fit.predict(model, rows, task.stack))
        for rows in finetuned.halves(task.rows, split)
    ]


@functools.cache
@torch.no_grad()
def features(model: str, data: str, split: str, batch_size: int = 64):
    """States (M, L, H) of the words of a split in the last layers, lower layer first, their labels (M,) and
    the index (M,) of their rows.
    """
    task = prepared(model, data, COMMON["max_length"])
    encoder, states, labels = task.encoder.to(device()).eval(), [], []
    for i in range(0, len(task.rows[split]), batch_size):
        batch = {k: v.to(device()) for k, v in task.stack(task.rows[split][i : i + batch_size]).items()}
        words, y = batch.pop("words"), batch.pop("labels")
        hidden_states = encoder(**batch, output_hidden_states=True).hidden_states[-finetuned.LAYERS :]
        states.append(torch.stack([h.float().flatten(0, 1)[words] for h in hidden_states], dim=1).cpu())
        labels.append(y.cpu())
    of = np.repeat(np.arange(len(task.rows[split])), [len(row["words"]) for row in task.rows[split]])
    return torch.cat(states), torch.cat(labels), of


@torch.no_grad()
def predict(head, states, batch_size: int = 4096) -> np.ndarray:
    """Classes (M,) that a head of :func:`last_four.fit_head` gives to states (M, L, H)."""
    return torch.cat(
        [head(head.vector(some.double())).argmax(1) for some in states.split(batch_size)]
    ).numpy()


def run_frozen(experiment, settings, seed, split):
    """A linear head on the frozen states of the words of some sentences that the seed draws."""
    task = prepared(experiment.model, experiment.data, COMMON["max_length"])
    x, y, of = features(experiment.model, experiment.data, "train")
    chosen = np.isin(of, last_four.draw(len(task.rows["train"]), SENTENCES, seed))
    head = last_four.fit_head(x[chosen], y[chosen], len(task.names), settings, settings["C"], seed)
    return score(
        predict(head, features(experiment.model, experiment.data, split)[0]), task.rows[split], task.names
    )


EXPERIMENTS = [
    Experiment(
        trick="last_four",
        task="en_wnut17",
        model=MODEL,
        data="en_wnut17",
        metric="entity_f1",
        baseline="last layer",
        run=run_frozen,
        arms={
            "last layer": {"read": "layer", "layer": finetuned.LAYERS - 1},
            "widened": {"read": "widened", "times": finetuned.LAYERS},
            **{name: {"read": name, "layers": finetuned.LAYERS} for name in ("sum", "weighted", "concat")},
        },
        grid={"C": last_four.PENALTIES[1:]},
        seeds=tuple(range(10)),
        setting=(
            f"frozen encoder, first token of each word; linear head on the words of {SENTENCES} training "
            f"sentences drawn by the seed"
        ),
    ),
    Experiment(
        trick="dice_loss",
        task="en_wnut17",
        model=MODEL,
        data="en_wnut17",
        metric="entity_f1",
        baseline="cross-entropy",
        run=run,
        arms={arm: {**COMMON, **settings} for arm, settings in finetuned.DICE.items()},
        grid={"lr": finetuned.RATES},
        seeds=tuple(range(10)),
        setting=finetuned.described(COMMON)
        + ", first token of each word; the threshold, on all tags but O together, is tuned on validation",
    ),
]
