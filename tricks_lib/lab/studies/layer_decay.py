"""What chapter 4 runs live: what the layers of an encoder hold, the groups that circulate, and a fine-tuning
that says how far each part of the encoder moved.
"""

import copy

import numpy as np
import torch

from tricks_lib.lab import fit, models, tasks
from tricks_lib.layer_decay import places
from tricks_lib.mean_pooling import MeanPoolingClassifier


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


def prepare(task: str, max_length: int, labels: tuple[str, ...] = ()):
    """Rows of each split, how they are stacked, and ``make(seed)``, which gives a fresh classifier.

    Args:
        labels: names of the classes that are kept, in the order of their new numbers; none: all.
    """
    data = tasks.load_task(task)
    encoder, tokenizer = models.load_encoder()
    names = data["train"].features["label"].names
    new = {names.index(name): i for i, name in enumerate(labels or names)}
    rows = {s: fit.tokenize(tokenizer, data[s], max_length) for s in data}
    rows = {
        s: [{**row, "labels": new[row["labels"]]} for row in rows[s] if row["labels"] in new] for s in rows
    }

    def make(seed: int):
        torch.manual_seed(seed)
        return MeanPoolingClassifier(copy.deepcopy(encoder), len(new))

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


def one_run(prepared, groups, seed: int, steps: int, batch_size: int) -> dict:
    """Fine-tune one classifier; which texts of ``test`` are right, and how far each part moved.

    Args:
        prepared: of :func:`prepare`. groups: ``groups(model)`` gives the groups, each with its rate.
    """
    data, collate_fn, make = prepared
    model = make(seed)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = groups(model)
    rows = fit.draw(data["train"], len(data["train"]), seed)  # all, in an order of the seed's
    options = {"lr": max(group["lr"] for group in own), "batch_size": batch_size, "param_groups": own}
    fit.fit(model, rows, collate_fn, steps=steps, seed=seed, **options)
    logits, labels = fit.predict(model, data["test"], collate_fn)
    return {"right": logits.argmax(1) == labels, "movement": movement(model, start)}


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
    left out; ``label of the text``: from one word, whichever it is. The probe is scikit-learn's ridge
    classifier.
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
