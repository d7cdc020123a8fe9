import gc
import tempfile

import torch

from tests.benchmarks.row import Row
from tests.benchmarks.sides import mini_bert

QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
STEPS = 6


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
    def all_three(device):
        from transformers import Trainer, TrainingArguments

        from tricks_lib.trainer import TricksArguments, TricksTrainer

        plain = trainer(Trainer, TrainingArguments, device)

        def twice():
            plain()
            plain()

        limit = {"Trainer": plain} if passes == 1 else {"Trainer, twice": twice}
        return trainer(TricksTrainer, TricksArguments, device, **tricks), {"Trainer": plain}, limit

    return all_three


ROWS = [
    Row("TricksTrainer, all off", "mini_bert, 16x32, 6 steps", make(), {"Trainer": 1.02}),
    Row("TricksTrainer, EMA", "mini_bert, 16x32, 6 steps", make(ema_decay=0.999), {"Trainer": 1.05}),
    Row("TricksTrainer, FGM", "mini_bert, 16x32, 6 steps", make(2, adversarial="fgm"), {"Trainer": 2.1}),
    Row("TricksTrainer, R-Drop", "mini_bert, 16x32, 6 steps", make(2, rdrop_alpha=1.0), {"Trainer": 2.1}),
]
