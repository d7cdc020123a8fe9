"""The helpers of the R-Drop study: what they promise, on the embedded checkpoint and a few notes."""

import pytest
import torch

from tricks_lib.lab import heads
from tricks_lib.lab.studies import rdrop as study
from tricks_lib.rdrop import symmetric_kl

STACK = torch.utils.data.default_collate


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setenv("TRICKS_PROFILE", "mini")


@pytest.fixture(scope="module")
def few():
    """Encoder, tokenizer and five short notes."""
    from tricks_lib.lab import models, tasks

    encoder, tokenizer = models.load_encoder("mini_bert")
    return encoder, tokenizer, tasks.load_task("guest_notes/topic")["test"].select(range(5))


@pytest.fixture(scope="module")
def rows(few):
    encoder, tokenizer, notes = few
    return heads.embedded(encoder, tokenizer, {"test": notes}, 32)["test"]


@pytest.fixture
def model():
    return heads.Head(192, 8, hidden=256, normed=False)


def test_two_passes_differ_repeat_by_seed_and_leave_no_trace(rows, model):
    batch, before = STACK(rows), torch.get_rng_state()
    model.eval()
    p, q = study.two_passes(model, batch, seed=3)
    again, _ = study.two_passes(model, batch, seed=3)
    assert (
        torch.equal(p, again)
        and not torch.equal(p, q)
        and torch.equal(before, torch.get_rng_state())
        and not model.training
    )
    assert study.disagreement(model, rows, STACK) == pytest.approx(
        symmetric_kl(*study.two_passes(model, batch)).item(), rel=1e-5
    )


def test_arms_have_the_same_compute_or_less_than_twice_the_steps():
    arms = study.arms(0.5, 8.0)
    assert list(arms) == ["baseline", "twice the steps", "R-Drop, alpha 0.5", "R-Drop, alpha 8"]
    assert (
        max(each["times"] * (2 if each["alpha"] else 1) for each in arms.values())
        == arms["twice the steps"]["times"]
    )


def test_train_takes_the_steps_and_the_loss_of_the_arm(rows, model):
    seen = []
    model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(len(kwargs["labels"])), with_kwargs=True
    )
    options = {"steps": 1, "seed": 0, "lr": 1e-4, "batch_size": 4, "device": "cpu"}
    assert len(study.train(model, rows, STACK, {"times": 2, "alpha": 0.0}, **options)) == 2
    assert len(study.train(model, rows, STACK, {"times": 1, "alpha": 1.0}, **options)) == 1
    assert seen == [4, 4, 8]


def test_draw_is_without_replacement_and_by_seed():
    rows = list(range(50))
    assert (
        study.draw(rows, 20, 1) == study.draw(rows, 20, 1) != study.draw(rows, 20, 2)
        and len({*study.draw(rows, 20, 1)}) == 20
    )


def test_correct_rows_are_those_that_accuracy_counts(rows, model):
    right = study.correct(model, rows, STACK)
    with torch.no_grad():
        expected = [model.eval()(**STACK([row])).logits.argmax().item() == row["labels"] for row in rows]
    assert right.tolist() == expected and study.accuracy(model, rows, STACK) == right.mean()


def test_dropout_of_an_arm_reaches_every_layer():
    _, _, _, make = study.prepare("guest_notes/topic", frozen=False)

    def rates(model):
        return {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}

    assert rates(make(0)) == {0.1} and rates(make(0, dropout=0.3)) == {0.3}
    _, _, _, make = study.prepare("guest_notes/topic", frozen=True)
    assert rates(make(0)) == {0.1} and rates(make(0, dropout=0.3)) == {0.3}
