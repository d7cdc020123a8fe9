"""The book for programs, written beside the site: Markdown twins of all pages, `llms.txt`, the notebooks.

``llms.txt`` (llmstxt.org) lists the pages in the order of the book with one sentence each. The twin of
``chapters/06_ema.html`` is ``chapters/06_ema.md``: text, code and printed output, figures as their alt texts.
``notebooks.zip`` holds every notebook, as Colab or Jupyter open it.
"""

import re
import zipfile
from pathlib import Path

import nbformat

FENCE = "```"


def of_notebook(path: Path) -> str:
    """Markdown of a notebook with its stored outputs."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(f"{FENCE}python\n{cell.source}\n{FENCE}")
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        for output in cell.outputs:
            data = output.get("data", {})
            text = output.get("text") or data.get("text/markdown") or data.get("text/plain", "")
            if "image/png" in data:
                parts.append(f"![{alt or 'figure'}]()")
            elif text.strip():
                parts.append(text if "text/markdown" in data else f"{FENCE}text\n{text.rstrip()}\n{FENCE}")
    return "\n\n".join(parts) + "\n"


def sentence(text: str) -> str:
    """What a page says first: its first paragraph, without marks."""
    for paragraph in text.split("\n\n"):
        if paragraph.strip() and not re.match(r"\s*(#|```|\||>|:|<|!|\{|\(.*\)=|---|\[!)", paragraph):
            plain = re.sub(r"\{\w+\}`([^`<]*?)(?:\s*<[^>]*>)?`|[*`$]", r"\1", " ".join(paragraph.split()))
            plain = re.sub(r"\\([a-zA-Z]*)[,;!]?", r"\1", plain)  # formulas without their backslashes
            return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    return ""


def write(app, error):
    if error or app.builder.format != "html":
        return
    source, out = Path(app.srcdir), Path(app.outdir)
    address = app.config.ogp_site_url
    lines = [f"# {app.config.html_title}", ""]
    notebooks = []
    for page in pages(app):
        path = Path(app.env.doc2path(page))
        text = of_notebook(path) if path.suffix == ".ipynb" else path.read_text("utf-8")
        notebooks += [path] if path.suffix == ".ipynb" else []
        twin = out / f"{page}.md"
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_text(text, "utf-8")
        title = app.env.titles[page].astext()
        if page == app.config.root_doc:
            lines += [f"> {sentence(text)}", "", "## Pages", ""]
        else:
            lines.append(f"- [{title}]({address}{page}.md): {sentence(text)}")
    (out / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")
    with zipfile.ZipFile(out / "notebooks.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in notebooks:
            archive.write(path, path.relative_to(source))


def pages(app) -> list[str]:
    """Documents in the order of the table of contents, the start page first."""
    order, todo = [], [app.config.root_doc]
    while todo:
        page = todo.pop(0)
        if page not in order and page in app.env.titles:
            order.append(page)
            todo = [*app.env.toctree_includes.get(page, []), *todo]
    return order


def setup(app):
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
