"""Models by name: embedded mini checkpoint, then a folder of ``TRICKS_MODELS``, then what ``fetch`` has put
into the cache, then the hub.

What was loaded, and from where, is printed. Only safetensors are read, and no remote code is run.
"""

import hashlib
import os
from pathlib import Path

import torch

from tricks_lib.lab import profiles

ASSETS = Path(__file__).parent.parent / "assets"
HUB = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "xlnet-base-cased": "xlnet/xlnet-base-cased",
    "gpt2": "openai-community/gpt2",
    "gpt2-chinese-cluecorpussmall": "uer/gpt2-chinese-cluecorpussmall",
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}
FETCHED = ("all-MiniLM-L6-v2", "SmolLM2-135M-Instruct")  # what fetch can make


def cache() -> Path:
    """Folder of what ``python -m tricks_lib.lab fetch`` has made: ``data`` and ``models``."""
    return Path(os.environ.get("TRICKS_CACHE") or Path.home() / ".cache" / "tricks_lib")


def load_encoder(name: str | None = None, pretrained: bool = True):
    """A BERT-like encoder and its tokenizer.

    Args:
        name: ``mini_bert``, the path of a folder (``./name``), a folder of ``TRICKS_MODELS``, a name of
            ``HUB`` or a hub address (``owner/name``); default: ``mini_bert`` in profile ``mini``,
            ``bert-base-uncased`` in ``full``.
        pretrained: with False the same network with random weights (seed them before).

    Returns:
        model in evaluation mode, float32, on the CPU; tokenizer.

    Raises:
        ValueError: unknown name; a folder without safetensors; a checkpoint that cannot be read, or lacks
            weights, or is of another kind.
        ConnectionError: the model stands on the hub only, and the hub does not answer.
    """
    return load("AutoModel", default("mini_bert", "bert-base-uncased") if name is None else name, pretrained)


def load_xlnet(name: str | None = None, pretrained: bool = True):
    """An ``XLNetModel`` and its tokenizer, as :func:`load_encoder`; default: ``mini_xlnet`` or
    ``xlnet-base-cased``.
    """
    return load("XLNetModel", default("mini_xlnet", "xlnet-base-cased") if name is None else name, pretrained)


def load_gpt2(name: str | None = None, pretrained: bool = True):
    """A ``GPT2LMHeadModel`` and its tokenizer, as :func:`load_encoder`; default: ``mini_gpt2`` or
    ``gpt2``.
    """
    return load("GPT2LMHeadModel", default("mini_gpt2", "gpt2") if name is None else name, pretrained)


def load_decoder(name: str | None = None, pretrained: bool = True):
    """A causal language model of any kind and its tokenizer, as :func:`load_encoder`; default: ``mini_gpt2``
    or ``gpt2``.
    """
    return load("AutoModelForCausalLM", default("mini_gpt2", "gpt2") if name is None else name, pretrained)


def default(mini: str, full: str) -> str:
    return {"mini": mini, "full": full}[profiles.profile()]


def load(kind: str, name: str, pretrained: bool):
    """A model of the class ``kind`` of transformers and its tokenizer; see :func:`load_encoder`."""
    import transformers

    source, where = locate(name)
    revision = safetensors_revision(source) if where == "hub" else "main"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        config = transformers.AutoConfig.from_pretrained(source)
        if len(tokenizer) <= len({*tokenizer.all_special_ids}):  # transformers 5 makes one up
            raise ValueError("there is no tokenizer beside the weights")
        of_kind = getattr(transformers, kind)
        if getattr(of_kind, "config_class", None) not in (None, type(config)):
            raise ValueError(f"a {config.model_type} given, {of_kind.config_class.model_type} is accepted")
        if pretrained:
            model, loaded = of_kind.from_pretrained(
                source,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            other_shape = [
                key if isinstance(key, str) else key[0] for key in loaded["mismatched_keys"]
            ]  # transformers 4: names alone
            if random := sorted(
                {*other_shape, *(key for key in loaded["missing_keys"] if "pooler" not in key)}
            ):
                raise ValueError(
                    f"{len(random)} tensors are missing or of another shape, {random[0]} among them"
                )
        else:
            make = of_kind.from_config if kind.startswith("AutoModel") else of_kind._from_config
            model = make(config, dtype=torch.float32)
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own kinds
        if where == "hub":
            raise ConnectionError(
                f"name: {name!r} could not be had from the hub ({first_line(error)}); put it into a folder "
                f"and set TRICKS_MODELS"
            ) from error
        raise ValueError(f"name: the checkpoint {source} cannot be read: {first_line(error)}") from error
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    where += f" ({revision})" * (revision != "main")
    print(f"{name}: {millions:.1f} M parameters, {'pretrained' if pretrained else 'random weights'}, {where}")
    return model.eval(), tokenizer


def safetensors_revision(address: str) -> str:
    """Where the hub has a model's safetensors: ``main``, or the pull request of its conversion bot."""
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    try:
        if not hub.file_exists(address, "model.safetensors"):
            for each in hub.get_repo_discussions(address, author="SFconvertbot"):
                found = each.is_pull_request and each.author == "SFconvertbot"
                if found and hub.file_exists(address, "model.safetensors", revision=each.git_reference):
                    return each.git_reference
    except Exception:  # offline, or a hub that cannot be asked: loading says what is wrong
        pass
    return "main"


def locate(name: str) -> tuple[str, str]:
    """Address to load ``name`` from, and what it is: ``embedded``, ``local folder``, ``cache`` or
    ``hub``.

    Raises:
        ValueError: unknown name, a local folder without ``model.safetensors``, or no folder at
            ``TRICKS_MODELS``.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: {name!r} given, a string is accepted")
    local = Path(os.environ["TRICKS_MODELS"]) if os.environ.get("TRICKS_MODELS") else None
    embedded = sorted(p.parent.name for p in ASSETS.glob("*/model.safetensors"))
    if name in embedded:
        return str(ASSETS / name), "embedded"
    if local and not local.is_dir():
        raise ValueError(f"TRICKS_MODELS: {str(local)!r} given, an existing folder is accepted")
    owner, _, leaf = name.rpartition("/")
    folder = local / leaf if local and leaf not in ("", ".", "..") else None
    if owner and Path(name).is_dir():
        folder = Path(name)
    if folder and folder.is_dir():
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"name: {folder} holds no model.safetensors, the only format that is read")
        return str(folder), "local folder"
    if name in FETCHED and (cache() / "models" / name).is_dir():
        return str(cache() / "models" / name), "cache"
    if name in HUB or (owner and leaf and "/" not in owner):
        return HUB.get(name, name), "hub"
    if name in FETCHED:
        raise ValueError(f"name: {name!r} is not here; python -m tricks_lib.lab fetch {name}")
    there = sorted(p.name for p in local.iterdir() if p.is_dir()) if local else []
    raise ValueError(
        f"name: {name!r} given; accepted are {', '.join(embedded + there + sorted(HUB))}, or an address "
        f"owner/name"
    )


def describe(name: str) -> dict:
    """Name, source and sha256 of the weights, for a record (``sha256`` is None for a model on the hub)."""
    source, where = locate(name)
    weights = Path(source) / "model.safetensors"
    return {"name": name, "source": where, "sha256": sha256(weights) if weights.is_file() else None}


def sha256(file: Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
