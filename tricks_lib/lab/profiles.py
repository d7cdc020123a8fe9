"""Two profiles: ``mini`` (embedded assets, CPU, one thread: what CI runs) and ``full`` (hub models on a GPU).

``TRICKS_PROFILE`` decides. Without it the profile is ``full`` where there is CUDA and the hub answers,
else ``mini``. Where ``full`` is asked for but its models cannot be had, it says so and ``mini`` is used.
"""

import contextlib
import functools
import http.client
import os
import platform
import urllib.request
import warnings

import torch

PROFILES = ("mini", "full")
CPUINFO = "/proc/cpuinfo"


@functools.cache
def hub_answers() -> bool:
    """Whether the Hugging Face hub can be asked for a model (``HF_HUB_OFFLINE`` set means no)."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=3)
    except (OSError, ValueError, http.client.HTTPException):  # no answer, no address, no HTTP
        return False
    return True


@functools.cache
def profile() -> str:
    """``mini`` or ``full``; decided once in a process.

    Raises:
        ValueError: ``TRICKS_PROFILE`` is neither.
    """
    asked = os.environ.get("TRICKS_PROFILE", "")
    if asked not in (*PROFILES, ""):
        raise ValueError(f"TRICKS_PROFILE: {asked!r} given, {' or '.join(PROFILES)} is accepted")
    if asked == "mini" or (not asked and not torch.cuda.is_available()):
        return "mini"
    if os.environ.get("TRICKS_MODELS") or hub_answers():
        return "full"
    if asked:
        print("profile full: the hub does not answer and TRICKS_MODELS is not set, so this is profile mini")
    return "mini"


def device() -> torch.device:
    """Where models of this profile run: CUDA in ``full`` where there is one, else the CPU."""
    return torch.device("cuda" if profile() == "full" and torch.cuda.is_available() else "cpu")


def hardware() -> torch.device:
    """Where a comparison runs. What there is, with a hub or without; the CPU, if ``TRICKS_PROFILE=mini``."""
    there = torch.cuda.is_available() and os.environ.get("TRICKS_PROFILE") != "mini"
    return torch.device("cuda" if there else "cpu")


def precision() -> str:
    """What a comparison trains in: bf16 where it is multiplied, fp16 on older GPUs, else fp32; fp32 too, if
    ``TRICKS_PROFILE=mini``.
    """
    if os.environ.get("TRICKS_PROFILE") == "mini":
        return "fp32"
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    with contextlib.suppress(OSError), open(CPUINFO) as info:
        flags = next((line for line in info if line.startswith("flags")), "").split()
        return "bf16" if {"avx512_bf16", "amx_bf16"} & {*flags} else "fp32"
    return "fp32"


def setup(seed: int = 0) -> None:
    """Seed, number of threads and quiet libraries; prints profile, device and versions on one line.

    ``mini`` computes with one thread, so that stored numbers do not depend on the number of cores.
    """
    warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars need no widgets here
    import transformers

    if profile() == "mini":
        torch.set_num_threads(1)
    torch.manual_seed(seed)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where = torch.cuda.get_device_name() if device().type == "cuda" else "CPU"
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
    print(f"profile {profile()} on {where}; {versions}")
