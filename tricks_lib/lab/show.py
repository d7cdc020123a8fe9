"""What a chapter prints: the source of a trick as it is tested, the verdict on a comparison, and what a trick
costs, here and in ``make bench``.
"""

import ast
import datetime
import inspect
import textwrap
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tricks_lib.lab import records
from tricks_lib.lab.stats import LEAST_COUNTED, direction, with_holm


def source(*objects):
    """The code of functions or classes as it stands in the package, without docstrings (the page "API" has
    those).

    Returns:
        ``IPython.display.Markdown`` with one highlighted block.
    """
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n\n".join(map(_without_docstrings, objects)) + "\n```")


def _without_docstrings(object_) -> str:
    text = textwrap.dedent(inspect.getsource(object_))
    lines = text.rstrip().split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            for i in range(docstring.lineno - 1, docstring.end_lineno):
                lines[i] = None
            if node.body[1:] and lines[docstring.end_lineno] == "" and isinstance(node, ast.ClassDef):
                lines[docstring.end_lineno] = None
    return "\n".join(line for line in lines if line is not None)


def verdict(
    trick: str,
    baseline: str,
    difference: dict,
    digits: int = 1,
    unit: str = "points",
    higher_is_better: bool = True,
) -> str:
    """Two lines on a paired difference: what follows from it by the rule of
    :func:`tricks_lib.lab.stats.direction`, and its size, interval and p-value.

    Under six seeds the second line counts the seeds instead.

    Args:
        trick, baseline: names of the arms.
        difference: ``{"mean", "low", "high", "p", "n"}``; ``"holm"``, the p-value after Holm, replaces
            ``"p"``; ``"won"`` is needed for counts; ``"smallest"``, the smallest difference that would have
            been shown, is named where none is.
        digits: of the difference. With 0 only the side of 0.05 on which p is is printed, as a score that
            differs by one example on another CPU moves the digits of both.
        unit: "points" are hundredths of the score; else the score's own unit, "" where it has none.
        higher_is_better: of the score.
    """
    return f"{follows(trick, baseline, difference, higher_is_better)}:\n    {size(difference, digits, unit)}"


def verdicts(trick: str, against: dict[str, dict], **options) -> str:
    """:func:`verdict` of a trick on each other arm, with the p-values adjusted by Holm.

    Args:
        against: name of the other arm -> difference. options: of :func:`verdict`.
    """
    return "\n".join(verdict(trick, other, d, **options) for other, d in with_holm(against).items())


def follows(trick: str, baseline: str, difference: dict, higher_is_better: bool = True) -> str:
    """The first line of :func:`verdict`."""
    if difference["n"] < LEAST_COUNTED:
        return f"{trick} against {baseline}, counts only"
    better = direction(difference) * (1 if higher_is_better else -1)
    if better:
        return f"{trick} is {'better' if better > 0 else 'worse'} than {baseline}"
    return f"no difference between {trick} and {baseline} is shown"


def size(difference: dict, digits: int = 1, unit: str = "points") -> str:
    """The second line of :func:`verdict`."""
    n, unit = difference["n"], unit and f" {unit}"
    if n < LEAST_COUNTED:
        return f"{_counts(difference)}p = {difference['p']:.3f} (a verdict needs {LEAST_COUNTED} seeds)"

    def number(key, sign="+"):
        return f"{round(difference[key] * (100 if unit == ' points' else 1), digits) + 0.0:{sign}.{digits}f}"

    p = difference.get("holm", difference["p"])
    if digits == 0:
        p = "p ≤ 0.05" if p <= 0.05 else "p > 0.05"
    else:
        p = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    text = f"{number('mean')}{unit}, 95 % interval {number('low')} to {number('high')}, {p} (n = {n})"
    if difference.get("smallest") and not direction(difference):
        text += f"; a difference of {number('smallest', '')}{unit} would have been shown"
    return text


def _counts(difference: dict) -> str:
    """ "lower on 4 of 4 seeds, ", a tie being half a seed; nothing where the seeds were not kept."""
    if "won" not in difference:
        return f"{difference['n']} seeds, "
    higher = difference["won"] >= 0.5
    won = difference["n"] * (difference["won"] if higher else 1 - difference["won"])
    return f"{'higher' if higher else 'lower'} on {round(won, 1):g} of {difference['n']} seeds, "


def duration(seconds: float) -> str:
    """``0.46 seconds``, ``45 seconds`` or, from a minute on, ``0:12:33 h``."""
    if seconds < 60:
        return f"{seconds:.2g} seconds"
    return f"{datetime.timedelta(seconds=round(seconds))} h"


def cost(functions: dict, samples: int = 15):
    """Time and memory of functions without arguments, measured in turn.

    Returns:
        ``pandas.DataFrame``: median milliseconds, ratio to the first row, and MB newly allocated in one call
        (on the CPU: all tensors made on the way; on CUDA: the peak above what was there before).
    """
    import statistics

    import pandas

    cuda = torch.cuda.is_available()
    milliseconds = {name: [] for name in functions}
    for _ in range(samples):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if cuda:
                torch.cuda.synchronize()
            milliseconds[name].append(1e3 * (time.perf_counter() - start))
    median = {name: statistics.median(values[1:]) for name, values in milliseconds.items()}
    first = next(iter(median.values()))
    rows = {
        name: {
            "ms": f"{median[name]:.2f}",
            "ratio": f"{median[name] / first:.2f}",
            "MB allocated": f"{allocated(function, cuda):.1f}",
        }
        for name, function in functions.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index")


def ratios(*rows: str):
    """What ``make bench`` measured on the CPU: our time over theirs, a line for each row and peer.

    Returns:
        ``pandas.DataFrame`` with the columns "time ratio", its "quartiles", "time ratio, cached" (freed
        memory is kept), and "size".

    Raises:
        ValueError: there is no such row.
    """
    import pandas

    bench = records.bench("cpu")
    measured, kept = bench["rows"], bench["rows_memory_kept"]
    if unknown := [row for row in rows if row not in measured]:
        raise ValueError(f"rows: no {', '.join(unknown)} was measured; there are {', '.join(measured)}")
    lines = {}
    for row in rows:
        for peer, m in measured[row]["peers"].items():
            ratios = [
                f"{m['ratio']:.2f}",
                "{:.2f} to {:.2f}".format(*m["quartiles"]),
                f"{kept[row]['peers'][peer]['ratio']:.2f}",
            ]
            lines[f"{row} / {peer}"] = [*ratios, measured[row]["size"]]
    return pandas.DataFrame.from_dict(
        lines, orient="index", columns=["time ratio", "quartiles", "time ratio, cached", "size"]
    )


def allocated(function, cuda: bool) -> float:
    """MB that one call of ``function()`` allocates: at its peak on a GPU, the sum of its new tensors on the
    CPU.
    """
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with Tensors() as counted:
        function()
    return counted.new / 2**20


class Tensors(TorchDispatchMode):
    """Counts the bytes of what operations return.

    Attributes:
        new: of all tensors in storage of their own. largest: of the largest tensor.
    """

    new = largest = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        old = {
            t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
        }
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        new = {t.untyped_storage() for t in made}
        self.new += sum(storage.nbytes() for storage in new if storage.data_ptr() not in old)
        self.largest = max([self.largest, *(t.numel() * t.element_size() for t in made)])
        return out
