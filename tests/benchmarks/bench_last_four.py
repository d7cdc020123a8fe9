from types import SimpleNamespace

import torch
from torch import nn

from tests.benchmarks.row import Row
from tricks_lib.last_four import LastFourClassifier


class Layers(nn.Module):
    """Stands for an encoder: its hidden states are given, so that only what is done with them is measured."""

    def __init__(self, hidden_states):
        super().__init__()
        self.config = SimpleNamespace(
            hidden_size=hidden_states[0].shape[-1], num_hidden_layers=len(hidden_states) - 1
        )
        self.hidden_states = hidden_states
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids, attention_mask, output_hidden_states):
        return SimpleNamespace(hidden_states=self.hidden_states)


def make(device):
    torch.manual_seed(0)
    hidden_states = [torch.randn(32, 128, 768, device=device, requires_grad=True) for _ in range(13)]
    ids = torch.zeros(32, 128, dtype=torch.long, device=device)
    mask = (torch.arange(128, device=device) < torch.randint(16, 129, (32, 1), device=device)).long()
    ours = LastFourClassifier(Layers(hidden_states), 2, pool="cls", dropout=0.0).to(device)
    linear = nn.Linear(4 * 768, 2).to(device)

    def snippet():
        """The circulating LastFourModel: all 13 layers stacked, the last four concatenated, then the first
        token taken.
        """
        stacked = torch.stack(hidden_states)
        states = torch.cat((stacked[-1], stacked[-2], stacked[-3], stacked[-4]), dim=-1)
        return linear(states[:, 0, :])

    def concatenate():
        """The same without the stack: concatenated for every token, then the first token taken."""
        return linear(torch.cat(hidden_states[-4:], dim=-1)[:, 0, :])

    def step(logits):
        for h in hidden_states:
            h.grad = None
        logits().sum().backward()

    gradients = [torch.zeros_like(h) for h in hidden_states[-4:]]

    def limit():
        for gradient in gradients:
            gradient.zero_()

    peers = {
        "the circulating snippet": lambda: step(snippet),
        "concatenate, then pool": lambda: step(concatenate),
    }
    return lambda: step(lambda: ours(ids, mask).logits), peers, {"four gradients, written once": limit}


ROWS = [Row("last_four", "4x32x128x768, fwd+bwd", make)]
