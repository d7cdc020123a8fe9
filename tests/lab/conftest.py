"""No network and no settings from outside; a tiny BERT that is saved once."""

import multiprocessing
import socket

import pytest
import torch

from tricks_lib.lab import profiles

DECIDED = profiles.profile, profiles.hub_answers  # each once in a process
FORK = multiprocessing.get_context(
    "forkserver"
)  # processes that can be killed, and start without importing anew
FORK.set_forkserver_preload(["transformers", "tricks_lib.lab.experiment", "tests.lab.test_experiment"])
WORDS = "the a room bed soup was is not cold warm good bad loud quiet very and we they".split()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """As on a fresh machine without network: profile mini, no other setting, no decision kept."""
    import huggingface_hub.constants

    for name in ("TRICKS_MODELS", "TRICKS_DATA", "TRICKS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRICKS_PROFILE", "mini")  # else comparisons train as the machine can
    monkeypatch.setenv("TRICKS_CACHE", str(tmp_path_factory.mktemp("cache") / "not there"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    look_up = socket.getaddrinfo

    def this_machine_only(host, *args, **kwargs):
        if host in ("127.0.0.1", b"127.0.0.1", "localhost", None):  # workers of a local cluster
            return look_up(host, *args, **kwargs)
        raise OSError("no network in the tests of the lab")

    monkeypatch.setattr(socket, "getaddrinfo", this_machine_only)
    for decided in DECIDED:
        decided.cache_clear()
    yield
    for decided in DECIDED:
        decided.cache_clear()


def tiny_tokenizer(padding_side="right"):
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    wordpiece = BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
    return BertTokenizerFast(
        tokenizer_object=wordpiece._tokenizer, model_max_length=64, padding_side=padding_side
    )


def tiny_config(**changes):
    from transformers import BertConfig

    sizes = {
        "vocab_size": 5 + len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    return BertConfig(**{**sizes, **changes})


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder with a tiny BERT (safetensors) and its tokenizer; copy it before changing it."""
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    torch.manual_seed(7)
    BertModel(tiny_config()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
