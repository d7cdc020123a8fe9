"""An arm as code to paste: its encoder, its classifier and its ``TricksArguments``."""

from tricks_lib.lab.compare import arms, train
from tricks_lib.lab.compare.comparison import Comparison

SWA = "# read from torch.optim.swa_utils.AveragedModel(model), updated after each step of the second half"
THRESHOLD = "# class 1 where its probability is above a threshold that is chosen on validation"


def pasted(comparison: Comparison, settings: dict, learning_rate: float, steps: int, num_labels: int) -> str:
    """Lines of Python that make what an arm trains: whoever runs them trains the same."""
    given = train.arguments(settings, comparison.training, learning_rate, steps)
    reading = arms.reading_of(settings)
    comments = [SWA] * (reading["weights"] == "swa") + [THRESHOLD] * (reading["threshold"] == "tuned")
    if reading["weights"] == "ema":
        given.setdefault("ema_decay", arms.fitted_decay(given["max_steps"]))
    if reading["weights"] == "best checkpoint":
        every = max(1, given["max_steps"] // train.CHECKPOINTS)
        given |= {"eval_strategy": "steps", "eval_steps": every, "save_strategy": "steps", "save_steps": every}
        given |= {"load_best_model_at_end": True, "metric_for_best_model": comparison.metric}
    changed = "".join(f", {name}={settings['dropout']}" for name in arms.DROPOUTS[:2] if "dropout" in settings)
    lines = [
        f"encoder = AutoModel.from_pretrained({comparison.model!r}{changed})",
        f"model = MeanPoolingClassifier(encoder, num_labels={num_labels})",
        f"args = {call('TricksArguments', given)}",
    ]
    return "\n".join([*lines, *comments])


def call(name: str, given: dict) -> str:
    return f"{name}({', '.join(['%r' % 'out', *(f'{k}={v!r}' for k, v in given.items())])})"
