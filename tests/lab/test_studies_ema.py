"""Oracles: the schedule written out, the closed form of one average."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from tricks_lib.lab import fit, heads
from tricks_lib.lab.studies import ema as study


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.dropout = nn.Linear(3, 3), nn.Dropout(0.5)

    def forward(self, x, labels):
        logits = self.dropout(self.linear(x))
        return SequenceClassifierOutput(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


ROWS = [{"x": torch.eye(3)[i % 3], "labels": i % 3} for i in range(12)]


def stack(rows):
    return {
        "x": torch.stack([row["x"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def rates(monkeypatch, schedule, steps=10):
    """The learning rate of every step that fit takes."""
    seen, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, *a, **k: (step(self, *a, **k), seen.append(self.param_groups[0]["lr"]))[0],
    )
    study.train(
        Net(), ROWS, stack, schedule=schedule, decays={}, steps=steps, lr=1.0, batch_size=4, warmup=0.2
    )
    return seen


def test_linear_schedule_is_that_of_fit(monkeypatch):
    assert rates(monkeypatch, "linear") == pytest.approx([0.5, 1] + [(10 - s) / 8 for s in range(2, 10)])


def test_constant_schedule_rises_and_stays_and_does_not_outlive_its_training(monkeypatch):
    assert rates(monkeypatch, "constant") == pytest.approx([0.5] + [1] * 9)
    assert rates(monkeypatch, "linear")[-1] == pytest.approx(1 / 8)


def test_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match="^schedule: 'cosine' given, .* accepted"):
        study.train(Net(), ROWS, stack, schedule="cosine", decays={}, steps=1, lr=1.0)


def test_averages_do_not_change_the_training_and_equal_the_closed_form():
    alone, model, path = Net(), Net(), []
    start = model.linear.bias.detach().clone()
    size, decays = {"steps": 6, "lr": 0.1, "batch_size": 4}, {"short": 0.5, "long": 0.9}

    def watch(averages):
        path.append(model.linear.bias.detach().clone())
        model.eval()  # and training must go on with dropout

    fit.fit(alone, ROWS, stack, **size)
    averages = study.train(model, ROWS, stack, schedule="linear", decays=decays, watch=watch, **size)
    assert torch.equal(alone.linear.weight, model.linear.weight)
    assert list(averages) == list(decays)
    for name, d in decays.items():
        expected = d**6 * start + (1 - d) * sum(d ** (6 - i) * w for i, w in enumerate(path, 1))
        torch.testing.assert_close(averages[name].state_dict()["shadow"]["linear.bias"], expected)


def test_predictions_are_of_every_average_and_the_weights_come_back():
    model, size = Net(), {"steps": 9, "lr": 0.5, "batch_size": 4}
    averages = study.train(model, ROWS, stack, schedule="linear", decays={"EMA": 0.999}, **size)
    before = model.linear.weight.detach().clone()
    found = study.predictions(model, averages, ROWS, stack)
    loss = {name: study.losses(*outputs).mean() for name, outputs in found.items()}
    assert list(loss) == ["last", "EMA"] and loss["last"] < loss["EMA"]
    assert torch.equal(model.linear.weight, before)


def test_losses_of_the_texts_are_their_cross_entropies():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 4)).astype(np.float32), rng.integers(0, 4, 20)
    found = study.losses(logits, labels)
    exponents = np.exp(logits.astype(np.float64))
    assert found == pytest.approx(-np.log(exponents[np.arange(20), labels] / exponents.sum(1)))


def test_follow_and_noisy_descent():
    path = study.noisy_descent(30, 0.1, noise=0.0, start=1.0)
    assert path == pytest.approx(0.9 ** np.arange(31))
    average = study.follow(path, decay=0.8)
    assert average[0] == 1 and average[-1] == pytest.approx(
        0.8**30 + 0.2 * sum(0.8 ** (30 - i) * path[i] for i in range(1, 31))
    )


def test_last_weights_and_average_of_a_head_learn_from_the_vectors_of_a_frozen_encoder():
    import datasets
    from transformers import BertModel

    from tests.lab.conftest import WORDS, tiny_config, tiny_tokenizer

    texts = {"text": [" ".join(WORDS[-3:]), WORDS[-1]] * 4, "label": [0, 1] * 4}
    data = datasets.DatasetDict(train=datasets.Dataset.from_dict(texts))
    encoder = BertModel(tiny_config()).eval()
    rows = heads.embedded(encoder, tiny_tokenizer(), data, 8)["train"]
    H = encoder.config.hidden_size
    assert [row["labels"].item() for row in rows] == [0, 1] * 4 and rows[0]["vectors"].shape == (H,)
    collate, size = torch.utils.data.default_collate, {"steps": 60, "lr": 1e-2, "batch_size": 8}
    head = heads.Head(H, 2)
    averages = study.train(head, rows, collate, schedule="constant", decays={"EMA": 0.9}, **size)
    found = study.predictions(head, averages, rows, collate)
    assert list(found) == ["last", "EMA"]
    assert all((logits.argmax(1) == labels).all() for logits, labels in found.values())
