"""What each layer holds, and what is gained by reading several: frozen encoders under a linear head, and one
fine-tuned whole.

A text is the masked mean of its tokens' states, in every layer. All heads are one and the same: a linear
layer on standardised features, L2 penalty, fitted to the end by L-BFGS in float64. A seed draws the training
rows, and draws the same ones where the encoder is fine-tuned, so that the two settings can be compared.
"""

import copy
import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.last_four import LastFourClassifier, WeightedLayerPool, concat_last_layers
from tricks_lib.mean_pooling import mean_pool

ROWS, MAX_LENGTH = 500, 40
STEPS, BATCH = 80, 16  # of the fine-tuned arms
PENALTIES = [0.0001, 0.001, 0.01, 0.1, 1.0]


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


@functools.cache
def prepare(task: str, model: str | None = None, max_length: int = MAX_LENGTH):
    """Rows of each split, how they are stacked, and the encoder."""
    data = tasks.load_task(task)
    encoder, tokenizer = models.load_encoder(model)
    return {s: fit.tokenize(tokenizer, data[s], max_length) for s in data}, fit.collate(tokenizer), encoder


@functools.cache
def features(task: str, model: str | None, split: str):
    """Layer means (N, L + 1, H) and labels (N,) of one split; computed once in a process."""
    rows, collate_fn, encoder = prepare(task, model)
    return layer_means(encoder, rows[split], collate_fn), labels_of(rows[split])


def labels_of(rows) -> torch.Tensor:
    return torch.tensor([row["labels"] for row in rows])


def draw(count: int, rows: int, seed: int) -> np.ndarray:
    """Indices of the training rows of a seed: those of :func:`tricks_lib.lab.fit.draw`."""
    return np.random.default_rng(seed).permutation(count)[:rows]


def tokens(states: torch.Tensor) -> list[torch.Tensor]:
    """(N, L + 1, H) as the tuple of hidden states (N, 1, H) that the trick reads: each text is one token."""
    return [h[:, None] for h in states.unbind(1)]


def read(states: torch.Tensor, arm: dict, seed: int = 0) -> torch.Tensor:
    """The vector (N, D) of each text that an arm's head gets.

    Args:
        arm: ``{"read": "layer", "layer": i}``, or ``"concat"``, ``"sum"`` or ``"weighted"`` with ``"layers":
            k`` (weights before they are learnt), or ``"widened"``: the last layer beside random features of
            it, ``"times"`` as wide in all.
    """
    if arm["read"] == "layer":
        return states[:, arm["layer"]]
    if arm["read"] == "concat":
        return concat_last_layers(tokens(states), arm["layers"])[:, 0]
    if arm["read"] == "widened":
        last = states[:, -1] - states[:, -1].mean(1, keepdim=True)
        H = last.shape[1]
        into = torch.randn(H, (arm["times"] - 1) * H, generator=torch.Generator().manual_seed(seed))
        return torch.cat(
            [states[:, -1], torch.relu(last / last.std(1, keepdim=True) @ into.to(last.dtype) / H**0.5)],
            dim=1,
        )
    with torch.no_grad():
        return WeightedLayerPool(arm["layers"]).to(states.dtype)(tokens(states))[:, 0]


class Head(nn.Module):
    """A linear layer on the standardised vectors of an arm. ``weighted`` standardises each layer by itself,
    so that the weights compare layers of one scale, and learns the weights with the head (their scale stays
    1).
    """

    def __init__(self, states: torch.Tensor, num_labels: int, arm: dict, seed: int = 0):
        super().__init__()
        self.arm, self.seed = arm, seed
        self.layers = WeightedLayerPool(arm["layers"]).double() if arm["read"] == "weighted" else None
        parts = self._parts(states)
        self.centre = [part.mean(0) for part in parts]
        self.spread = [part.std(0).clamp(min=1e-9) for part in parts]
        self.linear = nn.Linear(parts[0].shape[1], num_labels, dtype=torch.float64)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def _parts(self, states) -> list[torch.Tensor]:
        """What is standardised together, each (N, D): the arm's vectors, or each layer to be weighted."""
        if self.layers is None:
            return [read(states, self.arm, self.seed)]
        return list(states.unbind(1)[-self.arm["layers"] :])

    def vector(self, states):
        """What does not change in the fit: the vectors (N, D), or the layers (N, 1, D) to be weighted."""
        parts = zip(self._parts(states), self.centre, self.spread)
        standard = [(part - centre) / spread for part, centre, spread in parts]
        return standard[0] if self.layers is None else [layer[:, None] for layer in standard]

    def forward(self, vector):
        return self.linear(vector if self.layers is None else self.layers(vector)[:, 0])

    def shares(self) -> list[float]:
        """The learnt weight of each layer, lower layer first; they add up to 1."""
        return self.layers.weights.softmax(0).tolist()


