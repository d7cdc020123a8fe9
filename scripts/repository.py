"""Writes the repository's address wherever it stands (`make repository URL=...`).

It stands once as the truth, in _config.yml (`repository.url`); everything else is written from
there. `agreement()` lists what differs; tests/site/test_site.py wants that list empty.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PATTERN = re.compile(r"https://github\.com/([A-Za-z0-9][A-Za-z0-9-]*)/([A-Za-z0-9._-]+?)(?:\.git)?/?")

# In each of these files, the first group of the pattern is the repository's address.
# Workflows need none: they read it from the run's own context.
ADDRESSES = {
    "CITATION.cff": r'(?m)^repository-code: "(.*)"$',
    "pyproject.toml": r'(?m)^Repository = "(.*)"$',
    "README.md": r"git clone (\S+)",
    "chapters/run_it.md": r"git clone (\S+)",
    "chapters/*.ipynb": r'REPOSITORY = \\"(.*?)\\"',
}
# Further files in which the address, or the site's, occurs in links.
LINKING = [".zenodo.json", "README.md", "_config.yml", "CONTRIBUTING.md", "index.md", "chapters/*.md"]


def files(*patterns: str) -> list[Path]:
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def current() -> str:
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]["url"]


def path_of(url: str) -> str:
    return url.removeprefix("https://github.com/")


def pages_url(url: str) -> str:
    """Where GitHub Pages serves the repository's site."""
    owner, name = PATTERN.fullmatch(url).groups()
    return f"https://{owner.lower()}.github.io/{name}/"


def agreement() -> list[str]:
    """One line for each place whose address is not the one in _config.yml."""
    url, wrong = current(), []
    for pattern, where in ADDRESSES.items():
        for path in files(pattern):
            found = re.findall(where, path.read_text("utf-8"))
            if not found and pattern != "chapters/*.ipynb":
                wrong.append(f"{path.relative_to(ROOT)}: no address where one is expected")
            wrong += [f"{path.relative_to(ROOT)}: {one}, not {url}" for one in found if one != url]
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    for key, value in {
        "html.baseurl": config["html"]["baseurl"],
        "sphinx.config.ogp_site_url": config["sphinx"]["config"]["ogp_site_url"],
    }.items():
        if value != pages_url(url):
            wrong.append(f"_config.yml: {key} is {value}, not {pages_url(url)}")
    return wrong


def write(url: str) -> None:
    old = current()
    for path in files(*ADDRESSES, *LINKING):
        text = path.read_text("utf-8")
        new = re.sub(re.escape(old) + r"(?![\w-])", url, text)
        new = new.replace(pages_url(old), pages_url(url)).replace(pages_url(old)[:-1], pages_url(url)[:-1])
        new = new.replace(f"google.com/github/{path_of(old)}/", f"google.com/github/{path_of(url)}/")
        if new != text:
            path.write_text(new, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    # A place that did not hold the old address (a chapter written elsewhere) is set as well.
    for pattern, where in ADDRESSES.items():
        for path in files(pattern):
            text = path.read_text("utf-8")
            new = re.sub(where, lambda match: match.group().replace(match.group(1), url), text)
            if new != text:
                path.write_text(new, "utf-8")
                print(f"wrote {path.relative_to(ROOT)}")


def main() -> int:
    match = PATTERN.fullmatch(sys.argv[1]) if len(sys.argv) == 2 else None
    if match is None:
        given = " ".join(sys.argv[1:]) or "nothing"
        print(
            f"error: URL is {given}; accepted: https://github.com/OWNER/NAME "
            "(Colab opens notebooks from GitHub)",
            file=sys.stderr,
        )
        return 2
    write("https://github.com/{}/{}".format(*match.groups()))
    wrong = agreement()
    print("\n".join(wrong) or f"the address is {current()} everywhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
