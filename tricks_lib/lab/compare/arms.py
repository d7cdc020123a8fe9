"""An arm of a comparison: settings of ``TricksArguments`` and of the classifier, as they are pasted.

Settings are flat and written as differences from the baseline. They are of four kinds::

    fields of TricksArguments    rdrop_alpha, adversarial, layer_decay, label_smoothing_factor, ...
    of the classifier            pool, layers, prior_bias; dropout (of the whole network, by its config)
    of the length                times: so many times the steps; head_rate: so many times the rate
    of reading one training      weights: "last", "best checkpoint", "ema", "swa"; threshold: "tuned"

Arms that differ only in the last kind share a training.
"""

import dataclasses
import json
from dataclasses import dataclass

from tricks_lib.trainer import TricksArguments

READING = {"weights": "last", "threshold": None}
CLASSIFIER = ("pool", "layers", "dropout", "prior_bias")
LENGTH = ("times", "head_rate")
FIELDS = tuple(f.name for f in dataclasses.fields(TricksArguments))
PASSES = {
    "fgm": 2,
    "awp": 2,
    "random": 2,
    "pgd": 4,
    "freelb": 3,
}  # of adversarial training, the clean one included
DROPOUTS = (  # of the whole network, by the names that configurations give them
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout",
    "embedding_dropout", "mlp_dropout", "resid_pdrop", "attn_pdrop", "embd_pdrop",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One configuration, or several among which validation chooses.

    Attributes:
        settings: beyond the baseline's. candidates: further settings, one of which is chosen with the rate.
        trick: the name of the trick, None for a control. rival: the arm that is its cheap rival.
        together: the settings are those of all tricks that win on validation, known once they have.

    Raises:
        ValueError: a setting that is not known.
    """

    settings: dict = dataclasses.field(default_factory=dict)
    trick: str | None = None
    rival: str | None = None
    candidates: tuple[dict, ...] = ({},)
    together: bool = False

    def __post_init__(self):
        for name in {k for some in (self.settings, *self.candidates) for k in some}:
            if name not in self.names():
                others = ", ".join(each for each in self.names() if each not in FIELDS)
                fields = "fields of TricksArguments, " * (FIELDS[0] in self.names())
                raise ValueError(f"settings: {name!r} given; {fields}{others} are accepted")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of the settings that there are."""
        return (*FIELDS, *CLASSIFIER, *LENGTH, *READING)


def passes(settings: dict) -> float:
    """Forward and backward passes of a training, as a multiple of the baseline's."""
    attack = PASSES.get(settings.get("adversarial"), 1)
    return settings.get("times", 1) * attack * (2 if settings.get("rdrop_alpha") else 1)


def training_of(settings: dict) -> dict:
    """The settings without those of reading: arms that agree here share a training."""
    return {k: v for k, v in settings.items() if k not in READING}


def reading_of(settings: dict) -> dict:
    return {k: settings.get(k, v) for k, v in READING.items()}


def key(content) -> str:
    """One string for equal settings, whatever their order."""
    return json.dumps(content, sort_keys=True)


def fitted_decay(steps: int) -> float:
    """The EMA decay that fits a run: N / (N + 10), an average over its last tenth or so."""
    return round(steps / (steps + 10), 6)
