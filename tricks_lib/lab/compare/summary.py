"""The statistics of a record, from its raw scores and predictions."""

import statistics as st

import numpy as np

from tricks_lib.lab.compare.calibration import ERRORS, paired
from tricks_lib.lab.compare.metrics import METRICS, constant, ece
from tricks_lib.lab.compare.statistics import contributions, failed, family, interval, pseudo_values
from tricks_lib.lab.records import rounded

AT_THE_EDGE, NOT_LEARNED = "no verdict: at the edge of its grid", "no verdict: the baseline has not learned"


def of_arm(record: dict, predictions: np.ndarray, name: str) -> np.ndarray:
    """Predictions (S, N, ...) of an arm, out of those (N, ..., A, S) of all."""
    own = predictions[..., list(record["arms"]).index(name), :]
    return np.moveaxis(own, -1, 0)


def confidence_of_arm(record: dict, confidence: np.ndarray, name: str) -> np.ndarray:
    """That (S, N, 2) of an arm, out of those (N, A, S, 2) of all."""
    return np.moveaxis(confidence[:, list(record["arms"]).index(name)], 1, 0)


def scores(record: dict, name: str) -> list[float]:
    return [run["score"] for run in record["arms"][name]["runs"]]


def summarize(record: dict, predictions: dict[str, np.ndarray]) -> dict:
    """Statistics by arm, and those of each trick against its rival, to six digits.

    Returns:
        ``{"arms": {name: {"mean", "sd", "failed", "baseline"}}, "rivals": [{"arm", "rival", ...}]}``.
        ``mean`` and ``sd`` are over all seeds, failed ones too. ``baseline`` (None for the baseline) and each
        of ``rivals`` are what :func:`.statistics.family` gives, with ``verdict`` saying why where there can
        be none.
    """
    metric, labels = METRICS[record["metric"]], predictions["labels"]
    given = {
        name: contributions(metric, of_arm(record, predictions["predictions"], name), labels)
        for name in record["arms"]
    }
    return compared(record, given, has_learned(record, given[record["baseline"]], labels))


def compared(record: dict, given: dict[str, np.ndarray], learned: bool) -> dict:
    """As :func:`summarize`, from what each seed and example contributes to the score.

    Args:
        given: arm -> (S, N) or (S, K). learned: whether the baseline has.
    """

    def of_pairs(pairs) -> list[dict]:
        differences = {i: once(given[a] - given[b]) for i, (a, b) in enumerate(pairs)}
        found = family(differences, record["higher_is_better"]) if pairs else {}
        return [
            own | {"verdict": spoken(record, own["verdict"], *pair) if learned else NOT_LEARNED}
            for own, pair in zip(found.values(), pairs)
        ]

    of_baseline = [(name, record["baseline"]) for name in record["families"]["baseline"]]
    against = dict(zip(record["families"]["baseline"], of_pairs(of_baseline)))
    rivals = record["families"]["rivals"]
    return rounded({
        "arms": {
            name: {
                "mean": st.fmean(scores(record, name)),
                "sd": st.stdev(scores(record, name)) if len(record["seeds"]) > 1 else 0.0,
                "failed": failed_runs(record, name),
                "baseline": against.get(name),
            }
            for name in record["arms"]
        },
        "rivals": [{"arm": a, "rival": b, **own} for (a, b), own in zip(rivals, of_pairs(rivals))],
    })  # fmt: skip


def calibrated(record: dict, predictions: dict[str, np.ndarray], error: str) -> dict:
    """The record with its calibration error in the place of its score, and the statistics of that: by seed
    and by group of test rows, as :func:`.variance.pseudo_values` has it.

    Args:
        predictions: of the record, ``confidence`` among them. error: one of ``calibration.ERRORS``.

    Raises:
        ValueError: the record has no confidence, or another error is asked for.
    """
    if "confidence" not in predictions:
        raise ValueError(f"record: {record['name']} has no confidence, one that measures calibration has")
    if error not in ERRORS:
        raise ValueError(f"error: {error!r} given, {' and '.join(ERRORS)} are accepted")
    given, arms = {}, {}
    for name, arm in record["arms"].items():
        confidence = confidence_of_arm(record, predictions["confidence"], name)
        pairs = paired(of_arm(record, predictions["predictions"], name), confidence, error)
        given[name] = pseudo_values(ece, pairs, predictions["labels"])
        runs = [{"seed": r["seed"], "failed": r["failed"], "score": r[error]} for r in arm["runs"]]
        arms[name] = {**arm, "runs": runs}
    seen = {**record, "metric": error, "higher_is_better": False, "arms": arms}
    return seen | {"statistics": compared(seen, given, not learned_nothing(record["statistics"]))}


def learned_nothing(statistics: dict) -> bool:
    """Whether there are no verdicts because the baseline has not learned."""
    against = [own["baseline"] for own in statistics["arms"].values() if own["baseline"]]
    return any(difference["verdict"] == NOT_LEARNED for difference in against)


def once(differences: np.ndarray) -> np.ndarray:
    """Of differences (S, N) that are the same for every seed, one row: then only the examples are random."""
    same = differences.any() and (differences == differences[0]).all()
    return differences[:1] if same else differences


def failures(record: dict, name: str) -> np.ndarray:
    """Which runs (S,) of an arm have failed: less than a quarter of the way from guessing to its median; none
    where nothing is trained.
    """
    if not record["rates"]:
        return np.zeros(len(scores(record, name)), dtype=bool)
    return failed(scores(record, name), record["guess"], record["higher_is_better"])


def failed_runs(record: dict, name: str) -> int:
    """How many runs of an arm are marked as failed."""
    return sum(run["failed"] for run in record["arms"][name]["runs"])


def has_learned(record: dict, baseline: np.ndarray, labels: np.ndarray) -> bool:
    """Whether at most half of the baseline's runs have failed, and it is better than the best answer that
    knows no text: the interval of the difference, over seeds and examples, excludes zero.

    Args:
        baseline: its contributions, (S, N) or (S, K). labels: of the test.
    """
    if not record["rates"]:  # nothing is trained
        return True
    if 2 * failed_runs(record, record["baseline"]) > len(record["seeds"]):
        return False
    metric = METRICS[record["metric"]]
    known = contributions(metric, constant(labels, record["kind"])[None], labels)  # (1, N) or (1, K)
    _, low, high = interval(baseline - known)
    return low > 0 if metric.higher_is_better else high < 0


def spoken(record: dict, verdict: str, arm: str, other: str) -> str:
    """The verdict, or why there is none."""
    return AT_THE_EDGE if any(record["arms"][name]["edge"] for name in (arm, other)) else verdict
