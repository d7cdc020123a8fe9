"""Oracles: a plain loop in PyTorch with the formulas written out, on one whole batch;
``transformers.Trainer`` with the tricks off.
"""

import gc
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    HfArgumentParser,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from tricks_lib.lab import models
from tricks_lib.last_four import LastFourClassifier
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.trainer import TricksArguments, TricksTrainer

# Few steps are enough for an equation, not for an average; test_average_of_a_short_run asks for the warning.
pytestmark = pytest.mark.filterwarnings("ignore:ema_decay. with:UserWarning")

SIZES = {
    "vocab_size": 40,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
QUIET = {
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 1,
}
SGD = {
    "optim": "sgd",
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "max_steps": 3,
}  # Adam would hide a wrong scale
LABELS = {"classes": 3, "tokens": 3, "numbers": 1, "multi": 3}


class Masks(nn.Module):
    """Dropout whose mask depends on the pass, 0 or 1, and on the token: the same in a doubled batch, two
    passes, or another split.
    """

    def __init__(self, model):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = (
            torch.rand(2, SIZES["vocab_size"], SIZES["hidden_size"], generator=generator) > 0.3
        ) / 0.7
        self.which = 0  # or "both": a doubled batch
        model.register_forward_pre_hook(
            lambda module, args, kwargs: setattr(self, "ids", kwargs["input_ids"]), with_kwargs=True
        )

    def forward(self, x):
        ids = self.ids if x.ndim == 3 else self.ids[:, 1]  # (B, T) or (B,)
        which = (
            torch.arange(len(ids)) * 2 // len(ids)
            if self.which == "both"
            else torch.full((len(ids),), self.which)
        )
        return x * self.table[which.view(-1, *[1] * (ids.ndim - 1)), ids] if self.training else x


def make(kind="classes", masks=True, **config):
    torch.manual_seed(0)
    config = BertConfig(
        **SIZES,
        **{
            "num_labels": LABELS[kind],
            "initializer_range": 0.2,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            **config,
        },
    )
    if kind == "multi":
        config.problem_type = "multi_label_classification"
    model = (BertForTokenClassification if kind == "tokens" else BertForSequenceClassification)(config)
    if masks:
        model.dropout = Masks(model)
    return model


def data(kind="classes", n=24, seed=0):
    """Rows of 4 to 9 tokens; tokens with labels of -100, so that no two batches count the same."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for length in torch.randint(4, 10, (n,), generator=g).tolist():
        label = {
            "classes": lambda: torch.randint(3, (), generator=g),
            "tokens": lambda: torch.where(
                torch.rand(length, generator=g) < 0.4, -100, torch.randint(3, (length,), generator=g)
            ),
            "numbers": lambda: torch.randn((), generator=g),
            "multi": lambda: torch.randint(2, (3,), generator=g).float(),
        }[kind]()
        rows.append({"input_ids": torch.randint(1, 40, (length,), generator=g), "labels": label})
    return rows


def pad(rows):
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row["input_ids"]) for row in rows], batch_first=True)
    ids = nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    labels = [row["labels"] for row in rows]
    by_token = labels[0].ndim == 1 and not labels[0].is_floating_point()
    labels = (
        nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        if by_token
        else torch.stack(labels)
    )
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Recorder:
    """Pads, and keeps the rows of each batch for the loop."""

    def __init__(self):
        self.seen = []

    def __call__(self, rows):
        self.seen.append(rows)
        return pad(rows)

    def batches(self, steps, micro=1):
        """One batch for each step: what the Trainer saw in ``micro`` parts."""
        return [pad(sum(self.seen[i * micro : (i + 1) * micro], [])) for i in range(steps)]


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect():
    """Each ``train`` calls ``gc.collect``, which walks over all that the imports have made: half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def same_environment():
    """``TrainingArguments`` leave bf16, compilation and FSDP in variables that accelerate reads for the next
    one.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def train(
    folder,
    model,
    rows,
    kind=TricksTrainer,
    resume=None,
    callbacks=None,
    eval_dataset=None,
    compute_metrics=None,
    scale=None,
    **arguments,
):
    args = (TricksArguments if issubclass(kind, TricksTrainer) else TrainingArguments)(
        str(folder), **{**QUIET, **arguments}
    )
    trainer = kind(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=Recorder(),
        callbacks=callbacks,
        eval_dataset=eval_dataset,
        compute_metrics=compute_metrics,
    )
    if scale:  # as with fp16, which accelerate refuses on a CPU
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    if isinstance(getattr(model, "dropout", None), Masks):
        model.dropout.which = "both" if getattr(args, "rdrop_alpha", 0) else 0
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_close(ours, expected, start=None, tolerance=1e-5):
    """Equal to a small part of how far the weights have moved."""
    for name in expected:
        torch.testing.assert_close(
            ours[name],
            expected[name],
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    if start is not None:
        assert (
            max((expected[name] - start[name]).abs().max() for name in expected) > 50 * tolerance
        )  # what was compared is not the start


def assert_equal(ours, expected):
    assert ours.keys() == expected.keys()
    assert [name for name in ours if not torch.equal(ours[name], expected[name])] == []


# ---- The loop: each trick's formula, without tricks_lib


def kept(logits, labels):
    """(N, C) and (N,) without the labels of -100; numbers as (N,) both."""
    if labels.is_floating_point():
        keep = labels != -100 if labels.ndim == 1 else ...
        return logits.squeeze(-1)[keep], labels[keep]
    keep = labels.flatten() != -100
    return logits.reshape(-1, logits.shape[-1])[keep], labels.flatten()[keep]


def own(x, y):
    if y.is_floating_point():
        return F.binary_cross_entropy_with_logits(x, y) if y.ndim == 2 else ((x - y) ** 2).mean()
    return -x.log_softmax(-1)[torch.arange(len(y)), y].mean()


def focal(x, y, gamma=2.0):
    p = x.softmax(-1)[torch.arange(len(y)), y]
    return (-((1 - p) ** gamma) * p.log()).mean()


def weighted_focal(x, y, w=torch.tensor([1.0, 3.0, 0.5])):
    p = x.softmax(-1)[torch.arange(len(y)), y]
    return (-w[y] * (1 - p) ** 2 * p.log()).sum() / w[y].sum()


def binary_focal(x, y, gamma=1.0, alpha=0.25):
    p = torch.where(y == 1, x.sigmoid(), 1 - x.sigmoid())
    return (-torch.where(y == 1, alpha, 1 - alpha) * (1 - p) ** gamma * p.log()).mean()


def dice(x, y, s=1.0):
    p, onehot = x.softmax(-1), F.one_hot(y, x.shape[-1])
    return (1 - (2 * (p * onehot).sum(0) + s) / (p.sum(0) + onehot.sum(0) + s)).mean()


def self_adjusting(x, y, alpha=0.01, s=1.0):
    p = x.softmax(-1)[torch.arange(len(y)), y]
    f = (1 - p) ** alpha * p
    return (1 - (2 * f + s) / (f + 1 + s)).mean()


def mse_corr(x, y, p=1.5):
    return ((x - y) ** 2).mean() + p * (1 - torch.corrcoef(torch.stack([x, y]))[0, 1])


def ccc(x, y):
    return 1 - 2 * ((x - x.mean()) * (y - y.mean())).mean() / (
        x.var(correction=0) + y.var(correction=0) + (x.mean() - y.mean()) ** 2
    )


def objective(model, batch, loss, alpha):
    """(loss, R-Drop's part)"""
    inputs, passes = {k: v for k, v in batch.items() if k != "labels"}, []
    for which in (0, 1) if alpha else (0,):
        if isinstance(model.dropout, Masks):
            model.dropout.which = which
        passes.append(kept(model(**inputs).logits, batch["labels"]))
    base = sum(loss(*each) for each in passes) / len(passes)
    if not alpha:
        return base, torch.tensor(0.0)
    (p, y), (q, _) = passes
    if y.is_floating_point():
        return base, alpha * ((p - q) ** 2).mean()
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    return base, alpha * 0.5 * (
        F.kl_div(p, q, log_target=True, reduction="batchmean")
        + F.kl_div(q, p, log_target=True, reduction="batchmean")
    )


def perturbed(name, kind, w, r, gradient, epsilon):
    if kind == "awp":
        return (
            epsilon * w.norm() * gradient / gradient.norm() if w.ndim > 1 and gradient.norm() > 0 else 0 * w
        )
    if not name.endswith("word_embeddings.weight"):
        return 0 * w
    r = r + (epsilon if kind == "fgm" else 0.3 * epsilon) * gradient / gradient.norm()
    return r * min(1.0, epsilon / r.norm().item())


def loop(
    model,
    batches,
    loss=own,
    alpha=0.0,
    attack=None,
    epsilon=None,
    start=0,
    decay=None,
    rate=None,
    clip=None,
    lr=0.05,
    autocast=False,
):
    """SGD, one step a batch (a list of micro-batches: the mean of their losses, by their labels); average and
    logs too.
    """
    model.train()
    params, logs, rate = dict(model.named_parameters()), [], rate or (lambda name: lr)
    average = weights(model)
    epsilon = epsilon or {"awp": 0.005}.get(attack, 1.0)
    for step, micro in enumerate(batches):
        total, log = (
            {name: torch.zeros_like(p) for name, p in params.items()},
            {"loss": 0.0, "loss_rdrop": 0.0, "loss_adversarial": 0.0},
        )
        micro = micro if isinstance(micro, list) else [micro]
        counts = [(batch["labels"] != -100).sum().item() for batch in micro]
        for batch, count in zip(micro, counts):

            def gradients():
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    base, extra = objective(model, batch, loss, alpha)
                value = (base + extra) * count / sum(counts)
                grads = torch.autograd.grad(value, list(params.values()), allow_unused=True)
                return (
                    {
                        name: torch.zeros_like(p) if g is None else g
                        for (name, p), g in zip(params.items(), grads)
                    },
                    value.item(),
                    extra.item() * count / sum(counts),
                )

            clean, value, extra = gradients()
            log["loss"] += value
            log["loss_rdrop"] += extra
            total = {name: total[name] + clean[name] for name in params}
            if attack and step >= start:
                before, r, g = (
                    weights(model),
                    {name: torch.zeros_like(p) for name, p in params.items()},
                    clean,
                )
                for _ in range(3 if attack == "pgd" else 1):
                    with torch.no_grad():
                        for name, p in params.items():
                            r[name] = perturbed(name, attack, before[name], r[name], g[name], epsilon)
                            p.copy_(before[name] + r[name])
                    g, value, _ = gradients()
                log["loss_adversarial"] += value
                total = {name: total[name] + g[name] for name in params}
                with torch.no_grad():
                    for name, p in params.items():
                        p.copy_(before[name])
        norm = torch.stack([g.norm() for g in total.values()]).norm()
        scale = min(1.0, clip / (norm.item() + 1e-6)) if clip else 1.0
        with torch.no_grad():
            for name, p in params.items():
                p -= rate(name) * scale * total[name]
                if decay is not None:
                    average[name] = decay * average[name] + (1 - decay) * p
        logs.append(log)
    return weights(model), average, logs


def rate_by_layer(decay, head, lr=0.05):
    def rate(name):
        if "embeddings" in name:
            return lr * decay**2
        if ".layer.0." in name:
            return lr * decay
        return head if name.startswith("classifier") else lr

    return rate


# name: (arguments of the trainer, arguments of the loop)
TRICKS = {
    "focal": ({"loss": "focal"}, {"loss": focal}),
    "dice": ({"loss": "dice"}, {"loss": dice}),
    "self-adjusting dice": ({"loss": "self_adjusting_dice"}, {"loss": self_adjusting}),
    "R-Drop": ({"rdrop_alpha": 1.5}, {"alpha": 1.5}),
    "FGM": (
        {"adversarial": "fgm", "adversarial_epsilon": 0.4, "adversarial_start_step": 1},
        {"attack": "fgm", "epsilon": 0.4, "start": 1},
    ),
    "PGD": ({"adversarial": "pgd"}, {"attack": "pgd"}),
    "AWP": ({"adversarial": "awp"}, {"attack": "awp"}),
    "EMA": ({"ema_decay": 0.8}, {"decay": 0.8}),
    "layer decay": ({"layer_decay": 0.5}, {"rate": rate_by_layer(0.5, 0.05)}),
    "head rate": ({"head_learning_rate": 0.2}, {"rate": rate_by_layer(1.0, 0.2)}),
}
NUMBERS = {
    "mse_corr": ({"loss": "mse_corr"}, {"loss": mse_corr}),
    "ccc": ({"loss": "ccc"}, {"loss": ccc}),
    **{name: TRICKS[name] for name in ("R-Drop", "FGM", "PGD", "AWP", "EMA", "head rate")},
}


def combined(tricks, names):
    """The arguments of some tricks together; None where two set the same one."""
    both = []
    for parts in zip(*(tricks[name] for name in names)):
        both.append({k: v for part in parts for k, v in part.items()})
        if len(both[-1]) < sum(map(len, parts)):
            return None
    return both or [{}, {}]


def cases(kind, tricks, *, pairs=True, more=()):
    names = [
        (),
        *itertools.combinations(tricks, 1),
        *(itertools.combinations(tricks, 2) if pairs else ()),
        *more,
    ]
    return [(kind, each, *both) for each in names if (both := combined(tricks, each))]


MANY = [
    ("focal", "R-Drop", "FGM", "EMA", "layer decay"),
    ("dice", "R-Drop", "AWP", "EMA", "head rate"),
    ("self-adjusting dice", "R-Drop", "PGD", "EMA"),
]
CASES = [
    *cases("classes", TRICKS, more=MANY),
    *cases("tokens", TRICKS, pairs=False, more=MANY),
    *cases(
        "numbers",
        NUMBERS,
        pairs=False,
        more=[("mse_corr", "R-Drop", "FGM", "EMA", "head rate"), ("ccc", "R-Drop", "AWP")],
    ),
]
EXACT = {"focal", "self-adjusting dice", "R-Drop", "EMA", "layer decay", "head rate"}


def named(cases):
    return {"argvalues": cases, "ids": ["-".join((case[0], *case[1])) for case in cases]}


def check(folder, kind, ours, theirs, batch=8, micro=1, apart=False):
    """The trainer against the loop: weights, average and what is logged."""
    expected = make(kind)
    start = weights(expected)
    trainer = train(
        folder,
        make(kind),
        data(kind),
        per_device_train_batch_size=batch // micro,
        gradient_accumulation_steps=micro,
        **SGD,
        **ours,
    )
    seen = trainer.data_collator.seen
    batches = (
        [[pad(rows) for rows in seen[i * micro : (i + 1) * micro]] for i in range(3)]
        if apart
        else trainer.data_collator.batches(3, micro)
    )
    trained, average, logs = loop(expected, batches, **theirs)
    assert_close(weights(trainer.model), trained, start)
    with trainer.average_parameters():
        assert_close(weights(trainer.model), average if "decay" in theirs else trained)
    assert_close(weights(trainer.model), trained)
    for log, shown in zip(logs, trainer.state.log_history):
        want = {"loss": log["loss"]}
        if "alpha" in theirs:
            want |= {
                f"loss_{trainer.args.loss}": log["loss"] - log["loss_rdrop"],
                "loss_rdrop": log["loss_rdrop"],
            }
        if "attack" in theirs and shown["step"] > theirs.get("start", 0):
            want["loss_adversarial"] = log["loss_adversarial"]
        assert {k: v for k, v in shown.items() if k.startswith("loss")} == pytest.approx(
            want, rel=1e-3, abs=2e-4
        )  # 4.56 rounds the loss
    return trainer


@pytest.mark.parametrize("kind, names, ours, theirs", **named(CASES))
def test_every_pair_of_tricks_equals_the_plain_loop(tmp_path, kind, names, ours, theirs):
    check(tmp_path, kind, ours, theirs)


SPLIT = [case for case in CASES if set(case[1]) <= EXACT]


@pytest.mark.parametrize("kind, names, ours, theirs", **named(SPLIT))
def test_four_micro_batches_equal_the_plain_loop_on_one_batch(tmp_path, kind, names, ours, theirs):
    check(tmp_path, kind, ours, theirs, micro=4)


APART = [case for case in CASES if case[1] and not set(case[1]) <= EXACT and len(case[1]) == 1]


@pytest.mark.parametrize("kind, names, ours, theirs", **named(APART))
def test_what_depends_on_the_batch_is_taken_of_each_micro_batch_with_a_warning(
    tmp_path, kind, names, ours, theirs
):
    with pytest.warns(UserWarning, match=f"{ours.get('adversarial', ours.get('loss'))}.*micro-batch"):
        check(tmp_path, kind, ours, theirs, micro=2, apart=True)


# ---- Everything off


PLAIN = {
    "plain": {},
    "clipped": {"max_grad_norm": 0.1, "lr_scheduler_type": "cosine", "warmup_steps": 2},
    "smoothed": {"label_smoothing_factor": 0.2},
}


@pytest.mark.parametrize(
    "kind, case",
    [
        (kind, case)
        for kind in LABELS
        for case in PLAIN
        if kind in ("classes", "tokens") or case != "smoothed"
    ],
)
def test_without_tricks_it_is_trainer_bit_for_bit(tmp_path, kind, case):
    arguments, seen = PLAIN[case], []
    for trainer in (Trainer, TricksTrainer):
        trainer = train(
            tmp_path,
            make(kind, masks=False, hidden_dropout_prob=0.2),
            data(kind),
            trainer,
            eval_dataset=data(kind, 10, seed=1),
            **{"max_steps": 5, "eval_strategy": "steps", "eval_steps": 2, "learning_rate": 1e-2, **arguments},
        )
        seen.append(
            (
                weights(trainer.model),
                [
                    {k: v for k, v in log.items() if not k.endswith(("runtime", "second", "time"))}
                    for log in trainer.state.log_history
                ],
                trainer.predict(data(kind, 10)).predictions,
            )
        )
    (theirs, their_logs, their_logits), (ours, our_logs, our_logits) = seen
    assert_equal(ours, theirs)
    assert our_logs == their_logs
    assert (our_logits == their_logits).all()


class Keywords(BertForSequenceClassification):
    """Divides by ``num_items_in_batch`` where it is given one, as decoders do."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, num_items_in_batch=None, **kwargs):
        output = super().forward(input_ids, attention_mask, labels=labels)
        if num_items_in_batch is not None:
            output.loss = F.cross_entropy(output.logits, labels, reduction="sum") / num_items_in_batch
        return output


def test_model_that_takes_the_number_of_items_is_scaled_once(tmp_path):
    results = []
    for kind, micro in ((TricksTrainer, 4), (TricksTrainer, 1), (Trainer, 4)):  # here Trainer is right
        torch.manual_seed(0)
        model = Keywords(
            BertConfig(**SIZES, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        )
        results.append(
            weights(
                train(
                    tmp_path,
                    model,
                    data(),
                    kind,
                    per_device_train_batch_size=8 // micro,
                    gradient_accumulation_steps=micro,
                    **SGD,
                ).model
            )
        )
    assert_close(results[0], results[1], tolerance=1e-6)
    assert_close(results[0], results[2], tolerance=1e-6)


def test_compute_loss_func_stays_trainers(tmp_path):
    def summed(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch

    results = []
    for kind, args in ((Trainer, TrainingArguments), (TricksTrainer, TricksArguments)):
        arguments = args(
            str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=4, **QUIET, **SGD
        )
        trainer = kind(
            model=make(masks=False),
            args=arguments,
            train_dataset=data(),
            data_collator=pad,
            compute_loss_func=summed,
        )
        trainer.train()
        results.append(weights(trainer.model))
    assert_equal(*results)


def test_last_step_of_an_epoch_with_fewer_micro_batches(tmp_path):
    """10 rows in micro-batches of 4, 4 | 2: the second step is on 2 rows alone, and counts them once."""
    trainer = train(
        tmp_path,
        make(),
        data(n=10),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        **{**SGD, "max_steps": 2},
    )
    seen = trainer.data_collator.seen
    assert [len(rows) for rows in seen] == [4, 4, 2]
    assert_close(weights(trainer.model), loop(make(), [pad(seen[0] + seen[1]), pad(seen[2])])[0])


@pytest.mark.parametrize("rdrop_alpha", [0.0, 1.0])
def test_micro_batch_without_a_label_adds_nothing(tmp_path, rdrop_alpha):
    """The mean of nothing is NaN, in the log at least."""
    rows = data("tokens", 8)
    for row in rows[:4]:
        row["labels"] = torch.full_like(row["labels"], -100)
    trainer = train(
        tmp_path,
        make("tokens"),
        rows,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=8,
        rdrop_alpha=rdrop_alpha,
        **{**SGD, "max_steps": 1},
    )
    trained, _, logs = loop(make("tokens"), trainer.data_collator.batches(1, 8), alpha=rdrop_alpha)
    assert_close(weights(trainer.model), trained)
    shown = trainer.state.log_history[0]
    assert shown["loss"] == pytest.approx(logs[0]["loss"], abs=2e-4)
    assert shown.get("loss_rdrop", 0.0) == pytest.approx(logs[0]["loss_rdrop"], abs=2e-4)


# ---- Losses


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize(
    "kwargs, formula",
    [({"gamma": 1.0}, lambda x, y: focal(x, y, 1.0)), ({"weight": [1.0, 3.0, 0.5]}, weighted_focal)],
    ids=["gamma", "weight"],
)
def test_arguments_of_the_loss(tmp_path, kwargs, formula, micro):
    """Class weights too: the mean divides by the weights of the whole batch, not of each micro-batch."""
    trainer = train(
        tmp_path,
        make(),
        data(),
        loss="focal",
        loss_kwargs=kwargs,
        per_device_train_batch_size=8 // micro,
        gradient_accumulation_steps=micro,
        **SGD,
    )
    model = make()
    for batch in trainer.data_collator.batches(3, micro):
        value = formula(
            *kept(model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"])
        )
        grads = torch.autograd.grad(value, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), grads):
                p -= 0.05 * g
    assert_close(weights(trainer.model), weights(model))


@pytest.mark.parametrize("ours, theirs", [NUMBERS["mse_corr"], NUMBERS["ccc"]], ids=["mse_corr", "ccc"])
def test_missing_numbers_count_for_nothing(tmp_path, ours, theirs):
    rows = data("numbers")
    for row in rows[::3]:
        row["labels"] = torch.tensor(-100.0)
    trainer = train(tmp_path, make("numbers"), rows, rdrop_alpha=1.5, **SGD, **ours)
    assert_close(
        weights(trainer.model),
        loop(make("numbers"), trainer.data_collator.batches(3), alpha=1.5, **theirs)[0],
    )


def test_multi_label(tmp_path):
    for kind, formula in (
        ({}, own),
        ({"loss": "focal", "loss_kwargs": {"alpha": 0.25, "gamma": 1.0}}, binary_focal),
    ):
        trainer = train(
            tmp_path,
            make("multi"),
            data("multi"),
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
            **SGD,
            **kind,
        )
        assert_close(
            weights(trainer.model), loop(make("multi"), trainer.data_collator.batches(3, 4), loss=formula)[0]
        )


def test_one_logit_for_yes_and_no(tmp_path):
    rows = [{**row, "labels": row["labels"] % 2} for row in data()]
    train(tmp_path, make("numbers"), rows, loss="dice", loss_kwargs={"activation": "sigmoid"}, **SGD)
    train(tmp_path, make("numbers"), rows, loss="focal", loss_kwargs={"alpha": None}, **SGD)


def test_evaluation_shows_the_loss_that_is_trained(tmp_path):
    rows, model = data(n=8), make()
    trainer = train(tmp_path, model, rows, loss="focal", rdrop_alpha=1.0, eval_dataset=rows, **SGD)
    batch = pad(rows)
    model.eval()
    expected = focal(
        model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"]
    ).item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert torch.from_numpy(trainer.predict(rows).predictions).shape == (8, 3)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"rdrop_alpha": 1.0}, {"alpha": 1.0}),
        ({"loss": "focal", "rdrop_alpha": 1.0}, {"alpha": 1.0, "loss": focal}),
    ],
    ids=["own", "focal"],
)
def test_model_that_returns_tuples(tmp_path, ours, theirs):
    model = make()
    model.forward = lambda **kwargs: BertForSequenceClassification.forward(model, **kwargs, return_dict=False)
    trainer = train(
        tmp_path, model, data(), eval_dataset=data(n=6), remove_unused_columns=False, **SGD, **ours
    )
    assert_close(weights(model), loop(make(), trainer.data_collator.batches(3), **theirs)[0])
    assert trainer.predict(data(n=6)).predictions.shape == (6, 3)


@pytest.mark.parametrize("classifier", [MeanPoolingClassifier, LastFourClassifier])
def test_our_classifiers_with_token_types(tmp_path, classifier):
    """``**inputs`` of a classifier are columns that Trainer would remove."""

    def fresh():
        torch.manual_seed(0)
        return classifier(
            BertModel(
                BertConfig(
                    **{**SIZES, "num_hidden_layers": 4},
                    hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0,
                )
            ),
            3,
            dropout=0.0,
        )

    def stack(rows):
        return {
            **pad(rows),
            "token_type_ids": nn.utils.rnn.pad_sequence(
                [row["token_type_ids"] for row in rows], batch_first=True
            ),
        }

    rows = [{**row, "token_type_ids": torch.arange(len(row["input_ids"])) % 2} for row in data(n=8)]
    model, expected = fresh(), fresh()
    TricksTrainer(
        model=model,
        args=TricksArguments(str(tmp_path), loss="focal", ema_decay=0.5, layer_decay=1.0, **QUIET, **SGD),
        train_dataset=rows,
        data_collator=stack,
    ).train()
    batch = stack(rows)
    labels = batch.pop("labels")
    for _ in range(3):
        expected.zero_grad()
        focal(expected(**batch).logits, labels).backward()
        with torch.no_grad():
            for p in expected.parameters():
                if p.grad is not None:
                    p -= 0.05 * p.grad
    assert_close(weights(model), weights(expected))


def test_collected_outputs_are_of_the_first_pass(tmp_path):
    trainer = train(tmp_path, make(), data(), rdrop_alpha=1.0, **SGD)
    trainer.current_gradient_accumulation_steps = 1
    batch = pad(data(n=4))
    trainer.model.train()
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    trainer.model.dropout.which = 0
    torch.testing.assert_close(outputs["logits"], trainer.model(**batch).logits)


# ---- Precision, clipping, compilation

ALL = {"loss": "focal", "rdrop_alpha": 1.5, "adversarial": "fgm", "ema_decay": 0.8, "layer_decay": 0.5}
ALL_OF_LOOP = {"loss": focal, "alpha": 1.5, "attack": "fgm", "decay": 0.8, "rate": rate_by_layer(0.5, 0.05)}


def test_gradient_clipping_sees_the_sum_of_all_parts(tmp_path):
    trainer = train(tmp_path, make(), data(), **{**SGD, "max_grad_norm": 0.05, **ALL})
    assert all(log["grad_norm"] > 0.05 for log in trainer.state.log_history[:3])
    assert_close(
        weights(trainer.model), loop(make(), trainer.data_collator.batches(3), clip=0.05, **ALL_OF_LOOP)[0]
    )


@pytest.mark.parametrize("attack", ["fgm", "pgd", "awp"])
def test_bf16_autocast(tmp_path, attack):
    trainer = train(tmp_path, make(), data(), bf16=True, **{**SGD, **ALL, "adversarial": attack})
    trained, average, _ = loop(
        make(), trainer.data_collator.batches(3), autocast=True, **{**ALL_OF_LOOP, "attack": attack}
    )
    assert_close(weights(trainer.model), trained, weights(make()), tolerance=5e-4)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


@pytest.mark.filterwarnings("ignore:.*TracerWarning|.*lru_cache|.*without active dropout:UserWarning")
def test_compiled(tmp_path):
    results = []
    for extra in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        rows = [{**row, "input_ids": row["input_ids"][:4]} for row in data()]
        results.append(
            train(
                tmp_path,
                make(masks=False),
                rows,
                eval_dataset=rows,
                eval_strategy="steps",
                eval_steps=1,
                **SGD,
                **ALL,
                **extra,
            )
        )
    assert_close(weights(results[1].model), weights(results[0].model), weights(make()))
    assert results[1].evaluate()["eval_loss"] == pytest.approx(results[0].evaluate()["eval_loss"], rel=1e-5)


@pytest.mark.parametrize("attack", ["fgm", "pgd", "awp"])
def test_gradient_scaler(tmp_path, attack):
    trainer = train(tmp_path, make(), data(), scale=2.0**16, **{**SGD, **ALL, "adversarial": attack})
    assert trainer.accelerator.scaler.get_scale() == 2.0**16  # was in use and met no overflow
    trained, average, _ = loop(make(), trainer.data_collator.batches(3), **{**ALL_OF_LOOP, "attack": attack})
    assert_close(weights(trainer.model), trained, weights(make()))
    with trainer.average_parameters():
        assert_close(weights(trainer.model), average)


def test_step_that_the_scaler_skips_moves_neither_weights_nor_average(tmp_path):
    """The gradient overflows: no attack, no step, and no step of the average, which would forget a part of
    the weights.
    """
    model = make()
    model.classifier.weight.data *= 1000
    start = weights(model)
    trainer = train(tmp_path, model, data(), scale=2.0**127, **{**SGD, **ALL, "max_steps": 2})
    assert trainer.accelerator.scaler.get_scale() < 2.0**127
    assert_equal(weights(model), start)
    assert trainer._ema.ema.num_updates == 0


# ---- Average, checkpoints


def weights_of(folder):
    return load_file(Path(folder) / "model.safetensors")


def test_average_is_evaluated_and_saved_and_training_goes_on_with_the_weights(tmp_path):
    rows, seen = data(), []

    def metrics(predictions):
        seen.append(weights(trainer_model))
        return {}

    trainer_model = make(masks=False)
    trainer = train(
        tmp_path,
        trainer_model,
        rows,
        eval_dataset=rows,
        compute_metrics=metrics,
        ema_decay=0.8,
        **{**SGD, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1},
    )
    trained, plain = weights(trainer_model), train(tmp_path / "plain", make(masks=False), rows, **SGD)
    assert_equal(trained, weights(plain.model))  # the average does not touch training
    average = weights(make(masks=False))
    steps = [
        train(tmp_path / str(n), make(masks=False), rows, **{**SGD, "max_steps": n}).model for n in (1, 2)
    ] + [plain.model]
    for step, model in enumerate(steps):
        average = {name: 0.8 * average[name] + 0.2 * value for name, value in weights(model).items()}
        assert_close(seen[step], average, tolerance=1e-6)
        saved = weights_of(tmp_path / f"checkpoint-{step + 1}")
        assert_equal({name: saved[name] for name in average}, seen[step])
    trainer.predict(rows)
    assert_equal(seen[-1], seen[2])
    trainer.save_model(tmp_path / "final")
    final = weights_of(tmp_path / "final")
    assert_equal({name: final[name] for name in average}, seen[2])
    with trainer.average_parameters(), trainer.average_parameters():
        assert_equal(weights(trainer_model), seen[2])
        trainer.evaluate()
    assert_equal(weights(trainer_model), trained)


def test_best_model_at_the_end_is_the_best_average(tmp_path):
    losses = iter([0.5, 0.1, 0.9])
    trainer = train(
        tmp_path,
        make(),
        data(),
        eval_dataset=data(n=4),
        compute_metrics=lambda _: {"error": next(losses, 0.3)},
        ema_decay=0.8,
        load_best_model_at_end=True,
        metric_for_best_model="error",
        greater_is_better=False,
        **{**SGD, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1},
    )
    best, model = weights_of(tmp_path / "checkpoint-2"), weights(trainer.model)
    assert_equal({name: best[name] for name in model}, model)
    trainer.save_model(tmp_path / "final")
    assert_equal(weights_of(tmp_path / "final"), best)  # not the last average
    logged = {log["step"]: log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log}
    assert trainer.evaluate()["eval_loss"] == pytest.approx(logged[2], rel=1e-6)


@pytest.mark.parametrize("call", ["evaluate", "predict", "save_model"])
def test_weights_come_back_when_it_fails(tmp_path, monkeypatch, call):
    trainer = train(tmp_path, make(), data(), ema_decay=0.8, eval_dataset=data(n=4), **SGD)
    trained = weights(trainer.model)

    def fails(*args, **kwargs):
        assert any(not torch.equal(value, trained[name]) for name, value in trainer.model.named_parameters())
        raise OSError("no space left")

    monkeypatch.setattr(trainer.model, "save_pretrained", fails)
    monkeypatch.setattr(trainer, "prediction_step", fails)
    with pytest.raises(OSError, match="no space"):
        getattr(trainer, call)(*([data(n=4)] if call == "predict" else []))
    assert_equal(weights(trainer.model), trained)
    with trainer.average_parameters():  # and it can be shown again
        pass


@pytest.mark.parametrize("attack", ["fgm", "pgd", "awp"])
def test_weights_come_back_when_the_attacked_pass_fails(tmp_path, attack):
    class Fails(TricksTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            if any(not torch.equal(value, start[name]) for name, value in model.named_parameters()):
                raise OSError("out of memory")
            return super().compute_loss(model, inputs, *args, **kwargs)

    model = make()
    start = weights(model)
    with pytest.raises(OSError, match="out of memory"):
        train(tmp_path, model, data(), Fails, adversarial=attack, **SGD)
    assert_equal(weights(model), start)


def test_attack_leaves_no_hook_behind(tmp_path):
    model = make(masks=False)
    trainer = train(tmp_path, model, data(), adversarial="fgm", **SGD)
    gc.collect()
    assert trainer.model is model
    assert (
        not model.bert.embeddings.word_embeddings._forward_hooks
        and not model.bert.embeddings.word_embeddings.weight._backward_hooks
    )


EVERYTHING = {
    "rdrop_alpha": 1.0,
    "adversarial": "fgm",
    "adversarial_start_step": 1,
    "ema_decay": 0.7,
    "layer_decay": 0.8,
    "head_learning_rate": 2e-2,
    "loss": "focal",
}
LONG = {
    "max_steps": 7,
    "learning_rate": 1e-2,
    "save_strategy": "steps",
    "save_steps": 2,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    **EVERYTHING,
}


def long_run(folder, **more):
    """Seven steps over two epochs with dropout, AdamW, clipping, all tricks; a checkpoint each second
    step.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adversarial 'fgm'", UserWarning)
        return train(
            folder, make("tokens", masks=False, hidden_dropout_prob=0.2), data("tokens"), **{**LONG, **more}
        )


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_run(folder):
    long_run(folder, callbacks=[Killed()])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = long_run(tmp_path_factory.mktemp("whole"))
    with trainer.average_parameters():
        average = weights(trainer.model)
    return trainer, average


# Within the first epoch, at its end, within the second.
@pytest.mark.parametrize(
    "step",
    [
        2,
        4,
        pytest.param(
            6,
            marks=pytest.mark.skipif(
                transformers.__version__ < "5",
                reason="plain Trainer of transformers 4.56 does not resume exactly in a later epoch either",
            ),
        ),
    ],
)
def test_resumes_bit_for_bit(tmp_path, uninterrupted, step):
    whole, average = uninterrupted
    checkpoint = Path(whole.args.output_dir) / f"checkpoint-{step}"
    trainer = long_run(tmp_path, resume=str(checkpoint))
    assert_equal(weights(trainer.model), weights(whole.model))
    with trainer.average_parameters():
        assert_equal(weights(trainer.model), average)
    assert trainer.state.log_history[-2]["loss"] == whole.state.log_history[-2]["loss"]


def test_killed_run_resumes_to_the_same_weights(tmp_path, uninterrupted):
    whole, average = uninterrupted
    script = f"from tests.test_trainer import killed_run; killed_run({str(tmp_path)!r})"
    root = Path(__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    trainer = long_run(tmp_path, resume=True)
    assert trainer.state.log_history[0]["step"] == 1  # the log of the killed run goes on
    assert_equal(weights(trainer.model), weights(whole.model))
    with trainer.average_parameters():
        assert_equal(weights(trainer.model), average)


def test_resumed_without_average_goes_on_with_the_trained_weights(tmp_path, uninterrupted):
    whole, _ = uninterrupted  # the average stands where Trainer looks for the weights
    trainer = long_run(tmp_path, resume=str(Path(whole.args.output_dir) / "checkpoint-4"), ema_decay=None)
    assert_equal(weights(trainer.model), weights(whole.model))


def test_resumed_with_another_decay(tmp_path, uninterrupted):
    trainer = long_run(
        tmp_path, resume=str(Path(uninterrupted[0].args.output_dir) / "checkpoint-6"), ema_decay=0.0
    )
    with trainer.average_parameters():
        average = weights(trainer.model)
    assert_equal(average, weights(trainer.model))


def test_checkpoint_without_average_is_an_error_with_ema(tmp_path):
    train(tmp_path, make(), data(), **{**SGD, "save_strategy": "steps", "save_steps": 2})
    with pytest.raises(ValueError, match="^resume_from_checkpoint: .* accepted"):
        train(tmp_path, make(), data(), resume=True, ema_decay=0.9, **SGD)


def test_second_training_starts_a_new_average(tmp_path):
    trainer = train(tmp_path, make(), data(), ema_decay=0.9, **SGD)
    trained = weights(trainer.model)
    trainer.args.max_steps = 1
    trainer.train()
    with trainer.average_parameters():
        average = weights(trainer.model)
    assert_close(
        average,
        {name: 0.9 * trained[name] + 0.1 * value for name, value in weights(trainer.model).items()},
        tolerance=1e-6,
    )


# ---- Optimizer


def test_rate_that_is_logged_is_the_top_layers(tmp_path):
    trainer = train(tmp_path, make(), data(), **{**SGD, "layer_decay": 0.5, "head_learning_rate": 0.3})
    assert trainer.state.log_history[0]["learning_rate"] == pytest.approx(0.05)
    assert {group["name"]: group["lr"] for group in trainer.optimizer.param_groups} == pytest.approx(
        {"embeddings": 0.0125, "layer 0": 0.025, "layer 1": 0.05, "top": 0.05, "head": 0.3}
    )


def test_weight_decay_leaves_biases_and_norms_alone(tmp_path):
    trainer = train(tmp_path, make(masks=False), data(), **{**SGD, "layer_decay": 0.5, "weight_decay": 0.1})
    decayed = {
        id(p)
        for group in trainer.optimizer.param_groups
        for p in group["params"]
        if group["weight_decay"] == 0.1
    }
    assert {name for name, p in trainer.model.named_parameters() if id(p) in decayed} == {
        name for name, p in trainer.model.named_parameters() if p.ndim > 1
    }


def test_optimizer_that_is_given_stays(tmp_path):
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = TricksTrainer(
        model=model,
        args=TricksArguments(str(tmp_path), **QUIET, **SGD),
        train_dataset=data(),
        data_collator=pad,
        optimizers=(optimizer, None),
    )
    assert trainer.create_optimizer() is optimizer


# ---- The embedded checkpoint


@pytest.mark.filterwarnings("ignore:.*without active dropout:UserWarning")  # the oracle has none
def test_mini_bert_with_all_tricks(tmp_path):
    def fresh():
        torch.manual_seed(0)
        model, tokenizer = models.load_encoder("mini_bert")
        (
            model.config.num_labels,
            model.config.hidden_dropout_prob,
            model.config.attention_probs_dropout_prob,
        ) = 4, 0.0, 0.0
        classifier = BertForSequenceClassification(model.config)
        classifier.bert.load_state_dict({**classifier.bert.state_dict(), **model.state_dict()})
        return classifier, tokenizer

    (model, tokenizer), expected = fresh(), fresh()[0]
    texts = [
        json.loads(line)["text"]
        for line in (models.ASSETS / "guest_notes" / "train.jsonl").read_text("utf-8").splitlines()[:8]
    ]
    rows = [
        {"input_ids": torch.tensor(tokenizer(text)["input_ids"]), "labels": torch.tensor(i % 4)}
        for i, text in enumerate(texts)
    ]
    theirs = {
        **ALL_OF_LOOP,
        "alpha": 1.0,
        "rate": lambda name: (
            0.05
            if (n := re.search(r"layer\.(\d)", name)) is None and "emb" not in name
            else 0.05 * 0.5 ** (3 - int(n[1]) if n else 4)
        ),
    }
    trainer = train(tmp_path, model, rows, **{**SGD, **ALL, "rdrop_alpha": 1.0, "max_steps": 2})
    trained, average, _ = loop(expected, trainer.data_collator.batches(2), **theirs)
    assert_close(weights(model), trained, tolerance=5e-5)
    with trainer.average_parameters():
        assert_close(weights(model), average, tolerance=5e-5)


# ---- Arguments


def test_command_line():
    (args,) = HfArgumentParser(TricksArguments).parse_args_into_dataclasses(
        [
            "--output_dir",
            "out",
            "--loss",
            "focal",
            "--loss_kwargs",
            '{"gamma": 1.5}',
            "--rdrop_alpha",
            "0.5",
            "--ema_decay",
            "0.9",
            "--report_to",
            "none",
        ]
    )
    assert (args.loss, args.loss_kwargs, args.rdrop_alpha, args.ema_decay, args.layer_decay) == (
        "focal",
        {"gamma": 1.5},
        0.5,
        0.9,
        None,
    )
    json.dumps(args.to_dict())


INF, NAN = float("inf"), float("nan")
BAD = {
    "unknown loss": ({"loss": "ce"}, ValueError, "loss"),
    "loss is a list": ({"loss": ["focal"]}, ValueError, "loss"),
    "loss_kwargs with the model's own loss": ({"loss_kwargs": {"gamma": 1.0}}, ValueError, "loss_kwargs"),
    "loss_kwargs is a list": ({"loss": "focal", "loss_kwargs": [1]}, TypeError, "loss_kwargs"),
    "loss_kwargs is text": ({"loss": "focal", "loss_kwargs": "gamma"}, TypeError, "loss_kwargs"),
    "argument of another loss": ({"loss": "focal", "loss_kwargs": {"smooth": 1.0}}, TypeError, "loss_kwargs"),
    "argument that ccc does not have": ({"loss": "ccc", "loss_kwargs": {"p": 1.0}}, TypeError, "loss_kwargs"),
    "argument out of range": ({"loss": "focal", "loss_kwargs": {"gamma": -1.0}}, ValueError, "loss_kwargs"),
    "sum": ({"loss": "focal", "loss_kwargs": {"reduction": "sum"}}, ValueError, "loss_kwargs"),
    "none": ({"loss": "dice", "loss_kwargs": {"reduction": "none"}}, ValueError, "loss_kwargs"),
    "weight of text": (
        {"loss": "focal", "loss_kwargs": {"weight": ["a"]}},
        (TypeError, ValueError),
        "loss_kwargs",
    ),
    "rdrop_alpha negative": ({"rdrop_alpha": -0.1}, ValueError, "rdrop_alpha"),
    "rdrop_alpha infinite": ({"rdrop_alpha": INF}, ValueError, "rdrop_alpha"),
    "rdrop_alpha NaN": ({"rdrop_alpha": NAN}, ValueError, "rdrop_alpha"),
    "rdrop_alpha None": ({"rdrop_alpha": None}, TypeError, "rdrop_alpha"),
    "unknown attack": ({"adversarial": "fgsm"}, ValueError, "adversarial"),
    "attack None": ({"adversarial": None}, ValueError, "adversarial"),
    "epsilon 0": ({"adversarial": "fgm", "adversarial_epsilon": 0.0}, ValueError, "adversarial_epsilon"),
    "epsilon without attack": ({"adversarial_epsilon": 1.0}, ValueError, "adversarial_epsilon"),
    "epsilon is text": ({"adversarial": "fgm", "adversarial_epsilon": "1"}, TypeError, "adversarial_epsilon"),
    "start negative": (
        {"adversarial": "fgm", "adversarial_start_step": -1},
        ValueError,
        "adversarial_start_step",
    ),
    "start is a float": (
        {"adversarial": "fgm", "adversarial_start_step": 1.0},
        TypeError,
        "adversarial_start_step",
    ),
    "start without attack": ({"adversarial_start_step": 5}, ValueError, "adversarial_start_step"),
    "start after the end": (
        {"adversarial": "fgm", "adversarial_start_step": 5, "max_steps": 5},
        ValueError,
        "adversarial_start_step",
    ),
    "ema_decay 1": ({"ema_decay": 1.0}, ValueError, "ema_decay"),
    "ema_decay negative": ({"ema_decay": -0.1}, ValueError, "ema_decay"),
    "ema_decay True": ({"ema_decay": True}, TypeError, "ema_decay"),
    "layer_decay 0": ({"layer_decay": 0.0}, ValueError, "layer_decay"),
    "layer_decay above 1": ({"layer_decay": 1.1}, ValueError, "layer_decay"),
    "head rate negative": ({"head_learning_rate": -1e-3}, ValueError, "head_learning_rate"),
    "head rate NaN": ({"head_learning_rate": NAN}, ValueError, "head_learning_rate"),
    "gather 1": ({"gather_batch_losses": 1}, TypeError, "gather_batch_losses"),
    "smoothed labels with another loss": (
        {"loss": "focal", "label_smoothing_factor": 0.1},
        ValueError,
        "label_smoothing_factor",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(tmp_path, case):
    arguments, error, name = BAD[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        TricksArguments(str(tmp_path), **QUIET, **arguments)


@pytest.mark.parametrize(
    "name, value",
    [("ema_decay", 0.9), ("layer_decay", 0.9), ("head_learning_rate", 0.1), ("adversarial", "fgm")],
)
def test_split_weights_are_an_error(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name}: .* accepted"):
        TricksArguments(str(tmp_path), **QUIET, **{name: value}, fsdp="full_shard")


def test_bad_trainer(tmp_path):
    for args in (None, TrainingArguments(str(tmp_path), **QUIET)):
        with pytest.raises(TypeError, match="^args: .* accepted"):
            TricksTrainer(model=make(), args=args)
    for arguments in ({"layer_decay": 0.9}, {"head_learning_rate": 0.1}):
        args, model = TricksArguments(str(tmp_path), **QUIET, **arguments), make()
        optimizers = torch.optim.SGD(model.parameters(), lr=0.1), None
        with pytest.raises(ValueError, match=f"^optimizers: .*{next(iter(arguments))}.* accepted"):
            TricksTrainer(model=model, args=args, optimizers=optimizers)
    for arguments in ({"loss": "focal"}, {"rdrop_alpha": 1.0}):
        with pytest.raises(ValueError, match="^compute_loss_func: .* accepted"):
            TricksTrainer(
                model=make(),
                args=TricksArguments(str(tmp_path), **QUIET, **arguments),
                compute_loss_func=print,
            )


def test_attack_that_would_begin_after_the_last_step(tmp_path):
    """Of a training by epochs the number of steps is known when it begins."""
    arguments = {**QUIET, **SGD, "max_steps": -1, "num_train_epochs": 1}
    with pytest.raises(ValueError, match="^adversarial_start_step: .* accepted"):
        train(tmp_path, make(), data(), **arguments, adversarial="fgm", adversarial_start_step=10**6)


def test_optimizer_with_layer_decay_is_made_by_trainer(tmp_path, monkeypatch):
    """What Trainer does around an optimizer (32 bits for embeddings, beside 8) is done with groups too."""
    made = []

    class Ours(torch.optim.SGD):
        def __init__(self, params, **kwargs):
            made.append(params)
            super().__init__(params, **kwargs)

    args = TricksArguments(str(tmp_path), layer_decay=0.5, **QUIET, **SGD)
    kwargs = {"model": make(), "args": args, "train_dataset": data(), "data_collator": pad}
    trainer = TricksTrainer(**kwargs, optimizer_cls_and_kwargs=(Ours, {"lr": 0.05, "momentum": 0.5}))
    groups = trainer.create_optimizer().param_groups
    assert len(made) == 1 and {group["momentum"] for group in groups} == {0.5}
    assert sorted({group["lr"] for group in groups}) == pytest.approx([0.0125, 0.025, 0.05])


def test_loss_outside_training_in_training_mode(tmp_path):
    args = TricksArguments(str(tmp_path), gradient_accumulation_steps=4, **QUIET, **SGD)
    trainer = TricksTrainer(model=make(), args=args, train_dataset=data(), data_collator=pad)
    batch = pad(data(n=4))
    assert_close({"": trainer.compute_loss(trainer.model.train(), batch)}, {"": trainer.model(**batch).loss})


def test_weights_are_counted_in_the_dataset_of_now(tmp_path):
    rows, args = data(), TricksArguments(str(tmp_path), loss="weighted", **QUIET, **SGD)
    trainer = TricksTrainer(model=make(), args=args, train_dataset=rows, data_collator=pad)
    before = trainer._loss.weight
    assert trainer._loss.weight is before
    trainer.train_dataset = [row for row in rows if row["labels"] != 0] + rows[:1]
    assert not torch.equal(trainer._loss.weight, before)


def test_ignored_label_of_ones_own(tmp_path):
    """It is ignored by the loss, the counting of classes, and R-Drop."""
    rows = data("tokens")
    named = [{**row, "labels": row["labels"].masked_fill(row["labels"] == -100, -1)} for row in rows]

    def batch(rows):
        inputs = pad(rows)
        return inputs | {"labels": inputs["labels"].masked_fill(inputs["labels"] == -100, -1)}

    found = []
    for given, collate, kwargs in ((rows, pad, {}), (named, batch, {"ignore_index": -1})):
        args = TricksArguments(
            str(tmp_path), loss="weighted", loss_kwargs=kwargs, rdrop_alpha=1.0, **{**QUIET, **SGD}
        )
        model = make("tokens")
        model.dropout.which = "both"
        TricksTrainer(model=model, args=args, train_dataset=given, data_collator=collate).train()
        found.append(weights(model))
    assert_close(*found)


def test_bad_batches(tmp_path):
    unlabelled = [{"input_ids": row["input_ids"][:4]} for row in data()]
    for arguments in ({"loss": "focal"}, {"rdrop_alpha": 1.0}):
        args = TricksArguments(str(tmp_path), **QUIET, **SGD, **arguments)
        with pytest.raises(ValueError, match="^inputs: .* accepted"):
            TricksTrainer(model=make(), args=args, train_dataset=unlabelled).train()
    with pytest.raises(ValueError, match="^labels: .*R-Drop.* accepted"):
        train(tmp_path, Constant(), data("numbers"), rdrop_alpha=1.0, **SGD)
    with pytest.raises(ValueError, match="^model: .*without logits.* accepted"):
        TricksTrainer(
            model=NoLogits(),
            args=TricksArguments(str(tmp_path), loss="focal", **QUIET, **SGD),
            train_dataset=data(),
            data_collator=pad,
        ).train()
    with pytest.raises(ValueError, match="^optim: .* accepted"):
        args = TricksArguments(str(tmp_path), layer_decay=0.9, **QUIET, **SGD)
        TricksTrainer(
            model=make(),
            args=args,
            train_dataset=data(),
            data_collator=pad,
            optimizer_cls_and_kwargs=(print, {}),
        ).train()


class Constant(BertForSequenceClassification):
    """Takes any labels, and none of them for the classes of its logits."""

    def __init__(self):
        super().__init__(BertConfig(**SIZES, num_labels=3))

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        output = super().forward(input_ids, attention_mask)
        return {"loss": output.logits.mean(), "logits": output.logits}


class NoLogits(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = make().bert

    def forward(self, input_ids, attention_mask=None, labels=None):
        return {"hidden": self.bert(input_ids, attention_mask).last_hidden_state}
