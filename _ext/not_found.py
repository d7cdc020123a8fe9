"""The page 404.html, which GitHub Pages shows for an address that leads nowhere, at whatever depth.

Its links are therefore absolute: they begin with the path of ``html_baseurl``.
It is in no table of contents, not in the search index and not in the sitemap.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

BODY = """<section id="page-not-found"><h1>Page not found</h1>
<p>No page of this book has this address. It may have been renamed.</p>
<ul>
<li><a href="index.html">The start page</a> says which trick helps when.</li>
<li><a href="search.html">The search</a> looks through every page.</li>
<li><a href="genindex.html">The index</a> has every public name of the package.</li>
</ul></section>"""
RELATIVE = re.compile(r'\b(href|src|action|data-content_root)="(?![#/]|[a-z]+:)(?:\./)?([^"]*)"')


def page(app):
    yield (
        "404",
        {"title": "Page not found", "body": BODY, "metatags": '<meta name="robots" content="noindex">'},
        "page.html",
    )


def make_absolute(app, exception):
    file = Path(app.outdir) / "404.html"
    if exception is None and file.exists():
        root = urlsplit(app.config.html_baseurl).path or "/"
        file.write_text(RELATIVE.sub(rf'\1="{root}\2"', file.read_text("utf-8")), "utf-8")


def setup(app):
    app.connect("html-collect-pages", page)
    app.connect("build-finished", make_absolute)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
