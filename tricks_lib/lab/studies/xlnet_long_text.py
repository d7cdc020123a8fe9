"""What of a long text does a reader see, and does it help? First tokens, head and tail, windows, segments,
segments with memory.

Demo: a reader learns from single notes, and then reads whole pages.
"""

import time

import numpy as np
import torch

from tricks_lib.lab import fit, tasks
from tricks_lib.xlnet_long_text import (
    SlidingWindowClassifier,
    XLNetLongClassifier,
    freeze_all_but_last,
    truncate_head_tail,
)

LENGTH = 128


# ---- Readers ----


def reader(
    encoder,
    num_labels: int,
    *,
    length: int = LENGTH,
    memory: int = 0,
    stride: int | None = None,
    pool: str = "mean",
):
    """A classifier of the package: segments for an ``XLNetModel``, windows for any other encoder."""
    if encoder.config.model_type == "xlnet":
        return XLNetLongClassifier(encoder, num_labels, segment_length=length, mem_len=memory, pool=pool)
    return SlidingWindowClassifier(
        encoder, num_labels, window_length=length, stride=stride or length, pool=pool
    )


def cut(rows: list[dict], keep: str = "all", length: int = LENGTH) -> list[dict]:
    """Rows of :func:`fit.tokenize`: all tokens of each, the ``"first"`` ones, or ``"head and tail"``."""
    part = {
        "all": lambda column: column,
        "first": lambda column: column[:length],
        "head and tail": lambda column: truncate_head_tail(torch.tensor([column]), length)[0].tolist(),
    }[keep]
    return [{k: v if k == "labels" else part(v) for k, v in row.items()} for row in rows]


def scores(model, rows: list[dict], collate_fn, batch_size: int = 16) -> np.ndarray:
    """Log odds (N,) of the second class against the first; computed by length, which saves padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    logits, _ = fit.predict(model, [rows[i] for i in order], collate_fn, batch_size)
    out = np.empty(len(rows), dtype=logits.dtype)
    out[order] = logits[:, 1] - logits[:, 0]
    return out


# ---- Demo: notes to learn from, pages to read ----


def notes(tokenizer, max_length: int = 48, seed: int = 0) -> list[dict]:
    """Training notes of ``guest_notes``: every one with a safety issue, and three others for each."""
    rows = fit.tokenize(tokenizer, tasks.load_task("guest_notes/safety_issue")["train"], max_length)
    issues = [row for row in rows if row["labels"] == 1]
    return issues + fit.draw([row for row in rows if row["labels"] == 0], 3 * len(issues), seed)


def choose(
    position, per_bin: int, without: int, width: int = 100, bins: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N,) of the first ``per_bin`` pages whose note starts in each bin of ``width`` words (the last
    bin is open), and of the first ``without`` pages that have none; and the bin of each, -1 for none."""
    place = np.where(np.asarray(position) < 0, -1, np.minimum(np.asarray(position) // width, bins - 1))
    index = np.concatenate(
        [np.flatnonzero(place == b)[: without if b < 0 else per_bin] for b in range(-1, bins)]
    )
    return index, place[index]


def marked(tokenizer, pages, max_length: int = 4096) -> list[dict]:
    """Rows of pages with a column ``note``: 1 for the tokens of the line that begins at word ``position``,
    else 0.
    """
    rows = fit.tokenize(tokenizer, pages, max_length)
    for row, page in zip(rows, pages):
        words, start, end = 0, 0, 0
        for line in page["text"].split("\n"):
            start, end = end, end + len(line) + 1
            if words == page["position"]:
                break
            words += len(line.split())
        else:
            start = end
        offsets = tokenizer(
            page["text"], truncation=True, max_length=max_length, return_offsets_mapping=True
        )["offset_mapping"]
        row["note"] = [int(a < b and start <= a < end) for a, b in offsets]
    return rows


def shown(rows: list[dict], keep: str, length: int = LENGTH) -> np.ndarray:
    """Share (N,) of the tokens of each row's note that :func:`cut` leaves."""
    return np.array(
        [sum(short["note"]) / max(1, sum(row["note"])) for row, short in zip(rows, cut(rows, keep, length))]
    )


def recall(values, place, alarms: float = 0.2) -> np.ndarray:
    """Share (bins,) of the pages of each bin whose score is above the (1 - ``alarms``) quantile of the pages
    without a note.
    """
    found = values > np.quantile(values[place < 0], 1 - alarms)
    return np.array([found[place == b].mean() for b in range(place.max() + 1)])


def train(
    encoder, rows, collate_fn, *, layers: int | None = None, seed=0, length=LENGTH, pool="max", **options
):
    """A reader of two classes, its last ``layers`` trained on ``rows``; options as :func:`fit.fit`."""
    torch.manual_seed(seed)
    model = reader(encoder, 2, length=length, pool=pool)
    if layers is not None:
        freeze_all_but_last(model, layers)
    fit.fit(model, rows, collate_fn, seed=seed, **options)
    return model


@torch.no_grad()
def sees(model, T: int) -> np.ndarray:
    """(T, T) bool: does the last state of token i change with token j? By changing each of T tokens in turn;
    ids below T + 1.
    """
    ids, states = torch.arange(1, T + 1).repeat(T + 1, 1), []
    ids[1:].fill_diagonal_(0)
    hook = model.encoder.register_forward_hook(lambda module, args, out: states.append(out.last_hidden_state))
    model(ids)
    hook.remove()
    states = torch.cat(states, dim=1)  # (T + 1, T, H)
    return ((states[1:] - states[0]).abs().amax(-1) > 1e-9).T.numpy()


@torch.no_grad()
def seconds(ways: dict, document, lengths, most: int) -> dict:
    """Way -> {tokens: CPU seconds} of one call after a short one; the first way, which is slow, up to
    ``most`` tokens.
    """
    out = {name: {} for name in ways}
    for name, way in ways.items():
        way(document[:, : lengths[0]])
        for T in lengths:
            if most >= T or name != next(iter(ways)):
                start = time.process_time()
                way(document[:, :T])
                out[name][T] = time.process_time() - start
    return out
