"""Runs notebooks in profile ``full`` against a hub, all cells of each, whatever an earlier one raised."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.full import hub, tiny_models

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = [*sorted((ROOT / "chapters").glob("[01]*.ipynb")), ROOT / "chapters" / "stacking.ipynb"]
CELL_TIMEOUT = 1800  # seconds


@dataclass
class Report:
    """What became of a notebook: cells are numbered as in the file, from 0, text cells included."""

    name: str
    minutes: float = 0.0
    busy: float = 0.0  # minutes of one core
    errors: dict[int, str] = field(default_factory=dict)
    t4: dict[int, float] = field(default_factory=dict)  # seconds that a T4 would take, by cell
    on_cpu: dict[int, float] = field(default_factory=dict)  # of that work, what a GPU would not have done
    took: dict[int, float] = field(default_factory=dict)  # seconds here, by cell

    def __str__(self) -> str:
        def longest(cells):
            first = sorted(cells.items(), key=lambda cell: -cell[1])[:5]
            return ", ".join(f"[{cell}] {seconds:.0f}" for cell, seconds in first)

        lines = [
            f"{self.name}: {self.minutes:.1f} min ({self.busy:.1f} of a core), {len(self.errors)} errors, "
            f"{sum(self.t4.values()):.0f} s on a T4 ({longest(self.t4)}); here {longest(self.took)}"
        ]
        if self.on_cpu:
            lines.append(f"    beside the GPU, on the CPU: {longest(self.on_cpu)} s of a T4's work")
        return "\n".join(lines + [f"    [{cell}] {error}" for cell, error in self.errors.items()])


def environment(address: str, home: Path) -> dict[str, str]:
    """Of a kernel: profile full, one thread, ``address`` as the hub and no data or models besides."""
    unset = ("TRICKS_DATA", "TRICKS_MODELS")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    profile = {"TRICKS_PROFILE": "full", "TRICKS_CACHE": str(home / "tricks"), "PYTHONPATH": str(ROOT)}
    return inherited | threads | profile | hub.settings(address, home)


def run(notebook: Path, into: Path, address: str, fake_cuda: bool = False) -> Report:
    """Executes a notebook; what it printed is written to ``into``, where the kernel runs, too.

    Args:
        address: of a hub, such as :func:`tests.full.hub.serve` gives.
        fake_cuda: CPU tensors behave as if they lay on a GPU; see :mod:`tests.full.fake_cuda`.
    """
    into.mkdir(parents=True, exist_ok=True)
    counted = into / f"{notebook.stem}.json"
    content = nbformat.read(notebook, as_version=4)
    cells = [i for i, cell in enumerate(content.cells) if cell.cell_type == "code"]
    report, started = Report(notebook.stem), {}
    before = ["from tests.full import fake_cuda; fake_cuda.pretend()"] if fake_cuda else []
    before += [f"from tests.full import tokens; tokens.watch({tiny_models.WIDTH}, {str(counted)!r})"]
    client = NotebookClient(
        content,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        allow_errors=True,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR", f"--IPKernelApp.exec_lines={json.dumps(before)}"],
        resources={"metadata": {"path": str(into)}},
        on_cell_start=lambda cell, cell_index: started.update({cell_index: time.perf_counter()}),
        on_cell_executed=lambda cell, cell_index, execute_reply: report.took.update(
            {cell_index: time.perf_counter() - started[cell_index]}
        ),
    )
    start = time.perf_counter()
    client.execute(env=environment(address, into / "home" / notebook.stem))
    report.minutes = (time.perf_counter() - start) / 60
    nbformat.write(content, into / notebook.name)
    for i in cells:
        for output in content.cells[i].outputs:
            if output.output_type == "error":
                report.errors[i] = f"{output.ename}: {output.evalue}"
    content = json.loads(counted.read_text("utf-8"))
    report.busy = content["busy"] / 60
    for name in ("t4", "on_cpu"):
        setattr(report, name, {cells[int(k) - 1]: seconds for k, seconds in content[name].items()})
    return report
