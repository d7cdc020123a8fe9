"""Oracles: the closed form in float64, ``torch.optim.swa_utils``, timm's and torch_ema's update written
out.
"""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tricks_lib.ema import EMA
from tricks_lib.ema.schedule import decay_at

from .ranks import run_ranks


class Net(nn.Module):
    """Tied weights, a buffer of each kind, BatchNorm."""

    def __init__(self, V=11, H=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.norm, self.head = (
            nn.Embedding(V, H),
            nn.BatchNorm1d(H),
            nn.Linear(H, V, bias=False),
        )
        self.head.weight = self.embedding.weight
        self.register_buffer("position_ids", torch.arange(512), persistent=False)
        self.register_buffer("mask", torch.triu(torch.full((3, 3), -torch.inf), 1))

    def forward(self, input_ids):
        return self.head(self.norm(self.embedding(input_ids).mean(1)))


def disturb(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator).to(value))


def step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(11, (6, 3), generator=generator)
    loss = nn.functional.cross_entropy(model(input_ids), input_ids[:, 0])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def weights(model):
    return {
        name: value.detach().clone() for name, value in (*model.named_parameters(), *model.named_buffers())
    }


def average(ema):
    with ema.average_parameters():
        return weights(ema.model)


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]), name


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-10, 10), min_size=1, max_size=30),
    decay=st.floats(0, 0.9999),
    warmup=st.booleans(),
)
def test_equals_the_closed_form(values, decay, warmup):
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    start = model.weight.item()
    ema = EMA(model, decay=decay, warmup=warmup)
    decays = [min(decay, (1 + n) / (10 + n)) if warmup else decay for n in range(1, len(values) + 1)]
    for value in values:
        nn.init.constant_(model.weight, value)
        ema.update()
    expected, rest = 0.0, 1.0  # sum over i of (1 - d_i) prod_(j > i) d_j w_i
    for d, value in zip(reversed(decays), reversed(values)):
        expected += (1 - d) * rest * value
        rest *= d
    assert average(ema)["weight"].item() == pytest.approx(expected + rest * start, abs=1e-9)


