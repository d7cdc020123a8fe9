"""The built site, read as files: nothing from outside, and a structure that a screen reader can follow."""

import functools
import itertools
import json
import re
import subprocess
import xml.etree.ElementTree
import zipfile
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from tests import load_script

from .conftest import MADE, NOT_FOUND, PREFIX, ROOT, pages

MAX_PAGE = 1_000_000  # bytes of a page and of its own images; what all pages share is in _static
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
# What a browser fetches by itself, without a click.
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
}
NOT_FETCHED = {"canonical", "search", "index", "next", "prev", "author", "copyright", "license"}


@functools.cache
def parsed(page):
    return BeautifulSoup(page.read_text("utf-8"), "html.parser")


@pytest.fixture
def soup(site, page_name):
    return parsed(site / page_name)


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
        yield from re.findall(
            r"https?://(?:unpkg|cdn|[\w.-]*(?:jsdelivr|cloudflare|googleapis))[^\"'\s]*", script.text
        )


def images_without_alt(soup):
    for image in soup.find_all("img"):
        alt = (image.get("alt") or "").strip()
        if image.get("alt") == "" and (link := image.find_parent("a")) and link.text.strip():
            continue  # decoration beside words, as the logo is
        # Without an alt text of its own, an output image gets its hash as one.
        if not alt or re.search(r"[0-9a-f]{32}|\.(png|svg|jpe?g)$", alt):
            yield image.get("src")


def heading_faults(soup):
    levels = [
        int(heading.name[1])
        for heading in soup.select("article h1, article h2, article h3, article h4, article h5")
    ]
    if levels.count(1) != 1:
        yield f"{levels.count(1)} h1"
    for before, after in itertools.pairwise(levels):
        if after > before + 1:
            yield f"h{before} is followed by h{after}"


@functools.cache
def anchors(page):
    return {element.get("id") or element.get("name") for element in parsed(page).find_all(True)}


def dead_links(soup, site, page_name):
    """Links to a file that is not there, or to a place that its page does not have."""
    page = site / page_name
    for element in soup.find_all(["a", "link", "script", "img"]):
        address = element.get("href") or element.get("src") or ""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if (
            not target.is_file()
            or parts.fragment
            and target.suffix == ".html"
            and unquote(parts.fragment) not in anchors(target)
        ):
            yield address


def own_bytes(soup, site, page_name):
    """Bytes of the page and of its own images, each once: what is loaded beside the files that all pages
    share.
    """
    page = site / page_name
    images = {
        (page.parent / unquote(urlsplit(image["src"]).path)).resolve()
        for image in soup.find_all("img", src=True)
        if not image["src"].startswith("data:")
    }
    return page.stat().st_size + sum(image.stat().st_size for image in images if "_static" not in image.parts)


def test_nothing_is_loaded_from_outside(soup):
    assert not list(outside_loads(soup))


def test_style_sheets_load_nothing_from_outside(site):
    wrong = [
        f"{sheet.name}: {url}"
        for sheet in site.rglob("*.css")
        for url in re.findall(
            r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^'\")\s]+", sheet.read_text("utf-8", "replace")
        )
    ]
    assert not wrong


def test_math_is_typeset_by_the_sites_own_mathjax(site, soup, page_name):
    scripts = [
        script["src"] for script in soup.find_all("script", src=True) if "mathjax" in script["src"].lower()
    ]
    if soup.select(".math"):
        assert scripts
    for script in scripts:
        assert ((site / page_name).parent / urlsplit(script).path).resolve().exists()


def test_images_have_alt_text(soup):
    assert not list(images_without_alt(soup))


def test_headings_are_in_order(soup, page_name):
    if page_name not in MADE:
        assert not list(heading_faults(soup))


def test_page_and_its_images_are_small(soup, site, page_name):
    assert own_bytes(soup, site, page_name) < MAX_PAGE


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
    assert (
        image.startswith(CONFIG["html"]["baseurl"])
        and (site / image.removeprefix(CONFIG["html"]["baseurl"])).exists()
    )


