"""The protocol, one function per rule: what is chosen from the scores so far, and what must still be run.

Scores are asked for by ``ask(settings, steps, rate, seed, split)``, which gives the result of that run, or
None where it has not been run yet; whoever asks goes on when all answers are there. So a comparison that was
interrupted goes on where it stopped, by asking again.
"""

import math
import statistics as st
from collections.abc import Callable

from tricks_lib.lab.compare.arms import Arm
from tricks_lib.lab.compare.comparison import Comparison

GROWTHS = 3  # of a grid of learning rates
DOUBLINGS = 2  # of the steps
UNTUNED = {"candidate": {}, "learning_rate": None, "scores": []}


def choose(rows: list[dict], higher_is_better: bool = True) -> dict:
    """The row with the best mean score; the first of equals. Without rows nothing is tuned."""
    if not rows:
        return UNTUNED
    return (max if higher_is_better else min)(rows, key=lambda row: st.fmean(row["scores"]))


def edge(rows: list[dict], best: dict) -> str | None:
    """Whether the best row's rate is the last one tried for its candidate: "low", "high" or None."""
    rates = [row["learning_rate"] for row in rows if row["candidate"] == best["candidate"]]
    rate = best["learning_rate"]
    return None if not rates else "low" if rate == min(rates) else "high" if rate == max(rates) else None


def tune(ask: Callable, candidates, rates, seeds, higher_is_better: bool = True) -> list[dict] | None:
    """An arm's trials: every candidate at every rate, and further rates where the best lies at the edge.

    The grid grows there by one value, up to :data:`GROWTHS` times.

    Args:
        ask: ``ask(candidate, rate, seed)``, a result or None.

    Returns:
        rows ``{"candidate", "learning_rate", "scores"}``; None where a run is missing.
    """
    rows = trials(ask, [(candidate, rate) for candidate in candidates for rate in rates], seeds)
    for _ in range(GROWTHS):
        if rows is None or (side := edge(rows, best := choose(rows, higher_is_better))) is None:
            break
        rate = best["learning_rate"] * (2 if side == "high" else 0.5)
        grown = trials(ask, [(best["candidate"], rate)], seeds)
        rows = grown and rows + grown
    return rows


def trials(ask: Callable, points, seeds) -> list[dict] | None:
    answers = [[ask(candidate, rate, seed) for seed in seeds] for candidate, rate in points]
    if any(answer is None for row in answers for answer in row):
        return None
    return [
        {"candidate": candidate, "learning_rate": rate, "scores": [answer["score"] for answer in row]}
        for (candidate, rate), row in zip(points, answers)
    ]


def still_improves(scores, doubled, higher_is_better: bool = True) -> bool:
    """Whether twice the steps are better by more than one standard error of the paired difference.

    Args:
        scores, doubled: (n,) of the same tuning seeds, at N and 2N steps, each at its best rate.
    """
    gains = [(b - a) * (1 if higher_is_better else -1) for a, b in zip(scores, doubled)]
    error = st.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return st.fmean(gains) > error


def settle(ask: Callable, start: int, rates, seeds, higher_is_better: bool = True) -> dict | None:
    """The number of steps, by doubling the baseline's.

    Args:
        ask: ``ask(steps, rate, seed)``, a result of the baseline or None.

    Returns:
        ``{"start", "chosen", "settled", "still_improving"}``, None where a run is missing; ``settled`` has a
        row ``{"steps", "learning_rate", "scores", "tuning"}`` for each number tried, and ``still_improving``
        says that the last doubling allowed was still worth its steps.
    """
    log: list[dict] = []
    steps = start
    while True:
        rows = tune(lambda _, rate, seed: ask(steps, rate, seed), [{}], rates, seeds, higher_is_better)
        if rows is None:
            return None
        best = choose(rows, higher_is_better)
        log.append(
            {"steps": steps, "learning_rate": best["learning_rate"], "scores": best["scores"], "tuning": rows}
        )
        more = len(log) == 1 or still_improves(log[-2]["scores"], log[-1]["scores"], higher_is_better)
        if not more or len(log) == DOUBLINGS + 1:
            chosen = log[-1 if more else -2]["steps"]
            return {"start": start, "chosen": chosen, "settled": log, "still_improving": more}
        steps *= 2


def untrained(steps: int) -> dict:
    """What :func:`settle` gives where there is nothing to settle: ``steps`` as they were given."""
    return {"start": steps, "chosen": steps, "settled": [], "still_improving": False}


def winners(
    arms: dict[str, Arm], tuning: dict[str, list[dict]], baseline: str, higher_is_better: bool = True
) -> dict:
    """Settings of all tricks that won on validation, together: by more than one standard error of the paired
    difference, the largest gain first; a trick that contradicts one before it is left out.
    """
    sign = 1 if higher_is_better else -1
    best = {name: choose(rows, higher_is_better) for name, rows in tuning.items()}
    gains = {
        name: sign * (st.fmean(best[name]["scores"]) - st.fmean(best[baseline]["scores"]))
        for name, arm in arms.items()
        if arm.trick
        and name in best
        and still_improves(best[baseline]["scores"], best[name]["scores"], higher_is_better)
    }
    together: dict = {}
    for name in sorted(gains, key=lambda name: -gains[name]):
        own = {**arms[name].settings, **best[name]["candidate"]}
        if not {*own} & {*together}:
            together |= own
    return together


def tuned(
    comparison: Comparison, ask: Callable
) -> tuple[dict | None, dict[str, list[dict]], dict[str, dict]]:
    """Ask for everything up to the choice of each arm.

    Returns:
        steps, as :func:`settle` (None: not settled yet, and nothing else is asked for); the trials of each
        arm that has all of them; and the settings of each arm, those of the winners together last.
    """
    if not comparison.trained:
        settings = {name: arm.settings for name, arm in comparison.arms.items()}
        return untrained(comparison.steps), {name: [] for name in settings}, settings
    higher, rates, seeds = comparison.higher_is_better, comparison.rates, comparison.tuning_seeds
    steps = settle(
        lambda n, rate, seed: ask({}, n, rate, seed, "validation"), comparison.steps, rates, seeds, higher
    )
    if steps is None:
        return None, {}, {}
    settings = {name: arm.settings for name, arm in comparison.arms.items() if not arm.together}
    done: dict[str, list[dict]] = {}

    def trials_of(name):
        def of_arm(candidate, rate, seed):
            return ask({**settings[name], **candidate}, steps["chosen"], rate, seed, "validation")

        rows = tune(of_arm, comparison.arms[name].candidates, rates, seeds, higher)
        if rows is not None:
            done[name] = rows

    for name in settings:
        trials_of(name)
    if len(done) == len(settings):
        for name in [name for name in comparison.arms if name not in settings]:
            settings[name] = winners(comparison.arms, done, comparison.baseline, higher)
            trials_of(name)
    return steps, done, settings


def tested(comparison: Comparison, ask: Callable, steps: int, rows: dict, settings: dict) -> dict[str, list]:
    """Ask for the runs on fresh seeds of every arm that has chosen: name -> results, None where missing."""
    out = {}
    for name in rows:
        best = choose(rows[name], comparison.higher_is_better)
        own = {**settings[name], **best["candidate"]}
        out[name] = [ask(own, steps, best["learning_rate"], seed, "test") for seed in comparison.seeds]
    return out
