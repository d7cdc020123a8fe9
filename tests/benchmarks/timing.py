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


def measure(ours, theirs, samples: int = 15) -> dict:
    """Median and quartiles of the ratio ours / theirs over paired, alternating samples of about 0.2 s each."""
    for function in (ours, theirs):
        function()
    calls = [max(1, round(0.2 / sample(function, 1)[0])) for function in (ours, theirs)]
    ratios, seconds, tried = [], [], 0
    while len(ratios) < samples and tried < 4 * samples:
        tried += 1
        (a, clean_a), (b, clean_b) = sample(ours, calls[0]), sample(theirs, calls[1])
        if (clean_a and clean_b) or tried > 3 * samples:  # a machine that is never quiet still gives a number
            ratios.append(a / b)
            seconds.append((a, b))
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(median, 4), "quartiles": [round(low, 4), round(high, 4)], "samples": len(ratios), "tried": tried,
            "ours_ms": round(1e3 * statistics.median(a for a, _ in seconds), 4), "theirs_ms": round(1e3 * statistics.median(b for _, b in seconds), 4)}  # fmt: skip


def fastest_seconds(function, samples: int = 5, about: float = 0.05) -> float:
    """Of samples of ``about`` seconds each: what neighbours and interrupts add is never less than nothing."""
    function()
    calls = max(1, round(about / sample(function, 1)[0]))
    return min(sample(function, calls)[0] for _ in range(samples))


def exponents(x: list[float], y: list[float]) -> list[float | None]:
    """b of y ~ x^b between neighbours; None where nothing is used."""
    pairs = zip(x, x[1:], y, y[1:])
    return [round(math.log(y2 / y1) / math.log(x2 / x1), 2) if y1 > 0 and y2 > 0 else None for x1, x2, y1, y2 in pairs]
