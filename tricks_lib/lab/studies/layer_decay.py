"""Does a smaller rate for the lower layers help, once the rate itself is tuned? And what do the circulating
groups leave behind?

Few rows, two to three passes: where forgetting should hurt most. A seed draws the training rows, the head's
start and the
order of the batches: the same for every arm. The decays are those of the papers: 0.95 (Sun et al. 2019), 0.8
(ELECTRA small and base), 1/2.6 (ULMFiT).
"""

import copy
import functools

import numpy as np
import torch

from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.fit import draw
from tricks_lib.lab.pretraining.worth import classifier
from tricks_lib.layer_decay import layer_decay_groups, places

ROWS, STEPS, BATCH, MAX_LENGTH = 500, 80, 16, 40
ULMFIT = round(1 / 2.6, 3)
ARMS = {"flat": {"decay": 1.0}, "0.95": {"decay": 0.95}, "0.8": {"decay": 0.8}, "1/2.6": {"decay": ULMFIT}}
SNIPPET = {"snippet 0.95": {"decay": 0.95, "snippet": True}}


def snippet_groups(model, lr: float, multiplier: float, head_lr: float) -> list[dict]:
    """The groups that circulate, their ``12`` and their head's name put right: embeddings and pooler are in
    none.
    """
    groups, rate = [], lr
    layers = 1 + max(place.layer or 0 for place in places(model))
    for layer in range(layers, -1, -1):  # one too many at the top: an empty group takes the full rate
        groups.append(
            {"params": [p for n, p in model.named_parameters() if f"encoder.layer.{layer}." in n], "lr": rate}
        )
        rate *= multiplier
    head = [p for n, p in model.named_parameters() if "layer_norm" in n or "classifier" in n]
    return [*groups, {"params": head, "lr": head_lr}]


def groups(model, arm: dict, lr: float) -> list[dict]:
    """Parameter groups of an arm; the head at ``lr``, or at the arm's own ``head_lr``."""
    if arm.get("snippet"):
        return snippet_groups(model, lr, arm["decay"], head_lr=lr)
    return layer_decay_groups(model, lr, arm["decay"], head_lr=arm.get("head_lr"), weight_decay=0.01)


@functools.cache
def prepare(
    task: str, max_length: int, model: str | None = None, head: str = "cls", labels: tuple[str, ...] = ()
):
    """Rows of each split, how they are stacked, and ``make(seed)``, which gives a fresh classifier.

    Args:
        head: see :func:`tricks_lib.lab.pretraining.worth.classifier`.
        labels: names of the classes that are kept, in the order of their new numbers; none: all.
    """
    data = tasks.load_task(task)
    encoder, tokenizer = models.load_encoder(model)
    names = data["train"].features["label"].names
    new = {names.index(name): i for i, name in enumerate(labels or names)}
    rows = {s: fit.tokenize(tokenizer, data[s], max_length) for s in data}
    rows = {
        s: [{**row, "labels": new[row["labels"]]} for row in rows[s] if row["labels"] in new] for s in rows
    }

    def make(seed: int):
        torch.manual_seed(seed)
        return classifier(copy.deepcopy(encoder), len(new), head)

    return rows, fit.collate(tokenizer), make


def movement(model, start: dict[str, torch.Tensor]) -> dict[str, float]:
    """How far each part of the encoder went: |now - start| / |start|, L2 norms over all its parameters.

    Args:
        start: a copy of ``model.state_dict()``, made before training.
    """
    moved, size = {}, {}
    for name, p, part, _, layer in places(model):
        if part in ("embeddings", "layer"):
            key = part if layer is None else f"layer {layer}"
            was = start[name].to(p.device)
            moved[key] = moved.get(key, 0.0) + (p.detach() - was).double().square().sum().item()
            size[key] = size.get(key, 0.0) + was.double().square().sum().item()
    return {key: (moved[key] / size[key]) ** 0.5 for key in moved}


