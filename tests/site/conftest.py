"""The built site, its pages, and a server for them."""

import functools
import http.server
import os
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
# Pages that Sphinx makes, without an author; the rest is the book.
MADE = {"genindex.html", "py-modindex.html", "search.html"}


def pages():
    return [str(page.relative_to(SITE)) for page in sorted(SITE.rglob("*.html"))
            if not {"_static", "_sources", "_modules"} & set(page.relative_to(SITE).parts)]


def pytest_generate_tests(metafunc):
    # Pages are known only when the site is built; without it the tests are skipped (see `site`).
    if "page_name" in metafunc.fixturenames:
        metafunc.parametrize("page_name", pages() or ["index.html"])


@pytest.fixture(scope="session")
def site():
    if not (SITE / "index.html").exists():
        if os.environ.get("SITE_MUST_EXIST"):
            pytest.fail("the site is not built; `make site` builds it")
        pytest.skip("the site is not built; `make site` builds it")
    return SITE


@pytest.fixture(scope="session")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
