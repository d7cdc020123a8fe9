"""The training loop: it learns, it repeats itself, it does what its arguments say, and it refuses what makes
no sense.
"""

import math
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from torch import nn

from tricks_lib.lab import fit
from tricks_lib.mean_pooling import MeanPoolingClassifier

from .conftest import tiny_config, tiny_tokenizer

TEXTS = {
    0: ["bad room", "the bed was cold", "loud", "we was not warm and the soup cold"],
    1: ["good soup", "very warm bed", "quiet and good room", "good"],
}


def notes(copies=8):
    rows = [(text, label) for label, texts in TEXTS.items() for text in texts] * copies
    return datasets.Dataset.from_dict({"text": [t for t, _ in rows], "label": [y for _, y in rows]})


def classifier(seed=0, dropout=0.0, num_labels=2):
    from transformers import BertModel

    torch.manual_seed(seed)
    encoder = BertModel(
        tiny_config(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout),
        add_pooling_layer=False,
    )
    return MeanPoolingClassifier(encoder, num_labels)


@pytest.fixture
def rows():
    return fit.tokenize(tiny_tokenizer(), notes())


COLLATE = fit.collate(tiny_tokenizer())


class Line(nn.Module):
    """logits = x w, so that every step can be followed by hand; x is the only token of a row."""

    def __init__(self, start=1.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([start]))

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = input_ids.float() * self.w
        return SimpleNamespace(logits=logits, loss=((logits[:, 0] - labels.float()) ** 2).mean())


def line_rows(n=8):
    return [{"input_ids": [i % 5 + 1], "attention_mask": [1], "labels": 3.0 * (i % 5 + 1)} for i in range(n)]


def plain(rows):
    return {
        "input_ids": torch.tensor([r["input_ids"] for r in rows]),
        "labels": torch.tensor([r["labels"] for r in rows]),
    }


# --- learning


def test_loss_falls_and_every_example_is_learnt(rows):
    model = classifier(dropout=0.1)
    losses = fit.fit(model, rows, COLLATE, steps=40, lr=1e-2, batch_size=16)
    assert len(losses) == 40 and all(isinstance(x, float) for x in losses)
    assert losses[0] == pytest.approx(math.log(2), abs=0.2)
    assert np.mean(losses[-10:]) < 0.1 * losses[0]
    logits, labels = fit.predict(model, rows, COLLATE)
    assert (logits.argmax(1) == labels).all()
    assert not model.training and next(model.parameters()).device.type == "cpu"


def test_same_seed_same_losses_and_weights_whatever_was_drawn_before(rows):
    runs = []
    for disturbance, seed in [(0, 5), (3, 5), (0, 6)]:
        model = classifier(dropout=0.1)
        torch.rand(disturbance), np.random.rand(disturbance)
        runs.append(
            (
                fit.fit(model, rows, COLLATE, steps=8, lr=1e-3, batch_size=16, seed=seed),
                [p.tolist() for p in model.parameters()],
            )
        )
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