def fit_head(
    states, labels, num_labels: int, arm: dict, C: float = 0.1, seed: int = 0, iterations: int = 200
) -> Head:
    """Minimise the cross-entropy's sum times C plus half of the squared norm of the linear layer's weights,
    as scikit-learn does.
    """
    states = states.double()
    head = Head(states, num_labels, arm, seed)
    vector = head.vector(states)
    learnt = [head.linear.weight, head.linear.bias, *([head.layers.weights] if head.layers else [])]
    optimizer = torch.optim.LBFGS(
        learnt,
        max_iter=iterations,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(head(vector), labels) + head.linear.weight.square().sum() / (
            2 * C * len(labels)
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    return head


@torch.no_grad()
def right(head: Head, states, labels) -> np.ndarray:
    """Which texts the head gets right: (N,) bool."""
    return (head(head.vector(states.double())).argmax(1) == labels).numpy()


def accuracy(head: Head, states, labels) -> float:
    return float(right(head, states, labels).mean())


def answers(
    states, labels, of_arms: dict[str, dict], rows: int, seeds, penalties=PENALTIES, tuning_seed: int = 101
) -> dict[str, np.ndarray]:
    """Which rows of ``test`` every arm's head gets right, (seeds, N) bool; each arm's penalty is chosen on
    ``validation`` with a seed of its own.

    Args:
        states, labels: split -> (N, L + 1, H) and (N,).
    """
    num_labels, found = int(labels["train"].max()) + 1, {}

    def score(arm, C, seed, split):
        chosen = torch.from_numpy(draw(len(labels["train"]), rows, seed))
        head = fit_head(states["train"][chosen], labels["train"][chosen], num_labels, arm, C, seed)
        return right(head, states[split], labels[split])

    for name, arm in of_arms.items():
        best = max(penalties, key=lambda C: score(arm, C, tuning_seed, "validation").mean())
        found[name] = np.array([score(arm, best, seed, "test") for seed in seeds])
    return found


def compare(*data, **settings) -> dict[str, list[float]]:
    """Accuracy of every arm, a number a seed: the means of :func:`answers`, which takes the same
    arguments.
    """
    return {name: found.mean(1).tolist() for name, found in answers(*data, **settings).items()}


def layer_scores(x, y, x_test, y_test, C: float = 0.01, layers: int = 4) -> list[float]:
    """Accuracy on the test states of a head on each layer alone, embeddings first, and then on the last
    ``layers`` side by side.
    """
    of_arms = [{"read": "layer", "layer": i} for i in range(x.shape[1])] + [
        {"read": "concat", "layers": layers}
    ]
    return [accuracy(fit_head(x, y, int(y.max()) + 1, arm, C), x_test, y_test) for arm in of_arms]


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


def run_frozen(experiment, settings, seed, split):
    x, y = features(experiment.data, experiment.model, "train")
    chosen = torch.from_numpy(draw(len(y), ROWS, seed))
    head = fit_head(x[chosen], y[chosen], int(y.max()) + 1, settings, settings["C"], seed)
    result = {"accuracy": accuracy(head, *features(experiment.data, experiment.model, split))}
    return result if head.layers is None else {**result, "shares": [round(s, 4) for s in head.shares()]}


def finetune(
    prepared, layers: int, lr: float, seed: int, rows: int = ROWS, steps: int = STEPS, batch_size: int = BATCH
):
    """The encoder trained whole under a head that reads its last ``layers`` layers side by side."""
    data, collate_fn, encoder = prepared
    torch.manual_seed(seed)
    model = LastFourClassifier(
        copy.deepcopy(encoder), int(labels_of(data["train"]).max()) + 1, pool="mean", num_layers=layers
    )
    fit.fit(
        model,
        fit.draw(data["train"], rows, seed),
        collate_fn,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
    )
    return model


def run_finetuned(experiment, settings, seed, split):
    prepared = prepare(experiment.data, experiment.model)
    model = finetune(prepared, settings["layers"], settings["lr"], seed)
    logits, labels = fit.predict(model, prepared[0][split], prepared[1])
    return {"accuracy": float((logits.argmax(1) == labels).mean())}


def arms(depth: int, layers: int = 4) -> dict[str, dict]:
    """Every layer of an encoder of ``depth`` layers alone, and the ways to read the last ``layers`` of
    them.
    """
    alone = {f"layer {i}": {"read": "layer", "layer": i} for i in range(1, depth)}
    together = {name: {"read": name, "layers": layers} for name in ("sum", "weighted", "concat")}
    return {
        "embeddings": {"read": "layer", "layer": 0},
        **alone,
        "last layer": {"read": "layer", "layer": depth},
        "widened": {"read": "widened", "times": layers},
        **together,
        "concat, all": {"read": "concat", "layers": depth + 1},
    }


FROZEN = {
    "trick": "last_four",
    "data": "en_trec",
    "metric": "accuracy",
    "baseline": "last layer",
    "run": run_frozen,
    "grid": {"C": PENALTIES},
    "setting": f"frozen encoder, masked mean of each layer; linear head on {ROWS} training rows drawn by "
    f"the seed",
}
FINETUNED = (
    f"fine-tuned whole on {ROWS} training rows drawn by the seed: {STEPS} steps of {BATCH}, at most "
    f"{MAX_LENGTH} tokens, mean pooling"
)

EXPERIMENTS = [
    Experiment(task="en_trec", model="mini_bert", arms=arms(4), **FROZEN),
    Experiment(task="en_trec_minilm", model="all-MiniLM-L6-v2", arms=arms(6), **FROZEN),
    Experiment(
        trick="last_four",
        task="en_trec_finetuned",
        model="mini_bert",
        data="en_trec",
        metric="accuracy",
        baseline="last layer",
        run=run_finetuned,
        arms={"last layer": {"layers": 1}, "concat": {"layers": 4}},
        grid={"lr": [5e-4, 1e-3, 2e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=FINETUNED,
    ),
]
