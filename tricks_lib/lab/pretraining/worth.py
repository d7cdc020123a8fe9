"""Is a mini checkpoint really pretrained? The same network, fine-tuned from its weights and from random
ones.
"""

import functools

import torch

from tricks_lib.lab import fit, models, stats, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.xlnet_long_text import XLNetLongClassifier

BATCH, LR = 32, 5e-4  # gradient norm clipped at 1, linear warm-up and decay: the defaults of fit
NOTE, NOTE_BATCH = 64, 16  # for guest_book: what is learnt from single notes, cut at 64 tokens
FRESH = {
    "tuning_seeds": (101, 102),
    "seeds": tuple(range(10, 20)),
}  # 0-9 had seen the test split under a first protocol, with nothing tuned
SEGMENT, MEMORY = 128, 128  # and how a page is then read


@functools.cache
def rows(model: str, data: str, split: str, max_length: int):
    _, tokenizer = models.load_encoder(model)
    dataset = tasks.load_task(data)[split]
    return fit.tokenize(tokenizer, dataset, max_length), tokenizer, dataset.features["label"].num_classes


def classifier(encoder, num_labels: int, head: str):
    """``cls``: the pooler and head of ``BertForSequenceClassification``; ``mean``:
    :class:`MeanPoolingClassifier`.
    """
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
    losses = fit.fit(
        model,
        train,
        fit.collate(tokenizer),
        steps=settings["steps"],
        lr=settings.get("lr", LR),
        batch_size=BATCH,
        seed=seed,
    )
    logits, labels = fit.predict(model, test, fit.collate(tokenizer))
    return {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "last_loss": round(sum(losses[-30:]) / 30, 4),
    }


@functools.cache
def reader(model: str, pretrained: bool, steps: int, lr: float, seed: int):
    """XLNet that has learnt from single notes, three others for each with a safety issue, what a safety issue
    is; and its tokenizer.
    """
    encoder, tokenizer = models.load_xlnet(model, pretrained=pretrained)
    notes = fit.tokenize(tokenizer, tasks.load_task("guest_notes/safety_issue")["train"], NOTE)
    issues = [note for note in notes if note["labels"] == 1]
    others = fit.draw([note for note in notes if note["labels"] == 0], 3 * len(issues), seed)
    torch.manual_seed(seed)
    model = XLNetLongClassifier(encoder, 2, segment_length=SEGMENT, mem_len=MEMORY, pool="max")
    fit.fit(
        model, issues + others, fit.collate(tokenizer), steps=steps, lr=lr, batch_size=NOTE_BATCH, seed=seed
    )
    return model, tokenizer


def run_pages(experiment, settings, seed, split):
    """Area under the ROC curve on the pages of a split: all segments, with or without memory, or the first
    one only.
    """
    model, tokenizer = reader(
        experiment.model, settings["pretrained"], settings["steps"], settings["lr"], seed
    )
    pages = fit.tokenize(tokenizer, tasks.load_task(experiment.data)[split], settings.get("max_length"))
    pages.sort(key=lambda page: len(page["input_ids"]))  # less padding to compute
    model.mem_len = settings["memory"]
    logits, labels = fit.predict(model, pages, fit.collate(tokenizer), batch_size=32)
    return {"auc": round(stats.auc(logits[:, 1] - logits[:, 0], labels), 6)}


def bar(task: str, data: str, max_length: int, steps: int, **protocol) -> Experiment:
    names = {"cls": "", "mean": ", mean pooling"}
    arms = {
        f"{name}{names[head]}": {
            "pretrained": pretrained,
            "head": head,
            "max_length": max_length,
            "steps": steps,
        }
        for head in names
        for name, pretrained in {"random weights": False, "mini_bert": True}.items()
    }
    rate = "the tuned one" if "grid" in protocol else LR
    return Experiment(
        trick="mini_bert",
        task=task,
        model="mini_bert",
        data=data,
        metric="accuracy",
        baseline="random weights",
        run=run,
        arms=arms,
        **protocol,
        setting=f"fine-tuned whole: {steps} steps of {BATCH}, learning rate {rate}, at most {max_length} "
        f"tokens; [CLS] with pooler unless it says mean pooling",
    )


EXPERIMENTS = [
    bar("en_trec", "en_trec", 40, 300, seeds=tuple(range(10))),
    # about half a minute on two cores
    bar("guest_notes_topic", "guest_notes/topic", 32, 240, grid={"lr": [5e-4, 1e-3, 2e-3]}, **FRESH),
    Experiment(
        trick="mini_xlnet",
        task="guest_book",
        model="mini_xlnet",
        data="guest_book",
        metric="auc",
        baseline="random weights",
        run=run_pages,
        arms={
            "random weights": {"pretrained": False, "memory": MEMORY},
            "mini_xlnet": {"pretrained": True, "memory": MEMORY},
            "mini_xlnet without memory": {"pretrained": True, "memory": 0},
            "mini_xlnet, first segment only": {"pretrained": True, "memory": 0, "max_length": SEGMENT},
        },
        grid={"steps": [60, 200], "lr": [5e-4, 1e-3]},
        **FRESH,
        setting=f"fine-tuned whole on the book's single notes: the tuned steps of {NOTE_BATCH} and "
        f"learning rate, at most {NOTE} tokens; then it reads pages "
        f"in segments of {SEGMENT} tokens with a memory of {MEMORY}, max pooling",
    ),
]
