"""One short training loop, on ``accelerate.Accelerator``: one process, several GPUs and several machines run
it.
"""

import random
import sys

import numpy as np
import torch
from torch.utils.data import DataLoader

from tricks_lib._checks import number
from tricks_lib.lab.profiles import device as default_device


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def tokenize(tokenizer, dataset, max_length: int | None = None) -> list[dict]:
    """A list of ``{"input_ids", "attention_mask", "labels"}``, cut at ``max_length`` tokens and not yet
    padded.

    Args:
        tokenizer: a Hugging Face tokenizer.
        dataset: rows with ``text`` (and ``text_b``) and ``label``.
        max_length: in tokens, special tokens included; default: what the tokenizer says its model takes.

    Raises:
        ValueError: ``dataset`` is empty or lacks a column, or ``max_length`` leaves no room for a token.
    """
    if not len(dataset):
        raise ValueError("dataset: no rows given, at least one is accepted")
    if not {"text", "label"} <= {*dataset.column_names}:
        raise ValueError(
            f"dataset: columns {dataset.column_names} given, text, label and (if it is of pairs) text_b are "
            f"accepted"
        )
    if max_length is not None:
        number("max_length", max_length, 3, accepted="an integer of at least 3", integer=True)
    pair = [list(dataset["text_b"])] if "text_b" in dataset.column_names else []
    encoded = tokenizer(list(dataset["text"]), *pair, truncation=True, max_length=max_length)
    columns = {k: encoded[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in encoded}
    return [dict(zip([*columns, "labels"], row)) for row in zip(*columns.values(), dataset["label"])]


def draw(rows: list, count: int, seed: int) -> list:
    """``count`` of the rows, without replacement; all of them where there are fewer."""
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:count]]


def collate(tokenizer):
    """Pads a list of rows to its longest, on the tokenizer's side, and stacks the labels."""

    def stack(rows):
        labels = torch.as_tensor([row["labels"] for row in rows])
        batch = tokenizer.pad(
            [{k: v for k, v in row.items() if k != "labels"} for row in rows], return_tensors="pt"
        )
        return {**batch, "labels": labels}

    return stack


def of_logits(loss):
    """``loss_fn`` of :func:`fit`: ``loss(logits, labels)`` in place of the model's own."""
    return lambda model, batch: loss(
        model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"]
    )


def fit(
    model,
    rows,
    collate_fn,
    *,
    steps,
    lr,
    batch_size=32,
    warmup=0.1,
    weight_decay=0.01,
    max_grad_norm=1.0,
    seed=0,
    param_groups=None,
    loss_fn=None,
    after_backward=None,
    after_step=None,
    device=None,
):
    """Train for a number of steps with AdamW, linear warm-up and linear decay.

    Args:
        model: returns an output with ``loss`` when it is called with a batch.
        rows: what :func:`tokenize` returns.
        collate_fn: what :func:`collate` returns.
        steps: optimizer steps; the data is read again, in a new order, as often as it takes.
        lr: highest learning rate; ``warmup``: share of the steps in which it rises to that.
        param_groups: for the optimizer, in place of all parameters at one rate.
        max_grad_norm: gradients are clipped at this norm; 0 or None: they are not.
        loss_fn: ``loss_fn(model, batch) -> scalar`` in place of the model's own loss.
        after_backward: ``f(model, batch, accelerator)`` between backward and step (an attack's place).
        after_step: ``f(model)`` after each optimizer step (an average's place).
        device: default: the profile's.

    Returns:
        list of the loss at every step; the model is trained in place and left in evaluation mode.

    Raises:
        TypeError: ``steps`` or ``batch_size`` is not an integer, another number not a number.
        ValueError: ``steps``, ``lr`` or ``batch_size`` is not positive, ``rows`` is empty, ``warmup`` is
            outside [0, 1], ``weight_decay`` or ``max_grad_norm`` is negative, or the loss is not a scalar.
        FloatingPointError: the loss is not finite.
    """
    for name, value in [("steps", steps), ("batch_size", batch_size), ("rows", len(rows))]:
        number(
            name,
            value,
            1,
            accepted="a positive integer" if name != "rows" else "a list of at least one",
            integer=True,
        )
    number("lr", lr, sys.float_info.min, sys.float_info.max, accepted="a positive number")
    number("warmup", warmup, 0.0, 1.0)
    number("weight_decay", weight_decay, 0.0, sys.float_info.max, accepted="a number of at least 0")
    number("max_grad_norm", 0.0 if max_grad_norm is None else max_grad_norm, 0.0)
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=torch.device(device or default_device()).type == "cpu")
    seed_everything(seed)
    optimizer = torch.optim.AdamW(param_groups or model.parameters(), lr=lr, weight_decay=weight_decay)
    rise = max(1, round(warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / rise, (steps - s) / max(1, steps - rise))
    )
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        rows,
        batch_size=batch_size,
        shuffle=True,
        generator=order,
        collate_fn=collate_fn,
        drop_last=len(rows) >= batch_size,
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    model.train()
    while len(losses) < steps:
        for batch in loader:
            loss = loss_fn(model, batch) if loss_fn else model(**batch).loss
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                given = tuple(loss.shape) if isinstance(loss, torch.Tensor) else loss
                raise ValueError(
                    f"loss: {given} given by {'loss_fn' if loss_fn else 'the model'}, a scalar tensor is "
                    f"accepted"
                )
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {len(losses)}; lr is {lr}")
            accelerator.backward(loss)
            if after_backward:
                after_backward(model, batch, accelerator)
            if max_grad_norm:
                accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if after_step:
                after_step(model)
            losses.append(loss.item())
            if len(losses) == steps:
                break
    model.eval()
    return losses


