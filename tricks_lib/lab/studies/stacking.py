"""All training tricks together, by ``TricksTrainer``: what each adds alone, and what is missed when one is
left out.

R-Drop and FGM each double the passes of a step, together four times: the arm with the compute of all tricks
is the one with four times the steps. No strength is tuned here: they are those of the chapters, but for
layer decay (0.9, between two of its chapter) and FGM (a third of the smaller one there, which was too much).
"""

import copy
import functools
import tempfile

from transformers import PrinterCallback

from tricks_lib.lab import fit, models, tasks
from tricks_lib.lab.experiment import Experiment
from tricks_lib.lab.pretraining.worth import classifier
from tricks_lib.lab.studies import ema
from tricks_lib.trainer import TricksArguments, TricksTrainer

TRICKS = {
    "R-Drop": {"rdrop_alpha": 0.5},
    "layer decay": {"layer_decay": 0.9},
    "EMA": {"ema_decay": 0.9},
    "focal loss": {"loss": "focal", "loss_kwargs": {"gamma": 2.0}},
    "FGM": {"adversarial": "fgm", "adversarial_epsilon": 0.1},
}
STEPS, BATCH, MAX_LENGTH = 40, 16, 32


def together(names) -> dict:
    """The arguments of several tricks."""
    return {k: v for name in names for k, v in TRICKS[name].items()}


def passes(tricks: dict) -> int:
    """Forward and backward passes of one step, that of the plain one being 1."""
    return (2 if "rdrop_alpha" in tricks else 1) * (2 if "adversarial" in tricks else 1)


def arms(left_out: bool = True) -> dict[str, dict]:
    """Baseline, baseline with the compute of all tricks, each trick alone, all, and all but one."""
    every = passes(together(TRICKS))
    out = {"baseline": {"times": 1, "tricks": {}}, f"{every} times the steps": {"times": every, "tricks": {}}}
    out |= {name: {"times": 1, "tricks": together([name])} for name in TRICKS}
    out["all"] = {"times": 1, "tricks": together(TRICKS)}
    if left_out:
        out |= {
            f"all but {name}": {"times": 1, "tricks": together(n for n in TRICKS if n != name)}
            for name in TRICKS
        }
    return out


def trainer(model, rows, stack, tricks: dict, *, steps, lr, seed, batch_size=BATCH, **more) -> TricksTrainer:
    """A trainer that prints and saves nothing; ``more``: further arguments of :class:`TricksArguments`."""
    arguments = {
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "max_steps": steps,
        "learning_rate": lr,
        "warmup_steps": max(1, round(0.1 * steps)),
        "weight_decay": 0.01,
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": 64,
        "seed": seed,
    }
    args = TricksArguments(tempfile.gettempdir(), **{**arguments, **tricks, **more})
    made = TricksTrainer(model, args, train_dataset=rows, data_collator=stack)
    made.remove_callback(PrinterCallback)
    return made


@functools.cache
def loaded(model_name: str | None, name: str, max_length: int = MAX_LENGTH):
    """``make(seed)``, which gives a fresh classifier, the rows of each split, what pads them, and the number
    of classes.
    """
    encoder, tokenizer = models.load_encoder(model_name) if model_name else models.load_encoder()
    dataset = tasks.load_task(name)
    num_labels = dataset["train"].features["label"].num_classes

    def make(seed: int):
        fit.seed_everything(seed)
        return classifier(copy.deepcopy(encoder), num_labels, "mean")

    return make, ema.tokens(tokenizer, dataset, max_length), fit.collate(tokenizer), num_labels


def accuracy(trainer, rows) -> float:
    """Share of right answers, of the average where there is one."""
    predicted = trainer.predict(rows)
    return float((predicted.predictions.argmax(1) == predicted.label_ids).mean())


def run(experiment, settings, seed, split):
    make, rows, stack, _ = loaded(experiment.model, experiment.data)
    made = trainer(
        make(seed),
        rows["train"],
        stack,
        settings["tricks"],
        steps=settings["times"] * STEPS,
        lr=settings["lr"],
        seed=seed,
    )
    made.train()
    return {"accuracy": accuracy(made, rows[split])}


EXPERIMENTS = [
    Experiment(
        trick="stacking",
        task="en_trec",
        model="mini_bert",
        data="en_trec",
        metric="accuracy",
        baseline="baseline",
        arms=arms(),
        run=run,
        grid={"lr": [3e-4, 1e-3]},
        tuning_seeds=(101, 102),
        seeds=tuple(range(10)),
        setting=(
            f"fine-tuned whole by TricksTrainer: {STEPS} steps of {BATCH}, at most {MAX_LENGTH} tokens, "
            f"mean pooling"
        ),
    ),
]
