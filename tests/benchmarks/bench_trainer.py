import gc
import tempfile

import torch

from tests.benchmarks.row import Row
from tests.benchmarks.sides import mini_bert

QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
STEPS = 6
DECAY = 0.3  # 0.999 takes as long, and is warned of in so few steps


def trainer(kind, arguments, device, **more):
    """``train()`` of 6 steps of 16 rows of 32 tokens, on a model of mini_bert's size."""
    from transformers import PrinterCallback

    torch.manual_seed(0)
    rows = [
        {"input_ids": torch.randint(8192, (32,)), "labels": torch.randint(8, ())} for _ in range(16 * STEPS)
    ]
    args = arguments(
        tempfile.gettempdir(),
        max_steps=STEPS,
        per_device_train_batch_size=16,
        learning_rate=1e-5,
        use_cpu=device.type == "cpu",
        **QUIET,
        **more,
    )
    made = kind(model=mini_bert(device), args=args, train_dataset=rows)
    made.pop_callback(PrinterCallback)
    # each train() calls gc.collect(), which on both sides would walk over all that the imports have made
    gc.freeze()
    return made.train


def make(passes=1, **tricks):
    """``TricksTrainer`` with the tricks against ``Trainer``, and against ``Trainer`` so many times."""

    def both(device):
        from transformers import Trainer, TrainingArguments

        from tricks_lib.trainer import TricksArguments, TricksTrainer

        plain = trainer(Trainer, TrainingArguments, device)
        limit = {"Trainer": plain} if passes == 1 else {f"Trainer, {passes} times": times(passes, plain)}
        return trainer(TricksTrainer, TricksArguments, device, **tricks), {"Trainer": plain}, limit

    return both


def make_callback(device):
    from transformers import Trainer, TrainingArguments

    from tricks_lib.trainer import EMACallback

    class Averaging(Trainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs, callbacks=[EMACallback(DECAY)])

    plain = trainer(Trainer, TrainingArguments, device)
    return trainer(Averaging, TrainingArguments, device), {"Trainer": plain}, {"Trainer": plain}


def times(n, call):
    def several():
        for _ in range(n):
            call()

    return several


SIZE = "mini_bert, 16x32, 6 steps"
ROWS = [
    Row("TricksTrainer, all off", SIZE, make(), {"Trainer": 1.02}),
    Row("TricksTrainer, EMA", SIZE, make(ema_decay=DECAY), {"Trainer": 1.05}),
    Row("EMACallback", SIZE, make_callback, {"Trainer": 1.05}),
    Row("TricksTrainer, FGM", SIZE, make(2, adversarial="fgm"), {"Trainer": 2.1}),
    Row("TricksTrainer, FreeLB", SIZE, make(3, adversarial="freelb"), {"Trainer": 3.3}),
    Row("TricksTrainer, R-Drop", SIZE, make(2, rdrop_alpha=1.0), {"Trainer": 2.1}),
]
