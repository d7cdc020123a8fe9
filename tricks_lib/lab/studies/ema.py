"""The moving average of one noisy weight, and of the weights of one training, with and without learning-rate
decay; what chapter 6 runs.
"""

from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tricks_lib.ema import EMA
from tricks_lib.lab import fit

# ---- One weight, to look at ----


def noisy_descent(steps: int, lr: float, *, noise=1.0, start=0.0, copies=()) -> np.ndarray:
    """Path (steps + 1, *copies) of one weight: gradient descent on w^2 / 2 whose gradient has noise of that
    deviation.

    ``copies``: shape of independent repetitions.
    """
    rng, path = np.random.default_rng(0), [np.full(copies, float(start))]
    for _ in range(steps):
        path.append(path[-1] - lr * (path[-1] + noise * rng.standard_normal(copies)))
    return np.array(path)


def follow(path, **arguments) -> np.ndarray:
    """Averages that :class:`EMA`, with these arguments, makes of one weight with the values ``path`` (N,
    *copies); same shape.
    """
    values = torch.tensor(np.asarray(path, dtype=np.float64).reshape(len(path), -1))
    model = torch.nn.Linear(values.shape[1], 1, bias=False, dtype=torch.float64)
    weight = model.weight.detach()  # the same memory
    weight.copy_(values[0])
    average, out = EMA(model, **arguments), [values[0].clone()]
    for value in values[1:]:
        weight.copy_(value)
        average.update()
        out.append(average.state_dict()["shadow"]["weight"][0])
    return torch.stack(out).numpy().reshape(np.shape(path))


# ---- One training, its last weights and its averages ----


@contextmanager
def without_decay():
    """Inside, learning rates only rise: warm-up, then constant, whatever a schedule says."""

    def hold(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] = max(group["lr"], group.get("highest", 0.0))

    handle = register_optimizer_step_pre_hook(hold)
    try:
        yield
    finally:
        handle.remove()


def train(model, rows, stack, *, schedule, decays, watch=None, **options) -> dict[str, EMA]:
    """One training that is followed by averages; the model ends with the weights of its last step.

    Args:
        schedule: ``"linear"`` (warm-up and decay, as :func:`tricks_lib.lab.fit.fit` has it) or ``"constant"``
            (warm-up only).
        decays: name -> decay of an average.
        watch: ``watch(averages)`` after each step.
        options: of :func:`tricks_lib.lab.fit.fit`.
    """
    if schedule not in ("linear", "constant"):
        raise ValueError(f"schedule: {schedule!r} given, 'linear' or 'constant' is accepted")
    averages = {name: EMA(model, decay) for name, decay in decays.items()}

    def after_step(_):
        for average in averages.values():
            average.update()
        if watch:
            watch(averages)
            model.train()

    with without_decay() if schedule == "constant" else nullcontext():
        fit.fit(model, rows, stack, after_step=after_step, **options)
    return averages


def predictions(model, averages: dict[str, EMA], rows, stack) -> dict[str, tuple]:
    """Logits (N, C) and labels (N,) by the model's own weights (``last``) and by each average."""
    out = {"last": fit.predict(model, rows, stack)}
    for name, average in averages.items():
        with average.average_parameters():
            out[name] = fit.predict(model, rows, stack)
    return out


def losses(logits, labels) -> np.ndarray:
    """Cross-entropy of each text, (N,)."""
    wide = torch.from_numpy(logits).double()
    return torch.nn.functional.cross_entropy(wide, torch.from_numpy(labels), reduction="none").numpy()
