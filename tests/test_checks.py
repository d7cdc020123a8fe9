"""Checks of arguments: the same on every device that can be asked at no cost, and never the end of a process.
Oracles: Python's and NumPy's numbers, torch's own eager results under its transforms."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import tricks_lib
from tricks_lib._checks import number, require, require_now
from tricks_lib._labels import kept_classes

PACKAGE = Path(tricks_lib.__file__).parent
CHECKS = {"require": require, "require_now": require_now}


class OnCuda(torch.Tensor):
    """A tensor that says it is on a device and counts how often its value is read."""

    device = torch.device("cuda")
    reads = 0

    def __bool__(self):
        type(self).reads += 1
        return bool(self.as_subclass(torch.Tensor))


def on_cuda(value):
    OnCuda.reads = 0
    return torch.tensor(value).as_subclass(OnCuda)


def test_no_check_of_the_package_can_leave_a_cuda_context_unusable():
    """A failing ``torch._assert_async`` ends every later call of the process."""
    calls = [f for f in PACKAGE.rglob("*.py") if "_assert_async" in f.read_text(encoding="utf-8")]
    assert not calls


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_that_fails_names_what_was_given(check):
    with pytest.raises(ValueError, match=re.escape("x: 0..3 is accepted, -1 to 7 given")):
        CHECKS[check](torch.tensor(False), "x: 0..3 is accepted, {} given", torch.tensor([-1, 2, 7]))
    with pytest.raises(ValueError, match="5 given"):
        CHECKS[check](torch.tensor(False), "{} given", torch.tensor([5, 5]))
    CHECKS[check](torch.tensor(True), "{}", torch.tensor([5]))


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_a_check_does_not_wait_for_a_device(device, monkeypatch):
    monkeypatch.setattr(OnCuda, "device", torch.device(device))
    require(on_cuda(False), "{} given", torch.tensor([1]))
    assert OnCuda.reads == 0


def test_on_cuda_decoding_waits_and_raises_an_ordinary_error():
    with pytest.raises(ValueError, match="1 given"):
        require_now(on_cuda(False), "{} given", torch.tensor([1]))
    assert OnCuda.reads == 1


def test_on_cuda_an_error_of_an_earlier_kernel_is_not_taken_for_an_unreadable_value():
    class Broken(OnCuda):
        def __bool__(self):
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        require_now(torch.tensor(True).as_subclass(Broken), "{}", torch.tensor([1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_wrong_argument_on_a_device_leaves_it_usable():
    from tricks_lib.decoding import top_p_filter

    wrong = torch.full((1, 5), torch.nan, device="cuda")
    with pytest.raises(ValueError, match="^logits: "):
        top_p_filter(wrong, 0.9)
    require((wrong > 0).all(), "{}", wrong)
    assert torch.ones(3, device="cuda").sum().item() == 3


@pytest.mark.parametrize("check", CHECKS)
def test_under_compile_no_check_looks_at_values(check):
    def checked(x):
        CHECKS[check]((x > 0).all(), "{}", x)
        return 2 * x

    compiled = torch.compile(checked, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(-torch.ones(3)), -2 * torch.ones(3))


@pytest.mark.parametrize("check", CHECKS)
def test_under_vmap_and_without_values_nothing_is_checked(check):
    def checked(x):
        CHECKS[check]((x > 0).all(), "{}", x)
        return (x**2).sum()

    x = torch.tensor([[-1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(torch.func.vmap(torch.func.grad(checked))(x), 2 * x)
    assert checked(x.to("meta")).device.type == "meta"
    with FakeTensorMode():
        assert checked(torch.ones(3)).shape == ()


def test_kept_classes_under_vmap_and_without_values():
    labels = torch.tensor([[0, 2], [1, -100]])
    keep = torch.func.vmap(lambda row: kept_classes(row, 3, -100))(labels)
    assert torch.equal(keep, labels != -100)
    with FakeTensorMode():
        assert kept_classes(torch.zeros(4, dtype=torch.long), 3, -100).shape == (4,)
    assert kept_classes(torch.tensor([0, 2]), 3, -100) is None


@pytest.mark.parametrize("value", [3, np.int64(3), np.int32(3), np.uint8(3), np.intp(3)], ids=repr)
def test_integers_of_python_and_numpy_are_integers(value):
    found = number("n", value, 1, integer=True)
    assert found == 3 and type(found) is int
    assert number("n", value, 0.0, 5.0) == 3


@pytest.mark.parametrize("value", [0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5)], ids=repr)
def test_floats_of_python_and_numpy_are_numbers(value):
    found = number("x", value, 0.0)
    assert found == 0.5 and type(found) is float
    with pytest.raises(TypeError, match="^x: .* is accepted"):
        number("x", value, 0, integer=True)


@pytest.mark.parametrize("value", [True, np.bool_(True), "3", None, [3], np.array([3]), 3j], ids=repr)
def test_what_is_no_number_is_a_type_error(value):
    for integer in (True, False):
        with pytest.raises(TypeError, match="^n: .* is accepted"):
            number("n", value, 1, integer=integer)


@pytest.mark.parametrize("value", [0, np.int64(-1), np.nan, np.float32(np.inf), 11.5], ids=repr)
def test_a_number_out_of_range_is_a_value_error(value):
    with pytest.raises(ValueError, match=re.escape("n: ") + ".* is accepted"):
        number("n", value, 1, 11)
    with pytest.raises(ValueError, match="a number from 1 to 11 is accepted"):
        number("n", value, 1, 11, accepted="a number from 1 to 11")
