"""All that decides the weights of each checkpoint, except the text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights of one checkpoint, except the text."""

    vocab_size: int = 8192
    hidden_size: int = 192
    num_layers: int = 4
    num_heads: int = 3
    max_positions: int = 512
    tokens: int = 64  # a row of most batches
    # a row of every long_every-th batch: positions are trained from the start, since late ones stay untrained
    long_tokens: int = 512
    long_every: int = 8
    batch_tokens: int = 4096
    share: float = 0.2  # of the tokens of a row, selected for prediction
    steps: int = 12_000
    lr: float = 2e-3
    muon_lr: float | None = None  # for the matrices of the layers; None: AdamW for all
    warmup: int = 500
    weight_decay: float = 0.1
    seed: int = 0


RECIPES = {
    "bert": Recipe(),
    "xlnet": Recipe(long_tokens=256, long_every=4, batch_tokens=2048, lr=1.5e-3, steps=9_000),
    "gpt2": Recipe(tokens=128, batch_tokens=2048, muon_lr=0.02, weight_decay=0.01, steps=7_500),
    "gpt2_zh": Recipe(
        tokens=128, batch_tokens=2048, muon_lr=0.02, weight_decay=0.01, steps=7_500, vocab_size=6000
    ),
}
