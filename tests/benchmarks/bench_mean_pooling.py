from functools import partial

import torch

from tests.benchmarks.row import Row
from tricks_lib.mean_pooling import last_token_pool, mean_pool, weighted_mean_pool


def make(pool, mode, device):
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    torch.manual_seed(0)
    hidden_states = torch.randn(32, 512, 768, device=device, requires_grad=True)
    mask = (torch.arange(512, device=device) < torch.randint(64, 513, (32, 1), device=device)).long()
    grad = torch.randn(32, 768, device=device)
    pooling = Pooling(768, mode)

    def step(pool):
        hidden_states.grad = None
        pooled = pool(hidden_states, mask)
        pooled.backward(grad)
        return pooled

    def theirs(hidden_states, attention_mask):
        return pooling({"token_embeddings": hidden_states, "attention_mask": attention_mask})[
            "sentence_embedding"
        ]

    @torch.no_grad()
    def limit():
        hidden_states.sum(), torch.ones_like(hidden_states)

    return (
        lambda: step(pool),
        {"sentence-transformers": lambda: step(theirs)},
        {"one read, one gradient": limit},
    )


BARS = {"sentence-transformers": 0.60}
MODES = {mean_pool: "mean", weighted_mean_pool: "weightedmean", last_token_pool: "lasttoken"}
ROWS = [
    Row(
        pool.__name__,
        "32x512x768, fwd+bwd",
        partial(make, pool, mode),
        BARS,
        packages={"sentence-transformers": "sentence-transformers"},
    )
    for pool, mode in MODES.items()
]
