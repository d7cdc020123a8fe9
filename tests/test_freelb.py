"""Oracle: algorithm 1 of Zhu et al. (2020) from r = 0, in float64 on ``torch.autograd.grad``."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tricks_lib.fgm import FreeLB

from .ranks import run_ranks
from .test_fgm import A, B, Net, assert_same, grads, hooks, loss_of, weights

SETTINGS = {
    "defaults": {},
    "epsilon": {"epsilon": 0.4, "alpha": 0.25},
    "alpha": {"alpha": 0.05},
    "steps": {"steps": 5},
    "over the table": {"per_example": False, "epsilon": 0.5},
    "relative": {"relative": True, "epsilon": 0.2, "alpha": 0.15},
    "relative, over the table": {"relative": True, "per_example": False, "epsilon": 0.2, "alpha": 0.15},
    "target": {"target": "positions", "per_example": False},
}


def reference(
    model, input_ids, epsilon=1.0, target=None, per_example=True, alpha=0.3, steps=3, relative=False
):
    """The mean gradient of each parameter, and the last r."""
    model = copy.deepcopy(model)
    table = (model.positions if target else model.tokens).weight
    r = torch.zeros_like(model.tokens(input_ids) if per_example else table)
    clean = (model.tokens(input_ids) if per_example else table).detach()
    positions = torch.arange(input_ids.shape[1])

    def loss_at(r):
        tokens = model.tokens.weight + (0 if per_example or target else r)
        tokens = F.embedding(input_ids, tokens, padding_idx=0) + (r if per_example else 0)
        hidden = tokens + F.embedding(positions, model.positions.weight + (r if target else 0))
        return F.cross_entropy(model.head(torch.tanh(model.norm(hidden)).mean(1)), input_ids[:, 0])

    def norm(x):
        axes = -1 if relative else (1, 2) if per_example else (0, 1)
        return x.norm(dim=axes, keepdim=True).clamp(min=1e-300)

    length = norm(clean) if relative else 1.0
    total = [torch.zeros_like(value) for value in model.parameters()]
    for k in range(steps):
        r = r.detach().requires_grad_()
        *of_weights, g = torch.autograd.grad(loss_at(r), [*model.parameters(), r])
        total = [t + each / steps for t, each in zip(total, of_weights)]
        if k < steps - 1:
            r = r + alpha * length * g / norm(g)
            r = r * (epsilon * length / norm(r)).clamp(max=1)
    return dict(zip(weights(model), total)), r.detach()


def r_of(freelb, clean):
    (site,) = freelb._sites
    return site.r if freelb.per_example else site.parameter.detach() - clean


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_equals_algorithm_1(settings):
    model = Net().double()
    freelb, clean = FreeLB(model, **settings), weights(model)
    expected, r = reference(model, A, **settings)
    for k in freelb.passes():
        loss_of(model, A).backward()
        if k == freelb.steps - 1:
            table = clean["positions.weight" if "target" in settings else "tokens.weight"]
            torch.testing.assert_close(r_of(freelb, table), r, rtol=1e-9, atol=1e-12)
    assert k + 1 == settings.get("steps", 3)
    torch.testing.assert_close(grads(model), expected, rtol=1e-9, atol=1e-12)
    assert_same(weights(model), clean)
    if settings:
        other, _ = reference(model, A)
        assert any((value - other[name]).abs().max() > 1e-6 for name, value in expected.items())


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=str)
def test_other_dtypes(dtype, tolerance):
    model = Net().to(dtype)
    expected, _ = reference(copy.deepcopy(model).double(), A)
    for _ in FreeLB(model).passes():
        loss_of(model, A).backward()
    for name, value in grads(model).items():
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), expected[name], rtol=tolerance, atol=tolerance)


def test_r_stays_in_the_ball_around_the_clean_embeddings():
    model = Net().double()
    freelb, norms = FreeLB(model, epsilon=0.5, alpha=0.4, steps=6), []
    for k in freelb.passes():
        if k:
            norms.append(freelb._sites[0].r.flatten(1).norm(dim=1))
        loss_of(model, A).backward()
    norms = torch.stack(norms)
    torch.testing.assert_close(norms[0], torch.full((2,), 0.4).double())
    torch.testing.assert_close(norms[1:], torch.full((4, 2), 0.5).double(), rtol=0, atol=0.05)
    assert norms.max() <= 0.5 + 1e-12


def test_one_step_is_plain_training_bit_for_bit():
    model, twin = Net(), Net()
    for _ in FreeLB(model, steps=1).passes():
        loss_of(model, A).backward()
    loss_of(twin, A).backward()
    assert_same(grads(model), grads(twin))


@pytest.mark.parametrize("per_example", [True, False])
def test_what_earlier_micro_batches_have_accumulated_stays(per_example):
    model = Net().double()
    freelb = FreeLB(model, per_example=per_example)
    expected = [reference(model, input_ids, per_example=per_example)[0] for input_ids in (A, B, A)]
    for input_ids in (A, B, A):
        for _ in freelb.passes():
            loss_of(model, input_ids).backward()
    total = {name: sum(each[name] for each in expected) for name in expected[0]}
    torch.testing.assert_close(grads(model), total)


def test_loss_scale_does_not_change_the_direction():
    """As under a GradScaler: the gradient is scaled, r is not."""
    model = Net().double()
    for _ in FreeLB(model).passes():
        (1024 * loss_of(model, A)).backward()
    for value in model.parameters():
        value.grad /= 1024
    torch.testing.assert_close(grads(model), reference(model, A)[0])


class WithDropout(Net):
    """Dropout on the embeddings, and a draw from the CPU's generator on the way."""

    def embed(self, input_ids):
        return F.dropout(super().embed(input_ids), 0.5, self.training)


