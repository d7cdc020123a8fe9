"""The book's tricks as arms: which fit a kind of data, and the controls that each stands beside.

A trick of k passes stands beside the baseline with k times the steps, and every trick beside its cheap rival.
"""

from tricks_lib.lab.compare.arms import Arm, passes

BASELINE = "baseline"
LONGER = "{:g}x steps"
RELATIVE = {"adversarial_relative": True, "adversarial_epsilon": 0.05}
DROPOUT = Arm(candidates=({}, {"dropout": 0.0}, {"dropout": 0.2}, {"dropout": 0.3}))  # {}: the model's own
THRESHOLD, WEIGHTED = "threshold", "class weights"

KINDS = {  # of the data that a trick fits
    "rdrop": ("classes", "tags", "numbers"),
    "fgm": ("classes", "labels", "tags", "numbers"),
    "ema": ("classes", "labels", "tags", "numbers"),
    "layer_decay": ("classes", "labels", "tags", "numbers"),
    "last_four": ("classes", "labels", "numbers"),
    "mean_pooling": ("classes", "labels", "numbers"),
    "dice_loss": ("classes",),
    "focal_loss": ("classes",),
    "mse_corr_loss": ("numbers",),
}
ARMS = {  # trick: its arms, each after its rival
    "rdrop": {
        "dropout, tuned": DROPOUT,
        "R-Drop": Arm({"rdrop_alpha": 1.0}, "rdrop", "dropout, tuned"),
    },
    "fgm": {
        "NEFTune": Arm({"neftune_noise_alpha": 5.0}),
        "random direction": Arm({"adversarial": "random", **RELATIVE}),
        "FGM": Arm({"adversarial": "fgm", **RELATIVE}, "fgm", "random direction"),
    },
    "ema": {
        "best checkpoint": Arm({"weights": "best checkpoint"}),
        "SWA": Arm({"weights": "swa"}),
        "EMA": Arm({"weights": "ema"}, "ema", "best checkpoint"),
    },
    "layer_decay": {
        "head's own rate": Arm({"head_rate": 5.0}),
        "layer decay": Arm({"layer_decay": 0.9}, "layer_decay", "head's own rate"),
    },
    "last_four": {
        "head as wide": Arm({"layers": "wide"}),
        "last four": Arm({"layers": "concat"}, "last_four", "head as wide"),
    },
    "mean_pooling": {"first token": Arm({"pool": "cls"}), "max over tokens": Arm({"pool": "max"})},
    "dice_loss": {
        THRESHOLD: Arm({"threshold": "tuned"}),
        WEIGHTED: Arm({"loss": "weighted"}),
        "Dice": Arm({"loss": "dice_ce"}, "dice_loss", WEIGHTED),
    },
    "focal_loss": {
        WEIGHTED: Arm({"loss": "weighted"}),
        "label smoothing": Arm({"label_smoothing_factor": 0.1}),
        "focal": Arm(
            {"loss": "focal", "loss_kwargs": {"gamma": 2.0}, "prior_bias": True}, "focal_loss", WEIGHTED
        ),
    },
    "mse_corr_loss": {
        "CCC": Arm({"loss": "ccc"}),
        "MSE + correlation": Arm({"loss": "mse_corr", "loss_kwargs": {"p": 1.5}}, "mse_corr_loss", "CCC"),
    },
}


def fitting(kind: str) -> list[str]:
    """Names of the tricks for data of that kind."""
    return [trick for trick, kinds in KINDS.items() if kind in kinds]


def arms_of(tricks: list[str], kind: str, classes: int) -> dict[str, Arm]:
    """The baseline, each trick with its controls, and the baseline with the steps of the dearest.

    Args:
        tricks: names, in the order of importance. kind, classes: of the data.

    Raises:
        ValueError: a name that is not a trick's, or a trick that does not fit the data.
    """
    arms = {BASELINE: Arm()}
    for trick in tricks:
        if kind not in KINDS.get(trick, ()):
            given = f"{trick!r} given" + f" for {kind}" * (trick in KINDS)
            raise ValueError(f"tricks: {given}; accepted are {', '.join(fitting(kind))}, or all alone")
        arms |= {name: arm for name, arm in ARMS[trick].items() if name != THRESHOLD or classes == 2}
    dearest = max(
        passes({**arm.settings, **candidate}) for arm in arms.values() for candidate in arm.candidates
    )
    if dearest > 1:
        arms[LONGER.format(dearest)] = Arm({"times": dearest})
    return arms
