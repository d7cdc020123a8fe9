"""Is it the direction that counts? FGM against a random direction of the same norm, and against twice the
steps.

An adversarial step costs a second forward and backward pass, so plain training with twice the steps is the
arm of equal compute. The control arm pays for the second pass too, and moves the same rows as far, but
anywhere.
"""

import copy
import functools

import numpy as np
import torch

from tricks_lib.fgm import FGM, RandomDirection
from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.mean_pooling import MeanPoolingClassifier

TRAIN_ROWS, STEPS, BATCH, MAX_LENGTH = 385, 100, 16, 20


ATTACKS = {"FGM": FGM, "random": RandomDirection}


def adversarial(make, passes: int = 1):
    """``after_backward`` of :func:`fit.fit`: the attack ``make(model)``, ``passes`` more passes, each a step
    further, and the clean weights again.
    """
    attack = None

    def after_backward(model, batch, accelerator):
        nonlocal attack
        attack = attack or make(model)
        with attack.perturbed():
            accelerator.backward(model(**batch).loss)
            for _ in range(passes - 1):
                attack.attack()
                accelerator.backward(model(**batch).loss)

    return after_backward


def noisy(alpha: float):
    """Forward hook of an embedding: NEFTune's uniform noise in training mode, at most alpha / sqrt(T H) in
    each entry (Jain et al., ICLR 2024, algorithm 1).
    """

    def hook(module, args, output):
        limit = alpha / (output.shape[-2] * output.shape[-1]) ** 0.5
        return output + torch.empty_like(output).uniform_(-limit, limit) if module.training else None

    return hook


def train(
    encoder,
    num_labels,
    rows,
    collate_fn,
    *,
    seed,
    attack=None,
    epsilon=1.0,
    relative=False,
    neftune=0.0,
    **options,
):
    """A classifier on a copy of ``encoder``, trained plainly, with an attack of ``ATTACKS`` or with the noise
    of :func:`noisy`; options as :func:`fit.fit`.
    """
    torch.manual_seed(seed)
    model = MeanPoolingClassifier(copy.deepcopy(encoder), num_labels)
    after_backward = adversarial(lambda m: ATTACKS[attack](m, epsilon, relative=relative)) if attack else None
    noise = model.get_input_embeddings().register_forward_hook(noisy(neftune)) if neftune else None
    fit.fit(model, rows, collate_fn, seed=seed, after_backward=after_backward, **options)
    if noise:
        noise.remove()
    return model


def losses(model, rows, collate_fn, attack=None, batch_size=64):
    """Cross-entropy (N,) and correctness (N,) of all rows in evaluation mode; with ``attack(model)`` on, each
    batch attacked.
    """
    where = next(model.parameters()).device
    attack, out = attack and attack(model.eval()), []
    for i in range(0, len(rows), batch_size):
        batch = {k: v.to(where) for k, v in collate_fn(rows[i : i + batch_size]).items()}
        if attack:
            model(**batch).loss.backward()
            attack.attack()
        with torch.no_grad():
            logits = model(**batch).logits.float()
        if attack:
            attack.restore()
            model.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
        out.append(torch.stack([loss, (logits.argmax(1) == batch["labels"]).float()]).cpu())
    return torch.cat(out, dim=1).numpy()


@torch.no_grad()
def along(model, batch, table, direction, lengths, offset=0.0):
    """Loss of a batch with ``table + offset + t * direction`` in place of ``table``, for each t of
    ``lengths``; the table comes back.
    """
    clean, out = table.detach().clone(), []
    for t in lengths:
        table.copy_(clean + offset + t * direction)
        out.append(model(**batch).loss.item())
    table.copy_(clean)
    return out


@functools.cache
def prepared(model: str, data: str):
    """Encoder, tokenizer, number of classes and the rows of each split: a fixed random part of train, the
    rest sorted by length.
    """
    encoder, tokenizer = models.load_encoder(model)
    dataset = tasks.load_task(data)
    few = np.random.default_rng(0).permutation(len(dataset["train"]))[:TRAIN_ROWS]
    rows = {
        s: fit.tokenize(tokenizer, dataset[s].select(few) if s == "train" else dataset[s], MAX_LENGTH)
        for s in dataset
    }
    for split in ("validation", "test"):  # less padding to compute; accuracy knows no order
        rows[split].sort(key=lambda row: len(row["input_ids"]))
    return encoder, tokenizer, dataset["train"].features["label"].num_classes, rows


def run(experiment, settings, seed, split):
    encoder, tokenizer, num_labels, rows = prepared(experiment.model, experiment.data)
    options = {"steps": settings["steps"], "lr": settings["lr"], "batch_size": BATCH, "seed": seed}
    attack = {k: settings[k] for k in ("attack", "epsilon") if k in settings}
    model = train(encoder, num_labels, rows["train"], fit.collate(tokenizer), **options, **attack)
    logits, labels = fit.predict(model, rows[split], fit.collate(tokenizer))
    return {"accuracy": float((logits.argmax(1) == labels).mean())}


EXPERIMENTS = [
    Experiment(
        trick="fgm",
        task="en_banking77",
        model="mini_bert",
        data="en_banking77",
        metric="accuracy",
        baseline="plain",
        run=run,
        arms={
            "plain": {"steps": STEPS},
            "plain, twice the steps": {"steps": 2 * STEPS},
            "FGM, epsilon 0.3": {"steps": STEPS, "attack": "FGM", "epsilon": 0.3},
            "FGM, epsilon 1": {"steps": STEPS, "attack": "FGM", "epsilon": 1.0},
            "random, epsilon 1": {"steps": STEPS, "attack": "random", "epsilon": 1.0},
        },
        grid={"lr": [5e-4, 1e-3, 2e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=(
            f"fine-tuned whole on {TRAIN_ROWS} random rows: {STEPS} steps of {BATCH}, at most {MAX_LENGTH} "
            f"tokens, mean pooling"
        ),
    ),
]
