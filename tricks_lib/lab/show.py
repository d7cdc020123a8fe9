"""What a chapter prints: the source of a trick as it is tested, the verdict on a comparison, and what a trick
costs, here and in ``make bench``.
"""

import ast
import inspect
import textwrap
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tricks_lib.lab import records


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


def verdict(trick: str, baseline: str, difference: dict, digits: int = 1) -> str:
    """One sentence, on two lines, on a paired difference in points (hundredths): its size, its interval, and
    what follows from it.
    """
    low, mean, high = (
        f"{round(100 * difference[k], digits) + 0.0:+.{digits}f}" for k in ("low", "mean", "high")
    )  # + 0.0: no -0
    if difference["low"] > 0:
        follows = f"{trick} is better than {baseline}"
    elif difference["high"] < 0:
        follows = f"{trick} is worse than {baseline}"
    else:
        follows = f"no difference between {trick} and {baseline} is shown"
    return f"{follows}:\n    {mean} points, 95 % interval {low} to {high} (n = {difference['n']})"


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
            "MB": f"{allocated(function, cuda):.1f}",
        }
        for name, function in functions.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index")


def ratios(*rows: str):
    """What ``make bench`` measured on the CPU: our time over theirs, a line for each row and peer.

    Returns:
        ``pandas.DataFrame`` with the columns "time ratio", its "quartiles", the ratio with freed "memory
        kept", and "size".

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
        lines, orient="index", columns=["time ratio", "quartiles", "memory kept", "size"]
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
    with _NewTensors() as counted:
        function()
    return counted.bytes / 2**20


class _NewTensors(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation returns in storage of its own."""

    bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        old = {
            t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
        }
        new = {t.untyped_storage() for t in tree_leaves(out) if isinstance(t, torch.Tensor)}
        self.bytes += sum(storage.nbytes() for storage in new if storage.data_ptr() not in old)
        return out
