"""Bokeh's script, copied into the site and named by the pages that have an interactive figure, and by no
other.

A figure of tricks_lib.lab.interactive that finds the script named on its page asks for nothing from outside.
"""

import shutil
from pathlib import Path

import bokeh
from docutils import nodes

SCRIPT = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"


def copy(app):
    folder = Path(app.outdir) / "_static" / "bokeh"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(SCRIPT, folder)


def name(app, page, template, context, doctree):
    if doctree is not None and any(
        'class="interactive"' in raw.astext() for raw in doctree.findall(nodes.raw)
    ):
        app.add_js_file(
            "bokeh/bokeh.min.js", loading_method="defer"
        )  # from within this event: for this page alone


def setup(app):
    app.connect("builder-inited", copy)
    app.connect("html-page-context", name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
