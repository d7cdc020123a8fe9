"""The pretended GPU, in a process of its own: it cannot be taken back."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.full
BEGIN = """
import torch
from tests.full import fake_cuda
fake_cuda.pretend()
x = torch.ones(2, 2, device="cuda")
"""
MOVED = """
import copy
cpu = torch.ones(2, 2)
linear = torch.nn.Linear(2, 2).to("cuda")
optimizer = torch.optim.AdamW(linear.parameters())
torch.nn.functional.cross_entropy(linear(x), torch.tensor([0, 1], device=x.device)).backward()
torch.nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
optimizer.step()
chosen = x.clone().requires_grad_()
chosen.index_select(0, torch.tensor([0], device="cuda")).sum().backward()
there = [
    x, x + 1, x * torch.tensor(2.0), x[torch.tensor([0])], x.new_zeros(2), torch.zeros_like(x), cpu.to(x),
    cpu.cuda(), torch.tensor([1], device="cuda"), torch.as_tensor([1], device="cuda"), x.to(torch.float16),
    torch.arange(3, device=x.device), linear.weight, linear.weight.grad, chosen.grad, torch.stack([x, x]),
    x.clone(), optimizer.state[linear.weight]["exp_avg"], copy.deepcopy(x),
    *copy.deepcopy(linear).parameters(), x.multinomial(1, generator=torch.Generator("cuda").manual_seed(0)),
]
here = [cpu, cpu.clone(), x.cpu(), x.to("cpu"), torch.zeros_like(x, device="cpu"), cpu + 1, cpu.to(cpu)]
assert [t.device.type for t in there] == ["cuda"] * len(there), there
assert [t.device.type for t in here] == ["cpu"] * len(here), here
assert torch.Generator("cuda").device == x.device and torch.Generator().device == cpu.device
assert x.to("cuda") is x and cpu.to("cpu") is cpu
assert linear.weight.is_leaf and linear.weight.requires_grad
assert torch.equal(x.cpu(), cpu) and x.cpu().numpy().sum() == x.sum().item() == 4
assert x.tolist() == cpu.tolist()
cpu.copy_(x)
"""
REFUSED = {
    "an operation": "x + torch.ones(2, 2)",
    "a layer": "torch.nn.Linear(2, 2)(x)",
    "labels": "torch.nn.functional.cross_entropy(x, torch.tensor([0, 1]))",
    "a list": "torch.cat([x, torch.ones(1, 2)])",
    "in place": "torch.ones(2, 2).add_(x)",
    "indices of the GPU": "torch.ones(2)[torch.tensor([0], device='cuda')]",
    "NumPy": "x.numpy()",
    "NumPy's own call": "__import__('numpy').asarray(x)",
}


def run(code):
    return subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True)


def test_marks_follow_the_tensors():
    done = run(MOVED)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def refusals():
    """What each of REFUSED raised, of one process."""
    tried = "try: eval(code)\n except Exception as error: print(name, '|', error)"
    done = run(f"for name, code in {REFUSED!r}.items():\n {tried}")
    assert done.returncode == 0, done.stderr
    return dict(line.split(" | ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", REFUSED)
def test_two_devices_do_not_meet(refusals, name):
    message = "can't convert cuda:0" if "NumPy" in name else "Expected all tensors to be on the same device"
    assert refusals[name].startswith(message)
