"""One real encoder, fine-tuned whole, under every training trick: the book's table of evidence on public
data.

An arm is a dictionary of settings. What all arms of an experiment share says how long is trained on which
rows, the rest is the trick:

    steps, batch_size, max_length    of the training; times: a factor on the steps,
      for the control that gets a trick's compute
    rows | per_class | tail          training rows that the seed draws: so many, so many of each class,
      or a long tail of classes
    alpha                            R-Drop's
    decay                            of the learning rate, layer by layer
    attack, epsilon, passes          FGM, PGD or a random direction
    loss, p, gamma                   in place of the model's own
    threshold, rare                  what counts as the rare class, and where its probability is cut
    schedule, average                which weights are evaluated
    pool, layers | head | windows    what a text's vector is made of

A seed draws the training rows, the head's start and the order of the batches: the same for every arm.
Shapes: B batch, T tokens, H hidden, C classes, N rows.
"""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tricks_lib.dice_loss import self_adjusting_dice_loss
from tricks_lib.fgm import PGD
from tricks_lib.focal_loss import focal_loss
from tricks_lib.lab import device, fit, models, stats, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.studies import dice_loss, ema, fgm, mean_pooling, mse_corr_loss, rdrop
from tricks_lib.lab.studies.focal_loss import calibration_error, confidence
from tricks_lib.last_four import WeightedLayerPool, concat_last_layers
from tricks_lib.layer_decay import layer_decay_groups
from tricks_lib.mean_pooling import classification_head, classification_loss
from tricks_lib.rdrop import rdrop_forward
from tricks_lib.xlnet_long_text import SlidingWindowClassifier, truncate_head_tail

MODEL, RATES = "all-MiniLM-L6-v2", [5e-5, 1e-4, 2e-4]
VALIDATION_ROWS, LAYERS, WINDOW, STRIDE, CHECKPOINTS = 1000, 4, 512, 384, 8
AVERAGES = {"EMA 0.99": {"decay": 0.99}, "EMA 0.999": {"decay": 0.999}}
ATTACKS = {**fgm.ATTACKS, "PGD": lambda model, epsilon: PGD(model, epsilon, alpha=0.3 * epsilon)}


# ---- Rows ----