def follow(values, **arguments):
    """The averages of one weight that takes these values, the first being the start."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, values[0])
    ema, averages = EMA(model, **arguments), []
    for value in values[1:]:
        nn.init.constant_(model.weight, value)
        ema.update()
        averages.append(average(ema)["weight"].item())
    return averages


VALUES = np.random.default_rng(0).normal(size=41)
NEARLY_ONE = 1 - 1e-12  # sets no limit to a warm-up


@pytest.mark.parametrize("gamma", [0.0, 2.5, 6.94, 16.97])
def test_power_equals_the_closed_form_of_karras_et_al(gamma):
    """Their (2): the average over t of t^gamma w(t); w(t) = w_i on (i-1, i] gives the shares
    (i/n)^(gamma+1) - ((i-1)/n)^(gamma+1).
    """
    averages = follow(VALUES, decay=NEARLY_ONE, warmup="power", gamma=gamma)
    for n in (1, 2, 7, 40):
        shares = np.diff((np.arange(n + 1) / n) ** (gamma + 1))
        assert averages[n - 1] == pytest.approx(shares @ VALUES[1 : n + 1], abs=1e-9)


@pytest.mark.parametrize("gamma, sigma", [(6.94, 0.10), (16.97, 0.05)])
def test_power_looks_back_over_the_same_part_of_any_training(gamma, sigma):
    """Karras et al., section 3.1: the standard deviation of the profile as a part of the training."""
    for n in (2000, 4000):
        shares = [0.0] * (n + 1)
        ema = EMA(nn.Linear(1, 1), decay=NEARLY_ONE, warmup="power", gamma=gamma)
        rest = 1.0
        for i in range(n, 0, -1):
            d = decay_at(i, **ema._settings())
            shares[i], rest = rest * (1 - d), rest * d
        mean = np.dot(shares, range(n + 1))
        deviation = np.sqrt(np.dot(shares, (np.arange(n + 1) - mean) ** 2))
        assert deviation / n == pytest.approx(sigma, rel=0.01)


def test_default_gamma_is_that_of_a_tenth():
    assert follow(VALUES, warmup="power") == follow(VALUES, warmup="power", gamma=6.94)
    assert follow(VALUES, warmup="power") != follow(VALUES, warmup="power", gamma=7.0)


def test_decay_limits_the_power_profile():
    """From n on, where (1 - 1/n)^(gamma+1) reaches d, the average is an ordinary one."""
    averages = follow(VALUES, decay=0.8, warmup="power", gamma=1.0)
    for n in range(12, 40):  # (1 - 1/10)^2 = 0.81
        assert averages[n] == pytest.approx(0.8 * averages[n - 1] + 0.2 * VALUES[n + 1], abs=1e-12)


@pytest.mark.parametrize("warmup", [False, True, "power"])
@pytest.mark.parametrize("every", [2, 3])
def test_update_every_averages_each_such_step_alone(every, warmup):
    averages = follow(VALUES, decay=0.9, warmup=warmup, update_every=every)
    taken = follow(VALUES[::every], decay=0.9, warmup=warmup)
    assert averages[every - 1 :: every] == taken
    assert averages[: every - 1] == [VALUES[0]] * (every - 1)  # the start
    assert averages[every : 2 * every - 1] == [taken[0]] * (every - 1)


@pytest.mark.parametrize("warmup", [False, True, "power"])
def test_before_start_step_the_average_is_the_weights_and_after_it_begins_with_them(warmup):
    averages = follow(VALUES, decay=0.9, warmup=warmup, start_step=7)
    assert averages[:7] == list(VALUES[1:8])
    assert averages[7:] == follow(VALUES[7:], decay=0.9, warmup=warmup)


def test_update_every_and_start_step_together_equal_ema_pytorch_formula():
    """lucidrains/ema-pytorch, ``EMA.update``: only multiples are taken, and up to the start copied."""
    shadow, expected = VALUES[0], []
    for step in range(1, 41):
        if step % 3 == 0:
            shadow = VALUES[step] if step <= 10 else shadow + 0.1 * (VALUES[step] - shadow)
        expected.append(shadow)
    assert follow(VALUES, decay=0.9, update_every=3, start_step=10) == pytest.approx(expected, abs=1e-12)


SETTINGS = {
    "decay": {"decay": 0.98},
    "warm-up": {"warmup": True},
    "power": {"warmup": "power"},
    "power with another gamma": {"warmup": "power", "gamma": 1.5},
    "update_every": {"decay": 0.9, "update_every": 4},
    "start_step": {"decay": 0.9, "start_step": 11},
    "all": {"decay": 0.9, "warmup": "power", "gamma": 1.5, "update_every": 3, "start_step": 7},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("steps", [5, 40])
def test_share_of_the_start_is_what_a_start_of_one_leaves_among_zeros(settings, steps):
    ema = EMA(nn.Linear(1, 1), **settings)
    start = min(settings.get("start_step", 0), steps)
    last = start - start % settings.get("update_every", 1)  # the last copy
    values = np.zeros(steps + 1)
    values[last] = 1.0
    assert ema.share_of_start(steps) == pytest.approx(follow(values, **settings)[-1], abs=1e-12)


def test_share_of_the_start_of_a_short_run():
    """The default decay in a run of 120 steps evaluates nearly the weights before training."""
    model = nn.Linear(1, 1)
    assert EMA(model).share_of_start(120) == pytest.approx(0.999**120) and 0.999**120 > 0.88
    assert EMA(model, decay=0.95).share_of_start(120) < 0.01
    assert EMA(model, warmup=True).share_of_start(120) < 0.01
    assert EMA(model).share_of_start(0) == 1


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_come_with_the_state(settings):
    """Resumed in the middle by an average with other settings."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, VALUES[0])
    ema = EMA(model, **settings)
    for step, value in enumerate(VALUES[1:], 1):
        nn.init.constant_(model.weight, value)
        ema.update()
        if step == 17:
            state, ema = ema.state_dict(), EMA(model, decay=0.3, warmup="power", gamma=3.0, update_every=2)
            ema.load_state_dict(state)
    assert average(ema)["weight"].item() == follow(VALUES, **settings)[-1]


