"""The decay of each step, equations (3) and (4) of :mod:`tricks_lib.ema`."""

import math

from tricks_lib._checks import number

GAMMA = 6.94  # the standard deviation of the profile (4) is a tenth of the training
SETTINGS = ("decay", "warmup", "gamma", "update_every", "start_step")


def check(of: str = "", *, decay, warmup, gamma, update_every, start_step) -> None:
    """Raise unless the settings are in range; ``of`` stands before the name in the message."""
    number(f"{of}decay", decay, 0.0, math.nextafter(1.0, 0.0), accepted="a number in [0, 1)")
    if not isinstance(warmup, bool | str):
        raise TypeError(f"{of}warmup: {warmup!r} given, True, False or 'power' is accepted")
    if isinstance(warmup, str) and warmup != "power":
        raise ValueError(f"{of}warmup: {warmup!r} given, True, False or 'power' is accepted")
    number(f"{of}gamma", gamma, 0.0)
    if gamma != GAMMA and warmup != "power":
        raise ValueError(f"{of}gamma: {gamma} given with warmup {warmup!r}, with 'power' it is accepted")
    number(f"{of}update_every", update_every, 1, accepted="an integer of at least 1", integer=True)
    number(f"{of}start_step", start_step, 0, accepted="an integer of at least 0", integer=True)


def decay_at(step: int, *, decay, warmup, gamma, update_every, start_step) -> float | None:
    """d_n of the step, counted from 1; None where no average is taken, 0 where it is the weights
    themselves.
    """
    if step % update_every:
        return None
    if step <= start_step:
        return 0.0
    n = step // update_every - start_step // update_every
    if warmup == "power":
        return min(decay, (1 - 1 / n) ** (gamma + 1))  # (4)
    return min(decay, (1 + n) / (10 + n)) if warmup else decay  # (3)
