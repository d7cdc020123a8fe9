"""The adversarial passes of one step, and the attacks of :mod:`tricks_lib.fgm` by name."""

from collections.abc import Generator
from contextlib import closing
from typing import Any, NamedTuple

from torch import nn

from tricks_lib.fgm import AWP, FGM, PGD, FreeLB, RandomDirection

RELATIVE_EPSILON = 0.05  # of each row's length: about what epsilon 1 is for 16 short texts and BERT's table
ALPHA = 0.3  # length of a step as a part of epsilon, where there are several


class Attack(NamedTuple):
    """One attack: its class, its default epsilon, its steps and what it may be told."""

    kind: type[FGM]
    epsilon: float
    steps: int = 1
    options: tuple[str, ...] = ("per_example", "relative")


ATTACKS: dict[str, Any] = {  # name -> Attack
    "none": None,
    "fgm": Attack(FGM, 1.0),
    "pgd": Attack(PGD, 1.0, 3),
    "awp": Attack(AWP, 0.005, options=()),  # is relative, of whole matrices
    "freelb": Attack(FreeLB, 1.0, 3),
    "random": Attack(RandomDirection, 1.0),
}


def make_attack(model: nn.Module, name: str, epsilon: float | None, **options: bool) -> FGM:
    """The attack of that name on ``model``; epsilon None is its default.

    Raises:
        ValueError: there is nothing to attack, as where the embeddings are frozen; it names the option.
    """
    attack = ATTACKS[name]
    if epsilon is None:
        epsilon = RELATIVE_EPSILON if options["relative"] else attack.epsilon
    alpha = {"alpha": ALPHA * epsilon} if attack.steps > 1 else {}
    try:
        return attack.kind(model, epsilon, **alpha, **{key: options[key] for key in attack.options})
    except ValueError as error:
        raise ValueError(f"adversarial: {name!r} given; {error}") from error


def passes(attack: FGM, steps: int) -> Generator[bool, None, None]:
    """The passes over one batch, each with its backward pass: False at the clean weights, which come first,
    True at attacked ones.
    """
    if isinstance(attack, FreeLB):  # which also makes one gradient of those of all passes
        with closing(attack.passes()) as numbers:
            for k in numbers:
                yield k > 0
        return
    try:
        yield False
        for _ in range(steps):
            attack.attack()
            yield True
    finally:
        attack.restore()
