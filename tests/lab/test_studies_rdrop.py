"""The helpers of the R-Drop study: what they promise, on the embedded checkpoint and a few notes."""

import pytest
import torch

from tricks_lib.lab import heads, models, tasks
from tricks_lib.lab.studies import rdrop as study

STACK = torch.utils.data.default_collate


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setenv("TRICKS_PROFILE", "mini")


@pytest.fixture(scope="module")
def rows():
    """Five short notes as vectors."""
    encoder, tokenizer = models.load_encoder("mini_bert")
    notes = tasks.load_task("guest_notes/topic")["test"].select(range(5))
    return heads.embedded(encoder, tokenizer, {"test": notes}, 32)["test"]


@pytest.fixture
def model():
    return heads.Head(192, 8, hidden=256, normed=False)


def test_two_passes_differ_repeat_and_leave_no_trace(rows, model):
    batch, before = STACK(rows), torch.get_rng_state()
    model.eval()
    p, q = study.two_passes(model, batch)
    again, _ = study.two_passes(model, batch)
    assert (
        torch.equal(p, again)
        and not torch.equal(p, q)
        and torch.equal(before, torch.get_rng_state())
        and not model.training
    )


def test_train_takes_the_steps_and_the_loss_of_the_arm(rows, model):
    seen = []
    model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(len(kwargs["labels"])), with_kwargs=True
    )
    options = {"steps": 1, "seed": 0, "lr": 1e-4, "batch_size": 4, "device": "cpu"}
    study.train(model, rows, STACK, {"times": 2, "alpha": 0.0}, **options)
    study.train(model, rows, STACK, {"times": 1, "alpha": 1.0}, **options)
    assert seen == [4, 4, 8]


def test_correct_rows_are_those_the_model_classifies_correctly(rows, model):
    right = study.correct(model, rows, STACK)
    with torch.no_grad():
        expected = [model.eval()(**STACK([row])).logits.argmax().item() == row["labels"] for row in rows]
    assert right.tolist() == expected


def test_dropout_of_an_arm_reaches_every_layer():
    _, _, _, make = study.prepare("guest_notes/topic", frozen=False)

    def rates(model):
        return {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}

    assert rates(make(0)) == {0.1} and rates(make(0, dropout=0.3)) == {0.3}
    _, _, _, make = study.prepare("guest_notes/topic", frozen=True)
    assert rates(make(0)) == {0.1} and rates(make(0, dropout=0.3)) == {0.3}
