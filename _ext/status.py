"""The directives ``{status}`` and ``{coverage}``: the tables of the page "Status", from
``chapters/evidence/status.json``, which ``make status`` writes, and ``coverage.json``, of ``make coverage``.
"""

import json
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

HEAD = ["| notebook | cells compared | CPU time |", "|---|--:|--:|"]


class Status(SphinxDirective):
    def run(self):
        file = Path(self.env.srcdir) / "chapters" / "evidence" / "status.json"
        self.env.note_dependency(str(file))
        status = json.loads(file.read_text("utf-8"))
        rows = [
            f"| [](/chapters/{name}.ipynb) | {one['compared']} of {one['with_text']} | "
            f"{one['cpu_seconds']:.0f} s |"
            for name, one in status["notebooks"].items()
        ]
        compared, with_text, cpu, wall = (
            sum(one[key] for one in status["notebooks"].values())
            for key in ("compared", "with_text", "cpu_seconds", "seconds")
        )
        rows.append(f"| all | {compared} of {with_text} | {cpu / 60:.0f} min |")
        machine = status["environment"]
        versions = ", ".join(
            f"{name} {machine[name.lower()]}" for name in ("Python", "torch", "transformers")
        )
        threads = status["threads"] or 1  # not set by hand: what conftest.py sets
        text = [
            f"Measured on {status['date']}: {machine['device']}, {threads} thread; {versions}. "
            f"From first to last {wall / 60:.0f} minutes.",
            "",
            *HEAD,
            *rows,
        ]
        return self.parse_text_to_nodes("\n".join(text))


class Coverage(SphinxDirective):
    def run(self):
        file = Path(self.env.srcdir) / "chapters" / "evidence" / "coverage.json"
        self.env.note_dependency(str(file))
        if not file.is_file():
            return self.parse_text_to_nodes("Not measured since the modules changed.")
        found = json.loads(file.read_text("utf-8"))
        modules = found["modules"]
        everything = {key: sum(one[key] for one in modules.values()) for key in ("lines", "run")}
        rows = [
            f"| {name} | {one['lines']} | {100 * one['run'] / one['lines']:.1f} % |"
            for name, one in {**modules, "all": everything}.items()
        ]
        text = [
            f"Measured on {found['date']}, by {found['by']}.",
            "",
            "| module | lines | run |",
            "|---|--:|--:|",
            *rows,
        ]
        return self.parse_text_to_nodes("\n".join(text))


def setup(app):
    app.add_directive("status", Status)
    app.add_directive("coverage", Coverage)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