def test_state_of_the_first_edition_keeps_the_settings_it_knew_nothing_of():
    ema = EMA(nn.Linear(1, 1), update_every=5, start_step=2)
    state = ema.state_dict()
    for name in ("gamma", "update_every", "start_step"):
        del state[name]
    ema.load_state_dict({**state, "decay": 0.7})
    assert (ema.decay, ema.update_every, ema.start_step) == (0.7, 5, 2)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_equals_torch_swa_utils(dtype, tolerance):
    """Its first update copies, ours averages with the start: so it starts after one step."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(dtype)
    disturb(model, 0)
    ema, theirs = EMA(model, decay=0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)
    for seed in range(20):
        disturb(model, seed)
        ema.update()
        theirs.update_parameters(model)
    for mine, other in zip(average(ema).values(), theirs.module.parameters()):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_warmup_equals_torch_ema_formula():
    """torch_ema, ``ExponentialMovingAverage.update``: n counts this update; shadow -= (1 - d) (shadow -
    weight).
    """
    model = nn.Linear(3, 2).double()
    ema, shadow, n = EMA(model, decay=0.99, warmup=True), model.weight.detach().clone(), 0
    for seed in range(15):
        disturb(model, seed)
        ema.update()
        n += 1
        d = min(0.99, (1 + n) / (10 + n))
        shadow -= (1 - d) * (shadow - model.weight.detach())
    torch.testing.assert_close(average(ema)["weight"], shadow, rtol=1e-9, atol=1e-12)


def test_weights_at_rest_leave_the_average_at_rest():
    """d s + (1 - d) w, the form that circulates, drifts to 1.3e-5 relative; a linear interpolation does not
    move.
    """
    model = nn.Linear(50, 50)
    before = weights(model)
    ema, naive = EMA(model, decay=0.999), before["weight"].clone()
    for _ in range(2000):
        ema.update()
        naive = 0.999 * naive + (1 - 0.999) * before["weight"]
    assert_same(average(ema), before)
    assert ((naive - before["weight"]) / before["weight"]).abs().max() > 1e-6


def test_tied_weights_are_averaged_once():
    """timm ModelEmaV2 and V3 walk over ``state_dict()`` and move a tied weight twice: by 0.19 instead of
    0.1.
    """
    model = Net()
    twin, before = copy.deepcopy(model), model.embedding.weight.detach().clone()
    ema = EMA(model, decay=0.9)
    with torch.no_grad():
        model.embedding.weight += 1
    ema.update()
    for shadow, value in zip(
        twin.state_dict().values(), model.state_dict().values()
    ):  # timm, utils/model_ema.py
        if shadow.is_floating_point():
            shadow.lerp_(value, 0.1)
    torch.testing.assert_close(average(ema)["embedding.weight"], before + 0.1)
    torch.testing.assert_close(twin.embedding.weight.detach(), before + 0.19)
    assert model.head.weight is model.embedding.weight


def test_two_parameters_on_one_storage_are_averaged_once_and_restored():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight.data = model[0].weight.data
    before = model[0].weight.detach().clone()
    ema = EMA(model, decay=0.9)
    with torch.no_grad():
        model[0].weight += 1
    trained = weights(model)
    ema.update()
    with ema.average_parameters():
        torch.testing.assert_close(model[1].weight.detach(), before + 0.1)
    assert_same(weights(model), trained)


def test_buffers_that_are_not_floating_point_are_copied():
    """torch ``AveragedModel(use_buffers=True)`` averages BERT's position_ids: off by one at decay 0.9999."""
    model = Net()
    ema, theirs = (
        EMA(model, decay=0.9999),
        AveragedModel(copy.deepcopy(model), multi_avg_fn=get_ema_multi_avg_fn(0.9999), use_buffers=True),
    )
    for _ in range(3):
        model.norm.num_batches_tracked += 1
        ema.update()
        theirs.update_parameters(model)
    assert not torch.equal(theirs.module.position_ids, model.position_ids)
    averaged = average(ema)
    assert (
        torch.equal(averaged["position_ids"], torch.arange(512)) and averaged["norm.num_batches_tracked"] == 3
    )


def test_floating_point_buffers_are_averaged():
    """The snippet's shadow has no buffers: averaged weights meet the last step's BatchNorm statistics."""
    model = nn.BatchNorm1d(2)
    ema, without = EMA(model, decay=0.9), EMA(model, decay=0.9, buffers=False)
    model.running_mean += 1
    model.num_batches_tracked += 5
    for e in (ema, without):
        e.update()
    torch.testing.assert_close(average(ema)["running_mean"], torch.full((2,), 0.1))
    assert average(ema)["num_batches_tracked"] == 5
    assert torch.equal(average(without)["running_mean"], torch.ones(2))


def test_minus_infinity_in_a_mask_does_not_become_nan():
    model = Net()
    ema = EMA(model)
    ema.update()
    assert torch.equal(average(ema)["mask"], model.mask)


def test_buffers_made_or_resized_on_the_way_start_afresh():
    model = nn.Linear(2, 2)
    model.register_buffer("cache", torch.zeros(2))
    ema = EMA(model, decay=0.5)
    model.cache = torch.ones(3)
    model.register_buffer("late", torch.ones(1))
    ema.update()
    assert average(ema)["cache"].tolist() == [1, 1, 1] and average(ema)["late"].tolist() == [1]
    model.cache = torch.ones(4)  # after the last update: left alone
    assert average(ema)["cache"].tolist() == [1, 1, 1, 1]


