"""Two processes (gloo) that hold half of each weight, against one that holds them all.

Oracle: the average of the whole model in one process; FSDP2's shards of it are what each rank must have.
"""

import copy

import pytest
import torch
from torch import nn

from tricks_lib.ema import EMA

from .ranks import run_ranks

pytestmark = pytest.mark.skipif(
    torch.__version__.startswith("2.6."), reason="FSDP2 of torch 2.6 does not run on a CPU"
)
STEPS = 4


def make():
    """Three rows on two ranks are uneven: one rank has one row of the last layer less than the other."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.BatchNorm1d(3))


def batch(i):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(i))


def train(model, ema):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(STEPS):
        model(batch(i)).exp().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    return optimizer


def whole(values):
    """What all shards together are, of a mapping of ``DTensor``."""
    return {n: v.full_tensor() if hasattr(v, "full_tensor") else v.clone() for n, v in values.items()}


def sharded(rank):
    from torch.distributed.fsdp import fully_shard

    model = make()
    for layer in (model[0], model[2], model):
        fully_shard(layer)
    ema = EMA(model, decay=0.8)
    train(model, ema)
    trained = whole(dict(model.named_parameters()))
    state = ema.state_dict()
    evaluated = [model.eval()(batch(9)).detach()]
    with ema.average_parameters():
        average = whole(dict(model.named_parameters()))
        evaluated.append(model(batch(9)).detach())
    restored = whole(dict(model.named_parameters()))
    evaluated.append(model(batch(9)).detach())
    with pytest.raises(ValueError, match="^device: 'cpu' given .* None is accepted"):
        EMA(model, device="cpu")
    second = EMA(model, decay=0.5)
    second.load_state_dict(copy.deepcopy(state))
    return {
        "shards": {name: tuple(value.to_local().shape) for name, value in state["shadow"].items()},
        "state": whole(state["shadow"]),
        "resumed": whole(second.state_dict()["shadow"]),
        "average": average,
        "trained": trained,
        "restored": restored,
        "evaluated": evaluated,
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run_ranks(sharded, 2, tmp_path_factory.mktemp("ranks"))


def test_average_of_shards_is_the_shard_of_the_average(ranks):
    model = make()
    ema = EMA(model, decay=0.8)
    train(model, ema)
    expected = ema.state_dict()["shadow"]
    for rank in ranks:
        for part in ("state", "resumed", "average"):
            torch.testing.assert_close(dict(rank[part]), dict(expected))


def test_each_evaluation_sees_the_weights_of_its_time(ranks):
    """A forward pass without a backward leaves FSDP2's root module gathered: what is written into its shards
    would not be seen.
    """
    model = make()
    ema = EMA(model, decay=0.8)
    train(model, ema)
    trained = model.eval()(batch(9)).detach()
    with ema.average_parameters():
        average = model(batch(9)).detach()
    for rank in ranks:
        torch.testing.assert_close(rank["evaluated"], [trained, average, trained])


def test_each_process_keeps_its_own_shard_alone(ranks):
    assert ranks[0]["shards"]["0.weight"] == ranks[1]["shards"]["0.weight"] == (3, 4)
    assert [rank["shards"]["2.weight"] for rank in ranks] == [(2, 6), (1, 6)]


def test_trained_shards_come_back_bit_for_bit(ranks):
    for rank in ranks:
        for name, value in rank["trained"].items():
            assert torch.equal(value, rank["restored"][name]), name
            assert not torch.equal(value, rank["average"][name]), name
