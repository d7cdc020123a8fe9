"""The attacks of :mod:`tricks_lib.fgm` by name: what they take, and what they cost."""

from typing import NamedTuple

from torch import nn

from tricks_lib import fgm

RELATIVE_EPSILON = 0.05  # of each row's length: about what epsilon 1 is for 16 short texts and BERT's table


class Attack(NamedTuple):
    """One attack: its class in :mod:`tricks_lib.fgm`, its default epsilon, its steps and its options."""

    kind: str
    epsilon: float
    steps: int = 1
    options: tuple[str, ...] = ("per_example", "relative")


ATTACKS = {
    "none": None,
    "fgm": Attack("FGM", 1.0),
    "pgd": Attack("PGD", 1.0, 3),
    "awp": Attack("AWP", 0.005, options=()),  # is relative, of whole matrices
    "freelb": Attack("FreeLB", 1.0, 3),
    "random": Attack("RandomDirection", 1.0),
}
ALPHA = 0.3  # length of a step as a part of epsilon, where there are several


def make_attack(model: nn.Module, name: str, epsilon: float | None, **options: bool) -> fgm.FGM:
    """The attack of that name on ``model``; epsilon None is its default."""
    attack = ATTACKS[name]
    if epsilon is None:
        epsilon = RELATIVE_EPSILON if options.get("relative") else attack.epsilon
    alpha = {"alpha": ALPHA * epsilon} if attack.steps > 1 else {}
    asked = {option: True for option, value in options.items() if value}
    return getattr(fgm, attack.kind)(model, epsilon, **alpha, **asked)
