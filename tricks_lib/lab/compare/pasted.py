"""An arm as code to paste: its encoder, its classifier and its ``TricksArguments``."""

import math

from tricks_lib.lab import models
from tricks_lib.lab.compare import arms, classifier, tokens, train

NUMBERS = "# on labels less their mean in the training split, divided by their standard deviation there"
SWA = "# read from torch.optim.swa_utils.AveragedModel(model), updated after each step of the second half"
PRIOR = (
    "# head_bias: the logarithm of the class shares, of all training rows; a run takes those of its own rows"
)
THRESHOLD = "# class 1 where its probability is above a threshold that is chosen on validation"


def pasted(comparison, task: tokens.Prepared, settings: dict, learning_rate: float, steps: int) -> str:
    """Lines of Python that make what an arm of a :class:`.comparison.Comparison` trains."""
    given = train.arguments(settings, comparison.training, learning_rate, steps)
    reading = arms.reading_of(settings)
    comments = (
        [NUMBERS] * (task.kind == "numbers")
        + [PRIOR] * bool(settings.get("prior_bias"))
        + [SWA] * (reading["weights"] == "swa")
        + [THRESHOLD] * (reading["threshold"] == "tuned")
    )
    if reading["weights"] == "ema":
        given.setdefault("ema_decay", arms.fitted_decay(given["max_steps"]))
    if reading["weights"] == "best checkpoint":
        every = math.ceil(given["max_steps"] / train.CHECKPOINTS)
        given |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "save_strategy": "steps",
            "save_steps": every,
        }
        given |= {"load_best_model_at_end": True, "metric_for_best_model": comparison.metric}
    dropout = {
        name: settings["dropout"]
        for name in classifier.dropouts(task.encoder.config)
        if "dropout" in settings
    }
    made, own = classifier.chosen(settings, task.kind, task.num_labels, task.labels["train"])
    place = address(comparison.model)
    lines = [
        *["from tricks_lib.lab import models"] * isinstance(place, Code),
        f"encoder = {call('AutoModel.from_pretrained', place, **dropout)}",
        f"model = {call(made.__name__, Code('encoder'), num_labels=task.num_labels, **own)}",
        f"args = {call('TricksArguments', 'out', **given)}",
    ]
    return "\n".join([*lines, *comments])


class Code(str):
    """Stands in a call as it is."""

    __repr__ = str.__str__


def address(name: str) -> str:
    """Where ``from_pretrained`` finds a model of that name: on the hub, or in the package."""
    embedded = (models.ASSETS / name / "model.safetensors").is_file()
    return Code(f"models.ASSETS / {name!r}") if embedded else models.HUB.get(name, name)


def call(name: str, *positional, **given) -> str:
    """A call as it is written."""
    return f"{name}({', '.join([*map(repr, positional), *(f'{k}={v!r}' for k, v in given.items())])})"
