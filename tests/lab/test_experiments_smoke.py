"""Every registered experiment from its command to its record, in miniature: made-up rows, two steps, two
seeds, and a tiny BERT in place of mini_bert."""

import dataclasses
import functools
import random

import pyarrow
import pyarrow.parquet
import pytest

from tricks_lib.lab import __main__ as cli
from tricks_lib.lab import experiment as lab
from tricks_lib.lab import fit, records, tasks
from tricks_lib.lab.pretraining import worth

from .conftest import WORDS, tiny_config, tiny_tokenizer

ALL, MODEL, DATA = list(lab.registry().values()), "all-MiniLM-L6-v2", "en_trec"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with a small BERT under a name that is downloaded."""
    import torch
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    BertModel(tiny_config()).save_pretrained(folder / MODEL)
    tiny_tokenizer().save_pretrained(folder / MODEL)
    return folder


def rows(count: int, rng) -> list[dict]:
    """Rows as those of :data:`DATA`."""
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) for _ in range(count)]
    return [{"text": text, "label": "AB"[i % 2]} for i, text in enumerate(texts)]


def forget():
    """Empty the caches of the experiments, whose keys are names."""
    for function in vars(worth).values():
        if isinstance(function, functools._lru_cache_wrapper):
            function.cache_clear()


@pytest.fixture
def place(tmp_path, checkpoints, monkeypatch):
    """Where ``TRICKS_DATA`` is, with made-up rows under the one name that is downloaded."""
    forget()
    (tmp_path / DATA).mkdir()
    rng = random.Random(DATA)
    for split, count in zip(tasks.TASKS[DATA].splits, (40, 24, 24)):
        table = pyarrow.Table.from_pylist(rows(count, rng))
        pyarrow.parquet.write_table(table, tmp_path / DATA / f"{split}.parquet")
    monkeypatch.setitem(tasks.TASKS, DATA, dataclasses.replace(tasks.TASKS[DATA], sha256=()))
    monkeypatch.setattr(tasks, "guest_book", functools.partial(tasks.guest_book, pages=(2, 2, 2)))
    monkeypatch.setattr(
        fit,
        "fit",
        lambda *arguments, steps, run=fit.fit, **options: run(*arguments, steps=min(steps, 2), **options),
    )
    monkeypatch.setenv("TRICKS_DATA", str(tmp_path))
    monkeypatch.setenv("TRICKS_MODELS", str(checkpoints))
    yield tmp_path
    forget()


def small(experiment):
    """Two seeds, the first grid point, two optimizer steps, the tiny BERT."""
    model = MODEL if experiment.model == "mini_bert" else experiment.model
    grid = {name: values[:1] for name, values in experiment.grid.items()}
    return dataclasses.replace(experiment, model=model, grid=grid, seeds=(0, 1))


@pytest.mark.parametrize("experiment", ALL, ids=[each.name for each in ALL])
def test_it_runs_to_a_valid_record(place, monkeypatch, experiment):
    experiment = small(experiment)
    monkeypatch.setattr(lab, "registry", lambda: {experiment.name: experiment})
    assert cli.main(["run", experiment.name, "--folder", str(place / "records"), "--quiet"]) == 0
    record = records.load(experiment.name, place / "records")
    assert (
        list(record["arms"]) == list(experiment.arms)
        and record["metric"] == experiment.metric
        and record["data"]["name"] == experiment.data
    )
    for content in record["arms"].values():
        first, second = content["runs"]
        assert first.keys() == second.keys() and records.is_number(first[experiment.metric])