def test_colab_button_opens_this_chapter(soup, page_name):
    links = [
        link["href"] for link in soup.find_all("a", href=True) if "colab.research.google.com" in link["href"]
    ]
    repository = CONFIG["repository"]
    notebook = page_name.removesuffix(".html") + ".ipynb"
    if (ROOT / notebook).exists():
        path = urlsplit(repository["url"]).path
        assert set(links) == {
            f"https://colab.research.google.com/github{path}/blob/{repository['branch']}/{notebook}"
        }
    else:
        assert not links


def test_notebook_is_downloaded_from_the_site_itself(soup, site, page_name):
    notebook = ROOT / page_name.replace(".html", ".ipynb")
    links = [link["href"] for link in soup.select("a.btn-download-source-button")]
    if notebook.exists():
        [link] = links
        downloaded, stored = (
            json.loads(file.read_text("utf-8")) for file in ((site / page_name).parent / link, notebook)
        )
        # `make book` shows outputs of its own.
        assert [cell["source"] for cell in downloaded["cells"]] == [
            cell["source"] for cell in stored["cells"]
        ]


def test_not_found_page_works_at_every_depth(site):
    """Its addresses are absolute and lead somewhere, also below the path of GitHub Pages; it is in no
    index.
    """
    soup = BeautifulSoup((site / NOT_FOUND).read_text("utf-8"), "html.parser")
    addresses = [element.get("href") or element.get("src") for element in soup.select("[href], [src]")]
    inside = [
        address
        for address in addresses
        if not urlsplit(address).netloc and not address.startswith(("#", "data:"))
    ]
    assert inside and not [address for address in inside if not address.startswith(PREFIX)]
    assert not [
        address for address in inside if not (site / urlsplit(address).path.removeprefix(PREFIX)).exists()
    ]
    assert soup.find("meta", attrs={"name": "robots"})["content"] == "noindex"
    assert (
        "404"
        not in re.findall(r'docnames:?"?:\s*\[([^\]]*)\]', (site / "searchindex.js").read_text("utf-8"))[0]
    )
    assert (
        len(soup.select("article h1")) == 1
        and not list(outside_loads(soup))
        and not list(images_without_alt(soup))
    )


def test_sitemap_lists_the_book_and_nothing_else(site):
    locations = {
        element.text
        for element in xml.etree.ElementTree.parse(site / "sitemap.xml").iter()
        if element.tag.endswith("loc")
    }
    assert locations == {CONFIG["html"]["baseurl"] + page for page in pages() if page not in MADE}


@pytest.fixture
def repository():
    return load_script("repository")


def test_repository_address_agrees_everywhere(repository):
    assert not repository.agreement()


def test_a_new_address_is_written_everywhere(repository, tmp_path, monkeypatch):
    for file in repository.files(*repository.ADDRESSES, *repository.LINKING):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(file.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(repository, "ROOT", tmp_path)

    readme = tmp_path / "README.md"
    readme.write_text(
        readme.read_text("utf-8").replace(repository.current(), "https://github.com/some/other"), "utf-8"
    )
    assert [line for line in repository.agreement() if line.startswith("README.md")]

    old = repository.current()
    repository.write("https://github.com/Acme-AI/tricks.book")
    assert not repository.agreement()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and old in file.read_text("utf-8")]


