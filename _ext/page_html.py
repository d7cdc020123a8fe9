"""What the pages' HTML gets from the book, where Sphinx, MyST-NB and the theme have no option for it."""

import re
from html import escape
from pathlib import Path

import tomllib
from docutils import nodes
from sphinxext import opengraph


def name_solutions(app, doctree):
    """Exercises' cells that are folded whole are solutions: on the page, and in print where they are open."""
    for section in doctree.findall(nodes.section):
        if "exercises" in section["ids"]:
            for cell in section.findall(nodes.container):
                if cell.get("hide_mode") == "all":
                    cell["prompt_show"] = cell["prompt_hide"] = "Solution"


def mend_roles(app, pagename, templatename, context, doctree):
    """Docutils lists citations with a role that ARIA has since withdrawn: screen readers found no item in the
    list.
    """
    context["body"] = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')


def cite(app, pagename, templatename, context, doctree):
    """Under each chapter and the start page, folded: how to cite it, as BibTeX."""
    chapter = re.fullmatch(r"chapters/(\d\d)_(\w+)", pagename)
    if doctree is None or not (chapter or pagename == app.config.root_doc):
        return
    project = tomllib.loads(Path(app.srcdir, "pyproject.toml").read_text("utf-8"))["project"]
    name = chapter[2] if chapter else "book"
    title = f"{context['title']}, in {app.config.html_title}" if chapter else app.config.html_title
    entry = f"""@misc{{finetuning_tricks_{name},
  title = {{{title}}},
  author = {{{{{app.config.author}}}}},
  year = {{{app.config.copyright}}},
  version = {{{project["version"]}}},
  url = {{{app.config.html_baseurl}{pagename}.html}}
}}"""
    context["body"] += (
        '<details class="cite"><summary>Cite this page</summary><div class="highlight">'
        f"<pre>{escape(entry)}</pre></div></details>"
    )


def first_paragraph(doctree, length, titles=frozenset()):
    """The description of a page in search results and link previews: what it says first, whole words, without
    its tables.
    """
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\\([a-z]*)[,;!]?", r"\1", paragraph.astext())  # formulas without their backslashes
        if text := " ".join(text.split()):
            cut = text if len(text) <= length else text[: length - 3].rsplit(" ", 1)[0] + "..."
            return escape(cut, quote=True)
    return ""


def setup(app):
    app.connect("doctree-read", name_solutions)
    app.connect("html-page-context", mend_roles)
    app.connect("html-page-context", cite)
    opengraph.get_description = first_paragraph  # its own strings the cells of tables together with commas
    return {"parallel_read_safe": True, "parallel_write_safe": True}
