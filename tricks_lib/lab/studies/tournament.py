"""The book's table of evidence on a real pretrained encoder: one data set, one budget, one baseline, and
every trick against it and against its cheap rival; and losses on the same encoder, frozen.

The arms were written down before they ran; nothing here is chosen by what a test set said. The model's
authors trained it through mean pooling for similarity, which is said beside each number.
"""

from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.comparison import TRAINING, Comparison
from tricks_lib.lab.compare.kinds.heads import HeadComparison
from tricks_lib.lab.compare.tokens import Source

MODEL = "all-MiniLM-L6-v2"
RATES = (1e-4, 2e-4, 4e-4, 8e-4)
CONSTANT = {"lr_scheduler_type": "constant_with_warmup"}
RELATIVE = {"adversarial_relative": True, "adversarial_epsilon": 0.05}

TRICKS = {
    "baseline": Arm(),
    "2x steps": Arm({"times": 2}),
    "dropout, tuned": Arm(candidates=({}, {"dropout": 0.0}, {"dropout": 0.2}, {"dropout": 0.3})),
    "R-Drop, alpha 1": Arm({"rdrop_alpha": 1.0}, "rdrop", "dropout, tuned"),
    "R-Drop, alpha 4": Arm({"rdrop_alpha": 4.0}, "rdrop", "dropout, tuned"),
    "head's own rate": Arm({"head_rate": 5.0}),
    "layer decay 0.95": Arm({"layer_decay": 0.95}, "layer_decay", "head's own rate"),
    "layer decay 0.8": Arm({"layer_decay": 0.8}, "layer_decay", "head's own rate"),
    "best checkpoint": Arm({"weights": "best checkpoint"}),
    "EMA": Arm({"weights": "ema"}, "ema", "best checkpoint"),
    "SWA": Arm({"weights": "swa"}),
    "constant rate": Arm(CONSTANT),
    "constant rate, best checkpoint": Arm({**CONSTANT, "weights": "best checkpoint"}),
    "constant rate, EMA": Arm({**CONSTANT, "weights": "ema"}, "ema", "baseline"),
    "constant rate, SWA": Arm({**CONSTANT, "weights": "swa"}),
    "random direction, 5 %": Arm({"adversarial": "random", **RELATIVE}),
    "NEFTune 5": Arm({"neftune_noise_alpha": 5.0}),
    "FGM, 5 %": Arm({"adversarial": "fgm", **RELATIVE}, "fgm", "random direction, 5 %"),
    "FGM per example, 5 %": Arm(
        {"adversarial": "fgm", "adversarial_per_example": True, **RELATIVE}, "fgm", "NEFTune 5"
    ),
    "label smoothing 0.1": Arm({"label_smoothing_factor": 0.1}),
    "head as wide": Arm({"layers": "wide"}),
    "one layer, tuned": Arm(candidates=({}, {"layers": 5}, {"layers": 4})),
    "last four side by side": Arm({"layers": "concat"}, "last_four", "head as wide"),
    "last four, weighted": Arm({"layers": "weighted"}, "last_four", "one layer, tuned"),
    "first token": Arm({"pool": "cls"}),
    "max over tokens": Arm({"pool": "max"}),
    "winners together": Arm(together=True),
}
TUNED = {"threshold": "tuned"}
RARE = {  # losses for a rare class
    "cross-entropy": Arm(),
    "cross-entropy, threshold": Arm(TUNED),
    "prior bias, threshold": Arm({"prior_bias": True, **TUNED}),  # where focal loss starts
    "weighted": Arm({"loss": "weighted"}),
    "weighted, threshold": Arm({"loss": "weighted", **TUNED}),
    "Dice": Arm({"loss": "dice"}, "dice_loss", "weighted"),
    "Dice, threshold": Arm({"loss": "dice", **TUNED}, "dice_loss", "cross-entropy, threshold"),
    "Dice + cross-entropy, threshold": Arm(
        {"loss": "dice_ce", **TUNED}, "dice_loss", "cross-entropy, threshold"
    ),
    "self-adjusting Dice": Arm({"loss": "self_adjusting_dice"}, "dice_loss", "weighted"),
    "focal, gamma 1": Arm(
        {"loss": "focal", "loss_kwargs": {"gamma": 1.0}, "prior_bias": True}, "focal_loss", "weighted"
    ),
    "focal, gamma 2": Arm(
        {"loss": "focal", "loss_kwargs": {"gamma": 2.0}, "prior_bias": True}, "focal_loss", "weighted"
    ),
    "focal, gamma 2, threshold": Arm(
        {"loss": "focal", "loss_kwargs": {"gamma": 2.0}, "prior_bias": True, **TUNED},
        "focal_loss",
        "prior bias, threshold",
    ),
}
TAIL = {  # a long tail of classes
    "cross-entropy": Arm(),
    "weighted": Arm({"loss": "weighted"}),
    "label smoothing 0.1": Arm({"label_smoothing_factor": 0.1}),
    **{
        f"focal, gamma {gamma:g}": Arm(
            {"loss": "focal", "loss_kwargs": {"gamma": gamma}},
            "focal_loss",
            "weighted" if gamma == 2 else None,
        )
        for gamma in (1.0, 2.0, 5.0)
    },
}
NUMBERS = {  # losses for numbers
    "MSE": Arm(),
    "CCC": Arm({"loss": "ccc"}),
    **{
        f"MSE + {p:g} correlation": Arm({"loss": "mse_corr", "loss_kwargs": {"p": p}}, "mse_corr_loss", "CCC")
        for p in (0.5, 1.5, 5.0)
    },
}
FROZEN = {"precision": "fp32", "unit": "steps of a linear head on the frozen encoder"}
HEAD_RATES = tuple(1.25e-4 * 2**i for i in range(8))  # low rates stop early, high ones fit: both may be best
FEW = [name for name in RARE if name not in ("self-adjusting Dice", "focal, gamma 1")]  # each a training
SST2 = [name for name in TRICKS if name not in ("R-Drop, alpha 4", "layer decay 0.8", "last four, weighted")]


