"""What each layer of an encoder holds: its mean vector of a text, and what ridge regression reads from it."""

import torch

from tricks_lib.lab import fit
from tricks_lib.mean_pooling import mean_pool


def layer_means(encoder, rows, collate_fn, batch_size: int = 64) -> torch.Tensor:
    """Masked mean of the tokens' states in every layer, the embeddings' output first: (N, L + 1, H), float32,
    on the CPU.

    Args:
        rows: what :func:`tricks_lib.lab.fit.tokenize` returns. collate_fn: what
            :func:`tricks_lib.lab.fit.collate` returns.
    """

    def read(output, mask):
        return torch.stack([mean_pool(h.float(), mask) for h in output.hidden_states], dim=1)

    return fit.encode(encoder, rows, collate_fn, read, batch_size, output_hidden_states=True)


def words_in(rows, words: list[int]) -> torch.Tensor:
    """Which of the tokens ``words`` each row holds: (N, W) of 0 and 1, float64."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    return torch.stack([torch.isin(torch.tensor(words), row) for row in ids]).double()


def explained(x_train, y_train, x_test, y_test, penalty: float = 10.0) -> float:
    """Share of the variance of ``y_test`` (N, K) that ridge regression on standardised ``x`` (N, D) predicts;
    0 is that of the mean.
    """
    x_train, y_train, x_test, y_test = (v.double() for v in (x_train, y_train, x_test, y_test))
    centre, spread, mean = x_train.mean(0), x_train.std(0).clamp(min=1e-9), y_train.mean(0)
    a, b = (x_train - centre) / spread, (x_test - centre) / spread
    weight = torch.linalg.solve(
        a.T @ a + penalty * torch.eye(a.shape[1], dtype=a.dtype), a.T @ (y_train - mean)
    )
    return 1 - ((y_test - mean - b @ weight).square().sum() / (y_test - mean).square().sum()).item()
