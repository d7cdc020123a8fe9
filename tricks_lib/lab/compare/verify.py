"""Refuse a record that breaks a rule of the protocol, or whose choices and statistics do not follow from its
raw numbers.
"""

import numpy as np

from tricks_lib.lab.compare import calibration, protocol, summary
from tricks_lib.lab.compare.comparison import LEAST_RATES, LEAST_TUNING_SEEDS
from tricks_lib.lab.compare.metrics import METRICS
from tricks_lib.lab.compare.records import check_fields
from tricks_lib.lab.compare.statistics import seeds_for_a_verdict, seeds_needed


def verify(record: dict, predictions: dict[str, np.ndarray], file: str) -> None:
    """Check a record against the protocol.

    Args:
        record, predictions: as :func:`.records.load` gives them. file: named in the error.

    Raises:
        ValueError: the first rule that is broken.
    """
    check_fields(record, file)
    try:
        for rule in (families, seeds, rates, steps, choices, runs, kept, one_code, statistics):
            rule(record, predictions)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file}: a field is missing or of another type: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def families(record, predictions) -> None:
    """Rule 7: the two families follow from the arms, and which way is better from the metric."""
    arms, baseline = record["arms"], record["baseline"]
    fixed = {
        "baseline": [name for name in arms if name != baseline],
        "rivals": [[name, arm["rival"]] for name, arm in arms.items() if arm["rival"]],
    }
    if record["families"] != fixed:
        raise ValueError("families: other comparisons than those of all arms and of all rivals")
    if record["higher_is_better"] != METRICS[record["metric"]].higher_is_better:
        raise ValueError(f"higher_is_better: {record['higher_is_better']} given with {record['metric']}")


def seeds(record, predictions) -> None:
    """Rule 5: enough fresh seeds that a verdict is possible, and enough to tune with."""
    given, tuning, cut = record["seeds"], record["tuning_seeds"], record["hours"] is not None
    if len({*given, *tuning}) < len(given) + len(tuning):
        raise ValueError("seeds, tuning_seeds: a seed stands there twice")
    comparisons = max(1, *map(len, record["families"].values()))
    needed = (seeds_for_a_verdict if cut else seeds_needed)(comparisons)
    if len(given) < needed:
        raise ValueError(f"seeds: {len(given)} for {comparisons} comparisons, at least {needed} are accepted")
    if record["rates"] and len(tuning) < LEAST_TUNING_SEEDS - cut:
        raise ValueError(f"tuning_seeds: {len(tuning)} given, at least {LEAST_TUNING_SEEDS} are accepted")


def rates(record, predictions) -> None:
    """Rule 2: the same grid for every arm, at least four rates, each twice the one before."""
    grid = record["rates"]
    if 0 < len(grid) < LEAST_RATES or any(abs(b / a - 2) > 1e-9 for a, b in zip(grid, grid[1:])):
        raise ValueError(f"rates: {grid}, at least {LEAST_RATES}, each twice the one before, are accepted")


def replayed(rows: list[dict], candidates, record) -> list[dict]:
    """The trials that the protocol makes, answered from those in the record."""
    known = {
        (str(row["candidate"]), row["learning_rate"], seed): {"score": score}
        for row in rows
        for seed, score in zip(record["tuning_seeds"], row["scores"], strict=True)
    }
    return protocol.tune(
        lambda candidate, rate, seed: known.get((str(candidate), rate, seed)),
        candidates, record["rates"], record["tuning_seeds"], record["higher_is_better"],
    )  # fmt: skip


