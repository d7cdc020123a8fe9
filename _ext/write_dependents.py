"""Writes every page anew when something changed that all of them show or link to, and lists every page in the
sitemap.

Sphinx writes the pages whose source changed. The others would keep a navigation with old titles and links to
sections that are gone, and sphinx-sitemap would forget them: it lists what is written.
"""

import hashlib
from pathlib import Path

from sphinx_sitemap import add_html_link

SHARED = ["_static", "_ext", "references.bib"]  # files that shape every page


def shown_everywhere(app, env) -> str:
    """A fingerprint of titles, sections and their order, of all link targets, and of the shared files."""
    pages = [
        (name, env.titles[name].astext(), env.tocs[name].astext(), env.toctree_includes.get(name))
        for name in sorted(env.found_docs)
    ]
    targets = sorted(repr(target) for domain in env.domains.values() for target in domain.get_objects())
    digest = hashlib.sha256(repr((pages, targets)).encode())
    for path in (Path(app.srcdir, name) for name in SHARED):
        for file in sorted(path.glob("*.*")) if path.is_dir() else [path]:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def all_or_none(app, env):
    before, env.shown_everywhere = getattr(env, "shown_everywhere", None), shown_everywhere(app, env)
    return [] if env.shown_everywhere == before else env.found_docs


def list_every_page(app, exception):
    while not app.sitemap_links.empty():
        app.sitemap_links.get()
    for name in sorted(app.env.found_docs):
        add_html_link(app, name, None, None, None)


def setup(app):
    app.connect("env-updated", all_or_none)
    app.connect("build-finished", list_every_page, priority=400)  # before sphinx-sitemap writes
    return {"parallel_read_safe": True, "parallel_write_safe": True}
