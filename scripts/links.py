"""Tries every link that leaves the site, and every address that `lab fetch` downloads from, and reports those
that lead nowhere (`make links`, after `make site`).

    python scripts/links.py [--strict]

A report, no verdict: other people's servers are slow, refuse robots, or are out of reach today. Without a
network it says so. With --strict the exit status is 1 if a link is gone for good (404, 410), which is what
the weekly workflow asks for. Links inside the site are strict elsewhere: tests/site/test_site.py.
"""

import argparse
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

from tricks_lib.lab.fetch import MINILM, MINILM_FILES, addresses
from tricks_lib.lab.sources import SOURCES

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
GONE = {404, 410}
SECONDS = 20  # for one answer


def outside(site: Path) -> dict[str, list[str]]:
    """Address -> pages that link to it; the site's own addresses and the repository's are left out: they
    exist once it is published.
    """
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    owner, name = config["repository"]["url"].rstrip("/").split("/")[-2:]
    own = (
        config["html"]["baseurl"],
        config["repository"]["url"],
        f"https://colab.research.google.com/github/{owner}/{name}/",
    )
    found = defaultdict(list)
    for page in sorted(site.rglob("*.html")):
        if {"_static", "_sources", "_modules"} & set(page.relative_to(site).parts):
            continue
        for link in BeautifulSoup(page.read_text("utf-8"), "html.parser").select("a[href]"):
            address = link["href"].partition("#")[0]
            name = str(page.relative_to(site))
            if (
                address.startswith(("http://", "https://"))
                and not address.startswith(own)
                and name not in found[address]
            ):
                found[address].append(name)
    return {address: pages for address, pages in found.items() if pages}


def downloads() -> dict[str, list[str]]:
    """Address -> data sets and models that are made of it."""
    found = {}
    for name, source in SOURCES.items():
        for address in addresses(source):
            found.setdefault(address, []).append(name)
    for file in MINILM_FILES:
        found[f"{MINILM}/{file}"] = ["all-MiniLM-L6-v2"]
    return found


def answer(address: str) -> int | str:
    """The status that a server answers with, or why there is none."""
    request = urllib.request.Request(
        address,
        method="HEAD" if address in downloads() else "GET",
        headers={"User-Agent": "Mozilla/5.0 (link check of a book)"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:  # no network, no such host, no answer in time
        return str(getattr(error, "reason", error))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--strict", action="store_true", help="fail if a page is gone for good (404 or 410)")
    strict = parser.parse_args(argv).strict
    if not (SITE / "index.html").is_file():
        print("error: the site is not built; `make site` builds it", file=sys.stderr)
        return 2
    links = outside(SITE) | downloads()
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(links, pool.map(answer, links), strict=True))
    if answers and all(isinstance(one, str) for one in answers.values()):
        print(f"no network: none of {len(answers)} links could be tried ({next(iter(answers.values()))})")
        return 0
    gone = [address for address, one in answers.items() if one in GONE]
    for address in gone:
        print(f"gone ({answers[address]}): {address}  on {', '.join(links[address])}")
    for address, one in answers.items():
        if one not in GONE and one != 200:
            print(f"not told ({one}): {address}  on {', '.join(links[address])}")
    fine = sum(one == 200 for one in answers.values())
    print(
        f"{len(answers)} links: {fine} answer, {len(gone)} gone, {len(answers) - fine - len(gone)} not told"
    )
    return int(strict and bool(gone))


if __name__ == "__main__":
    sys.exit(main())
