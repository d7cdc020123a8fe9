"""The book as one PDF with an outline (``make pdf``): Chromium prints ``_build/book.pdf`` from the site.

All pages of the table of contents stand one after another on one page of HTML, behind a title and the
contents. It has the site's own styles, fonts and MathJax. Links between pages lead within the PDF, all others
to the published site. Nothing is loaded from outside. A box that is wider than the paper would be cut: that
is an error.
"""

import argparse
import datetime
import functools
import http.server
import os
import re
import shutil
import sys
import threading
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import tomllib
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
MARGINS = {"top": "16mm", "bottom": "18mm", "left": "15mm", "right": "15mm"}
MATH = "tex2jax_process|mathjax_process|math|output_area"  # classes that MathJax reads, as on the site
WIDTH = 680  # CSS pixels of an A4 page between them
# What print.js and a page's own scripts do on the site, or what paper does not want.
LEFT_OUT = ".headerlink, .copybtn, .interactive, noscript, script, .pst-js-only, .prev-next-footer"
STYLE = """
  @page { size: A4; margin: 16mm 15mm 18mm; }
  body { margin: 0; }
  .bd-article { break-before: page; }
  .bd-article table { break-inside: auto !important; }
  .bd-article tr, .bd-article figure, .bd-article dt { break-inside: avoid; }
  .title-page { padding-top: 5cm; }
  .title-page p { font-family: var(--book-sans); }
  .bd-article figure img { max-height: 20cm; max-width: 85%; }
  .above-input > summary, .above-output > summary { display: none !important; }  /* nothing folds on paper */
  .contents ol { list-style: none; padding-left: 0; }
"""
# Boxes that stick out of the text at the right, or hide a part of themselves.
CUT = """() => {
    const edge = document.querySelector('article').getBoundingClientRect().right + 1;
    return [...document.querySelectorAll('article :is(pre, table, img, div.math, mjx-container)')].filter(
        box => box.getBoundingClientRect().right > edge || (box.scrollWidth > box.clientWidth + 1 &&
          !box.matches('mjx-container') && getComputedStyle(box).overflowX !== 'visible')
    ).map(box => box.closest('article').id + ': ' + box.outerHTML.slice(0, 160));
}"""


def pages() -> list[tuple[str, list[str]]]:
    """Part -> its pages, in the order of the table of contents; the start page has a part of its own."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    parts = [(part["caption"], [one["file"] for one in part["chapters"]]) for part in contents["parts"]]
    return [("", [contents["root"]]), *parts]


def article_of(page: str, book: set[str], address: str):
    """The text of a page, its addresses made to hold in one document; and its title."""
    soup = BeautifulSoup((SITE / f"{page}.html").read_text("utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    for element in article.select(LEFT_OUT):
        element.decompose()
    for element in article.find_all(id=True):
        element["id"] = f"{page}--{element['id']}"
    for element in article.find_all("details"):
        element["open"] = ""
    for element in article.find_all(href=True):
        element["href"] = within(element["href"], page, book, address)
    for image in article.find_all("img", src=True):
        image["src"] = "/" + resolved(image["src"], page)
    article["id"] = page
    return article, article.select_one("h1").get_text().strip()


def resolved(path: str, page: str) -> str:
    """The path from the root of the site."""
    return os.path.normpath(PurePosixPath(page).parent / path)


def within(link: str, page: str, book: set[str], address: str) -> str:
    """A link as it must read in the one document: to a place in it, or to the published site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return link
    target = resolved(parts.path, page) if parts.path else f"{page}.html"
    if target.removesuffix(".html") in book:
        name = target.removesuffix(".html")
        return f"#{name}--{parts.fragment}" if parts.fragment else f"#{name}"
    return f"{address}{target}" + (f"#{parts.fragment}" if parts.fragment else "")


def document() -> str:
    """The whole book as one page of HTML, at the root of the site."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    address = config["html"]["baseurl"]
    book = {page for _, names in pages() for page in names}
    front = BeautifulSoup((SITE / "index.html").read_text("utf-8"), "html.parser")
    styles = "".join(str(link) for link in front.select('link[rel="stylesheet"]'))
    contents, articles = [], []
    for part, names in pages():
        contents.append(f"<h3>{part}</h3><ol>" if part else "<ol>")
        for page in names:
            article, title = article_of(page, book, address)
            contents.append(f'<li><a href="#{page}">{title}</a></li>')
            articles.append(str(article))
        contents.append("</ol>")
    return f"""<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>{config["title"]}</title>{styles}<style>{STYLE}</style>
<script>window.MathJax = {{options: {{processHtmlClass: "{MATH}"}}}}</script>
<script defer src="_static/{config["sphinx"]["config"]["mathjax_path"]}"></script></head><body>
<main><article class="bd-article title-page"><h1>{config["title"]}</h1><p>{config["author"]}</p>
<p>Version {version}, {datetime.date.today():%d %B %Y}. <a href="{address}">{address}</a></p></article>
<article class="bd-article contents"><h2>Contents</h2>{"".join(contents)}</article>
{"".join(articles)}</main></body></html>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def opened(browser, text: str, address: str):
    """The document in the browser, typeset, as wide as the paper; what was asked for and did not come."""
    page, lost = browser.new_page(viewport={"width": WIDTH, "height": 1000}), []
    page.on("requestfailed", lambda request: lost.append(request.url))
    page.on("response", lambda response: lost.append(response.url) if response.status >= 400 else None)
    page.on("request", lambda sent: lost.append(sent.url) if not re.match(address, sent.url) else None)
    page.route(
        "**/book.html", lambda route: route.fulfill(body=text, content_type="text/html; charset=utf-8")
    )
    page.set_default_timeout(600_000)
    page.emulate_media(media="print")
    page.goto(f"{address}/book.html", wait_until="load")
    page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("() => MathJax.startup.promise")
    page.evaluate("() => document.fonts.ready")
    return page, [url for url in lost if not url.startswith("data:")]


def write(file: Path) -> list[str]:
    """Print the book; returns what is wrong with it."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return ["Chromium is missing: apt-get install chromium, or name it in CHROMIUM"]
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page, wrong = opened(browser, document(), f"http://127.0.0.1:{server.server_port}")
        wrong += page.evaluate(CUT)
        if page.locator("mjx-merror").count():
            wrong.append(f"{page.locator('mjx-merror').count()} formulas are not typeset")
        page.pdf(
            path=file,
            format="A4",
            margin=MARGINS,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template='<div style="width: 100%; text-align: center; font: 8px sans-serif">'
            '<span class="pageNumber"></span></div>',
            outline=True,
            tagged=True,
        )
        browser.close()
        server.shutdown()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "book.pdf")
    given = parser.parse_args()
    if not (SITE / "index.html").is_file():
        print("error: the site is not built; make site builds it", file=sys.stderr)
        return 2
    if wrong := write(given.out):
        print("error:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    print(f"The book is in {given.out}, {given.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
