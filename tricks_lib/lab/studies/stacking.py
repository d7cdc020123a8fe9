"""Five training tricks together, by ``TricksTrainer``: what the page on stacking runs live. None is tuned."""

import copy
import tempfile

from transformers import PrinterCallback

from tricks_lib.lab import fit, models, tasks
from tricks_lib.mean_pooling import MeanPoolingClassifier
from tricks_lib.trainer import TricksArguments, TricksTrainer

TRICKS: dict[str, dict] = {
    "R-Drop": {"rdrop_alpha": 0.5},
    "layer decay": {"layer_decay": 0.9},
    "EMA": {"ema_decay": 0.9},
    "focal loss": {"loss": "focal", "loss_kwargs": {"gamma": 2.0}},
    "FGM": {"adversarial": "fgm", "adversarial_relative": True, "adversarial_epsilon": 0.05},
}


def together() -> dict:
    """The arguments of all tricks."""
    return {k: v for trick in TRICKS.values() for k, v in trick.items()}


def loaded(task: str, max_length: int):
    """``make(seed)``, which gives a fresh classifier; the rows of each split; and what pads them."""
    encoder, tokenizer = models.load_encoder()
    dataset = tasks.load_task(task)
    num_labels = dataset["train"].features["label"].num_classes

    def make(seed: int):
        fit.seed_everything(seed)
        return MeanPoolingClassifier(copy.deepcopy(encoder), num_labels)

    rows = {split: fit.tokenize(tokenizer, dataset[split], max_length) for split in dataset}
    return make, rows, fit.collate(tokenizer)


def trainer(model, rows, stack, tricks: dict, *, steps, lr, seed, batch_size) -> TricksTrainer:
    """A trainer that prints and saves nothing."""
    args = TricksArguments(
        tempfile.gettempdir(), report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
        save_strategy="no", logging_strategy="no", max_steps=steps, learning_rate=lr, weight_decay=0.01,
        warmup_steps=max(1, round(0.1 * steps)), per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=64, seed=seed, **tricks,
    )  # fmt: skip
    made = TricksTrainer(model, args, train_dataset=rows, data_collator=stack)
    made.remove_callback(PrinterCallback)
    return made


def accuracy(trainer, rows) -> float:
    """Share of right answers, of the average where there is one."""
    predicted = trainer.predict(rows)
    return float((predicted.predictions.argmax(1) == predicted.label_ids).mean())