def test_buffer_resized_while_the_average_is_evaluated_does_not_hinder_the_weights_coming_back():
    """A cache of positions that grows with the longest text of the evaluation."""
    model = nn.Linear(2, 2)
    model.register_buffer("cache", torch.ones(3))
    ema, trained = EMA(model), weights(model)
    with ema.average_parameters():
        model.cache = torch.zeros(5)
    assert torch.equal(model.weight, trained["weight"]) and model.cache.tolist() == [0] * 5
    disturb(model, 0)
    ema.update()


def test_checkpoint_holds_the_buffers_that_the_model_made_or_resized_on_the_way():
    def fresh():
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
        model.register_buffer("cache", torch.ones(3))
        return model, EMA(model, decay=0.5)

    def grow(model):
        model.cache = torch.arange(5.0)
        model.register_buffer("late", torch.ones(1))

    (model, ema), (resumed, second) = fresh(), fresh()
    grow(model)
    ema.update()
    second.load_state_dict(ema.state_dict())
    assert_same(average(second), weights(resumed))  # the buffers are not there yet, or not that long
    grow(resumed)
    for m, e in ((model, ema), (resumed, second)):
        m.cache.mul_(3)
        e.update()
    assert_same(average(second), average(ema))
    EMA(nn.Linear(2, 2), buffers=False).load_state_dict(
        ema.state_dict()
    )  # its own choice: buffers stay the model's


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_average_moves(dtype):
    """Kept in bfloat16, the average never moves at decay 0.999."""
    model = nn.Linear(4, 4, bias=False).to(dtype)
    nn.init.ones_(model.weight)
    ema, naive = EMA(model, decay=0.999), model.weight.detach().clone()
    nn.init.constant_(model.weight, 1.5)
    for _ in range(1000):
        ema.update()
        naive.lerp_(model.weight.detach(), 0.001)
    expected = 1.5 - 0.5 * 0.999**1000
    assert ema.state_dict()["shadow"]["weight"].dtype == torch.float32
    torch.testing.assert_close(
        ema.state_dict()["shadow"]["weight"], torch.full((4, 4), expected), rtol=1e-5, atol=0
    )
    averaged = average(ema)["weight"]
    assert averaged.dtype == dtype and averaged[0, 0].item() == pytest.approx(
        expected, rel=torch.finfo(dtype).eps
    )
    assert naive[0, 0] == 1 or dtype == torch.float16
    assert model.weight[0, 0] == 1.5


def test_half_and_full_precision_in_one_model():
    model = nn.Sequential(nn.Linear(2, 2).to(torch.bfloat16), nn.Linear(2, 2))
    ema, start = EMA(model, decay=0.9), weights(model)
    disturb(model, 0)
    ema.update()
    for name, value in average(ema).items():
        expected = start[name].float().lerp(dict(model.named_parameters())[name].detach().float(), 0.1)
        torch.testing.assert_close(value, expected.to(value.dtype))


def test_restore_is_bit_exact_in_place_and_the_optimizer_goes_on():
    """The snippet's ``param.data = ...`` gives the parameter another storage."""
    model, twin = Net(), Net()
    optimizer, other = (torch.optim.AdamW(m.parameters(), lr=0.1) for m in (model, twin))
    ema = EMA(model, decay=0.9)
    pointers = [value.data_ptr() for value in (*model.parameters(), *model.buffers())]
    for seed in range(6):
        step(model, optimizer, seed)
        step(twin, other, seed)
        ema.update()
        trained = weights(model)
        with ema.average_parameters():
            assert [value.data_ptr() for value in (*model.parameters(), *model.buffers())] == pointers
            assert not torch.equal(model.embedding.weight, trained["embedding.weight"])
        assert_same(weights(model), trained)
    assert_same(weights(model), weights(twin))


def test_second_apply_shadow_is_an_error_and_not_the_loss_of_the_weights():
    """In the snippet a second ``apply_shadow`` overwrites the backup with the average."""
    model = Net()
    ema = EMA(model)
    disturb(model, 0)
    ema.update()
    trained = weights(model)
    ema.apply_shadow()
    with pytest.raises(RuntimeError, match="^apply_shadow: .*restore"):
        ema.apply_shadow()
    with pytest.raises(RuntimeError, match="^update: .*restore"):
        ema.update()
    ema.restore()
    assert_same(weights(model), trained)
    with pytest.raises(RuntimeError, match="^restore: .*apply_shadow"):
        ema.restore()
    assert_same(weights(model), trained)


def test_weights_come_back_after_an_exception():
    model = Net()
    ema = EMA(model)
    disturb(model, 0)
    ema.update()
    trained = weights(model)
    with pytest.raises(KeyError), ema.average_parameters():
        next(model.parameters()).requires_grad_(False)
        raise KeyError
    assert_same(weights(model), trained)


