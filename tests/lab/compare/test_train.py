"""One training of an arm: read in several ways, on the rows of its seed, with a table cut to what occurs."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tricks_lib.lab.compare import arms, ask, classifier, comparison, records, tokens, train, verify

from ..conftest import WORDS


def texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(n)]


@pytest.fixture
def table(tmp_path):
    """A CSV of 120 texts; the label says whether "good" or "warm" occurs."""
    lines = [f"{t},{'yes' if {'good', 'warm'} & {*t.split()} else 'no'}" for t in dict.fromkeys(texts(120))]
    file = tmp_path / "notes.csv"
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


@pytest.fixture
def model(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("TRICKS_MODELS", str(checkpoint.parent))
    return checkpoint.name


def test_a_file_becomes_a_record_that_verify_accepts(table, model, tmp_path):
    out = tmp_path / "report"
    source = tokens.Source(str(table))
    made = ask.comparison(source, model, ["ema"], steps=4, max_length=16)
    assert [*made.arms] == ["baseline", "best checkpoint", "SWA", "EMA"]
    record = ask.compare(str(table), model, ["ema"], steps=4, max_length=16, out=out, progress=False)
    verify.verify(*records.load_file(out / "record.json"), "record.json")
    assert record["data"]["sizes"].keys() == {"train", "validation", "test"} and record["kind"] == "classes"
