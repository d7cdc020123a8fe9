"""The rules of the protocol, one test each, on invented scores."""

import math

import numpy as np
import pytest

from tricks_lib.lab.compare import protocol
from tricks_lib.lab.compare.arms import Arm

RATES, SEEDS = (1e-4, 2e-4, 4e-4, 8e-4), (1, 2, 3)


def answers(best: float, asked: list | None = None):
    """Scores that fall by the distance of the rate from ``best``, in doublings."""

    def ask(candidate, rate, seed):
        if asked is not None:
            asked.append(rate)
        return {"score": 0.9 - 0.1 * abs(math.log2(rate / best)) + 0.001 * seed}

    return ask


@pytest.mark.parametrize(
    "best, rates, side",
    [
        (2e-4, RATES, None),
        (1e-4, (*RATES, 5e-5), None),
        (1.6e-3, (*RATES, 1.6e-3, 3.2e-3), None),
        (1e-2, (*RATES, 1.6e-3, 3.2e-3, 6.4e-3), "high"),  # still at the edge: marked
        (1e-6, (*RATES, 5e-5, 2.5e-5, 1.25e-5), "low"),
    ],
)
def test_a_grid_grows_by_one_value_where_the_best_lies_at_its_edge_up_to_three_times(best, rates, side):
    rows = protocol.tune(answers(best), [{}], RATES, SEEDS)
    np.testing.assert_allclose([row["learning_rate"] for row in rows], rates)
    assert protocol.edge(rows, protocol.choose(rows)) == side
    assert all(len(row["scores"]) == len(SEEDS) for row in rows)


def test_a_grid_of_errors_grows_towards_the_smallest():
    ask = answers(1e-4)
    rows = protocol.tune(lambda *point: {"score": -ask(*point)["score"]}, [{}], RATES, SEEDS, False)
    assert protocol.choose(rows, False)["learning_rate"] == 1e-4 and rows[-1]["learning_rate"] == 5e-5


def test_only_the_chosen_candidate_grows_its_grid():
    def ask(candidate, rate, seed):
        return {"score": answers(1e-4)(candidate, rate, seed)["score"] + candidate.get("dropout", 0)}

    rows = protocol.tune(ask, [{}, {"dropout": 0.2}], RATES, SEEDS)
    assert [row["candidate"] for row in rows] == [{}] * 4 + [{"dropout": 0.2}] * 5
    assert protocol.choose(rows)["candidate"] == {"dropout": 0.2}


def test_equal_candidates_the_first_is_chosen():
    rows = [{"candidate": {}, "learning_rate": r, "scores": [0.5, 0.5]} for r in RATES]
    assert protocol.choose(rows) is rows[0] and protocol.choose(rows, False) is rows[0]


def test_tuning_waits_for_a_missing_run():
    assert (
        protocol.tune(lambda c, rate, seed: None if seed == 3 else {"score": 1.0}, [{}], RATES, SEEDS) is None
    )


@pytest.mark.parametrize(
    "scores, doubled, better",
    [
        ([0.5, 0.5, 0.5], [0.6, 0.6, 0.6], True),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], False),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 4.0], True),  # mean 2, standard error 1
        ([0.0, 0.0, 0.0], [0.0, 0.0, 3.0], False),  # mean 1, standard error 1: not by more
    ],
)
def test_twice_the_steps_must_gain_more_than_one_standard_error(scores, doubled, better):
    assert protocol.still_improves(scores, doubled) is better
    assert protocol.still_improves([-s for s in scores], [-s for s in doubled], False) is better


@pytest.mark.parametrize(
    "needed, chosen, improving",
    [(100, 100, False), (150, 200, False), (250, 400, True), (800, 400, True)],
)
def test_steps_double_at_most_twice_while_they_gain(needed, chosen, improving):
    asked = set()

    def ask(steps, rate, seed):
        asked.add(steps)
        gain = answers(2e-4)({}, rate, seed)["score"]
        return {"score": gain - 0.2 * max(0.0, 1 - steps / needed)}

    found = protocol.settle(ask, 100, RATES, SEEDS)
    assert (found["chosen"], found["still_improving"]) == (chosen, improving)
    assert asked == {100, 200} | ({400} if chosen > 100 else set())
    assert all(row["learning_rate"] == 2e-4 for row in found["settled"])


def test_winners_are_put_together_without_contradicting_each_other():
    def rows(*scores):
        return [{"candidate": {}, "learning_rate": r, "scores": list(scores)} for r in RATES]

    arms = {
        "baseline": Arm(),
        "rdrop": Arm({"rdrop_alpha": 1.0}, "rdrop"),
        "rdrop 4": Arm({"rdrop_alpha": 4.0}, "rdrop"),
        "ema": Arm({"weights": "ema"}, "ema"),
        "decay": Arm({"layer_decay": 0.9}, "layer_decay"),
        "dropout": Arm({"dropout": 0.3}),
    }
    tuning = {
        "baseline": rows(0.5, 0.5, 0.5),
        "rdrop": rows(0.6, 0.6, 0.6),
        "rdrop 4": rows(0.7, 0.7, 0.7),
        "ema": rows(0.51, 0.51, 0.51),
        "decay": rows(0.4, 0.5, 0.61),  # better, by less than a standard error
        "dropout": rows(0.9, 0.9, 0.9),  # a control, not a trick
    }
    assert protocol.winners(arms, tuning, "baseline") == {"rdrop_alpha": 4.0, "weights": "ema"}
