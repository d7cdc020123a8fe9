import itertools

import pytest
import torch
from transformers import BertModel

from tests.lab.conftest import tiny_config, tiny_tokenizer
from tricks_lib.fgm import FGM, RandomDirection
from tricks_lib.lab import fit
from tricks_lib.lab.studies import fgm as study

ROWS = [
    {"input_ids": [2, 5 + i, 6 + i, 3][: 3 + i % 2], "attention_mask": [1] * (3 + i % 2), "labels": i % 2}
    for i in range(12)
]
STACK = fit.collate(tiny_tokenizer())
SIZE = {"steps": 4, "lr": 1e-2, "batch_size": 4, "device": "cpu"}


def trained():
    torch.manual_seed(0)
    return study.train(BertModel(tiny_config()).eval(), 2, ROWS, STACK, seed=0, **SIZE)


def weights(model):
    return [value.detach().clone() for value in model.parameters()]


def test_every_arm_trains_to_other_weights_and_leaves_the_encoder_alone():
    torch.manual_seed(0)
    encoder = BertModel(tiny_config()).eval()
    before = weights(encoder)
    ways = [{}, {"attack": FGM}, {"attack": RandomDirection}, {"neftune": 5.0}]
    arms = [study.train(encoder, 2, ROWS, STACK, seed=0, **way, **SIZE) for way in ways]
    assert all(map(torch.equal, weights(encoder), before))
    tables = [arm.encoder.get_input_embeddings().weight for arm in arms]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(tables, 2))
    assert not arms[-1].get_input_embeddings()._forward_hooks  # the noise ends with the training


def test_noise_is_uniform_of_neftunes_size_and_of_training_only():
    torch.manual_seed(0)
    table, input_ids = torch.nn.Embedding(9, 40), torch.arange(9).repeat(50, 1)
    table.register_forward_hook(study.noisy(6.0))
    noise = (table.train()(input_ids) - table.weight[input_ids]).detach()
    limit = 6.0 / (9 * 40) ** 0.5  # alpha / sqrt(T H)
    assert 0.99 * limit < noise.abs().max() <= limit * (1 + 1e-5)
    assert noise.square().mean().item() == pytest.approx(limit**2 / 3, rel=0.05)
    assert torch.equal(table.eval()(input_ids), table.weight[input_ids])


def test_gradient_of_a_step_is_clean_plus_adversarial():
    model, seen = trained(), []
    hook = study.adversarial(lambda m: FGM(m, 0.5))

    class Accelerator:
        backward = staticmethod(lambda loss: (seen.append(loss.item()), loss.backward()))

    batch, clean = STACK(ROWS), weights(model)
    loss = model(**batch).loss
    loss.backward()
    hook(model, batch, Accelerator)
    assert len(seen) == 1 and seen[0] > loss.item() and all(map(torch.equal, weights(model), clean))


def test_losses_are_the_models_own_and_grow_under_attack():
    model = trained()
    clean = study.losses(model, ROWS, STACK, batch_size=5)
    attacked = study.losses(model, ROWS, STACK, lambda m: FGM(m, 0.5, per_example=True), batch_size=5)
    assert clean.shape == attacked.shape == (2, len(ROWS)) and set(clean[1]) <= {0.0, 1.0}
    assert clean[0].mean() == pytest.approx(model(**STACK(ROWS)).loss.item(), rel=1e-4)
    assert attacked[0].mean() > clean[0].mean()
    assert study.losses(model, ROWS, STACK, batch_size=5) == pytest.approx(clean)  # nothing stays behind
    assert all(value.grad is None for value in model.parameters())


def test_along_evaluates_at_the_moved_table_and_puts_it_back():
    model, batch = trained(), STACK(ROWS)
    table = model.encoder.get_input_embeddings().weight
    clean = table.detach().clone()
    model(**batch).loss.backward()
    step = table.grad / table.grad.norm()
    down, here, up = study.along(model, batch, table, step, [-0.1, 0.0, 0.1])
    assert (
        down < here < up and here == pytest.approx(model(**batch).loss.item()) and torch.equal(table, clean)
    )