def typos(text: str, rng, share: float = 0.2) -> str:
    """A text with one slip in about ``share`` of its words of four letters or more: two neighbours change
    places, a letter is lost or stands twice; the first letter and the last stay."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if len(word) > 3 and rng.random() < share:
            at = int(rng.integers(1, len(word) - 2))
            swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            words[i] = (swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:])[
                rng.integers(3)
            ]
    return " ".join(words)


def of_each(rows: list[dict], counts, seed: int) -> list[dict]:
    """``counts[c]`` rows of each class c (all where there are fewer), drawn by ``seed``, in a drawn order."""
    left, out = list(counts), []
    for row in fit.draw(rows, len(rows), seed):
        if left[row["labels"]] > 0:
            left[row["labels"]] -= 1
            out.append(row)
    return out


def long_tail(num_labels: int, most: int, least: int, seed: int) -> np.ndarray:
    """Rows (C,) of each class, falling from ``most`` to ``least`` by one factor from rank to rank; ``seed``
    draws the ranks.
    """
    return np.random.default_rng(seed).permutation(np.geomspace(most, least, num_labels).round().astype(int))


def drawn(rows: list[dict], settings: dict, num_labels: int, seed: int) -> list[dict]:
    """The training rows of a seed."""
    if "rows" in settings:
        return fit.draw(rows, settings["rows"], seed)
    if "per_class" in settings:
        return of_each(rows, [settings["per_class"]] * num_labels, seed)
    if "tail" in settings:
        return of_each(rows, long_tail(num_labels, *settings["tail"], seed), seed)
    return rows


def part(rows: list[dict], head: int) -> list[dict]:
    """Rows of at most ``WINDOW`` tokens: the first ``head`` of a text and, up to that length, its last."""
    return [
        {
            k: v
            if k == "labels"
            else truncate_head_tail(torch.tensor([v]), WINDOW, head_length=head)[0].tolist()
            for k, v in row.items()
        }
        for row in rows
    ]


def halves(rows: dict[str, list[dict]], split: str) -> tuple[list[dict], list[dict]]:
    """Rows an arm may choose a threshold or a checkpoint by, and those that are scored: validation and test,
    or, while the rate is chosen, two halves of validation."""
    return (
        (rows["validation"][1::2], rows["validation"][::2])
        if split == "validation"
        else (rows["validation"], rows[split])
    )


@functools.cache
def prepared(model: str, data: str, max_length: int, rare: str | None = None):
    """A task, ready to train on; computed once in a process.

    Args:
        rare: the class that is labelled 1, all others 0; None: the labels as they are. Numbers are
            standardised by the training split.

    Returns:
        ``rows`` by split, at most ``VALIDATION_ROWS`` of validation; ``stack``, which makes a batch of them;
        ``make(seed, **options)``, a fresh model; ``tokenizer``; ``num_labels``; ``sd`` of the training labels
        where they are numbers, else None.

    Raises:
        ValueError: ``rare`` is the name of no class.
    """
    if tasks.TASKS[data].kind == "regression":
        task = mse_corr_loss.prepare(data, model, max_length=max_length)
        task.rows["validation"], task.num_labels = (
            fit.draw(task.rows["validation"], VALIDATION_ROWS, seed=0),
            1,
        )
        return task
    dataset, (encoder, tokenizer) = tasks.load_task(data), models.load_encoder(model)
    names = dataset["train"].features["label"].names
    rows = {split: fit.tokenize(tokenizer, dataset[split], max_length) for split in dataset}
    if rare not in (None, *names):  # the hub's names of classes may be numbers
        raise ValueError(f"rare: {rare!r} given, one of {names} is accepted")
    if rare is not None:
        rows = {
            split: [{**row, "labels": int(names[row["labels"]] == rare)} for row in rows[split]]
            for split in rows
        }
    rows["validation"] = fit.draw(rows["validation"], VALIDATION_ROWS, seed=0)
    for split in ("validation", "test"):  # less padding to compute; scores know no order
        rows[split].sort(key=lambda row: len(row["input_ids"]))
    num_labels = len(names) if rare is None else 2

    def make(seed: int, windows: str | None = None, **options):
        torch.manual_seed(seed)
        if windows:
            return SlidingWindowClassifier(copy.deepcopy(encoder), num_labels, WINDOW, STRIDE, pool=windows)
        return Classifier(copy.deepcopy(encoder), num_labels, **options)

    return SimpleNamespace(
        rows=rows,
        stack=fit.collate(tokenizer),
        make=make,
        tokenizer=tokenizer,
        num_labels=num_labels,
        sd=None,
    )


@functools.cache
def mistyped(model: str, data: str, max_length: int, split: str) -> list[dict]:
    """The rows of :func:`prepared` as they are typed in a hurry: the same slips for every arm and seed."""
    import datasets

    dataset, rng = tasks.load_task(data)[split], np.random.default_rng(0)
    columns = {c: [typos(text, rng) for text in dataset[c]] for c in dataset.column_names if c != "label"}
    task = prepared(model, data, max_length)
    rows = fit.tokenize(
        task.tokenizer, datasets.Dataset.from_dict({**columns, "label": list(dataset["label"])}), max_length
    )
    return sorted(
        fit.draw(rows, VALIDATION_ROWS, seed=0) if split == "validation" else rows,
        key=lambda row: len(row["input_ids"]),
    )


# ---- Model, loss, training ----


class Classifier(nn.Module):
    """An encoder, one vector a text, dropout and one linear layer: logits (B, C).

    Args:
        pool: name in :data:`tricks_lib.lab.studies.mean_pooling.POOLS`.
        layers: what is pooled: ``"last"``, or ``"sum"``, ``"weighted"`` or ``"concat"`` of the last
            ``LAYERS``.
    """

    def __init__(self, encoder, num_labels: int, pool: str = "mean", layers: str = "last"):
        super().__init__()
        self.encoder, self.pool, self.layers = encoder, pool, layers
        self.weighted = WeightedLayerPool(LAYERS) if layers == "weighted" else None
        self.dropout, self.classifier = classification_head(
            encoder, num_labels, None, vectors=LAYERS if layers == "concat" else 1
        )

    def states(self, input_ids, attention_mask, **inputs):
        """(B, T, H) or, of ``"concat"``, (B, T, LAYERS * H)."""
        hidden_states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, **inputs
        ).hidden_states
        read = {
            "last": lambda h: h[-1], "sum": lambda h: sum(h[-LAYERS:]), "weighted": self.weighted,
            "concat": lambda h: concat_last_layers(h, LAYERS),
        }  # fmt: skip
        return read[self.layers](hidden_states)

    def forward(self, input_ids, attention_mask, labels=None, **inputs):
        vectors = mean_pooling.POOLS[self.pool](
            self.states(input_ids, attention_mask, **inputs), attention_mask
        )
        logits = self.classifier(self.dropout(vectors))
        return SequenceClassifierOutput(
            loss=None if labels is None else classification_loss(logits, labels), logits=logits
        )


def objective(settings: dict, labels: np.ndarray):
    """The loss of an arm: ``f(logits (B, C), labels (B,)) -> scalar``; the labels (N,) of all training rows
    decide the weights of classes.
    """
    if settings["loss"] in ("mse", "mse_corr", "ccc"):
        of_numbers = mse_corr_loss.objective(settings)
        return lambda logits, y: of_numbers(logits[:, 0], y)
    return {
        **dice_loss.losses(labels), "self-adjusting Dice": self_adjusting_dice_loss,
        "label smoothing": functools.partial(F.cross_entropy, label_smoothing=0.1),
        "focal": functools.partial(focal_loss, gamma=settings.get("gamma", 0.0)),
    }[settings["loss"]]  # fmt: skip


def length(settings: dict, seed: int) -> dict:
    """What every training has: options of :func:`fit.fit`."""
    return {
        "steps": settings.get("times", 1) * settings["steps"],
        "batch_size": settings["batch_size"],
        "lr": settings["lr"],
        "seed": seed,
    }


def train(model, rows, stack, settings: dict, seed: int) -> list[float]:
    """Train a model as the settings say, in place; returns the loss at every step."""
    options = {}
    if "decay" in settings:
        options["param_groups"] = layer_decay_groups(
            model, settings["lr"], settings["decay"], weight_decay=0.01
        )
    if "attack" in settings:
        options["after_backward"] = fgm.adversarial(
            lambda m: ATTACKS[settings["attack"]](m, settings["epsilon"]), settings.get("passes", 1)
        )
    if settings.get("alpha"):
        options["loss_fn"] = lambda model, batch: rdrop_forward(model, batch, settings["alpha"]).loss
    if "loss" in settings:
        options["loss_fn"] = fit.of_logits(objective(settings, np.hstack([row["labels"] for row in rows])))
    return fit.fit(model, rows, stack, **length(settings, seed), **options)


# ---- Scores ----


def score(logits, labels) -> dict[str, float]:
    """Accuracy, macro-F1, cross-entropy, mean confidence and its calibration error; of two classes also F1 of
    the second, and Matthews's correlation, which is Pearson's of two columns of 0 and 1 (0 where one is
    constant)."""
    sure, right = confidence(logits, labels)
    found = {
        **ema.score(logits, labels),
        "confidence": float(sure.mean()),
        "ece": calibration_error(sure, right),
    }
    if logits.shape[1] == 2:
        predicted = logits.argmax(1)
        constant = np.ptp(predicted) == 0 or np.ptp(labels) == 0
        found |= {
            "f1": stats.f1(predicted, labels),
            "mcc": 0.0 if constant else stats.pearson(predicted, labels),
        }
    return found


def evaluate(model, rows, task) -> dict[str, float]:
    """:func:`score` of a classifier, those of :func:`mse_corr_loss.scores` of a regressor, to six digits."""
    found = (
        score(*fit.predict(model, rows, task.stack))
        if task.sd is None
        else mse_corr_loss.scores(model, rows, task.stack, task.sd)
    )
    return {name: round(value, 6) for name, value in found.items()}


def decide(p, common: int, threshold: float | None) -> np.ndarray:
    """Classes (N,) of probabilities (N, C): the likeliest; with a threshold, the likeliest other than
    ``common`` where all others together are above it, and ``common`` elsewhere."""
    if threshold is None:
        return p.argmax(1)
    others = p.copy()
    others[:, common] = -1
    return np.where(1 - p[:, common] > threshold, others.argmax(1), common)


# ---- Runs ----


def run(experiment, settings, seed, split):
    """Train one classifier or regressor, and score it."""
    task = prepared(experiment.model, experiment.data, settings["max_length"])
    model = task.make(seed, **{k: settings[k] for k in ("pool", "layers", "windows") if k in settings})
    known, asked = (
        part(rows, settings["head"]) if "head" in settings else rows
        for rows in (task.rows["train"], task.rows[split])
    )
    train(model, drawn(known, settings, task.num_labels, seed), task.stack, settings, seed)
    return evaluate(model, asked, task)


def run_with_typos(experiment, settings, seed, split):
    """As :func:`run`, and accuracy where one word in five of the test texts is mistyped."""
    task = prepared(experiment.model, experiment.data, settings["max_length"])
    model = task.make(seed)
    train(model, drawn(task.rows["train"], settings, task.num_labels, seed), task.stack, settings, seed)
    typed = evaluate(model, mistyped(experiment.model, experiment.data, settings["max_length"], split), task)
    return {**evaluate(model, task.rows[split], task), "accuracy_typos": typed["accuracy"]}


def shared(settings: dict, *own: str) -> tuple:
    """Settings without those that do not change the training, as the key of a cache: one training serves
    several arms.
    """
    return tuple((k, v) for k, v in settings.items() if k not in own)


def run_average(experiment, settings, seed, split):
    """Scores of the weights an arm ends with, of a training that all arms with its schedule, rate and seed
    share.
    """
    return averages(
        experiment.model, experiment.data, experiment.metric, shared(settings, "average"), seed, split
    )[settings["average"]]


@functools.cache
def averages(model: str, data: str, metric: str, settings: tuple, seed: int, split: str) -> dict[str, dict]:
    """Scores of the last weights, the best of ``CHECKPOINTS`` on held-out rows, moving averages, and the mean
    of the second half (SWA).
    """
    settings = dict(settings)
    task = prepared(model, data, settings["max_length"])
    known, asked = halves(task.rows, split)
    model, steps = task.make(seed).to(device()), settings["steps"]
    mean, best, step = AveragedModel(model), (-np.inf, None), 0

    def watch(_):
        nonlocal best, step
        step += 1
        if step > steps // 2:
            mean.update_parameters(model)
        if step % max(1, steps // CHECKPOINTS) == 0:
            with torch.random.fork_rng():  # a DataLoader draws from it
                now = evaluate(model, known, task)[metric]
            if now > best[0]:
                best = now, copy.deepcopy(model.state_dict())

    rows = drawn(task.rows["train"], settings, task.num_labels, seed)
    followed = ema.train(
        model,
        rows,
        task.stack,
        schedule=settings["schedule"],
        averages=AVERAGES,
        watch=watch,
        **length(settings, seed),
    )
    out = {"last": evaluate(model, asked, task)}
    for name, average in followed.items():
        with average.average_parameters():
            out[name] = evaluate(model, asked, task)
    for name, weights in {"best checkpoint": best[1], "SWA": mean.module.state_dict()}.items():
        model.load_state_dict(weights)
        out[name] = evaluate(model, asked, task)
    return out


def run_threshold(experiment, settings, seed, split):
    """F1 of the rare class and macro-F1, the threshold being that of the likelier class or one chosen on
    held-out rows.
    """
    (known, true), (asked, labels) = probabilities(
        experiment.model, experiment.data, shared(settings, "threshold"), seed, split
    )
    threshold = dice_loss.best_threshold(known[:, 1], true) if settings.get("threshold") == "tuned" else None
    predicted = decide(asked, 0, threshold)
    macro = np.mean([stats.f1(predicted == c, labels == c) for c in (0, 1)])
    return {
        "f1": round(stats.f1(predicted, labels), 6),
        "macro_f1": round(float(macro), 6),
        "threshold": 0.5 if threshold is None else round(threshold, 4),
    }


@functools.cache
def probabilities(model: str, data: str, settings: tuple, seed: int, split: str):
    """Probabilities (N, C) and labels (N,) of both parts of :func:`halves`, after one training."""
    settings = dict(settings)
    task = prepared(model, data, settings["max_length"], settings["rare"])
    model = task.make(seed)
    train(model, drawn(task.rows["train"], settings, task.num_labels, seed), task.stack, settings, seed)
    return [probability(*fit.predict(model, rows, task.stack)) for rows in halves(task.rows, split)]


def probability(logits, labels):
    return torch.from_numpy(logits).double().softmax(1).numpy(), labels


# ---- The table ----


SETS = {  # name: data, its metric, and what all arms share
    "en_rte": ("en_rte", "accuracy", {"steps": 420, "batch_size": 16, "max_length": 128}),
    "en_mrpc": ("en_mrpc", "f1", {"steps": 460, "batch_size": 16, "max_length": 96}),
    "en_cola": ("en_cola", "mcc", {"steps": 960, "batch_size": 16, "max_length": 32}),
    "en_banking77, few": (
        "en_banking77",
        "accuracy",
        {"per_class": 10, "steps": 480, "batch_size": 16, "max_length": 48},
    ),
    "en_banking77, long tail": (
        "en_banking77",
        "macro_f1",
        {"tail": [100, 5], "steps": 480, "batch_size": 16, "max_length": 48},
    ),
    "en_banking77": ("en_banking77", "accuracy", {"steps": 560, "batch_size": 32, "max_length": 48}),
    "en_trec": ("en_trec", "accuracy", {"steps": 620, "batch_size": 16, "max_length": 40}),
    "en_sst2": ("en_sst2", "accuracy", {"rows": 5000, "steps": 620, "batch_size": 16, "max_length": 64}),
    "en_stsb": ("en_stsb", "pearson", {"steps": 720, "batch_size": 16, "max_length": 64}),
    "en_clear_readability": (
        "en_clear_readability",
        "pearson",
        {"steps": 350, "batch_size": 16, "max_length": 128},
    ),
    "en_hate_davidson": (
        "en_hate_davidson",
        "macro_f1",
        {"rows": 5000, "steps": 310, "batch_size": 32, "max_length": 48},
    ),
    "en_hyperpartisan": ("en_hyperpartisan", "accuracy", {"steps": 190, "batch_size": 8, "max_length": 2048}),
    "en_moviereview2k": ("en_moviereview2k", "accuracy", {"steps": 350, "batch_size": 8, "max_length": 2048}),
}
ADVERSARIAL = {
    "baseline": {},
    "twice the steps": {"times": 2},
    "4 times the steps": {"times": 4},
    "random, epsilon 1": {"attack": "random", "epsilon": 1.0},
    "FGM, epsilon 0.3": {"attack": "FGM", "epsilon": 0.3},
    "FGM, epsilon 1": {"attack": "FGM", "epsilon": 1.0},
    "PGD, epsilon 1": {"attack": "PGD", "epsilon": 1.0, "passes": 3},
}
DECAYS = {"flat": {"decay": 1.0}, **{f"{decay:g}": {"decay": decay} for decay in (0.95, 0.9, 0.8)}}
FOCAL = {
    "cross-entropy": {"loss": "cross-entropy"},
    "weighted": {"loss": "weighted"},
    "label smoothing 0.1": {"loss": "label smoothing"},
    **{f"focal, gamma {gamma:g}": {"loss": "focal", "gamma": gamma} for gamma in (1.0, 2.0, 5.0)},
}
DICE = {
    "cross-entropy": {"loss": "cross-entropy"},
    "weighted": {"loss": "weighted"},
    "cross-entropy, tuned threshold": {"loss": "cross-entropy", "threshold": "tuned"},
    "Dice": {"loss": "Dice"},
    "Dice, tuned threshold": {"loss": "Dice", "threshold": "tuned"},
    "self-adjusting Dice": {"loss": "self-adjusting Dice"},
    "both": {"loss": "both"},
}
WEIGHTS = {
    f"{schedule}, {name}": {"schedule": schedule, "average": name}
    for schedule in ("linear", "constant")
    for name in ("last", "best checkpoint", *AVERAGES, "SWA")
}
POOLED = {name: {"pool": name} for name in mean_pooling.POOLS}
READ = {
    "last layer": {"layers": "last"},
    **{name: {"layers": name} for name in ("sum", "weighted", "concat")},
}
READERS = {
    "head": {"head": WINDOW},
    "tail": {"head": 0},
    "head and tail": {"head": WINDOW // 4},
    "windows, mean": {"windows": "mean"},
    "windows, max": {"windows": "max"},
}


def described(common: dict) -> str:
    """What all arms share, in words."""
    known = {
        "rows": "on {} training rows drawn by the seed",
        "per_class": "on {} rows of each class drawn by the seed",
        "tail": "on a long tail drawn by the seed, {0[0]} rows of the most frequent class, {0[1]} of the "
        "rarest",
    }
    rows = "".join(" " + text.format(common[name]) for name, text in known.items() if name in common)
    return (
        f"fine-tuned whole{rows}: {common['steps']} steps of {common['batch_size']}, at most "
        f"{common['max_length']} tokens"
    )


def row(
    trick: str,
    name: str,
    arms: dict[str, dict],
    *,
    task=None,
    run=run,
    metric=None,
    more=", mean pooling",
    rates=RATES,
    **own,
) -> Experiment:
    """A row of the table: the first arm is the baseline; ``own``: further settings that all arms share."""
    data, usual, common = SETS[name]
    common = {**common, **own}
    return Experiment(
        trick=trick,
        task=task or data,
        model=MODEL,
        data=data,
        metric=metric or usual,
        baseline=next(iter(arms)),
        run=run,
        arms={arm: {**common, **settings} for arm, settings in arms.items()},
        grid={"lr": rates},
        seeds=tuple(range(10)),
        setting=described(common) + more,
    )


def rare(data: str, name: str, task: str) -> Experiment:
    more = f", mean pooling; {name} against the rest; thresholds are tuned on validation"
    return row("dice_loss", data, DICE, task=task, run=run_threshold, metric="f1", rare=name, more=more)


AVERAGED = (
    ", mean pooling; learning rate after warm-up linear to zero, or constant; one training serves all "
    "weights with its schedule, rate and seed"
)
TYPED = ", mean pooling; also scored with one slip of the keys in a fifth of the longer words"
LONG = f"; head, tail, both and windows of {WINDOW} tokens, a window every {STRIDE}; mean pooling of tokens"

EXPERIMENTS = [  # the most telling first
    row("fgm", "en_banking77, few", ADVERSARIAL, task="en_banking77_minilm", run=run_with_typos, more=TYPED),
    row("rdrop", "en_banking77, few", rdrop.arms(0.5, 1.0, 5.0), task="en_banking77"),
    row("layer_decay", "en_rte", DECAYS, rates=[*RATES, 4e-4]),
    row("rdrop", "en_rte", rdrop.arms(0.5, 1.0, 5.0)),
    row("ema", "en_cola", WEIGHTS, run=run_average, more=AVERAGED),
    rare("en_hate_davidson", "hate_speech", "en_hate_davidson_minilm"),
    row("focal_loss", "en_banking77, long tail", FOCAL, task="en_banking77"),
    row("mse_corr_loss", "en_stsb", mse_corr_loss.arms(0.5, 1.5), more=", mean pooling, standardised labels"),
    row(
        "mean_pooling",
        "en_trec",
        POOLED,
        task="en_trec_finetuned",
        more=", a linear layer on the pooled vector",
    ),
    row("xlnet_long_text", "en_hyperpartisan", READERS, more=LONG),
    row(
        "last_four",
        "en_trec",
        READ,
        task="en_trec_finetuned_minilm",
        more=f", mean pooling of the last layer or of the last {LAYERS}",
    ),
    row("fgm", "en_rte", ADVERSARIAL, run=run_with_typos, more=TYPED),
    row("rdrop", "en_mrpc", rdrop.arms(0.5, 1.0, 5.0)),
    row("layer_decay", "en_cola", DECAYS, rates=[*RATES, 4e-4]),
    row("ema", "en_sst2", WEIGHTS, run=run_average, more=AVERAGED),
    rare("en_mrpc", "not_paraphrase", "en_mrpc"),
    row("focal_loss", "en_hate_davidson", FOCAL, task="en_hate_davidson_minilm"),
    row(
        "mse_corr_loss",
        "en_clear_readability",
        mse_corr_loss.arms(0.5, 1.5),
        task="en_clear_readability_minilm",
        more=", mean pooling, standardised labels",
    ),
    row("fgm", "en_cola", ADVERSARIAL, run=run_with_typos, more=TYPED),
    row("rdrop", "en_cola", rdrop.arms(0.5, 1.0, 5.0)),
    row("layer_decay", "en_mrpc", DECAYS, rates=[*RATES, 4e-4]),
    row("fgm", "en_mrpc", ADVERSARIAL, run=run_with_typos, more=TYPED),
    row(
        "mean_pooling",
        "en_banking77",
        POOLED,
        task="en_banking77_finetuned",
        more=", a linear layer on the pooled vector",
    ),
    row("ema", "en_clear_readability", WEIGHTS, run=run_average, more=AVERAGED),
    row("layer_decay", "en_clear_readability", DECAYS, rates=[*RATES, 4e-4]),
    row("xlnet_long_text", "en_moviereview2k", READERS, task="en_moviereview2k_minilm", more=LONG),
]
