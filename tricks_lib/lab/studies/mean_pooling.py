"""Which vector stands for the text? First token, mean, max, and the mean that forgets the mask.

Frozen encoder. For classification a linear probe is trained on each kind of vector; a seed decides which 80 %
of the training rows the probe sees. For STS-B nothing is trained: the cosine of two sentence vectors is
compared with the human score.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F

from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.mean_pooling import cls_pool, max_pool, mean_pool


def mean_over_padding(hidden_states, attention_mask):
    """The usual mistake: the mean over all T positions, of the longest text of the batch."""
    return hidden_states.mean(dim=1)


POOLS = {"first token": cls_pool, "mean": mean_pool, "max": max_pool, "mean over padding": mean_over_padding}


def pooled(model, tokenizer, texts, batch_size=32) -> dict[str, np.ndarray]:
    """Every kind of vector of every text: name -> (N, H), from one pass of the encoder."""
    out = {name: [] for name in POOLS}
    for hidden_states, mask in fit.hidden_states(model, tokenizer, texts, batch_size):
        for name, pool in POOLS.items():
            out[name].append(pool(hidden_states, mask).cpu())
    return {name: torch.cat(rows).numpy() for name, rows in out.items()}


@functools.cache
def features(model_name: str, data: str, split: str, column: str = "text"):
    """Vectors and labels of one split; computed once in a process."""
    model, tokenizer = models.load_encoder(model_name)
    dataset = tasks.load_task(data)[split]
    return pooled(model, tokenizer, dataset[column]), np.array(dataset["label"])


def right(
    x_train, y_train, x_test, y_test, C: float = 1.0, seed: int | None = None, share: float = 0.8
) -> np.ndarray:
    """Which test rows a linear probe gets right: (N_test,) bool. The probe is multinomial logistic regression
    on standardised features (scikit-learn).

    Args:
        x_train, x_test: (N, H). y_train, y_test: (N,). C: inverse strength of the L2 penalty.
        seed: draws the ``share`` of the training rows that is used; None uses all.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    if seed is not None:
        rows = np.random.default_rng(seed).permutation(len(y_train))[: round(share * len(y_train))]
        x_train, y_train = x_train[rows], y_train[rows]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=10_000, tol=1e-6))
    with threadpool_limits(1):  # products this small are slower on several threads, four times on two cores
        classifier.fit(x_train.astype(np.float64), y_train)
        return classifier.predict(x_test.astype(np.float64)) == y_test


def probe(*sets, **settings) -> float:
    """Accuracy of the linear probe of :func:`right`, which takes the same arguments."""
    return float(right(*sets, **settings).mean())


def run_probe(experiment, settings, seed, split):
    train, y_train = features(experiment.model, experiment.data, "train")
    test, y_test = features(experiment.model, experiment.data, split)
    pool = settings["pool"]
    return {"accuracy": probe(train[pool], y_train, test[pool], y_test, C=settings["C"], seed=seed)}


def run_cosine(experiment, settings, seed, split):
    left, labels = features(experiment.model, experiment.data, split, "text")
    right, _ = features(experiment.model, experiment.data, split, "text_b")
    a, b = (torch.from_numpy(side[settings["pool"]]).double() for side in (left, right))
    return {"predictions": F.cosine_similarity(a, b).tolist(), "labels": labels.tolist()}


PROBE = {
    "trick": "mean_pooling", "model": "all-MiniLM-L6-v2", "arms": {name: {"pool": name} for name in POOLS},
    "baseline": "first token", "metric": "accuracy", "run": run_probe, "grid": {"C": [0.001, 0.01, 0.1, 1.0]},
    "setting": "frozen encoder; linear probe on a random 80 % of the training rows a seed",
}  # fmt: skip

EXPERIMENTS = [
    Experiment(task="en_trec", data="en_trec", **PROBE),
    Experiment(task="en_banking77", data="en_banking77", seeds=tuple(range(10)), **PROBE),
    Experiment(
        task="en_stsb", data="en_stsb", run=run_cosine, metric="spearman", kind="examples",
        **{k: PROBE[k] for k in ("trick", "model", "arms", "baseline")},
        setting="frozen encoder, nothing trained: cosine of the two vectors against the human score",
    ),
]  # fmt: skip
