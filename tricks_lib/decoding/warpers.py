"""What shapes the distribution that a token is drawn from, in the order of ``generate``: the temperature,
then the filters.

Each comes from the argument of its name, which this package's filter applies, or else from the generation
config, whose warper ``generate`` has made.
Shapes: B rows, V vocabulary.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tricks_lib._checks import number
from tricks_lib.decoding import filters, sigma


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits (B, V) of the distribution at a temperature."""
    number(
        "temperature", temperature, 1e-6, 1e6, accepted="a number from 1e-6 (for less: greedy_search) to 1e6"
    )
    return logits / temperature


# parameter: (how it is applied here, its class in transformers), in generate's order
WARPERS: dict[str, tuple[Any, str | None]] = {
    "temperature": (scaled, "TemperatureLogitsWarper"),
    "top_n_sigma": (sigma.top_n_sigma_filter, None),
    "top_h": (filters.top_h_filter, "TopHLogitsWarper"),
    "top_k": (filters.top_k_filter, "TopKLogitsWarper"),
    "top_p": (filters.top_p_filter, "TopPLogitsWarper"),
    "min_p": (filters.min_p_filter, "MinPLogitsWarper"),
    "typical_p": (filters.typical_filter, "TypicalLogitsWarper"),
    "epsilon_cutoff": (None, "EpsilonLogitsWarper"),
    "eta_cutoff": (filters.eta_filter, "EtaLogitsWarper"),
}
LAST = ("WatermarkLogitsProcessor", "SynthIDTextWatermarkLogitsProcessor", "LogitNormalization")


def checked(given: dict) -> dict:
    """The parameters that are not None: one out of range is an error before the model runs."""
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        WARPERS[name][0](torch.zeros(1, 2), value)
    return given


def use_warpers(run, given: dict) -> None:
    """Among the run's processors, those of generate's warpers whose parameter is given make room for ours,
    and each stands where generate has it.
    """
    kinds = {kind: name for name, (_, kind) in WARPERS.items()}
    handed = {kinds[type(p).__name__]: p for p in run.processors if type(p).__name__ in kinds}
    first = [p for p in run.processors if type(p).__name__ not in {*kinds, *LAST}]
    steps = []
    for name, (apply, _) in WARPERS.items():
        if name in given:
            steps.append(partial(_applied, apply, given[name]))
        elif name in handed:
            steps.append(handed[name])
        elif apply is not None and (value := run.asked_for(name, None, None)):  # 0: none, as in generate
            steps.append(partial(_applied, apply, value))
    run.processors = first + steps + [p for p in run.processors if type(p).__name__ in LAST]


def _applied(apply, value, tokens, logits: Tensor) -> Tensor:
    return apply(logits, value)
