"""The public text of the pretraining: documents, what is held out, and batches of tokens."""

import hashlib
from pathlib import Path

import torch


def read_corpus(folder: Path, lines: bool) -> tuple[list[str], list[str], str]:
    """Training documents, held-out documents (1 % by hash of the text) and the file's sha256.

    Args:
        folder: holds ``train.parquet`` with a column ``text``.
        lines: a row is a line, and a hundred of them are one document.
    """
    import pyarrow.parquet

    file = folder / "train.parquet"
    if not file.is_file():
        raise FileNotFoundError(
            f"corpus: no file {file}; TRICKS_DATA or --data names the folder that holds {folder.name}/"
        )
    texts = pyarrow.parquet.read_table(file, columns=["text"])["text"].to_pylist()
    if lines:
        texts = ["\n".join(texts[i : i + 100]) for i in range(0, len(texts), 100)]
    held = [int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) % 100 == 0 for t in texts]
    train = [t for t, h in zip(texts, held) if not h]
    return train, [t for t, h in zip(texts, held) if h], hashlib.sha256(file.read_bytes()).hexdigest()


def end_of_document(tokenizer) -> int:
    return tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id


def token_stream(tokenizer, texts: list[str], lines: bool) -> dict[str, torch.Tensor]:
    """All documents as one stream: ``ids`` (N,) int16 with an end mark after each, ``starts``: where a row
    may begin.
    """
    ids, starts = [], []
    for i in range(0, len(texts), 1000):
        parts = [text.split("\n") if lines else [text] for text in texts[i : i + 1000]]
        rows = iter(
            tokenizer([line for part in parts for line in part], add_special_tokens=False, verbose=False)[
                "input_ids"
            ]
        )
        for part in parts:
            for _ in part:
                starts.append(len(ids))
                ids.extend(next(rows))
            ids.append(end_of_document(tokenizer))
    return {
        "ids": torch.tensor(ids, dtype=torch.int16),
        "starts": torch.tensor(starts if lines else [], dtype=torch.int32),
    }


def batch_of(stream, tokenizer, objective, recipe, step):
    """Rows cut from the stream at random places, and what is to be predicted. A function of seed and step
    alone, so that a resumed run reads what it would have read."""
    T = recipe.long_tokens if (step + 1) % recipe.long_every == 0 else recipe.tokens
    ids, starts = stream["ids"], stream["starts"]
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    B = recipe.batch_tokens // T
    if len(starts):
        begin = starts[torch.randint(len(starts), (B,), generator=generator)].long().clamp(max=len(ids) - T)
    else:
        begin = torch.randint(0, len(ids) - T, (B,), generator=generator)
    body = ids[begin[:, None] + torch.arange(T - objective.pads)].long()  # (B, T - pads)
    return objective.batch(body, tokenizer, recipe, generator)
