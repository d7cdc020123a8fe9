"""The helpers of the study of the correlation loss: what they promise, on a small head and a few vectors."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import pearsonr

from tricks_lib.lab import heads
from tricks_lib.lab.studies import mse_corr_loss as study
from tricks_lib.mse_corr_loss import ccc_loss, mse_corr_loss

STACK = torch.utils.data.default_collate
SIZE = {"steps": 3, "lr": 1e-2, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    return [{"vectors": v, "labels": v.sum() + 0.5} for v in torch.randn(24, 6, generator=generator)]


@pytest.fixture
def model():
    return heads.Head(6, 1)


def test_losses_are_what_their_names_say():
    x, y = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    found = {name: loss(x, y).item() for name, loss in study.losses(0.5, 5.0).items()}
    assert found == {
        "MSE": F.mse_loss(x, y).item(),
        "MSE + corr, p 0.5": mse_corr_loss(x, y, 0.5).item(),
        "MSE + corr, p 5": mse_corr_loss(x, y, 5.0).item(),
        "CCC": ccc_loss(x, y).item(),
    }
    assert len({*found.values()}) == 4


def test_first_loss_of_training_is_that_of_the_arm(rows, model):
    batch, model.layers[3].p = STACK(rows), 0.0
    start = model(batch["vectors"]).logits[:, 0]
    for loss in study.losses(1.5).values():
        fresh = heads.Head(6, 1, dropout=0.0)
        fresh.load_state_dict(model.state_dict())
        losses = study.train(fresh, rows, STACK, loss, seed=0, **{**SIZE, "batch_size": 24})
        assert len(losses) == 3 and losses[0] == pytest.approx(loss(start, batch["labels"]).item(), rel=1e-5)


def test_scores_equal_scipy(rows, model):
    batch = STACK(rows)
    x, y = model.eval()(batch["vectors"]).logits[:, 0].detach().numpy(), batch["labels"].numpy()
    expected = {"pearson": pearsonr(x, y)[0], "spread": x.std() / y.std()}
    assert study.scores(model, rows, STACK) == pytest.approx(expected, rel=1e-4)


def test_constant_predictions_have_correlation_zero(rows, model):
    torch.nn.init.zeros_(model.layers[-1].weight)
    found = study.scores(model, rows, STACK)
    assert found["pearson"] == found["spread"] == 0


def test_watch_looks_before_and_every_so_many_steps_and_changes_nothing(rows, model):
    alone, task = heads.Head(6, 1), SimpleNamespace(rows={"test": rows}, stack=STACK)
    alone.load_state_dict(model.state_dict())
    look, seen = study.watch(task, every=2)
    look(model)
    watched = study.train(model, rows, STACK, F.mse_loss, seed=0, after_step=look, **{**SIZE, "steps": 5})
    assert [each["step"] for each in seen] == [0, 2, 4]
    assert watched == study.train(alone, rows, STACK, F.mse_loss, seed=0, **{**SIZE, "steps": 5})


def test_comparison_is_of_seeds_and_texts_with_holm_over_the_arms():
    generator = np.random.default_rng(0)
    targets = generator.normal(size=40)
    noise = generator.normal(size=(8, 40))
    outputs = {"MSE": targets + noise, "close": targets + 0.2 * noise, "same": 3 * (targets + noise)}
    found = study.compared(outputs, targets, "pearson")
    gain = [
        pearsonr(a, targets)[0] - pearsonr(b, targets)[0] for a, b in zip(outputs["close"], outputs["MSE"])
    ]
    assert found["close"]["mean"] == pytest.approx(np.mean(gain)) and found["close"]["verdict"] == "better"
    assert found["close"]["holm"] == pytest.approx(2 * found["close"]["p"]) and found["close"]["n"] == 8
    assert found["same"]["verdict"] == "no difference shown"
    assert study.compared(outputs, targets, "rmse")["same"]["verdict"] == "worse"


@pytest.mark.parametrize("frozen", [False, True])
def test_labels_are_standardised_by_the_training_split(monkeypatch, frozen):
    import datasets
    from transformers import BertModel

    from tests.lab.conftest import WORDS, tiny_config, tiny_tokenizer

    def split(labels):
        return datasets.Dataset.from_dict({"text": [" ".join(WORDS[-3:])] * len(labels), "label": labels})

    data = datasets.DatasetDict(train=split([1.0, 3.0, 5.0, 3.0]), test=split([1.0, 7.0]))
    monkeypatch.setattr(study.tasks, "load_task", lambda name: data)
    monkeypatch.setattr(
        study.models, "load_encoder", lambda: (BertModel(tiny_config()).eval(), tiny_tokenizer())
    )
    task = study.prepare.__wrapped__("any", frozen=frozen, max_length=8)
    labels = {s: [float(row["labels"]) for row in task.rows[s]] for s in data}
    assert labels["train"] == pytest.approx([-(2**0.5), 0, 2**0.5, 0]) and labels["test"] == pytest.approx(
        [-(2**0.5), 4 / 2**0.5]
    )
    batch = task.stack(task.rows["train"])
    batch.pop("labels")
    assert task.make(0)(**batch).logits.shape == (4, 1)
    assert all(torch.equal(a, b) for a, b in zip(task.make(1).parameters(), task.make(1).parameters()))