def steps(record, predictions) -> None:
    """Rule 3: the steps follow from the baseline's scores at N, 2N, ..."""
    given, log = record["steps"], {row["steps"]: row for row in record["steps"]["settled"]}
    if not record["rates"]:
        if given != protocol.untrained(given["start"]):
            raise ValueError("steps: settled by trials, where no rates are and nothing is trained")
        return
    if len(log) < 2:
        raise ValueError(
            "steps: the baseline was not tried at twice the steps, so it may not be trained to the end"
        )

    def ask(n, rate, seed):
        for row in log[n]["tuning"] if n in log else ():
            if row["learning_rate"] == rate:
                return {"score": row["scores"][record["tuning_seeds"].index(seed)]}
        return None

    found = protocol.settle(
        ask, given["start"], record["rates"], record["tuning_seeds"], record["higher_is_better"]
    )
    if found != given:
        chosen = found and found["chosen"]
        raise ValueError(f"steps: {given['chosen']} chosen, {chosen} follows from the baseline's scores")
    if log[given["chosen"]]["tuning"] != record["arms"][record["baseline"]]["tuning"]:
        raise ValueError("steps: the baseline was tuned otherwise than when they were settled")


def choices(record, predictions) -> None:
    """Rule 2: every trial of the protocol, no other; the best chosen; an edge marked."""
    for name, arm in record["arms"].items():
        if replayed(arm["tuning"], arm["candidates"], record) != arm["tuning"]:
            raise ValueError(f"arm {name!r} was not tuned on the grid, grown where its best lay at the edge")
        best = protocol.choose(arm["tuning"], record["higher_is_better"])
        if arm["chosen"] != {k: best[k] for k in ("candidate", "learning_rate")}:
            raise ValueError(
                f"arm {name!r} has chosen {arm['chosen']}, another choice follows from its trials"
            )
        if arm["edge"] != (edge := protocol.edge(arm["tuning"], best)):
            raise ValueError(f"arm {name!r} is at the {edge} edge of its grid and marked {arm['edge']}")


def runs(record, predictions) -> None:
    """Rules 3 and 5: one run for each seed, and the failed ones marked."""
    for name, arm in record["arms"].items():
        if [run["seed"] for run in arm["runs"]] != record["seeds"]:
            raise ValueError(f"arm {name!r} has not one run for each seed")
        if [run["failed"] for run in arm["runs"]] != summary.failures(record, name).tolist():
            raise ValueError(f"arm {name!r}: its failed runs are not those that its scores say")


def kept(record, predictions) -> None:
    """Rule 6: each test example's prediction, and all that is measured follows from them."""
    if missing := {"labels", "predictions"} - {*predictions}:
        raise ValueError(f"predictions: {', '.join(sorted(missing))} missing")
    labels, given = predictions["labels"], predictions["predictions"]
    shape = (*labels.shape, len(record["arms"]), len(record["seeds"]))
    if given.shape != shape or len(labels) != record["data"]["sizes"]["test"]:
        raise ValueError(f"predictions: shape {given.shape} given, {shape} is accepted")
    guess = METRICS[record["metric"]].guess(labels)
    if abs(guess - record["guess"]) > 1e-6:
        raise ValueError(f"guess: {record['guess']} given, {guess:.6f} follows from the labels")
    for name, arm in record["arms"].items():
        own = summary.of_arm(record, given, name)
        found = {key: METRICS[key].score(own, labels) for key in {*METRICS} & {*arm["runs"][0]}}
        if "confidence" in predictions:
            by_seed = summary.confidence_of_arm(record, predictions["confidence"], name)
            found |= dict(zip(calibration.ERRORS, calibration.of_confidence(own, by_seed, labels)))
        for key, values in {**found, "score": found[record["metric"]]}.items():
            if not np.allclose(values, [run[key] for run in arm["runs"]], rtol=0, atol=1e-6):
                raise ValueError(f"arm {name!r}: its {key} does not follow from its predictions")


def one_code(record, predictions) -> None:
    """Rule: all runs were made by the same code."""
    found = {run["code"] for arm in record["arms"].values() for run in arm["runs"]}
    if found != {record["code"][:12]}:
        raise ValueError(f"code: runs made by {', '.join(sorted(found))}, one code is accepted")


def statistics(record, predictions) -> None:
    """Rule 7: the statistics follow from scores and predictions."""
    if summary.summarize(record, predictions) != record["statistics"]:
        raise ValueError("statistics do not follow from the raw numbers")