def losses_of(passes, model):
    losses = []
    for _ in passes:
        loss = loss_of(model, A)
        loss.backward()
        losses.append(loss.item())
    return losses


def test_all_passes_see_the_same_dropout_mask():
    model = WithDropout().train()
    freelb = FreeLB(model, epsilon=1e-9, alpha=1e-9, steps=4)  # r moves nothing
    torch.manual_seed(0)
    first, second = (losses_of(freelb.passes(), model) for _ in "ab")
    assert len(set(first)) == len(set(second)) == 1
    assert first != second  # the next batch draws anew
    assert len(set(losses_of(range(4), model))) == 4


def test_a_step_draws_as_much_as_a_plain_one():
    """What comes after it, other batches' masks or the order of the data, does not depend on K."""
    model, states = WithDropout().train(), []
    for passes in (range(1), FreeLB(model, steps=3).passes()):
        torch.manual_seed(0)
        losses_of(passes, model)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_passes_see_the_same_dropout_mask_on_cuda():
    model = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 1)).cuda().train()
    losses = []
    for _ in FreeLB(model, epsilon=1e-9, alpha=1e-9, steps=4).passes():
        loss = model(A.cuda()).sum()
        loss.backward()
        losses.append(loss.item())
    assert len(set(losses)) == 1


def test_steps_may_be_an_integer_of_numpy():
    assert [k for k in FreeLB(Net(), steps=np.int64(1)).passes()] == [0]


def test_steps_by_hand_equal_passes():
    model, twin = Net(), Net()
    for _ in FreeLB(model, steps=3).passes():
        loss_of(model, A).backward()
    freelb = FreeLB(twin, steps=3)
    with freelb.perturbed():  # the first attack(), and restore() at the end
        loss_of(twin, A).backward()
        for _ in range(2):
            freelb.attack()
            loss_of(twin, A).backward()
    assert_same(grads(model), grads(twin))


def test_gradients_of_an_earlier_backward_pass_are_no_direction():
    """An evaluation with gradients, or a batch without attack, between two steps."""
    model, twin = Net(), Net()
    freelb, plain = FreeLB(model, per_example=False), FreeLB(twin, per_example=False)
    loss_of(model, B).backward()
    model.zero_grad()
    for attack, m in ((freelb, model), (plain, twin)):
        for _ in attack.passes():
            loss_of(m, A).backward()
    assert_same(grads(model), grads(twin))


@pytest.mark.parametrize("per_example", [True, False])
def test_an_exception_in_a_pass_leaves_clean_weights_and_look_ups(per_example):
    model = Net()
    freelb, clean, output = FreeLB(model, per_example=per_example), weights(model), model(A)

    def fail():
        for k in freelb.passes():
            loss_of(model, A).backward()
            if k == 1:
                raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert_same(weights(model), clean)
    assert torch.equal(model(A), output)
    loss_of(model, B)  # another batch is accepted again


