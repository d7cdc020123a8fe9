"""A linear probe on frozen features: what an encoder's states are worth as they are.

With features x standardised over the training rows, the head minimises

    sum_i CE(W x_i + b, y_i) + |W|^2 / (2 s^2)                                                  (1)

by L-BFGS. s, the standard deviation that a weight is expected to have, is the probe's rate, and the
iterations of L-BFGS are its steps. (scikit-learn's ``LogisticRegression`` has C = s^2.) What is learned
before the head (weights of layers, attention over windows) is minimised with it, matrices under the same
penalty.

Shapes: N rows, K layers or windows, D numbers in each, C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tricks_lib.last_four import WeightedLayerPool

READS = ("one", "concat", "wide", "weighted", "attention")
WIDER = 3  # times D: random features beside the D, so many as "concat" of four layers has more
ATTENTION = 64  # rows of W in equation (2) of tricks_lib.xlnet_long_text


@dataclass(frozen=True)
class Features:
    """Frozen features.

    Attributes:
        x: (N, K, D), floating point. real: (N, K) bool: which of the K there are; None: all.
    """

    x: Tensor
    real: Tensor | None = None

    def rows(self, index: Tensor) -> "Features":
        return Features(self.x[index], None if self.real is None else self.real[index])


class Probe(nn.Module):
    """What is read of the K standardised vectors of a row, and a linear layer.

    Args:
        seen: features of the training rows; they give the sizes, and the mean and spread to standardise by.
        num_labels: C.
        read: "one" (K is 1); "concat" (side by side); "wide" (K is 1, beside random features of it); or
            learned: "weighted" (a mean of the K), "attention" (over the K that there are).
    """

    def __init__(self, seen: Features, num_labels: int, read: str = "one"):
        super().__init__()
        if read not in READS:
            raise ValueError(f"read: {read!r} given, one of {', '.join(map(repr, READS))} is accepted")
        K, D = seen.x.shape[1:]
        self.read = read
        known = seen.x if seen.real is None else seen.x[seen.real].unsqueeze(1)
        self.center, self.spread = known.mean(0), known.std(0).clamp(min=1e-6)  # (K, D), of windows (1, D)
        if read == "wide":
            self.random = torch.randn(D, WIDER * D) / D**0.5
        if read == "weighted":
            self.layers = WeightedLayerPool(K)
            self.layers.scale.requires_grad_(False)  # the head has a scale of its own
        if read == "attention":
            self.attention = nn.Sequential(
                nn.Linear(D, ATTENTION), nn.Tanh(), nn.Linear(ATTENTION, 1, bias=False)
            )
        self.head = nn.Linear({"concat": K * D, "wide": (1 + WIDER) * D}.get(read, D), num_labels)
        nn.init.zeros_(self.head.weight), nn.init.zeros_(self.head.bias)

    def standardised(self, given: Features) -> Features:
        """What :meth:`forward` takes; computed once, as nothing in it is learned."""
        x = (given.x - self.center) / self.spread  # (N, K, D)
        if self.read == "wide":
            x = torch.cat([x, F.relu(x @ self.random)], dim=-1)
        return Features(x, given.real)

    def forward(self, given: Features) -> Tensor:
        """Logits (N, C) of standardised features."""
        if self.read == "weighted":
            x = self.layers([layer.unsqueeze(1) for layer in given.x.unbind(1)])[:, 0]
        elif self.read == "attention":
            score = self.attention(given.x).squeeze(-1).masked_fill(~given.real, float("-inf"))  # (N, K)
            x = torch.einsum("bk,bkh->bh", score.softmax(dim=1), given.x)
        else:
            x = given.x.flatten(1)
        return self.head(x)

    def penalty(self) -> Tensor:
        """|W|^2 over all matrices."""
        return sum((p**2).sum() for p in self.parameters() if p.ndim == 2)


def train(
    features: Features,
    labels: Tensor,
    num_labels: int,
    rate: float,
    steps: int,
    seed: int = 0,
    read: str = "one",
) -> Probe:
    """A probe that minimises (1).

    Args:
        features, labels: of the training rows, float32; labels (N,) are class indices.
        rate: s. steps: iterations. seed: draws what does not start at zero. read: see :class:`Probe`.
    """
    torch.manual_seed(seed)
    probe = Probe(features, num_labels, read)
    given = probe.standardised(features)
    optimizer = torch.optim.LBFGS(
        [p for p in probe.parameters() if p.requires_grad],
        max_iter=steps, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6,
    )  # fmt: skip

    def objective():
        optimizer.zero_grad()
        loss = F.cross_entropy(probe(given), labels) + probe.penalty() / (2 * rate**2 * len(labels))
        loss.backward()
        return loss

    optimizer.step(objective)
    return probe
