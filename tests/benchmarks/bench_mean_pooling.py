import torch

from tests.benchmarks.row import Row
from tricks_lib.mean_pooling import mean_pool


def sentence_transformers_formula(hidden_states, attention_mask):
    """sentence-transformers, modules/pooling.py, mean tokens, written out."""
    mask = attention_mask.unsqueeze(-1).expand(hidden_states.size()).to(hidden_states.dtype)
    return torch.sum(hidden_states * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)


def make(device):
    torch.manual_seed(0)
    hidden_states = torch.randn(32, 512, 768, device=device, requires_grad=True)
    mask = (torch.arange(512, device=device) < torch.randint(64, 513, (32, 1), device=device)).long()
    grad = torch.randn(32, 768, device=device)

    def step(pool):
        hidden_states.grad = None
        pool(hidden_states, mask).backward(grad)

    return lambda: step(mean_pool), {"sentence-transformers": lambda: step(sentence_transformers_formula)}


ROWS = [Row("mean_pool", "32x512x768, fwd+bwd", make, {"sentence-transformers": 0.60})]
