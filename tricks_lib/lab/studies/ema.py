"""Which weights are evaluated: those of the last step, or their moving average? With and without
learning-rate decay.

An average does not change the training, so one training serves all averages. Each arm still has a learning
rate
of its own: trainings at every rate of the grid are made anyway, and each arm takes its scores from the one it
chose.
"""

import copy
import functools
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tricks_lib.ema import EMA
from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.compare.metrics import accuracy, macro_f1
from tricks_lib.lab.experiment import Experiment
from tricks_lib.mean_pooling import MeanPoolingClassifier

STEPS, BATCH, MAX_LENGTH = 200, 8, 40
AVERAGES = {  # name: arguments of EMA, or None for the weights of the last step
    "last": None, "EMA 0.9": {"decay": 0.9}, "EMA 0.99": {"decay": 0.99}, "EMA 0.999": {"decay": 0.999},
    "EMA warm-up": {"decay": 0.999, "warmup": True},
}  # fmt: skip


# ---- One weight, to look at ----


def noisy_descent(
    steps: int, lr: float, *, curvature=1.0, noise=1.0, start=0.0, momentum=0.0, copies=(), seed=0
) -> np.ndarray:
    """Path (steps + 1, *copies) of one weight: gradient descent on curvature w^2 / 2 whose gradient has noise
    of that deviation.

    ``momentum``: share of the old direction in the moving average of the gradients that is followed in their
    place.
    ``copies``: shape of independent repetitions.
    """
    rng, path, direction = np.random.default_rng(seed), [np.full(copies, float(start))], 0.0
    for _ in range(steps):
        direction = momentum * direction + (1 - momentum) * (
            curvature * path[-1] + noise * rng.standard_normal(copies)
        )
        path.append(path[-1] - lr * direction)
    return np.array(path)


def follow(path, **arguments) -> np.ndarray:
    """Averages that :class:`EMA`, with these arguments, makes of one weight with the values ``path`` (N,
    *copies); same shape.
    """
    values = torch.tensor(np.asarray(path, dtype=np.float64).reshape(len(path), -1))
    model = torch.nn.Linear(values.shape[1], 1, bias=False, dtype=torch.float64)
    weight = model.weight.detach()  # the same memory
    weight.copy_(values[0])
    average, out = EMA(model, **arguments), [values[0].clone()]
    for value in values[1:]:
        weight.copy_(value)
        average.update()
        out.append(average.state_dict()["shadow"]["weight"][0])
    return torch.stack(out).numpy().reshape(np.shape(path))


# ---- One training, several averages ----


@contextmanager
def without_decay():
    """Inside, learning rates only rise: warm-up, then constant, whatever a schedule says."""

    def hold(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] = max(group["lr"], group.get("highest", 0.0))

    handle = register_optimizer_step_pre_hook(hold)
    try:
        yield
    finally:
        handle.remove()


def train(model, rows, stack, *, schedule, averages=AVERAGES, watch=None, **options) -> dict[str, EMA]:
    """One training that is followed by several averages; the model ends with the weights of its last step.

    Args:
        schedule: ``"linear"`` (warm-up and decay, as :func:`tricks_lib.lab.fit.fit` has it) or ``"constant"``
            (warm-up only).
        averages: name -> arguments of :class:`EMA`; None is skipped.
        watch: ``watch(averages)`` after each step.
        options: of :func:`tricks_lib.lab.fit.fit`.
    """
    if schedule not in ("linear", "constant"):
        raise ValueError(f"schedule: {schedule!r} given, 'linear' or 'constant' is accepted")
    followed = {
        name: EMA(model, **arguments) for name, arguments in averages.items() if arguments is not None
    }

    def after_step(_):
        for average in followed.values():
            average.update()
        if watch:
            watch(followed)
            model.train()

    with without_decay() if schedule == "constant" else nullcontext():
        fit.fit(model, rows, stack, after_step=after_step, **options)
    return followed


def predictions(model, followed: dict[str, EMA], rows, stack) -> dict[str, tuple]:
    """Logits (N, C) and labels (N,) by the model's own weights (``last``) and by each average."""
    out = {"last": fit.predict(model, rows, stack)}
    for name, average in followed.items():
        with average.average_parameters():
            out[name] = fit.predict(model, rows, stack)
    return out


def evaluate(model, followed: dict[str, EMA], rows, stack) -> dict[str, dict]:
    """Scores of the model's own weights (``last``) and of each average."""
    return {name: score(*found) for name, found in predictions(model, followed, rows, stack).items()}


def losses(logits, labels) -> np.ndarray:
    """Cross-entropy of each text, (N,)."""
    wide = torch.from_numpy(logits).double()
    return torch.nn.functional.cross_entropy(wide, torch.from_numpy(labels), reduction="none").numpy()


def score(logits, labels) -> dict:
    """Macro-F1, accuracy and mean cross-entropy of logits (N, C) and labels (N,)."""
    predicted = logits.argmax(1)
    return {
        "macro_f1": float(macro_f1(predicted, labels)),
        "accuracy": float(accuracy(predicted, labels)),
        "loss": round(float(losses(logits, labels).mean()), 4),
    }


def classifier(encoder, num_labels: int, seed: int):
    """A copy of the encoder under a new head, mean pooling between them."""
    torch.manual_seed(seed)
    return MeanPoolingClassifier(copy.deepcopy(encoder), num_labels)


def tokens(tokenizer, dataset, max_length: int) -> dict[str, list[dict]]:
    """Rows of each split, fit's form; those that are evaluated lie by length, which saves padding."""
    rows = {split: fit.tokenize(tokenizer, dataset[split], max_length) for split in dataset}
    return {
        split: r if split == "train" else sorted(r, key=lambda row: len(row["input_ids"]))
        for split, r in rows.items()
    }


@functools.cache
def loaded(model_name: str, name: str):
    """Encoder, rows of each split, what pads them, number of classes."""
    encoder, tokenizer = models.load_encoder(model_name)
    dataset = tasks.load_task(name)
    return (
        encoder,
        tokens(tokenizer, dataset, MAX_LENGTH),
        fit.collate(tokenizer),
        dataset["train"].features["label"].num_classes,
    )


@functools.cache
def trained(model_name: str, name: str, split: str, schedule: str, lr: float, seed: int) -> dict[str, dict]:
    """Scores of all averages of one training, on one split."""
    encoder, rows, stack, num_labels = loaded(model_name, name)
    model = classifier(encoder, num_labels, seed)
    followed = train(
        model, rows["train"], stack, schedule=schedule, steps=STEPS, batch_size=BATCH, lr=lr, seed=seed
    )
    return evaluate(model, followed, rows[split], stack)


def run(experiment, settings, seed, split):
    scores = trained(experiment.model, experiment.data, split, settings["schedule"], settings["lr"], seed)
    return scores[settings["average"]]


EXPERIMENTS = [
    Experiment(
        trick="ema",
        task="en_hate_davidson",
        model="mini_bert",
        data="en_hate_davidson",
        metric="macro_f1",
        baseline="linear, last",
        run=run,
        arms={
            f"{schedule}, {name}": {"schedule": schedule, "average": name}
            for schedule in ("linear", "constant")
            for name in AVERAGES
        },
        grid={"lr": [2e-4, 5e-4, 1e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=f"fine-tuned whole, mean pooling: {STEPS} steps of {BATCH} tweets, cut at {MAX_LENGTH} "
        f"tokens; learning rate after warm-up linear to zero, "
        "or constant; one training serves all averages with its schedule, rate and seed",
    ),
]