def test_no_file_has_the_address_that_is_not_written(repository):
    """Any file of the repository, or none: an address in a workflow, a script or a test would stay the old
    one.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    written = repository.files(*repository.ADDRESSES, *repository.LINKING)
    addresses = [
        address.encode() for address in (repository.current(), repository.pages_url(repository.current()))
    ]
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert not [
        file
        for file in files
        if file not in written and any(address in file.read_bytes() for address in addresses)
    ]


def test_chapters_have_a_repository_address():
    for chapter in (ROOT / "chapters").glob("*.ipynb"):
        assert r"REPOSITORY = \"" in chapter.read_text("utf-8"), (
            f"{chapter.name}: its setup cell has no REPOSITORY"
        )


# ---- The checks must be able to fail ----


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<img src="//x.example/a.png">',
        '<link rel="stylesheet" href="https://x.example/a.css">',
        '<style>@import "https://x.example/a.css"</style>',
        '<iframe src="https://x.example"></iframe>',
        '<script>const U = "https://unpkg.com/thebe"</script>',
    ],
)
def test_outside_load_is_seen(html):
    assert list(outside_loads(BeautifulSoup(html, "html.parser")))


@pytest.mark.parametrize(
    "html", ['<img src="a.png">', '<img src="a.png" alt="../_images/' + "0a" * 32 + '.png">']
)
def test_missing_alt_text_is_seen(html):
    assert list(images_without_alt(BeautifulSoup(html, "html.parser")))


@pytest.mark.parametrize("html", ["<h1>a</h1><h1>b</h1>", "<h2>a</h2>", "<h1>a</h1><h3>b</h3>"])
def test_heading_fault_is_seen(html):
    assert list(heading_faults(BeautifulSoup(f"<article>{html}</article>", "html.parser")))


@pytest.mark.parametrize("address", ["nowhere.html", "chapters/run_it.html#nowhere", "#nowhere", "chapters"])
def test_dead_link_is_seen(site, address):
    assert list(dead_links(BeautifulSoup(f'<a href="{address}">x</a>', "html.parser"), site, "index.html"))


def test_bytes_of_images_count(site):
    page, image = "chapters/08_focal_loss.html", next((site / "_images").glob("*.png"))
    empty, one = (
        own_bytes(BeautifulSoup(html, "html.parser"), site, page)
        for html in ("", f'<img src="../_images/{image.name}">' * 2)
    )
    assert one == empty + image.stat().st_size


def test_every_page_has_a_markdown_twin_that_llms_txt_lists(site):
    listed = re.findall(
        r"^- \[(.+?)\]\((\S+?)\): (.+)$", (site / "llms.txt").read_text("utf-8"), re.MULTILINE
    )
    base = CONFIG["html"]["baseurl"]
    names = [address.removeprefix(base) for _, address, _ in listed]
    own = [name for name in pages() if name not in MADE and name not in (NOT_FOUND, "index.html")]
    assert sorted(names) == sorted(name.replace(".html", ".md") for name in own)
    for (title, _, sentence), name in zip(listed, names, strict=True):
        twin = (site / name).read_text("utf-8")
        assert f"# {title}" in twin and len(sentence) > 20 and "data:image" not in twin, name


def test_a_twin_of_a_notebook_has_its_code_output_and_alt_texts(site):
    twin = (site / "chapters" / "07_dice_loss.md").read_text("utf-8")
    assert "```python\n" in twin and "```text\n" in twin and re.search(r"!\[[^\]]{20,}\]\(\)", twin)


def test_only_what_is_folded_in_the_exercises_is_called_a_solution(soup):
    called = [
        fold for fold in soup.select("details.hide") if fold.summary.get_text(" ").split()[0] == "Solution"
    ]
    assert all(fold.find_parent("section", id="exercises") for fold in called)


def test_chapters_and_the_start_page_say_how_to_cite_them(site, soup, page_name):
    entries = [entry.get_text() for entry in soup.select("details.cite pre")]
    if not re.fullmatch(r"index\.html|chapters/\d\d_\w+\.html", page_name):
        assert not entries
        return
    [entry] = entries
    assert f"url = {{{CONFIG['html']['baseurl']}{page_name}}}" in entry
    assert soup.select_one("h1").find(string=True) in entry and CONFIG["author"] in entry


def test_all_notebooks_come_in_one_archive(site):
    with zipfile.ZipFile(site / "notebooks.zip") as archive:
        assert {*archive.namelist()} == {
            f"chapters/{path.name}" for path in (ROOT / "chapters").glob("*.ipynb")
        }
