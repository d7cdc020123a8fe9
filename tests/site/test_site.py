"""The built site, read as files: nothing from outside, and a structure that a screen reader can follow."""

import importlib.util
import re
import xml.etree.ElementTree
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from .conftest import MADE, ROOT, pages

MAX_PAGE = 1_000_000  # bytes of HTML
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
# What a browser fetches by itself, without a click.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
          "embed": "src", "object": "data", "link": "href"}
NOT_FETCHED = {"canonical", "search", "index", "next", "prev", "author", "copyright", "license"}


@pytest.fixture
def soup(site, page_name):
    return BeautifulSoup((site / page_name).read_text("utf-8"), "html.parser")


def outside_loads(soup):
    for tag, attribute in LOADED.items():
        for element in soup.find_all(tag):
            address = element.get(attribute) or ""
            if tag == "link" and set(element.get("rel", [])) & NOT_FETCHED:
                continue
            if urlsplit(address).netloc:
                yield address
    for style in soup.find_all("style"):
        yield from re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^'\")\s]+", style.text)
    for script in soup.find_all("script", src=False):
        yield from re.findall(r"https?://(?:unpkg|cdn|[\w.-]*(?:jsdelivr|cloudflare|googleapis))[^\"'\s]*", script.text)


def images_without_alt(soup):
    for image in soup.find_all("img"):
        alt = (image.get("alt") or "").strip()
        if image.get("alt") == "" and (link := image.find_parent("a")) and link.text.strip():
            continue  # decoration beside words, as the logo is
        # Without an alt text of its own, an output image gets its hash as one.
        if not alt or re.search(r"[0-9a-f]{32}|\.(png|svg|jpe?g)$", alt):
            yield image.get("src")


def heading_faults(soup):
    levels = [int(heading.name[1]) for heading in soup.select("article h1, article h2, article h3, article h4, article h5")]
    if levels.count(1) != 1:
        yield f"{levels.count(1)} h1"
    for before, after in zip(levels, levels[1:]):
        if after > before + 1:
            yield f"h{before} is followed by h{after}"


def dead_links(soup, site, page_name):
    folder = (site / page_name).parent
    for element in soup.find_all(["a", "link", "script", "img"]):
        address = element.get("href") or element.get("src") or ""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not parts.path:
            continue
        target = (folder / unquote(parts.path)).resolve()
        if not target.exists():
            yield address


def test_nothing_is_loaded_from_outside(soup):
    assert not list(outside_loads(soup))


def test_style_sheets_load_nothing_from_outside(site):
    wrong = [f"{sheet.name}: {url}" for sheet in site.rglob("*.css")
             for url in re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^'\")\s]+", sheet.read_text("utf-8", "replace"))]
    assert not wrong


def test_math_is_typeset_by_the_sites_own_mathjax(site, soup, page_name):
    scripts = [script["src"] for script in soup.find_all("script", src=True) if "mathjax" in script["src"].lower()]
    if soup.select(".math"):
        assert scripts
    for script in scripts:
        assert ((site / page_name).parent / urlsplit(script).path).resolve().exists()


def test_images_have_alt_text(soup):
    assert not list(images_without_alt(soup))


def test_headings_are_in_order(soup, page_name):
    if page_name not in MADE:
        assert not list(heading_faults(soup))


def test_page_is_small(site, page_name):
    assert (site / page_name).stat().st_size < MAX_PAGE


def test_links_inside_the_site_lead_somewhere(soup, site, page_name):
    assert not list(dead_links(soup, site, page_name))


def test_link_preview(site, soup, page_name):
    if page_name in MADE:
        return
    properties = {meta.get("property"): meta.get("content") for meta in soup.find_all("meta")}
    assert properties["og:url"].startswith(CONFIG["html"]["baseurl"])
    assert properties["og:title"] and properties["og:description"]
    assert properties["og:site_name"] == CONFIG["title"]
    image = properties["og:image"]
    assert image.startswith(CONFIG["html"]["baseurl"]) and (site / image.removeprefix(CONFIG["html"]["baseurl"])).exists()


def test_colab_button_opens_this_chapter(soup, page_name):
    links = [link["href"] for link in soup.find_all("a", href=True) if "colab.research.google.com" in link["href"]]
    repository = CONFIG["repository"]
    notebook = page_name.removesuffix(".html") + ".ipynb"
    if (ROOT / notebook).exists():
        path = urlsplit(repository["url"]).path
        assert set(links) == {f"https://colab.research.google.com/github{path}/blob/{repository['branch']}/{notebook}"}
    else:
        assert not links


def test_sitemap_lists_the_book_and_nothing_else(site):
    locations = {element.text for element in xml.etree.ElementTree.parse(site / "sitemap.xml").iter()
                 if element.tag.endswith("loc")}
    assert locations == {CONFIG["html"]["baseurl"] + page for page in pages() if page not in MADE}


@pytest.fixture
def repository():
    spec = importlib.util.spec_from_file_location("repository", ROOT / "scripts" / "repository.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_repository_address_agrees_everywhere(repository):
    assert not repository.agreement()


def test_a_new_address_is_written_everywhere(repository, tmp_path, monkeypatch):
    for file in repository.files(*repository.ADDRESSES, *repository.LINKING):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(file.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(repository, "ROOT", tmp_path)

    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text("utf-8").replace(repository.current(), "https://github.com/some/other"), "utf-8")
    assert [line for line in repository.agreement() if line.startswith("README.md")]

    old = repository.current()
    repository.write("https://github.com/Acme-AI/tricks.book")
    assert not repository.agreement()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and old in file.read_text("utf-8")]


def test_chapters_have_a_repository_address():
    for chapter in (ROOT / "chapters").glob("*.ipynb"):
        assert r'REPOSITORY = \"' in chapter.read_text("utf-8"), f"{chapter.name}: its setup cell has no REPOSITORY"


# ---- The checks must be able to fail ----

@pytest.mark.parametrize("html", [
    '<script src="https://cdn.example/x.js"></script>', '<img src="//x.example/a.png">',
    '<link rel="stylesheet" href="https://x.example/a.css">', '<style>@import "https://x.example/a.css"</style>',
    '<iframe src="https://x.example"></iframe>', '<script>const U = "https://unpkg.com/thebe"</script>',
])
def test_outside_load_is_seen(html):
    assert list(outside_loads(BeautifulSoup(html, "html.parser")))


@pytest.mark.parametrize("html", ['<img src="a.png">', '<img src="a.png" alt="../_images/' + "0a" * 32 + '.png">'])
def test_missing_alt_text_is_seen(html):
    assert list(images_without_alt(BeautifulSoup(html, "html.parser")))


@pytest.mark.parametrize("html", ["<h1>a</h1><h1>b</h1>", "<h2>a</h2>", "<h1>a</h1><h3>b</h3>"])
def test_heading_fault_is_seen(html):
    assert list(heading_faults(BeautifulSoup(f"<article>{html}</article>", "html.parser")))


def test_dead_link_is_seen(site):
    assert list(dead_links(BeautifulSoup('<a href="nowhere.html">x</a>', "html.parser"), site, "index.html"))
