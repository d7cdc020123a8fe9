"""The hub's repositories as folders: where their files lie, and :func:`make`, which writes them all.

A repository is a folder ``<models or datasets>/<owner>/<name>/<revision>``; a slash in the revision is
written ``%2F``. What a model's main branch lacks on the hub it lacks here: XLNet, the Chinese GPT-2 and
DeBERTa have their safetensors in the conversion bot's pull request only.
"""

import json
from pathlib import Path
from urllib.parse import quote

PULL_REQUEST = "refs/pr/1"
BIN_ONLY = (  # on their main branch
    "xlnet/xlnet-base-cased",
    "uer/gpt2-chinese-cluecorpussmall",
    "microsoft/deberta-v3-base",
)


def make(root: Path) -> None:
    from tests.full import small_data, tiny_models

    tiny_models.make(root / "models")
    small_data.make(root / "datasets")


def folder(root: Path, name: str, revision: str = "main") -> Path:
    """Of a repository at a revision, made where it is not there."""
    path = root / name / quote(revision, safe="")
    path.mkdir(parents=True, exist_ok=True)
    return path


def write(path: Path, content: dict | list[str] | str) -> None:
    """Text, lines, or what becomes JSON."""
    if isinstance(content, list):
        content = "\n".join(content) + "\n"
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