@torch.no_grad()
def predict(model, rows, collate_fn, batch_size=64):
    """Logits (N, C) and labels (N,) or (N, C) of all rows, as NumPy arrays in the order of ``rows``.

    Raises:
        ValueError: ``rows`` is empty, or ``batch_size`` is not positive.
    """
    number("rows", len(rows), 1, accepted="a list of at least one", integer=True)
    number("batch_size", batch_size, 1, accepted="a positive integer", integer=True)
    where = next(model.parameters()).device
    logits, labels = [], []
    model.eval()
    for batch in DataLoader(rows, batch_size=batch_size, collate_fn=collate_fn):
        labels.append(batch["labels"])
        logits.append(model(**{k: v.to(where) for k, v in batch.items()}).logits.float().cpu())
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()


@torch.no_grad()
def encode(encoder, rows, collate_fn, read, batch_size=64, **options):
    """What is read of each row, (N, ...) on the CPU in the order of ``rows``, which are batched by length:
    that saves padding.

    Args:
        rows: what :func:`tokenize` returns. collate_fn: what :func:`collate` returns.
        read: ``read(output, attention_mask) -> (B, ...)``. options: of the encoder, besides its inputs.
    """
    where, out = next(encoder.parameters()).device, [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = {k: v.to(where) for k, v in collate_fn([rows[i] for i in chosen]).items() if k != "labels"}
        for i, row in zip(chosen, read(encoder(**batch, **options), batch["attention_mask"]).cpu()):
            out[i] = row
    return torch.stack(out)


@torch.no_grad()
def hidden_states(model, tokenizer, texts, batch_size=32, max_length=None):
    """Last hidden states (B, T, H) and mask (B, T) of each batch of texts, in order, padded to its longest
    text.

    Raises (when the first batch is asked for):
        TypeError: ``texts`` is one string.
        ValueError: ``texts`` is empty, or ``batch_size`` is not positive.
    """
    if isinstance(texts, str):
        raise TypeError("texts: one string given, a list of strings is accepted")
    number("texts", len(texts), 1, accepted="a list of at least one", integer=True)
    number("batch_size", batch_size, 1, accepted="a positive integer", integer=True)
    where = next(model.parameters()).device
    for i in range(0, len(texts), batch_size):
        batch = tokenizer(
            list(texts[i : i + batch_size]),
            padding=True,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        )
        batch = batch.to(where)
        yield model(**batch).last_hidden_state.float(), batch["attention_mask"]
