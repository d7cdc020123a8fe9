"""The helpers of the R-Drop study: what they promise, on the embedded checkpoint and a few notes."""

import pytest
import torch

from tricks_lib.lab.studies import rdrop as study
from tricks_lib.rdrop import symmetric_kl


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setenv("TRICKS_PROFILE", "mini")


@pytest.fixture(scope="module")
def few():
    """Encoder, tokenizer and five short notes."""
    from tricks_lib.lab import models, tasks

    encoder, tokenizer = models.load_encoder("mini_bert")
    return encoder, tokenizer, tasks.load_task("guest_notes/topic")["test"].select(range(5))


def test_upper_layers_on_the_states_below_equal_the_whole_encoder(few):
    encoder, tokenizer, notes = few
    rows = study.states_below(encoder, tokenizer, notes, 24, 2)
    batch = torch.utils.data.default_collate(rows)
    whole = tokenizer(list(notes["text"]), padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        ours, expected = study.UpperLayers(encoder, 2)(batch["input_ids"], batch["attention_mask"]), encoder(**whole)
    keep = batch["attention_mask"].bool()
    torch.testing.assert_close(ours.last_hidden_state[keep], expected.last_hidden_state[keep], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.pooler_output, expected.pooler_output, rtol=1e-4, atol=1e-4)
    assert batch["labels"].tolist() == list(notes["label"])


@pytest.fixture(scope="module")
def model(few):
    encoder, _, _ = few
    torch.manual_seed(0)
    return study.classifier(study.UpperLayers(encoder, 1), 8, "mean")


def test_two_passes_differ_repeat_by_seed_and_leave_no_trace(few, model):
    encoder, tokenizer, notes = few
    rows = study.states_below(encoder, tokenizer, notes, 16, 1)
    batch = torch.utils.data.default_collate(rows)
    model.eval()
    before = torch.get_rng_state()
    p, q = study.two_passes(model, batch, seed=3)
    again, _ = study.two_passes(model, batch, seed=3)
    assert torch.equal(p, again) and not torch.equal(p, q) and torch.equal(before, torch.get_rng_state()) and not model.training
    assert study.disagreement(model, rows, torch.utils.data.default_collate) == pytest.approx(symmetric_kl(*study.two_passes(model, batch)).item(), rel=1e-5)


def test_arms_have_the_same_compute_or_less_than_twice_the_steps():
    arms = study.arms(0.5, 8.0)
    assert list(arms) == ["baseline", "twice the steps", "R-Drop, alpha 0.5", "R-Drop, alpha 8"]
    assert max(each["times"] * (2 if each["alpha"] else 1) for each in arms.values()) == arms["twice the steps"]["times"]


def test_train_takes_the_steps_and_the_loss_of_the_arm(few, model):
    encoder, tokenizer, notes = few
    rows = study.states_below(encoder, tokenizer, notes, 16, 1)
    seen = []
    handle = model.register_forward_hook(lambda module, args, kwargs, output: seen.append(len(kwargs["labels"])), with_kwargs=True)
    options = {"steps": 1, "seed": 0, "lr": 1e-4, "batch_size": 4, "device": "cpu"}
    stack = torch.utils.data.default_collate
    assert len(study.train(model, rows, stack, {"times": 2, "alpha": 0.0}, **options)) == 2
    assert len(study.train(model, rows, stack, {"times": 1, "alpha": 1.0}, **options)) == 1
    handle.remove()
    assert seen == [4, 4, 8]


def test_draw_is_without_replacement_and_by_seed():
    rows = list(range(50))
    assert study.draw(rows, 20, 1) == study.draw(rows, 20, 1) != study.draw(rows, 20, 2) and len({*study.draw(rows, 20, 1)}) == 20