def test_seed_everything_seeds_all_three_sources():
    drawn = []
    for _ in range(2):
        fit.seed_everything(11)
        drawn.append((fit.random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_each_epoch_reads_every_row_once_in_a_new_order():
    seen = []
    fit.fit(
        Line(),
        line_rows(8),
        lambda batch: (seen.append([r["input_ids"][0] for r in batch]), plain(batch))[1],
        steps=6,
        lr=1e-4,
        batch_size=4,
    )
    epochs = [sum(seen[i : i + 2], []) for i in (0, 2, 4)]
    assert all(sorted(e) == sorted(r["input_ids"][0] for r in line_rows(8)) for e in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


@pytest.mark.parametrize("n, batch_size, expected", [(10, 4, {4}), (3, 4, {3}), (4, 4, {4}), (1, 32, {1})])
def test_batches_are_full_unless_there_are_fewer_rows(n, batch_size, expected):
    sizes = []
    losses = fit.fit(
        Line(),
        line_rows(n),
        lambda batch: (sizes.append(len(batch)), plain(batch))[1],
        steps=7,
        lr=1e-4,
        batch_size=batch_size,
    )
    assert set(sizes) == expected and len(losses) == 7


@pytest.mark.parametrize("steps, warmup", [(10, 0.1), (10, 0.5), (20, 0.25), (7, 0.0), (4, 1.0), (1, 0.1)])
def test_learning_rate_rises_linearly_then_falls_linearly(steps, warmup):
    """AdamW on a constant gradient moves by the learning rate: each step of the weight is the rate of that
    step.
    """
    model, places = Line(), [1.0]

    def loss_fn(model, batch):
        return -100 * model.w.sum()

    fit.fit(
        model,
        line_rows(),
        plain,
        steps=steps,
        lr=0.01,
        warmup=warmup,
        weight_decay=0.0,
        loss_fn=loss_fn,
        after_step=lambda m: places.append(m.w.item()),
    )
    rise = max(1, round(warmup * steps))
    expected = [0.01 * min((s + 1) / rise, (steps - s) / max(1, steps - rise)) for s in range(steps)]
    assert np.diff(places) == pytest.approx(expected, rel=1e-3)
    assert max(expected) == pytest.approx(0.01) and expected[-1] > 0


def test_clipping_bounds_the_norm_of_the_gradient(rows):
    def norm(model):
        return torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()

    for limit, clipped in [(0.01, True), (None, False), (0, False), (1e6, False)]:
        before, after, model = [], [], classifier()
        step = torch.optim.AdamW.step

        def watched(self, *arguments, **keywords):
            after.append(norm(model))
            return step(self, *arguments, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", watched)
            fit.fit(
                model,
                rows,
                COLLATE,
                steps=3,
                lr=1e-3,
                max_grad_norm=limit,
                after_backward=lambda m, *_: before.append(norm(m)),
            )
        assert after == pytest.approx([limit] * 3 if clipped else before, rel=1e-3)


def test_weight_decay_pulls_to_zero():
    def loss_fn(model, batch):
        return 0 * model.w.sum()

    model = Line(1.0)
    fit.fit(model, line_rows(), plain, steps=1, lr=0.1, weight_decay=0.5, loss_fn=loss_fn)
    assert model.w.item() == pytest.approx(1 - 0.1 * 0.5)


# --- what is plugged in


def test_param_groups_train_what_they_hold_at_their_rate(rows):
    model = classifier()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    groups = [
        {"params": model.classifier.parameters(), "lr": 1e-2},
        {"params": model.encoder.encoder.layer[1].parameters(), "lr": 1e-4},
    ]
    fit.fit(model, rows, COLLATE, steps=1, lr=1.0, weight_decay=0.0, param_groups=groups)
    moved = {n: (p.detach() - before[n]).abs().max().item() for n, p in model.named_parameters()}
    assert moved["classifier.weight"] == pytest.approx(1e-2, rel=0.05)
    assert max(v for n, v in moved.items() if "layer.1." in n) == pytest.approx(1e-4, rel=0.05)
    assert {v for n, v in moved.items() if "classifier" not in n and "layer.1." not in n} == {0.0}


def test_loss_fn_takes_the_place_of_the_models_loss():
    model = Line(1.0)
    losses = fit.fit(
        model, line_rows(), plain, steps=2, lr=1e-9, loss_fn=lambda model, batch: 7 * model.w.sum()
    )
    assert losses == pytest.approx([7.0, 7.0], abs=1e-6)


def test_after_backward_sees_the_gradient_and_can_change_it():
    seen = []

    def erase(model, batch, accelerator):
        seen.append((model.w.grad.item() != 0, sorted(batch), hasattr(accelerator, "backward")))
        model.w.grad.zero_()

    model = Line()
    fit.fit(model, line_rows(), plain, steps=3, lr=0.1, weight_decay=0.0, after_backward=erase)
    assert seen == [(True, ["input_ids", "labels"], True)] * 3 and model.w.item() == 1.0


def test_after_step_comes_after_each_step_and_without_a_gradient():
    seen = []
    model = Line()
    fit.fit(
        model,
        line_rows(),
        plain,
        steps=4,
        lr=0.1,
        after_step=lambda m: seen.append((m.w.item(), m.w.grad, m.training)),
    )
    weights = [w for w, *_ in seen]
    assert len(set(weights)) == 4 and weights[-1] == model.w.item() and 1.0 not in weights
    assert all(grad is None and training for _, grad, training in seen)


def test_after_backward_comes_once_a_step_before_after_step():
    order = []
    fit.fit(
        Line(),
        line_rows(),
        plain,
        steps=2,
        lr=0.1,
        after_backward=lambda *_: order.append("backward"),
        after_step=lambda *_: order.append("step"),
    )
    assert order == ["backward", "step"] * 2


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_device_is_a_device_or_its_name(device):
    model = Line()
    fit.fit(model, line_rows(), plain, steps=1, lr=0.1, device=device)
    assert model.w.device.type == "cpu"


# --- refusals

GOOD = {"steps": 2, "lr": 1e-3, "batch_size": 4}
NAN, INF = float("nan"), float("inf")
REFUSED = {
    "no steps": ({"steps": 0}, ValueError, "steps: 0 given, a positive integer is accepted"),
    "negative steps": ({"steps": -3}, ValueError, "steps: -3 given"),
    "half a step": ({"steps": 2.5}, TypeError, "steps: 2.5 given, a positive integer"),
    "steps a string": ({"steps": "9"}, TypeError, "steps: '9' given"),
    "steps true": ({"steps": True}, TypeError, "steps: True given"),
    "no rate": ({"lr": 0}, ValueError, "lr: 0 given, a positive number is accepted"),
    "negative rate": ({"lr": -1e-3}, ValueError, "lr: -0.001 given"),
    "rate nan": ({"lr": NAN}, ValueError, "lr: nan given"),
    "rate infinite": ({"lr": INF}, ValueError, "lr: inf given"),
    "rate a string": ({"lr": "1e-3"}, TypeError, "lr: '1e-3' given"),
    "no batch": ({"batch_size": 0}, ValueError, "batch_size: 0 given, a positive integer"),
    "batch of halves": ({"batch_size": 1.5}, TypeError, "batch_size: 1.5 given"),
    "warm-up above 1": ({"warmup": 10}, ValueError, r"warmup: 10 given, a number in \[0.0, 1.0\]"),
    "negative warm-up": ({"warmup": -0.1}, ValueError, "warmup: -0.1 given"),
    "warm-up nan": ({"warmup": NAN}, ValueError, "warmup: nan given"),
    "negative decay": ({"weight_decay": -1}, ValueError, "weight_decay: -1 given"),
    "decay nan": ({"weight_decay": NAN}, ValueError, "weight_decay: nan given"),
    "negative norm": ({"max_grad_norm": -1.0}, ValueError, "max_grad_norm: -1.0 given"),
    "norm nan": ({"max_grad_norm": NAN}, ValueError, "max_grad_norm: nan given"),
    "loss a number": (
        {"loss_fn": lambda m, b: 0.5},
        ValueError,
        "loss: 0.5 given by loss_fn, a scalar tensor",
    ),
    "loss of each example": (
        {"loss_fn": lambda m, b: m.w * torch.ones(4)},
        ValueError,
        r"loss: \(4,\) given by loss_fn, a scalar tensor",
    ),
    "no loss": ({"loss_fn": lambda m, b: None}, ValueError, "loss: None given by loss_fn"),
}


@pytest.mark.parametrize("arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused_before_anything_is_trained(arguments, error, message):
    model = Line()
    with pytest.raises(error, match=message):
        fit.fit(model, line_rows(), plain, **{**GOOD, **arguments})
    assert model.w.item() == 1.0


@pytest.mark.parametrize("empty", [[], datasets.Dataset.from_dict({"input_ids": []})])
def test_no_rows_are_refused(empty):
    with pytest.raises(ValueError, match="rows: 0 given, a list of at least one is accepted"):
        fit.fit(Line(), empty, plain, **GOOD)
    with pytest.raises(ValueError, match="rows: 0 given, a list of at least one is accepted"):
        fit.predict(Line(), empty, plain)


def test_a_model_without_a_loss_is_refused():
    class Silent(Line):
        def forward(self, input_ids, labels=None):
            return SimpleNamespace(loss=None)

    with pytest.raises(ValueError, match="loss: None given by the model, a scalar tensor is accepted"):
        fit.fit(Silent(), line_rows(), plain, **GOOD)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("step", [0, 2])
def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(value, step):
    model, count = Line(), iter(range(100))

    def loss_fn(model, batch):
        return model.w.sum() * (value if next(count) == step else 1.0)

    places = []
    with pytest.raises(FloatingPointError, match=f"loss is {value} at step {step}; lr is 0.001"):
        fit.fit(
            model,
            line_rows(),
            plain,
            steps=5,
            lr=1e-3,
            batch_size=4,
            loss_fn=loss_fn,
            after_step=lambda m: places.append(m.w.item()),
        )
    assert len(places) == step and math.isfinite(model.w.item())


# --- tokens, batches, predictions, hidden states


def test_tokenize_gives_ids_mask_and_label_of_each_row():
    tokenizer = tiny_tokenizer()
    rows = fit.tokenize(tokenizer, notes(1))
    assert [tokenizer.decode(r["input_ids"], skip_special_tokens=True) for r in rows] == notes(1)["text"][:]
    assert [r["labels"] for r in rows] == [0] * 4 + [1] * 4
    assert all(
        len(r["attention_mask"]) == len(r["input_ids"]) and set(r["attention_mask"]) == {1} for r in rows
    )


def test_tokenize_cuts_at_max_length_special_tokens_included():
    tokenizer = tiny_tokenizer()
    for max_length in (3, 5, 64):
        rows = fit.tokenize(tokenizer, notes(1), max_length)
        assert max(len(r["input_ids"]) for r in rows) == min(max_length, 10)
        assert all(r["input_ids"][0] == 2 and r["input_ids"][-1] == 3 for r in rows)


def test_tokenize_joins_pairs_with_their_types():
    tokenizer = tiny_tokenizer()
    pairs = datasets.Dataset.from_dict(
        {"text": ["a room", "soup"], "text_b": ["bed", "the bed was"], "label": [0.5, 1.0]}
    )
    rows = fit.tokenize(tokenizer, pairs)
    assert [tokenizer.decode(r["input_ids"]) for r in rows] == [
        "[CLS] a room [SEP] bed [SEP]",
        "[CLS] soup [SEP] the bed was [SEP]",
    ]
    assert rows[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1] and [r["labels"] for r in rows] == [0.5, 1.0]


TOKENIZE_REFUSED = {
    "no rows": (
        datasets.Dataset.from_dict({"text": [], "label": []}),
        {},
        ValueError,
        "dataset: no rows given, at least one is accepted",
    ),
    "no text": (
        datasets.Dataset.from_dict({"x": ["a"], "label": [1]}),
        {},
        ValueError,
        r"dataset: columns \['x', 'label'\] given, text, label",
    ),
    "no label": (
        datasets.Dataset.from_dict({"text": ["a"]}),
        {},
        ValueError,
        r"dataset: columns \['text'\] given",
    ),
    "no room": (notes(1), {"max_length": 2}, ValueError, "max_length: 2 given, an integer of at least 3"),
    "length of halves": (notes(1), {"max_length": 7.5}, TypeError, "max_length: 7.5 given"),
}


@pytest.mark.parametrize(
    "dataset, arguments, error, message", TOKENIZE_REFUSED.values(), ids=TOKENIZE_REFUSED
)
def test_tokenize_refuses(dataset, arguments, error, message):
    with pytest.raises(error, match=message):
        fit.tokenize(tiny_tokenizer(), dataset, **arguments)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_stands_on_the_tokenizers_side(side):
    tokenizer = tiny_tokenizer(side)
    rows = fit.tokenize(tokenizer, notes(1))
    batch = fit.collate(tokenizer)(rows)
    T = max(len(r["input_ids"]) for r in rows)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (8, T)
    for row, ids, mask in zip(rows, batch["input_ids"].tolist(), batch["attention_mask"].tolist()):
        padding = [0] * (T - len(row["input_ids"]))
        assert ids == (row["input_ids"] + padding if side == "right" else padding + row["input_ids"])
        assert mask == (
            [1] * len(row["input_ids"]) + padding
            if side == "right"
            else padding + [1] * len(row["input_ids"])
        )
    assert "labels" in rows[0], "collate changes no row"


@pytest.mark.parametrize(
    "labels, dtype, shape",
    [
        ([1, 0], torch.int64, (2,)),
        ([0.5, 4.0], torch.float32, (2,)),
        ([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], torch.float32, (2, 3)),
    ],
)
def test_collate_stacks_every_kind_of_label(labels, dtype, shape):
    batch = COLLATE([{"input_ids": [2, 3], "attention_mask": [1, 1], "labels": y} for y in labels])
    assert (
        batch["labels"].dtype == dtype
        and batch["labels"].shape == shape
        and batch["labels"].tolist() == labels
    )


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predictions_stand_in_the_order_of_the_rows_and_ignore_their_neighbours(batch_size):
    rows, model = fit.tokenize(tiny_tokenizer(), notes(1)), classifier(dropout=0.5, num_labels=8)
    for i, row in enumerate(rows):
        row["labels"] = i
    model.train()
    logits, labels = fit.predict(model, rows, COLLATE, batch_size)
    assert (
        logits.shape == (8, 8)
        and logits.dtype == np.float32
        and labels.tolist() == list(range(8))
        and not model.training
    )
    for row, found in zip(rows, logits):
        with torch.no_grad():
            alone = model(torch.tensor([row["input_ids"]]), torch.tensor([row["attention_mask"]])).logits[0]
        assert found == pytest.approx(alone.numpy(), abs=1e-5)
    assert not any(p.grad is not None for p in model.parameters())


def test_predictions_of_several_labels_and_of_numbers():
    for labels, num_labels in [([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], 2), ([0.5, 2.0, 5.0], 1)]:
        rows = [
            {"input_ids": [2, 7 + i, 3], "attention_mask": [1, 1, 1], "labels": y}
            for i, y in enumerate(labels)
        ]
        logits, found = fit.predict(classifier(num_labels=num_labels), rows, COLLATE, 2)
        assert logits.shape == (3, num_labels) and found.tolist() == labels


def test_predict_refuses_an_empty_batch(rows):
    with pytest.raises(ValueError, match="batch_size: 0 given, a positive integer is accepted"):
        fit.predict(classifier(), rows, COLLATE, 0)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_hidden_states_are_those_of_each_text_alone(batch_size):
    model, tokenizer = classifier().encoder.eval(), tiny_tokenizer()
    texts = notes(1)["text"][:]
    found = [
        (h, m)
        for hidden, mask in fit.hidden_states(model, tokenizer, texts, batch_size)
        for h, m in zip(hidden, mask)
    ]
    assert len(found) == len(texts)
    for text, (hidden, mask) in zip(texts, found):
        with torch.no_grad():
            alone = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert hidden[mask.bool()].numpy() == pytest.approx(alone.numpy(), abs=1e-5)
        assert not hidden.requires_grad and hidden.dtype == torch.float32


HIDDEN_REFUSED = {
    "one string": ("a room", {}, TypeError, "texts: one string given, a list of strings"),
    "none": ([], {}, ValueError, "texts: 0 given, a list of at least one"),
    "no batch": (["a"], {"batch_size": 0}, ValueError, "batch_size: 0 given"),
    "negative batch": (["a"], {"batch_size": -2}, ValueError, "batch_size: -2 given"),
}


@pytest.mark.parametrize("texts, arguments, error, message", HIDDEN_REFUSED.values(), ids=HIDDEN_REFUSED)
def test_hidden_states_refuse(texts, arguments, error, message):
    with pytest.raises(error, match=message):
        list(fit.hidden_states(classifier().encoder, tiny_tokenizer(), texts, **arguments))


def test_draw_gives_each_row_once():
    rows = list(range(9))
    assert (
        sorted(fit.draw(rows, 20, 0)) == rows
        and len(set(fit.draw(rows, 4, 1))) == 4
        and fit.draw(rows, 4, 1) != fit.draw(rows, 4, 2)
    )