def test_average_before_the_first_update_is_the_start():
    model = Net()
    start, ema = weights(model), EMA(model)
    disturb(model, 0)
    assert_same(average(ema), start)


def test_resumed_run_equals_uninterrupted_run_bit_for_bit():
    """The snippet's shadow is in no checkpoint: after a resume the average starts again."""

    def fresh():
        model = Net()
        return model, torch.optim.AdamW(model.parameters(), lr=0.05)

    def train(model, optimizer, ema, seeds):
        for seed in seeds:
            step(model, optimizer, seed)
            ema.update()

    model, optimizer = fresh()
    ema = EMA(model, decay=0.95, warmup=True)
    train(model, optimizer, ema, range(5))
    file = io.BytesIO()
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}, file
    )
    kept = ema.state_dict()
    train(model, optimizer, ema, range(5, 12))
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    resumed, optimizer = fresh()
    second = EMA(resumed, decay=0.5)  # decay and warm-up come with the state
    resumed.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    second.load_state_dict(checkpoint["ema"])
    assert_same(kept["shadow"], checkpoint["ema"]["shadow"])  # a state does not change when training goes on
    train(resumed, optimizer, second, range(5, 12))
    assert (second.num_updates, second.decay, second.warmup) == (12, 0.95, True)
    assert_same(weights(resumed), weights(model))
    assert_same(average(second), average(ema))


def test_checkpoint_does_not_depend_on_wrappers():
    model = nn.Linear(2, 2)
    ema = EMA(torch.compile(nn.DataParallel(model), backend="eager"))
    assert list(ema.state_dict()["shadow"]) == ["weight", "bias"]
    EMA(model).load_state_dict(ema.state_dict())


@pytest.mark.parametrize("one", ["plain", "compiled"])
@pytest.mark.parametrize("other", ["plain", "compiled"])
def test_checkpoint_does_not_depend_on_the_compilation_of_blocks(one, other):
    def make(kind):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2)))
        if kind == "compiled":
            model[0], model[1][0] = (torch.compile(m, backend="eager") for m in (model[0], model[1][0]))
        return EMA(model, decay=0.5)

    first, second = make(one), make(other)
    disturb(first.model, 0)
    first.update()
    second.load_state_dict(first.state_dict())
    assert list(second.state_dict()["shadow"]) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert_same(second.state_dict()["shadow"], first.state_dict()["shadow"])
    assert "0.running_mean" in second.state_dict()["buffers"]
    trained = list(weights(second.model).values())
    with second.average_parameters():
        for mine, theirs in zip(second.model.parameters(), first.state_dict()["shadow"].values()):
            assert torch.equal(mine, theirs)
    assert all(map(torch.equal, weights(second.model).values(), trained))


def test_attribute_whose_name_only_ends_like_that_of_a_wrapper_keeps_it():
    model = nn.Module()
    model.my_orig_mod = nn.Linear(1, 1, bias=False)
    assert list(EMA(model).state_dict()["shadow"]) == ["my_orig_mod.weight"]


def test_names_inside_activation_checkpointing():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = nn.Sequential(checkpoint_wrapper(nn.Linear(2, 2)))
    EMA(nn.Sequential(nn.Linear(2, 2))).load_state_dict(EMA(model).state_dict())


def partition(model):
    """As DeepSpeed ZeRO-3 leaves the weights between the passes."""
    for value in model.parameters():
        value.ds_shape, value.data = value.shape, torch.empty(0)


def test_partitioned_weights_are_refused_by_name():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    ema = EMA(model)
    partition(model)
    for call in (lambda: EMA(model), ema.update, ema.apply_shadow):
        with pytest.raises(ValueError, match="^model: 1.weight, 1.bias given .*ZeRO-3.* accepted"):
            call()
    assert ema.num_updates == 0


def test_weight_without_elements_that_is_whole_is_averaged():
    """A slot that nothing uses, of a model that DeepSpeed has not touched."""
    model = nn.Linear(2, 2)
    model.unused = nn.Parameter(torch.empty(0))
    ema = EMA(model, decay=0.5)
    ema.update()
    assert ema.state_dict()["shadow"]["unused"].shape == (0,)


