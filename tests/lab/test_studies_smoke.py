"""Every registered experiment from its command to its record, in miniature: made-up rows of the same kind,
two steps, two seeds, and a tiny BERT in place of each."""

import dataclasses
import functools
import inspect
import random
import sys

import pyarrow
import pyarrow.parquet
import pytest

from tricks_lib.lab import __main__ as cli
from tricks_lib.lab import experiment as lab
from tricks_lib.lab import fit, records, tasks

from .conftest import WORDS, tiny_config, tiny_tokenizer

ALL, MODEL = list(lab.registry().values()), "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with a BERT of six layers under the name of the table's model."""
    import torch
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    BertModel(tiny_config(num_hidden_layers=6, max_position_embeddings=512)).save_pretrained(folder / MODEL)
    tiny_tokenizer().save_pretrained(folder / MODEL)
    return folder


def rows(count: int, rng) -> list[dict]:
    """Rows as those of a registered data set."""

    def text():
        return [rng.choice(WORDS) for _ in range(rng.randint(3, 9))]

    return [{"text": " ".join(text()), "label": "AB"[i % 2]} for i in range(count)]


def forget():
    """Empty the caches of the studies, whose keys are names."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("tricks_lib.lab.studies.", "tricks_lib.lab.pretraining.worth")):
            for _, function in inspect.getmembers(
                module, lambda each: isinstance(each, functools._lru_cache_wrapper)
            ):
                function.cache_clear()


@pytest.fixture
def place(tmp_path, checkpoints, monkeypatch):
    """Where ``TRICKS_DATA`` is, with made-up rows under every registered name of the table."""
    forget()
    for name in {each.data for each in ALL if each.data in tasks.TASKS and not tasks.TASKS[each.data].folder}:
        (tmp_path / name).mkdir()
        rng = random.Random(name)
        for split, count in zip(tasks.TASKS[name].splits, (40, 24, 24)):
            pyarrow.parquet.write_table(
                pyarrow.Table.from_pylist(rows(count, rng)), tmp_path / name / f"{split}.parquet"
            )
        monkeypatch.setitem(tasks.TASKS, name, dataclasses.replace(tasks.TASKS[name], sha256=()))
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
    """Two seeds, the first grid point, two optimizer steps, the tiny BERT, four arms."""
    model = MODEL if experiment.model == "mini_bert" else experiment.model
    kept = [experiment.baseline, *[arm for arm in experiment.arms if arm != experiment.baseline][-3:]]
    arms = {
        arm: {**experiment.arms[arm], **({"steps": 2} if "steps" in experiment.arms[arm] else {})}
        for arm in kept
    }
    return dataclasses.replace(
        experiment, model=model, arms=arms, grid={k: v[:1] for k, v in experiment.grid.items()}, seeds=(0, 1)
    )


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
