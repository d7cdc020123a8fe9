"""Writes the version of the package wherever it stands (`make version VERSION=X.Y.Z`).

pyproject.toml has the truth. The notebooks install the release of that version, so a reader's outputs do not
change with the branch; `agreement()` lists what differs, and tests/test_workflows.py wants that list empty.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In each of these files, the group of the pattern is the version.
PLACES = {
    "pyproject.toml": r'(?m)^version = "(.*)"$',
    "tricks_lib/__init__.py": r'(?m)^__version__ = "(.*)"$',
    "CITATION.cff": r"(?m)^version: (.*)$",
    "chapters/*.ipynb": r'RELEASE = \\"(.*?)\\"',
}
CHANGELOG = "chapters/changelog.md"


def current() -> str:
    return re.search(PLACES["pyproject.toml"], (ROOT / "pyproject.toml").read_text("utf-8"))[1]


def agreement() -> list[str]:
    """One line for each place whose version is not the one in pyproject.toml."""
    wrong = []
    for pattern, where in PLACES.items():
        for path in sorted(ROOT.glob(pattern)):
            found = re.findall(where, path.read_text("utf-8"))
            wrong += [
                f"{path.relative_to(ROOT)}: {each}, not {current()}" for each in found if each != current()
            ]
            if not found and path.suffix != ".ipynb":
                wrong.append(f"{path.relative_to(ROOT)}: no version where one is expected")
    if f"\n## {current()}\n" not in (ROOT / CHANGELOG).read_text("utf-8"):
        wrong.append(f"{CHANGELOG}: no section {current()}")
    return wrong


def write(version: str) -> None:
    for pattern, where in PLACES.items():
        for path in sorted(ROOT.glob(pattern)):
            text = path.read_text("utf-8")
            new = re.sub(where, lambda match: match.group().replace(match.group(1), version), text)
            if new != text:
                path.write_text(new, "utf-8")
                print(f"wrote {path.relative_to(ROOT)}")


def main() -> int:
    if len(sys.argv) != 2 or not re.fullmatch(r"\d+\.\d+\.\d+", sys.argv[1]):
        print(f"error: VERSION is {' '.join(sys.argv[1:]) or 'nothing'}; accepted: X.Y.Z", file=sys.stderr)
        return 2
    write(sys.argv[1])
    wrong = agreement()
    print("\n".join(wrong) or f"the version is {current()} everywhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