def one_run(
    prepared,
    arm: dict,
    lr: float,
    seed: int,
    split: str = "test",
    rows: int = ROWS,
    steps: int = STEPS,
    batch_size: int = BATCH,
) -> dict:
    """Fine-tune one classifier; accuracy on ``split``, which texts are right, movement of each part and mean
    of the last losses.
    """
    data, collate_fn, make = prepared
    model = make(seed)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    of_arm = groups(model, arm, lr)
    losses = fit.fit(
        model,
        draw(data["train"], rows, seed),
        collate_fn,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
        param_groups=of_arm,
    )
    logits, labels = fit.predict(model, data[split], collate_fn)
    tail = losses[-max(1, steps // 5) :]
    right = logits.argmax(1) == labels
    return {
        "accuracy": float(right.mean()),
        "right": right.tolist(),
        "movement": movement(model, start),
        "last_loss": sum(tail) / len(tail),
    }


def run(experiment, settings, seed, split):
    result = one_run(
        prepare(experiment.data, MAX_LENGTH, experiment.model), settings, settings["lr"], seed, split
    )
    result.pop("right")
    rounded = {part: round(value, 5) for part, value in result["movement"].items()}
    return {**result, "movement": rounded, "last_loss": round(result["last_loss"], 4)}


@torch.no_grad()
def word_states(encoder, tokenizer, texts, max_length: int, words: int = 8, batch_size: int = 64):
    """States of a few words of each text, after the embeddings and after every layer.

    Args:
        words: drawn from each text, with a fixed seed; the first and last token ([CLS], [SEP]) are none.

    Returns:
        states (L + 1, N, H), float32; ids (N, 2) of the word and the one before it; index (N,) of the text.
    """
    rng, where = np.random.default_rng(0), next(encoder.parameters()).device
    states, ids, index = [], [], []
    for i in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[i : i + batch_size],
            padding=True,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        ).to(where)
        of_layers = (
            torch.stack(encoder(**batch, output_hidden_states=True).hidden_states).float().cpu().numpy()
        )  # (L + 1, B, T, H)
        for row, (text_ids, n) in enumerate(
            zip(batch["input_ids"].tolist(), batch["attention_mask"].sum(1).tolist())
        ):
            drawn = 1 + rng.permutation(n - 2)[:words]
            states.append(of_layers[:, row, drawn])
            ids += [(text_ids[t], text_ids[t - 1]) for t in drawn]
            index += [i + row] * len(drawn)
    return np.concatenate(states, axis=1), np.array(ids), np.array(index)


def probe_layers(encoder, tokenizer, data, max_length: int, words: int = 20) -> dict[str, list[float]]:
    """What a linear probe reads from the state of a single word, layer by layer: accuracy on ``test`` after
    training on ``train``.

    ``this word`` and ``the word before``: which of the ``words`` most frequent tokens it is, other tokens are
    left out;
    ``label of the text``: from one word, whichever it is. The probe is scikit-learn's ridge classifier.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    x, y = {}, {}
    for split in ("train", "test"):
        x[split], ids, index = word_states(encoder, tokenizer, list(data[split]["text"]), max_length)
        y[split] = {
            "this word": ids[:, 0],
            "the word before": ids[:, 1],
            "label of the text": np.array(data[split]["label"])[index],
        }
    frequent = np.argsort(-np.bincount(y["train"]["this word"]), kind="stable")[:words]
    found = {}
    for what in y["train"]:
        kept = {
            s: np.isin(y[s][what], frequent) if "word" in what.split()[:2] else np.full(len(y[s][what]), True)
            for s in y
        }
        found[what] = []
        for layer in range(len(x["train"])):
            scaler = StandardScaler().fit(x["train"][layer].astype(np.float64))
            train, test = (
                scaler.transform(x[s][layer][kept[s]].astype(np.float64)) for s in ("train", "test")
            )
            probe = RidgeClassifier(alpha=100.0).fit(train, y["train"][what][kept["train"]])
            found[what].append(float(probe.score(test, y["test"][what][kept["test"]])))
    return found


EXPERIMENTS = [
    Experiment(
        trick="layer_decay",
        task="en_trec",
        model="mini_bert",
        data="en_trec",
        metric="accuracy",
        baseline="flat",
        run=run,
        arms=ARMS | SNIPPET,
        grid={"lr": [2.5e-4, 5e-4, 1e-3, 2e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=(
            f"fine-tuned whole on {ROWS} training rows drawn by the seed: {STEPS} steps of {BATCH}, at "
            f"most {MAX_LENGTH} tokens, [CLS] with pooler"
        ),
    ),
]
