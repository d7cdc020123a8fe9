"""The count against one made by hand, from the formula in the module's docstring."""

import pytest
import torch
import transformers

from tests.full import tokens

WIDTH, B, T = 32, 4, 16
OPERATIONS_A_SECOND = 98.9 * 128 * 12 * (24 * 768**2 + 4 * 128 * 768)  # of a layer, and 12 layers
BASE = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}


@pytest.fixture
def count():
    counted = tokens.Count(WIDTH)
    yield counted
    counted.stop()


def model(layers=3, **change):
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(num_hidden_layers=layers, **{**BASE, **change}))


def ids(rows=B, length=T):
    return torch.randint(99, (rows, length))


def by_hand(rows, length):
    """A layer's forward pass: 24 H^2 + 4 T H operations a token, at the rate at which 12 layers of H = 768 do
    as many for 98.9 texts of 128 tokens a second.
    """
    return rows * length * (24 * 768**2 + 4 * length * 768) / OPERATIONS_A_SECOND


@pytest.mark.parametrize("rows, length", [(64, 128), (16, 512)])
def test_a_forward_pass_is_the_layers_operations(count, rows, length):
    with torch.no_grad():
        model()(ids(rows, length))
    assert count.seconds == {0: pytest.approx(3 * by_hand(rows, length))}


def test_a_backward_pass_is_two_forward_passes_each_time_it_runs(count):
    out = model()(ids(64, 128)).last_hidden_state.sum()
    once = count.seconds[0]
    out.backward(retain_graph=True)
    assert count.seconds[0] == pytest.approx(3 * once)
    out.backward()
    assert count.seconds[0] == pytest.approx(5 * once)


def test_a_backward_pass_stops_where_it_is_cut(count):
    frozen = model().requires_grad_(False)
    frozen.encoder.layer[2].requires_grad_(True)
    frozen(ids(64, 128)).last_hidden_state.sum().backward()
    assert count.seconds[0] == pytest.approx((3 + 2) * by_hand(64, 128))


def test_a_small_pass_takes_the_time_of_its_launches(count):
    with torch.no_grad():
        model()(ids(1, 1))
    assert count.seconds[0] == pytest.approx(3 * tokens.LAUNCH)


def test_another_width_is_not_counted(count):
    model(hidden_size=16)(ids())
    assert count.seconds == {}


def test_the_other_models(count):
    sizes = {"vocab_size": 20_000, "n_layer": 2, "n_head": 2}
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=WIDTH, **sizes))
    xlnet = transformers.XLNetModel(transformers.XLNetConfig(d_model=WIDTH, d_inner=64, **sizes))
    with torch.no_grad():
        gpt2(torch.randint(99, (64, 128)))
        head = 64 * 128 * 2 * 20_000 * 768 / OPERATIONS_A_SECOND
        assert count.seconds[0] == pytest.approx(2 * by_hand(64, 128) + head)
        count.seconds.clear()
        xlnet(torch.randint(99, (64, 128)))
        assert count.seconds[0] == pytest.approx(2 * 1.5 * by_hand(64, 128))


@pytest.mark.parametrize("layers, expected", [(12, tokens.STEP), (3, 0.0)])
def test_an_optimizer_of_a_whole_base_model(count, layers, expected):
    trained = model(layers)
    trained(ids()).last_hidden_state.sum().backward()
    before = count.seconds[0]
    torch.optim.AdamW(trained.parameters()).step()
    assert count.seconds[0] - before == pytest.approx(expected)


def test_cells_are_kept_apart(count):
    run = model()
    for count.cell in (3, 7):
        with torch.no_grad():
            run(ids())
    assert count.seconds[3] == count.seconds[7] > 0


def test_what_a_gpu_should_have_done_is_counted_apart(count, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with torch.no_grad():
        model()(ids())
    assert count.seconds == {} and count.on_cpu[0] > 0