def test_second_attack_without_a_backward_pass_is_an_error():
    freelb = FreeLB(Net())
    freelb.attack()
    with pytest.raises(RuntimeError, match=r"^attack: .*backward\(\)"):
        freelb.attack()


def test_parameter_without_a_gradient_keeps_none():
    model = Net()
    model.unused, model.frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    for _ in FreeLB(model).passes():
        loss_of(model, A).backward()
    assert model.unused.weight.grad is None and model.frozen.weight.grad is None


def test_sparse_gradient():
    model, twin = Net(sparse=True), Net()
    for m in (model, twin):
        for input_ids in (A, B):
            for _ in FreeLB(m).passes():
                loss_of(m, input_ids).backward()
    torch.testing.assert_close(model.tokens.weight.grad.to_dense(), twin.tokens.weight.grad)


def test_gradient_keeps_its_memory():
    """DistributedDataParallel's buckets and fused optimizers hold views of it."""
    model = Net()
    loss_of(model, B).backward()
    pointers = [value.grad.data_ptr() for value in model.parameters()]
    for _ in FreeLB(model).passes():
        loss_of(model, A).backward()
    assert [value.grad.data_ptr() for value in model.parameters()] == pointers


def in_parallel(rank):
    model = Net()
    parallel = nn.parallel.DistributedDataParallel(model)
    for _ in FreeLB(parallel, epsilon=0.5, alpha=0.4).passes():
        loss_of(parallel, (A, B)[rank]).backward()
    return grads(model)


def test_two_processes_with_half_of_the_batch_equal_one(tmp_path):
    model = Net()
    for _ in FreeLB(model, epsilon=0.5, alpha=0.4).passes():
        loss_of(model, torch.cat([A, B])).backward()
    for of_rank in run_ranks(in_parallel, 2, tmp_path):
        torch.testing.assert_close(of_rank, grads(model))


def accumulated(rank):
    """The first micro-batch stays with its process, as gradient accumulation leaves it."""
    parallel = nn.parallel.DistributedDataParallel(model := Net())
    with parallel.no_sync():
        loss_of(parallel, (A, B)[rank]).backward()
    for _ in FreeLB(parallel, epsilon=0.5, alpha=0.4).passes():
        loss_of(parallel, (B, A)[rank]).backward()
    return grads(model)


def test_two_processes_that_accumulate_equal_one(tmp_path):
    model = Net()
    loss_of(model, torch.cat([A, B])).backward()
    for _ in FreeLB(model, epsilon=0.5, alpha=0.4).passes():
        loss_of(model, torch.cat([B, A])).backward()
    for of_rank in run_ranks(accumulated, 2, tmp_path):
        torch.testing.assert_close(of_rank, grads(model))


GOOD = Net()
BAD_INPUT = {
    "model is None": ((None,), {}, TypeError, "model"),
    "model without embeddings": ((nn.Linear(2, 2),), {}, ValueError, "model"),
    "epsilon is zero": ((GOOD, 0.0), {}, ValueError, "epsilon"),
    "target matches nothing": ((GOOD, 1.0, "emb."), {}, ValueError, "target"),
    "target without look-ups": ((GOOD, 1.0, "head.weight"), {}, ValueError, "target"),
    "per_example is None": ((GOOD,), {"per_example": None}, TypeError, "per_example"),
    "relative is a number": ((GOOD,), {"relative": 1}, TypeError, "relative"),
    "alpha is negative": ((GOOD,), {"alpha": -0.3}, ValueError, "alpha"),
    "alpha is None": ((GOOD,), {"alpha": None}, TypeError, "alpha"),
    "steps is 0": ((GOOD,), {"steps": 0}, ValueError, "steps"),
    "steps is negative": ((GOOD,), {"steps": -1}, ValueError, "steps"),
    "steps is a float": ((GOOD,), {"steps": 3.0}, TypeError, "steps"),
    "steps is a bool": ((GOOD,), {"steps": True}, TypeError, "steps"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    arguments, options, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        FreeLB(*arguments, **options)
    assert hooks(GOOD) == 0