def test_under_lora_the_frozen_base_is_neither_averaged_nor_stored():
    peft = pytest.importorskip("peft")
    base = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 2))
    config = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["1"])
    model = peft.get_peft_model(base, config)
    ema, frozen = EMA(model, decay=0.5), {n: v for n, v in weights(model).items() if "base_layer" in n}
    trainable = [name for name, value in model.named_parameters() if value.requires_grad]
    assert list(ema.state_dict()["shadow"]) == trainable
    assert len(trainable) == 4 and all("lora_" in name or "modules_to_save" in name for name in trainable)
    with torch.no_grad():
        for value in model.parameters():
            value += value.requires_grad
    start = ema.state_dict()["shadow"]
    ema.update()
    averaged = average(ema)
    for name in trainable:
        torch.testing.assert_close(averaged[name], start[name] + 0.5)
    assert frozen and all(torch.equal(averaged[name], value) for name, value in frozen.items())


def averaged_in_parallel(rank):
    """Three steps on this rank's half of six batches, without BatchNorm, whose statistics are each rank's
    own.
    """
    model = Net()
    model.norm = nn.LayerNorm(4)
    parallel = nn.parallel.DistributedDataParallel(model)
    ema, optimizer = EMA(parallel, decay=0.9), torch.optim.SGD(parallel.parameters(), lr=0.1)
    for batch in range(3):
        step(parallel, optimizer, 2 * batch + rank)
        ema.update()
    return {"weights": weights(model), "average": dict(ema.state_dict()["shadow"])}


def test_under_distributed_data_parallel(tmp_path):
    """Each of two processes keeps the average that one process with both halves of each batch would."""
    model = Net()
    model.norm = nn.LayerNorm(4)
    ema, optimizer = EMA(model, decay=0.9), torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in range(3):
        halves = [
            torch.randint(11, (6, 3), generator=torch.Generator().manual_seed(2 * batch + rank))
            for rank in (0, 1)
        ]
        optimizer.zero_grad()
        input_ids = torch.cat(halves)
        nn.functional.cross_entropy(model(input_ids), input_ids[:, 0]).backward()
        optimizer.step()
        ema.update()
    first, second = run_ranks(averaged_in_parallel, 2, tmp_path)
    assert_same(first["average"], second["average"])
    torch.testing.assert_close(first["average"], dict(ema.state_dict()["shadow"]))
    torch.testing.assert_close(first["weights"], weights(model))


def test_frozen_parameters_are_not_averaged():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert list(EMA(model).state_dict()["shadow"]) == ["1.weight", "1.bias"]


