"""Is a mini checkpoint really pretrained? The same network, fine-tuned from its weights and from random ones."""

import functools

import torch

from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.mean_pooling import MeanPoolingClassifier

BATCH, LR = 32, 5e-4  # gradient norm clipped at 1, linear warm-up and decay: the defaults of fit


@functools.cache
def rows(model: str, data: str, split: str, max_length: int):
    _, tokenizer = models.load_encoder(model)
    dataset = tasks.load_task(data)[split]
    return fit.tokenize(tokenizer, dataset, max_length), tokenizer, dataset.features["label"].num_classes


def classifier(encoder, num_labels: int, head: str):
    """``cls``: the pooler and head of ``BertForSequenceClassification``; ``mean``: :class:`MeanPoolingClassifier`."""
    if head == "mean":
        return MeanPoolingClassifier(encoder, num_labels)
    from transformers import BertForSequenceClassification

    encoder.config.num_labels = num_labels
    model = BertForSequenceClassification(encoder.config)
    model.bert = encoder
    return model


def run(experiment, settings, seed, split):
    train, tokenizer, num_labels = rows(experiment.model, experiment.data, "train", settings["max_length"])
    test, _, _ = rows(experiment.model, experiment.data, split, settings["max_length"])
    torch.manual_seed(seed)
    encoder, _ = models.load_encoder(experiment.model, pretrained=settings["pretrained"])
    model = classifier(encoder, num_labels, settings["head"])
    losses = fit.fit(model, train, fit.collate(tokenizer), steps=settings["steps"], lr=LR, batch_size=BATCH, seed=seed)
    logits, labels = fit.predict(model, test, fit.collate(tokenizer))
    return {"accuracy": float((logits.argmax(1) == labels).mean()), "last_loss": round(sum(losses[-30:]) / 30, 4)}


def bar(task: str, data: str, max_length: int, steps: int, heads: tuple[str, ...]) -> Experiment:
    names = {"cls": "", "mean": ", mean pooling"}
    arms = {
        f"{name}{names[head]}": {"pretrained": pretrained, "head": head, "max_length": max_length, "steps": steps}
        for head in heads for name, pretrained in {"random weights": False, "mini_bert": True}.items()
    }  # fmt: skip
    return Experiment(
        trick="mini_bert", task=task, model="mini_bert", data=data, metric="accuracy", baseline="random weights", run=run, arms=arms, seeds=tuple(range(10)),
        setting=f"fine-tuned whole: {steps} steps of {BATCH}, learning rate {LR}, at most {max_length} tokens; [CLS] with pooler"
        + (" unless it says mean pooling" if "mean" in heads else ""),
    )  # fmt: skip


EXPERIMENTS = [
    bar("en_trec", "en_trec", 40, 300, ("cls", "mean")),
    bar("guest_notes_topic", "guest_notes/topic", 64, 100, ("cls",)),
]
