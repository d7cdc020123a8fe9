"""The packages that the tricks are timed against (``requirements.txt``): their versions, and the import of
one that needs help.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

import torch

from tests.benchmarks.row import Row


def versions(row: Row) -> dict[str, str]:
    """Peer -> distribution and version.

    Raises:
        ModuleNotFoundError: a peer of ``row`` is not installed.
    """
    found = {}
    for peer, distribution in row.packages.items():
        try:
            found[peer] = f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            raise ModuleNotFoundError(
                f"row {row.name!r}: its peer {peer!r} needs {distribution}, which is not installed; make "
                f"bench installs it"
            ) from None
    return found


def declare_operators_of_torchvision() -> None:
    """The package index has torchvision compiled for CUDA. Beside a CPU build of torch its compiled part does
    not load, and without that its import, which timm, transformers and others try, stops at two operators. No
    peer calls them: that they are declared is enough."""
    spec = importlib.util.find_spec("torchvision")
    if (
        spec is None
        or torch.version.cuda is not None
        or "+cu" not in (Path(spec.origin).parent / "version.py").read_text()
    ):
        return
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
