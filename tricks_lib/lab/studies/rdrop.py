"""Does R-Drop help where examples are few? Against the same steps without it, and against twice the steps
without it.

An R-Drop step reads its batch twice, so the arm with the same compute is the one with twice the steps. A seed
draws the training rows, the head's start and the order of the batches: the same for every arm.

The two strengths are one published number, 0.5, read in two ways: as the weight of a mean over the batch
(0.5), and as that of the official README's sum over a batch of 16 (0.5 * 16 = 8).
"""

import torch

from tricks_lib.lab import fit, heads, models, tasks
from tricks_lib.lab.compare.classifier import with_dropout
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.fit import draw
from tricks_lib.lab.pretraining.worth import classifier, rows
from tricks_lib.rdrop import rdrop_forward, symmetric_kl

ROWS, STEPS, BATCH, MAX_LENGTH, HEAD = 200, 50, 16, 40, "mean"
DROPOUT = 0.1  # of a classifier of the demonstration, as BERT has it


def arms(*alphas: float) -> dict[str, dict]:
    """Settings of each arm: a factor on the steps, and alpha (0 is plain training, one pass)."""
    plain = {"baseline": {"times": 1, "alpha": 0.0}, "twice the steps": {"times": 2, "alpha": 0.0}}
    return plain | {f"R-Drop, alpha {alpha:g}": {"times": 1, "alpha": alpha} for alpha in alphas}


def train(model, rows, collate_fn, arm, *, steps, seed, **options) -> list[float]:
    """:func:`tricks_lib.lab.fit.fit` with the steps and the loss of an arm; returns the loss at every
    step.
    """
    with_rdrop = (
        (lambda model, batch: rdrop_forward(model, batch, arm["alpha"]).loss) if arm["alpha"] else None
    )
    return fit.fit(
        model, rows, collate_fn, steps=arm["times"] * steps, seed=seed, loss_fn=with_rdrop, **options
    )


@torch.no_grad()
def two_passes(model, batch, seed=0):
    """Logits (B, C) of two passes with dropout whose masks ``seed`` decides; leaves model and random state as
    they were.
    """
    training, where = model.training, next(model.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        p, q = (model(**{k: v.to(where) for k, v in batch.items()}).logits.float().cpu() for _ in range(2))
    model.train(training)
    return p, q


def disagreement(model, rows, collate_fn, batch_size=64) -> float:
    """Mean divergence of two passes with dropout, equation (1); the model and the random state stay as they
    were.
    """
    batches = [collate_fn(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    passes = [two_passes(model, batch) for batch in batches]
    return symmetric_kl(*(torch.cat(each) for each in zip(*passes))).item()


def prepare(task: str, frozen: bool, max_length: int = 80):
    """Rows of the training and test split, how they are stacked, and ``make(seed, dropout=DROPOUT)``, which
    gives a fresh classifier.

    Args:
        frozen: train only a head on vectors that are computed once; else the whole encoder.
    """
    data = tasks.load_task(task)
    encoder, tokenizer = models.load_encoder()
    num_labels = data["train"].features["label"].num_classes
    if frozen:
        rows = heads.embedded(encoder, tokenizer, {s: data[s] for s in ("train", "test")}, 32)
        (train, test), stack = rows.values(), torch.utils.data.default_collate
    else:
        train, test = (fit.tokenize(tokenizer, data[s], max_length) for s in ("train", "test"))
        stack = fit.collate(tokenizer)

    def make(seed: int, dropout: float = DROPOUT):
        torch.manual_seed(seed)
        return (
            heads.Head(encoder.config.hidden_size, num_labels, seed, 256, dropout, normed=False)
            if frozen
            else classifier(with_dropout(encoder, dropout), num_labels, HEAD)
        )

    return train, test, stack, make


def correct(model, rows, collate_fn):
    """Which rows the model classifies correctly, (N,) bool."""
    logits, labels = fit.predict(model, rows, collate_fn)
    return logits.argmax(1) == labels


def accuracy(model, rows, collate_fn) -> float:
    return float(correct(model, rows, collate_fn).mean())


def run(experiment, settings, seed, split):
    known, tokenizer, num_labels = rows(experiment.model, experiment.data, "train", MAX_LENGTH)
    asked, _, _ = rows(experiment.model, experiment.data, split, MAX_LENGTH)
    collate_fn = fit.collate(tokenizer)
    torch.manual_seed(seed)
    model = classifier(models.load_encoder(experiment.model)[0], num_labels, HEAD)
    train(
        model,
        draw(known, ROWS, seed),
        collate_fn,
        settings,
        steps=STEPS,
        seed=seed,
        lr=settings["lr"],
        batch_size=BATCH,
    )
    return {
        "accuracy": accuracy(model, asked, collate_fn),
        "disagreement": round(disagreement(model, asked[:128], collate_fn), 5),
    }


EXPERIMENTS = [
    Experiment(
        trick="rdrop",
        task="en_trec",
        model="mini_bert",
        data="en_trec",
        metric="accuracy",
        baseline="baseline",
        run=run,
        arms=arms(0.5, 8.0),
        grid={"lr": [3e-4, 1e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=(
            f"fine-tuned whole on {ROWS} training rows drawn by the seed: {STEPS} steps of {BATCH}, at "
            f"most {MAX_LENGTH} tokens, mean pooling"
        ),
    ),
]
