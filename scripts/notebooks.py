"""Runs the chapters.

    python scripts/notebooks.py run --into _build/book    a copy of the book, executed there
    python scripts/notebooks.py store [--all] [NAME ...]  changed chapters, executed and stored in place

A chapter has changed when the hash of its source, of tricks_lib and of the records differs from
the one stored in the notebook's metadata by the run that made its outputs.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
# What the site is built from; the rest of the checkout is not copied.
BOOK_SOURCES = ["_config.yml", "_toc.yml", "pyproject.toml", "index.md", "references.bib", "_ext", "_static"]
BOOK_SOURCES += ["chapters"]
CELL_TIMEOUT = 1800  # seconds; a chapter's demo on a GPU takes up to five minutes


def chapters(folder: Path) -> list[Path]:
    return sorted((folder / "chapters").glob("*.ipynb"))


def source_hash(notebook) -> str:
    """Everything a chapter's outputs depend on."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # The address and the release may change without changing an output.
            digest.update(re.sub(r'(?m)^(REPOSITORY|RELEASE) = ".*"$', "", cell.source).encode())
            digest.update(b"\0")
    files = [f for f in (ROOT / "tricks_lib").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    evidence = ROOT / "chapters" / "evidence"  # one record may serve many chapters
    files += [*evidence.glob("*__*.json"), *evidence.glob("bench_*.json")]
    for file in sorted(
        f for f in files if ".partial" not in f.suffixes
    ):  # an experiment under way is no evidence
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def clean(notebook) -> None:
    """Only what a reader or nbval needs is stored, the same on every machine."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled", "ExecuteTime"):
            cell.metadata.pop(key, None)


def palette(png: str) -> str:
    """A figure (base64) of at most 256 colours. Charts have hardly more, and half of the bytes go or more."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    white, out = Image.new("RGBA", image.size, "white"), io.BytesIO()
    white.alpha_composite(image)
    white.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def execute(path: Path) -> float:
    """Runs a notebook in place and returns its seconds; its file changes only if all cells ran."""
    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    clean(notebook)
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # the kernel is local: no advice on encryption
        record_timing=False,  # timestamps would change the file at every run
        coalesce_streams=True,  # one text a stream: where it was cut depends on the moment
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    clean(notebook)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = palette(output.data["image/png"])
    notebook.metadata["tricks_lib"] = {"outputs_of": source_hash(notebook)}
    part = path.with_suffix(".part")
    nbformat.write(notebook, part)
    part.replace(path)
    return time.perf_counter() - start


def execute_all(paths: list[Path], jobs: int) -> int:
    """Runs notebooks side by side (each has a kernel process of its own); returns the failures."""
    failures = 0
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        running = {pool.submit(execute, path): path for path in paths}
        for done in as_completed(running):
            path = running[done]
            try:
                print(f"ran {path.name} in {done.result():.0f} s", flush=True)
            except Exception as error:  # a red cell in one chapter must not hide the others
                failures += 1
                print(f"error: {path.name} stopped:\n{error}", file=sys.stderr, flush=True)
    return failures


def run(arguments) -> int:
    into = (ROOT / arguments.into).resolve()
    if into == ROOT or ROOT / "_build" not in into.parents:
        print(f"error: --into {arguments.into}: accepted is a folder inside _build", file=sys.stderr)
        return 2
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name in BOOK_SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, into / name)
    return 1 if execute_all(chapters(into), arguments.jobs) else 0


def store(arguments) -> int:
    known = {path.stem: path for path in chapters(ROOT)}
    wanted = {Path(name).stem: name for name in arguments.names}
    for stem, name in wanted.items():
        if stem not in known:
            print(f"error: no chapter {name}; accepted: {', '.join(known)}", file=sys.stderr)
            return 2
    changed = []
    for stem, path in known.items():
        if wanted and stem not in wanted:
            continue
        notebook = nbformat.read(path, as_version=4)
        if arguments.all or notebook.metadata.get("tricks_lib", {}).get("outputs_of") != source_hash(
            notebook
        ):
            changed.append(path)
        else:
            print(f"{path.name} is up to date")
    return 1 if execute_all(changed, arguments.jobs) else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for function in (run, store):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("--jobs", type=int, default=os.cpu_count(), help="notebooks at a time")
        if function is run:
            command.add_argument(
                "--into", default="_build/book", help="folder inside _build to run the copy in"
            )
        else:
            command.add_argument("--all", action="store_true", help="unchanged chapters too")
            command.add_argument("names", nargs="*", help="chapters, such as 01_mean_pooling")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: accepted is 1 or more")
    return arguments.function(arguments)


if __name__ == "__main__":
    sys.exit(main())
