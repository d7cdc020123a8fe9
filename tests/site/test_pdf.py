"""The one page of HTML that ``make pdf`` prints: every page of the book is in it, no link or figure is lost.

That nothing is cut at the edge of the paper, the command itself checks in the browser.
"""

import pytest
from bs4 import BeautifulSoup

from tests import load_script


@pytest.fixture(scope="module")
def pdf():
    return load_script("pdf")


@pytest.fixture(scope="module")
def book(pdf, site):
    return BeautifulSoup(pdf.document(), "html.parser")


def test_every_page_is_there_once_and_in_the_contents(pdf, book):
    names = [page for _, pages in pdf.pages() for page in pages]
    assert [article["id"] for article in book.select("article[id]")] == names
    assert [link["href"] for link in book.select(".contents a")] == [f"#{name}" for name in names]


def test_links_within_the_book_lead_somewhere(book):
    targets = {element["id"] for element in book.find_all(id=True)}
    inside = [link["href"] for link in book.find_all("a", href=True) if link["href"].startswith("#")]
    assert len(inside) > 100 and not [href for href in inside if href[1:] not in targets]


def test_other_links_leave_for_the_published_site(book):
    hrefs = [link["href"] for link in book.find_all("a", href=True)]
    assert not [href for href in hrefs if not href.startswith(("#", "https://", "http://", "mailto:"))]


def test_figures_are_files_of_the_site(book, site):
    sources = [image["src"] for image in book.find_all("img")]
    assert len(sources) > 30 and not [src for src in sources if not (site / src.lstrip("/")).is_file()]


def test_nothing_is_folded_and_no_script_of_a_page_is_left(book):
    assert not book.select("details:not([open])") and not book.select("article script")


@pytest.mark.parametrize(
    "link, expected",
    [
        ("#idea", "#chapters/06_ema--idea"),
        ("07_dice_loss.html", "#chapters/07_dice_loss"),
        ("../index.html#which-trick-when", "#index--which-trick-when"),
        ("../_modules/tricks_lib/ema.html", "https://a.b/_modules/tricks_lib/ema.html"),
        ("https://arxiv.org/abs/1", "https://arxiv.org/abs/1"),
    ],
)
def test_a_link_in_the_one_document(pdf, link, expected):
    book = {"index", "chapters/06_ema", "chapters/07_dice_loss"}
    assert pdf.within(link, "chapters/06_ema", book, "https://a.b/") == expected
