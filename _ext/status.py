"""The directive ``{status}``: the table of the page "Status", from ``chapters/evidence/status.json``, which
``make status`` writes.
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
        text = [
            f"Measured on {status['date']}: {machine['device']}, {status['threads']} thread; {versions}. "
            f"From first to last {wall / 60:.0f} minutes.",
            "",
            *HEAD,
            *rows,
        ]
        return self.parse_text_to_nodes("\n".join(text))


def setup(app):
    app.add_directive("status", Status)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