def row(
    name, data, arms: dict[str, Arm], metric, steps, max_length, rows: dict,
    batch_size=32, calibration=False, rates=RATES, seeds=(), frozen=False, **source,
):  # fmt: skip
    """One row of the table, as a function that makes it. A fine-tuning is as precise as the hardware is fast;
    with a ``frozen`` encoder only a linear head is trained.
    """

    def make() -> Comparison:
        training = TRAINING | {
            "batch_size": batch_size, "max_length": max_length, "rows": rows, "calibration": calibration,
        } | (FROZEN if frozen else {})  # fmt: skip
        return (HeadComparison if frozen else Comparison)(
            name, Source(data, **source), MODEL, arms, metric, training, rates, steps, seeds=seeds,
            command=f"python -m tricks_lib.lab run {name}",
        )  # fmt: skip

    return make


COMPARISONS = {
    "tournament/en_banking77": row(
        "tournament/en_banking77", "en_banking77", TRICKS, "accuracy", 150, 64, {"per_class": 10}
    ),
    "tournament/en_sst2": row(
        "tournament/en_sst2",
        "en_sst2",
        {name: TRICKS[name] for name in SST2},
        "accuracy",
        100,
        64,
        {"rows": 1000},
    ),
    "rare/en_hate_davidson": row(
        "rare/en_hate_davidson",
        "en_hate_davidson",
        {name: RARE[name] for name in FEW},
        "f1",
        250,
        64,
        {"rows": 2000},
        rates=(5e-5, 1e-4, 2e-4, 4e-4),
        rare="hate_speech",
    ),
    "rare_frozen/en_hate_davidson": row(
        "rare_frozen/en_hate_davidson",
        "en_hate_davidson",
        RARE,
        "f1",
        500,
        64,
        {"rows": 2000},
        batch_size=128,
        rates=HEAD_RATES,
        seeds=tuple(range(20, 32)),  # 0 to 10 were seen with a grid of four rates, which validation overruled
        frozen=True,
        rare="hate_speech",
    ),
    "tail/en_banking77": row(
        "tail/en_banking77",
        "en_banking77",
        TAIL,
        "macro_f1",
        300,
        64,
        {"tail": [100, 5]},
        calibration=True,
    ),
    "tail_frozen/en_banking77": row(
        "tail_frozen/en_banking77",
        "en_banking77",
        TAIL,
        "macro_f1",
        500,
        64,
        {"tail": [100, 5]},
        calibration=True,
        rates=HEAD_RATES,
        frozen=True,
    ),
    "regression/en_stsb": row(
        "regression/en_stsb", "en_stsb", NUMBERS, "pearson", 250, 96, {"rows": 2000}, batch_size=16
    ),
}
