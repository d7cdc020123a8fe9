import itertools

import pytest
import torch
from transformers import BertModel

from tests.lab.conftest import WORDS, tiny_config, tiny_tokenizer
from tricks_lib.fgm import FGM
from tricks_lib.lab import fit
from tricks_lib.lab.studies import fgm as study

ROWS = [
    {"input_ids": [2, 5 + i, 6 + i, 3][: 3 + i % 2], "attention_mask": [1] * (3 + i % 2), "labels": i % 2}
    for i in range(12)
]
STACK = fit.collate(tiny_tokenizer())
SIZE = {"steps": 4, "lr": 1e-2, "batch_size": 4, "device": "cpu"}


def trained(**options):
    torch.manual_seed(0)
    return study.train(BertModel(tiny_config()).eval(), 2, ROWS, STACK, **{"seed": 0, **SIZE, **options})


def weights(model):
    return [value.detach().clone() for value in model.parameters()]


def test_random_direction_moves_the_same_rows_as_far_as_fgm_but_another_way():
    model, moves = trained(), {}
    table = model.encoder.get_input_embeddings().weight
    clean = table.detach().clone()
    for kind in (FGM, study.RandomDirection):
        attack = kind(model, 0.5)
        model(**STACK(ROWS)).loss.backward()
        with attack.perturbed():
            moves[kind] = (table - clean).detach()
        assert torch.equal(table, clean)
        model.zero_grad()
    worst, other = moves.values()
    assert torch.equal(worst.any(dim=1), other.any(dim=1)) and len(WORDS) > worst.any(dim=1).sum() > 3
    assert other.norm().item() == pytest.approx(0.5, rel=1e-5)
    assert abs(torch.cosine_similarity(worst.flatten(), other.flatten(), dim=0)) < 0.5


def test_every_arm_trains_to_other_weights_and_leaves_the_encoder_alone():
    torch.manual_seed(0)
    encoder = BertModel(tiny_config()).eval()
    before = weights(encoder)
    arms = [
        study.train(encoder, 2, ROWS, STACK, seed=0, attack=attack, epsilon=0.5, **SIZE)
        for attack in (None, *study.ATTACKS)
    ]
    options = {"seed": 0, "attack": "FGM", "epsilon": 0.5, "relative": True}
    arms += [
        study.train(encoder, 2, ROWS, STACK, **more, **SIZE)
        for more in (options, {"seed": 0, "neftune": 5.0})
    ]
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


def test_equal_compute_is_an_arm_of_the_experiment():
    (experiment,) = study.EXPERIMENTS
    passes = {arm: s["steps"] * (2 if "attack" in s else 1) for arm, s in experiment.arms.items()}
    assert {v for k, v in passes.items() if k != "plain"} == {2 * passes["plain"]}
