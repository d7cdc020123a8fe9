"""The built site, its pages, and a server for them."""

import contextlib
import functools
import http.server
import importlib.util
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
# Pages that Sphinx makes, without an author; the rest is the book.
MADE = {"genindex.html", "py-modindex.html", "search.html"}
NOT_FOUND = "404.html"  # its links are absolute: it has tests of its own
PREFIX = urlsplit(
    yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["html"]["baseurl"]
).path  # of the published site


def pages():
    return [
        str(page.relative_to(SITE))
        for page in sorted(SITE.rglob("*.html"))
        if not {"_static", "_sources", "_modules"} & set(page.relative_to(SITE).parts)
        and page.name != NOT_FOUND
    ]


def source_pages():
    """What Sphinx makes of the package's modules, and their index."""
    return [str(page.relative_to(SITE)) for page in sorted((SITE / "_modules").rglob("*.html"))]


def pytest_generate_tests(metafunc):
    # Pages are known only when the site is built; without it the tests are skipped (see `site`).
    if "page_name" in metafunc.fixturenames:
        # all tests of a page in one process, which reads it once
        metafunc.parametrize(
            "page_name",
            [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in pages() or ["index.html"]],
        )
    if "source_name" in metafunc.fixturenames:
        metafunc.parametrize("source_name", source_pages() or ["_modules/index.html"])


@pytest.fixture(scope="session")
def site():
    if not (SITE / "index.html").exists():
        if os.environ.get("SITE_MUST_EXIST"):
            pytest.fail("the site is not built; `make site` builds it")
        pytest.skip("the site is not built; `make site` builds it")
    return SITE


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class GitHubPages(Quiet):
    """The site below its prefix, and 404.html for whatever is not there."""

    def translate_path(self, path):
        return super().translate_path(path.removeprefix(PREFIX) if path.startswith(PREFIX) else "/outside")

    def send_error(self, code, message=None, explain=None):
        body = (Path(self.directory) / NOT_FOUND).read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving(folder, handler):
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=folder)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def address(site):
    with serving(site, Quiet) as address:
        yield address


@pytest.fixture(scope="session")
def published(site):
    """The site's address as GitHub Pages would serve it: below a prefix."""
    with serving(site, GitHubPages) as address:
        yield address + PREFIX


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-site` installs Playwright")
    path = (
        os.environ.get("CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if path is None:
        pytest.fail("Chromium is missing: `apt-get install chromium`, or name it in CHROMIUM", pytrace=False)
    with sync_api.sync_playwright() as playwright:
        # Containers run as root and have a small /dev/shm; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    """axe-core's script, from the package that carries it."""
    return (Path(importlib.util.find_spec("axe_playwright_python").origin).parent / "axe.min.js").read_text(
        "utf-8"
    )
