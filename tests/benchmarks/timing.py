"""How a time is taken: of two sides in turn, and only while the machine is ours."""

import math
import statistics
import time

import torch


def sample(function, calls: int) -> tuple[float, bool]:
    """Seconds a call, and whether the machine was ours meanwhile: CPU time at least 95 % of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / calls, torch.cuda.is_available() or cpu >= 0.95 * wall


def calls_in(about: float, function) -> int:
    """How many calls take ``about`` seconds, at least 1; the first call, which warms up, does not count."""
    function()
    return max(1, round(about / sample(function, 1)[0]))


def pairs(ours, theirs, samples: int = 5, about: float = 0.1) -> list[tuple[float, float]]:
    """Seconds a call of both, ``samples`` times in turn, each over as many calls as take ``about``
    seconds.
    """
    calls = [calls_in(about, function) for function in (ours, theirs)]
    counted, tried = [], 0
    while len(counted) < samples:
        tried += 1
        (a, clean_a), (b, clean_b) = sample(ours, calls[0]), sample(theirs, calls[1])
        if (clean_a and clean_b) or tried > 3 * samples:  # a machine that is never quiet still gives a number
            counted.append((a, b))
    return counted


def summary(pairs: list[tuple[float, float]]) -> dict:
    """Median and quartiles of the ratio ours / theirs, and the median times."""
    low, median, high = statistics.quantiles((a / b for a, b in pairs), n=4)
    ours, theirs = (1e3 * statistics.median(side) for side in zip(*pairs))
    return {"ratio": round(median, 4), "quartiles": [round(low, 4), round(high, 4)], "samples": len(pairs),
            "ours_ms": round(ours, 4), "theirs_ms": round(theirs, 4)}  # fmt: skip


def fastest_seconds(function, samples: int = 5, about: float = 0.05) -> float:
    """Of samples of ``about`` seconds each: what neighbours and interrupts add is never less than nothing."""
    calls = calls_in(about, function)
    return min(sample(function, calls)[0] for _ in range(samples))


def exponents(x: list[float], y: list[float]) -> list[float | None]:
    """b of y ~ x^b between neighbours; None where nothing is used."""
    pairs = zip(x, x[1:], y, y[1:])
    return [
        round(math.log(y2 / y1) / math.log(x2 / x1), 2) if y1 > 0 and y2 > 0 else None
        for x1, x2, y1, y2 in pairs
    ]