CHANGES = {
    "added": (lambda model: model.add_module("extra", nn.Linear(2, 2, bias=False)), "extra.weight"),
    "frozen": (lambda model: model[1].bias.requires_grad_(False), "1.bias"),
    "unfrozen": (lambda model: model[0].weight.requires_grad_(True), "0.weight"),
    "removed": (lambda model: model.__delitem__(1), "1.bias, 1.weight"),
    "resized": (lambda model: setattr(model, "1", nn.Linear(2, 3)), "1.weight"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_parameters_added_or_frozen_later_are_an_error_that_names_them(change):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    ema = EMA(model)
    alter, name = CHANGES[change]
    alter(model)
    for call in (ema.update, ema.apply_shadow):
        with pytest.raises(ValueError, match=f"^model: {name} .* accepted"):
            call()
    assert ema.num_updates == 0


def test_parameter_objects_may_be_replaced():
    model = nn.Linear(2, 2)
    ema = EMA(model, decay=0.5)
    start = weights(model)
    model.load_state_dict({name: value + 1 for name, value in start.items()}, assign=True)
    ema.update()
    torch.testing.assert_close(average(ema)["weight"], start["weight"] + 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_follows_the_model_to_cuda_and_back():
    model, twin = Net(), Net()
    ema, alone = EMA(model, decay=0.9), EMA(twin, decay=0.9)
    for seed, device in enumerate(("cpu", "cuda", "cpu", "cuda")):
        model.to(device)
        disturb(model, seed)
        disturb(twin, seed)
        ema.update()
        alone.update()
    for name, value in average(ema).items():
        torch.testing.assert_close(value.cpu(), average(alone)[name])


def test_follows_the_model_to_another_device():
    """Without a second real device: the average goes where the weights are."""
    model = nn.BatchNorm1d(2)
    ema = EMA(model)
    model.to("meta")
    ema.update()
    assert all(value.is_meta for part in ("shadow", "buffers") for value in ema.state_dict()[part].values())


@pytest.fixture
def meta_device(monkeypatch):
    """A second device where there is none: its tensors have a shape and no values."""
    monkeypatch.setattr("tricks_lib.ema.average.available", lambda device, _: device and torch.device(device))
    return "meta"


def places(ema):
    state = ema.state_dict()
    return {value.device.type for part in ("shadow", "buffers") for value in state[part].values()}


def test_average_is_kept_on_the_device_that_is_asked_for(meta_device):
    model = nn.BatchNorm1d(2)
    ema = EMA(model, device=meta_device)
    ema.update()
    assert places(ema) == {"meta"} and places(EMA(model)) == {"cpu"}
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
    with pytest.raises(NotImplementedError, match="no data"):
        ema.apply_shadow()
    assert all(value.is_meta for value in ema._backup.values())


def test_state_from_elsewhere_comes_to_the_device_that_is_asked_for(meta_device):
    model = nn.BatchNorm1d(2)
    ema = EMA(model, device=meta_device)
    ema.load_state_dict(EMA(model).state_dict())
    ema.update()
    assert places(ema) == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_average_on_the_cpu_equals_that_on_cuda(dtype):
    model, twin = Net().cuda().to(dtype), Net().cuda().to(dtype)
    ema, plain = EMA(model, decay=0.9, device="cpu"), EMA(twin, decay=0.9)
    for seed in range(5):
        for m, e in ((model, ema), (twin, plain)):
            disturb(m, seed)
            e.update()
    assert places(ema) == {"cpu"} and places(plain) == {"cuda"}
    assert all(value.is_pinned() for value in ema._copies._kept.values())
    trained = weights(model)
    for name, value in average(ema).items():
        assert value.is_cuda
        torch.testing.assert_close(value, average(plain)[name])
    assert_same(weights(model), trained)


def test_evaluation_under_autocast_sees_the_average():
    """Autocast keeps half precision copies of the weights until its block ends."""
    model = nn.Linear(4, 4, bias=False)
    ema = EMA(model, decay=0.0)
    x = torch.ones(1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = model(x)
        with torch.no_grad():
            model.weight.neg_()
        ema.update()
        with ema.average_parameters():
            torch.testing.assert_close(model(x), -before)


def test_numbers_of_numpy_are_accepted_and_stored_as_python_s():
    """``torch.load(weights_only=True)`` takes no NumPy scalar."""
    settings = {"decay": np.float32(0.5), "update_every": np.int64(2), "start_step": np.int32(1)}
    ema = EMA(nn.Linear(1, 1), warmup="power", gamma=np.float64(2.0), **settings)
    ema.update()
    file = io.BytesIO()
    torch.save(ema.state_dict(), file)
    file.seek(0)
    ema.load_state_dict(torch.load(file, weights_only=True))
    assert ema.share_of_start(np.int64(0)) == 1
    # settings that come with a state are as those of the constructor
    ema.load_state_dict({**ema.state_dict(), "decay": np.float64(0.25), "num_updates": np.int64(3)})
    file = io.BytesIO()
    torch.save(ema.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["decay"] == 0.25


GOOD = nn.Linear(2, 2)
STATE = EMA(nn.Linear(2, 2)).state_dict()
BAD_INPUT = {
    "model is None": ((None,), TypeError, "model"),
    "model is a parameter list": ((list(GOOD.parameters()),), TypeError, "model"),
    "model without parameters": ((nn.ReLU(),), ValueError, "model"),
    "model all frozen": ((nn.Linear(2, 2).requires_grad_(False),), ValueError, "model"),
    "model on the meta device": ((nn.Linear(2, 2, device="meta"),), ValueError, "model"),
    "decay is negative": ((GOOD, -0.1), ValueError, "decay"),
    "decay is 1": ((GOOD, 1.0), ValueError, "decay"),
    "decay above 1": ((GOOD, 1.1), ValueError, "decay"),
    "decay is NaN": ((GOOD, float("nan")), ValueError, "decay"),
    "decay is infinite": ((GOOD, float("inf")), ValueError, "decay"),
    "decay is a tensor": ((GOOD, torch.tensor(0.9)), TypeError, "decay"),
    "buffers is None": ((GOOD, 0.9, False, None), TypeError, "buffers"),
    "decay is a string": ((GOOD, "0.9"), TypeError, "decay"),
    "decay is a bool": ((GOOD, True), TypeError, "decay"),
    "warmup is a number": ((GOOD, 0.9, 100), TypeError, "warmup"),
    "warmup is None": ((GOOD, 0.9, None), TypeError, "warmup"),
    "buffers is a string": ((GOOD, 0.9, False, "yes"), TypeError, "buffers"),
    "warmup is another word": ((GOOD, 0.9, "linear"), ValueError, "warmup"),
    "update_every is 0": ((GOOD, 0.9, False, True, 0), ValueError, "update_every"),
    "update_every is a float": ((GOOD, 0.9, False, True, 2.0), TypeError, "update_every"),
    "update_every is a bool": ((GOOD, 0.9, False, True, True), TypeError, "update_every"),
    "start_step is negative": ((GOOD, 0.9, False, True, 1, -1), ValueError, "start_step"),
    "start_step is a float": ((GOOD, 0.9, False, True, 1, 0.5), TypeError, "start_step"),
    "device is a number": ((GOOD, 0.9, False, True, 1, 0, 0), TypeError, "device"),
    "device is no device": ((GOOD, 0.9, False, True, 1, 0, "gpu"), ValueError, "device"),
    "device holds no values": ((GOOD, 0.9, False, True, 1, 0, "meta"), ValueError, "device"),
    "device is not there": ((GOOD, 0.9, False, True, 1, 0, "cuda:99"), ValueError, "device"),
    "gamma is negative": ((GOOD, 0.9, "power", True, 1, 0, None, -1.0), ValueError, "gamma"),
    "gamma is NaN": ((GOOD, 0.9, "power", True, 1, 0, None, float("nan")), ValueError, "gamma"),
    "gamma is None": ((GOOD, 0.9, "power", True, 1, 0, None, None), TypeError, "gamma"),
    "gamma without power": ((GOOD, 0.9, True, True, 1, 0, None, 3.0), ValueError, "gamma"),
}
BAD_STATE = {
    "a list": ([STATE], TypeError),
    "None": (None, TypeError),
    "empty": ({}, ValueError),
    "a model's": (GOOD.state_dict(), ValueError),
    "of another model": (EMA(nn.Conv1d(2, 2, 1)).state_dict(), ValueError),
    "of a larger model": (EMA(nn.Bilinear(2, 2, 2)).state_dict(), ValueError),
    "with more parameters": ({**STATE, "shadow": {**STATE["shadow"], "extra": torch.ones(1)}}, ValueError),
    "with fewer parameters": ({**STATE, "shadow": {"weight": torch.ones(2, 2)}}, ValueError),
    "weight of another shape": ({**STATE, "shadow": {**STATE["shadow"], "bias": torch.ones(3)}}, ValueError),
    "buffers are a list": ({**STATE, "buffers": []}, TypeError),
    "without its buffers": ({key: value for key, value in STATE.items() if key != "buffers"}, ValueError),
    "warmup is another string": ({**STATE, "warmup": "no"}, ValueError),
    "warmup is None": ({**STATE, "warmup": None}, TypeError),
    "decay is infinite": ({**STATE, "decay": float("inf")}, ValueError),
    "decay is NaN": ({**STATE, "decay": float("nan")}, ValueError),
    "decay is None": ({**STATE, "decay": None}, TypeError),
    "count is None": ({**STATE, "num_updates": None}, TypeError),
    "lists for tensors": ({**STATE, "shadow": {"weight": [[1.0]], "bias": [1.0]}}, TypeError),
    "shadow is None": ({**STATE, "shadow": None}, TypeError),
    "count is negative": ({**STATE, "num_updates": -1}, ValueError),
    "count is a float": ({**STATE, "num_updates": 1.5}, TypeError),
    "decay out of range": ({**STATE, "decay": 1.0}, ValueError),
    "update_every is 0": ({**STATE, "update_every": 0}, ValueError),
    "start_step is None": ({**STATE, "start_step": None}, TypeError),
    "gamma without power": ({**STATE, "gamma": 1.0}, ValueError),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_that_names_the_argument(case):
    arguments, error, name = BAD_INPUT[case]
    with pytest.raises(error, match=f"^{name}: .* accepted"):
        EMA(*arguments)


@pytest.mark.parametrize("case", BAD_STATE)
def test_bad_state_is_an_error_and_changes_nothing(case):
    state, error = BAD_STATE[case]
    model = nn.Linear(2, 2)
    ema = EMA(model)
    before = weights(model)
    with pytest.raises(error, match="^state_dict: .* accepted"):
        ema.load_state_dict(state)
    assert_same(average(ema), before)
    assert ema.num_updates == 0 and ema.state_dict()["decay"] == STATE["decay"]


@pytest.mark.parametrize("steps, error", [(-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_share_of_start_refuses_what_is_no_number_of_steps(steps, error):
    with pytest.raises(error, match="^steps: .* accepted"):
        EMA(GOOD).share_of_start(steps)


def test_buffer_that_the_state_lacks_starts_at_the_model_and_does_not_stop_a_resume():
    """The code has gained a buffer since the checkpoint was written."""
    old = EMA(nn.Linear(2, 2))
    model = nn.Linear(2, 2)
    model.register_buffer("late", torch.ones(1))
    ema = EMA(model, decay=0.5)
    ema.load_state_dict(old.state_dict())
    model.late += 1
    ema.update()
    assert average(ema)["late"].item() == pytest.approx(1.001) and ema.decay == 0.999
