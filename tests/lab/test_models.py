"""Models by name: where they are looked for and in what order, what is printed, and what is refused."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.full import tiny_models
from tricks_lib.lab import models

from .conftest import tiny_config


@pytest.fixture
def folder(tmp_path, checkpoint, monkeypatch):
    """A folder of ``TRICKS_MODELS`` with a copy of the tiny BERT."""
    shutil.copytree(checkpoint, tmp_path / "models" / "tiny")
    monkeypatch.setenv("TRICKS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """An empty folder in place of the package's assets."""
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr(models, "ASSETS", tmp_path / "assets")
    return tmp_path / "assets"


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def put(checkpoint, folder, seed):
    """A copy of the checkpoint with other weights."""
    shutil.copytree(checkpoint, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        k: torch.randn(v.shape, generator=generator)
        for k, v in load_file(folder / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def test_a_local_checkpoint_is_loaded_whole(folder, capsys):
    model, tokenizer = models.load_encoder("tiny")
    saved = load_file(folder / "tiny" / "model.safetensors")
    assert {k: v.tolist() for k, v in model.state_dict().items() if k in saved} == {
        k: v.tolist() for k, v in saved.items()
    }
    assert (
        not model.training
        and {p.dtype for p in model.parameters()} == {torch.float32}
        and {p.device.type for p in model.parameters()} == {"cpu"}
    )
    assert tokenizer("a warm room")["input_ids"] == [
        2,
        *tokenizer.convert_tokens_to_ids(["a", "warm", "room"]),
        3,
    ]
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert capsys.readouterr().out == f"tiny: {millions:.1f} M parameters, pretrained, local folder\n"


def test_a_tokenizer_that_is_a_sentencepiece_file_is_read(folder):
    """As that of DeBERTa-v3, on the hub without any other form."""
    from transformers import DebertaV2Config, DebertaV2Model

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    DebertaV2Model(DebertaV2Config(vocab_size=1100, **sizes)).save_pretrained(folder / "pieces")
    tiny_models.sentencepieces(folder / "pieces")
    model, tokenizer = models.load_encoder("pieces")
    batch = tokenizer(["A cold room.", "Soup"], padding=True, return_tensors="pt")
    assert batch["input_ids"][0, 0] == 1 and (batch["input_ids"][1] == 0).any()  # [CLS], [PAD]
    assert tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True) == "A cold room."
    assert model(**batch).last_hidden_state.isfinite().all()


def test_half_precision_weights_are_read_in_float32(folder):
    file = folder / "tiny" / "model.safetensors"
    saved = {k: v.half() for k, v in load_file(file).items()}
    save_file(saved, file, metadata={"format": "pt"})
    for pretrained in (True, False):
        model, _ = models.load_encoder("tiny", pretrained=pretrained)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(
        models.load_encoder("tiny")[0].embeddings.word_embeddings.weight,
        saved["embeddings.word_embeddings.weight"].float(),
    )


def test_random_weights_are_the_same_network_and_follow_the_seed(folder, capsys):
    pretrained, _ = models.load_encoder("tiny")
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(models.load_encoder("tiny", pretrained=False)[0])
    assert [p.shape for p in drawn[0].parameters()] == [p.shape for p in pretrained.parameters()]
    assert torch.equal(weights(drawn[0]), weights(drawn[1]))
    assert not torch.equal(weights(drawn[0]), weights(drawn[2])) and not torch.equal(
        weights(drawn[0]), weights(pretrained)
    )
    assert not drawn[0].training
    assert "random weights, local folder" in capsys.readouterr().out


def test_embedded_comes_before_the_local_folder(folder, assets, checkpoint, capsys):
    embedded = put(checkpoint, assets / "tiny", seed=1)
    model, _ = models.load_encoder("tiny")
    assert torch.equal(model.embeddings.word_embeddings.weight, embedded["embeddings.word_embeddings.weight"])
    assert capsys.readouterr().out.endswith("pretrained, embedded\n")
    assert models.locate("tiny") == (str(assets / "tiny"), "embedded")


def test_the_local_folder_comes_before_the_hub(folder, checkpoint):
    put(checkpoint, folder / "gpt2", seed=2)
    assert models.locate("gpt2") == (str(folder / "gpt2"), "local folder")
    assert models.locate("openai-community/gpt2") == (str(folder / "gpt2"), "local folder")
    assert models.locate("bert-base-uncased") == ("google-bert/bert-base-uncased", "hub")
    assert models.locate("someone/else") == ("someone/else", "hub")


def test_embedded_needs_no_folder(assets, checkpoint, monkeypatch):
    put(checkpoint, assets / "tiny", seed=1)
    monkeypatch.setenv("TRICKS_MODELS", "/nowhere")
    assert models.locate("tiny")[1] == "embedded"


def test_the_default_follows_the_profile(folder, assets, checkpoint, monkeypatch, capsys):
    put(checkpoint, assets / "mini_bert", seed=1)
    shutil.copytree(checkpoint, folder / "bert-base-uncased")
    models.load_encoder()
    monkeypatch.setenv("TRICKS_PROFILE", "full")
    models.profiles.profile.cache_clear()
    models.load_encoder()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("mini_bert: ") and printed[0].endswith("embedded")
    assert printed[1].startswith("bert-base-uncased: ") and printed[1].endswith("local folder")


@pytest.fixture
def kinds(tmp_path, checkpoint, monkeypatch):
    """A folder with a tiny XLNet and a tiny GPT-2 under the hub's names, read with the tiny BERT's
    tokenizer.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, XLNetConfig, XLNetLMHeadModel

    folder = tmp_path / "kinds"
    networks = {
        "xlnet-base-cased": XLNetLMHeadModel(
            XLNetConfig(vocab_size=40, d_model=8, n_layer=1, n_head=2, d_inner=8)
        ),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2, n_positions=16)),
    }
    for name, network in networks.items():
        shutil.copytree(
            checkpoint, folder / name, ignore=shutil.ignore_patterns("config.json", "model.safetensors")
        )
        network.save_pretrained(folder / name)
    shutil.copytree(checkpoint, folder / "bert")
    monkeypatch.setenv("TRICKS_MODELS", str(folder))
    return networks


@pytest.mark.parametrize("pretrained", [True, False])
def test_each_loader_gives_its_kind(kinds, pretrained, monkeypatch, capsys):
    from transformers import GPT2LMHeadModel, XLNetModel

    monkeypatch.setenv("TRICKS_PROFILE", "full")
    models.profiles.profile.cache_clear()
    ids = torch.tensor([[5, 6, 7]])
    xlnet, _ = models.load_xlnet(pretrained=pretrained)
    gpt2, _ = models.load_gpt2(pretrained=pretrained)
    assert (
        type(xlnet) is XLNetModel
        and type(gpt2) is GPT2LMHeadModel
        and not xlnet.training
        and not gpt2.training
    )
    saved = kinds["xlnet-base-cased"].transformer.eval(), kinds["gpt2"].eval()
    assert (
        torch.equal(xlnet(ids)[0], saved[0](ids)[0])
        == torch.equal(gpt2(ids).logits, saved[1](ids).logits)
        == pretrained
    )
    assert torch.equal(gpt2.lm_head.weight, gpt2.transformer.wte.weight)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "xlnet-base-cased",
        "gpt2",
    ]


@pytest.mark.parametrize("function, accepted", [(models.load_xlnet, "xlnet"), (models.load_gpt2, "gpt2")])
def test_a_checkpoint_of_another_kind_is_refused(kinds, function, accepted):
    with pytest.raises(
        ValueError,
        match=f"^name: the checkpoint .*bert cannot be read: a bert given, {accepted} is accepted$",
    ):
        function("bert")


def test_the_names_of_the_hub_are_full_addresses():
    assert all(address.count("/") == 1 for address in models.HUB.values())
    assert {
        "google-bert/bert-base-uncased",
        "xlnet/xlnet-base-cased",
        "openai-community/gpt2",
        "uer/gpt2-chinese-cluecorpussmall",
    } <= {*models.HUB.values()}


@pytest.mark.parametrize("name", ["bert-base-uncased", "nobody/nothing"])
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_hub_out_of_reach_says_what_to_do(name, pretrained, capsys):
    with pytest.raises(
        ConnectionError,
        match=rf"^name: '{name}' could not be had from the hub \(.+\); "
        "put it into a folder and set TRICKS_MODELS$",
    ):
        models.load_encoder(name, pretrained)
    assert capsys.readouterr().out == ""


BAD_NAMES = {
    "unknown": (
        "nope",
        ValueError,
        "name: 'nope' given; accepted are .*tiny.*bert-base-uncased.*or an address owner/name",
    ),
    "empty": ("", ValueError, "name: '' given"),
    "dot": (".", ValueError, "name: '.' given"),
    "parent": ("..", ValueError, "name: '..' given"),
    "no model": ("owner/", ValueError, "name: 'owner/' given"),
    "no owner": ("/name", ValueError, "name: '/name' given"),
    "too many parts": ("a/b/c", ValueError, "name: 'a/b/c' given"),
    "a number": (5, TypeError, "name: 5 given, a string is accepted"),
    "a path": (Path("tiny"), TypeError, "a string is accepted"),
}


@pytest.mark.parametrize("name, error, message", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name_is_refused(folder, name, error, message):
    for function in (models.load_encoder, models.locate, models.describe):
        with pytest.raises(error, match=message):
            function(name)


def test_a_folder_of_models_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TRICKS_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="TRICKS_MODELS: '.*nowhere' given, an existing folder is accepted"):
        models.load_encoder("bert-base-uncased")


@pytest.mark.parametrize("relative", [False, True])
def test_the_path_of_a_folder_is_a_name(checkpoint, tmp_path, monkeypatch, capsys, relative):
    shutil.copytree(checkpoint, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    name = "./mine" if relative else str(tmp_path / "mine")
    model, tokenizer = models.load_encoder(name)
    assert model.config.hidden_size == 16 and tokenizer("the bed")["input_ids"]
    assert "local folder" in capsys.readouterr().out
    assert models.describe(name)["source"] == "local folder"
    (tmp_path / "mine" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="mine holds no model.safetensors, the only format that is read"):
        models.load_encoder(name)


class Touch:
    """Unpickled, it leaves a file behind."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickled_checkpoints_are_refused_unread(folder, tmp_path, name):
    (folder / "tiny" / "model.safetensors").unlink()
    torch.save(Touch(tmp_path / "touched"), folder / "tiny" / name)
    with pytest.raises(
        ValueError, match="^name: .*tiny holds no model.safetensors, the only format that is read$"
    ):
        models.load_encoder("tiny")
    assert not (tmp_path / "touched").exists()


def test_a_pickle_beside_the_safetensors_is_not_read(folder, tmp_path):
    torch.save(Touch(tmp_path / "touched"), folder / "tiny" / "pytorch_model.bin")
    models.load_encoder("tiny")
    assert not (tmp_path / "touched").exists()


def test_a_pickle_that_is_called_safetensors_is_refused_unread(folder, tmp_path):
    torch.save(Touch(tmp_path / "touched"), folder / "tiny" / "model.safetensors")
    with pytest.raises(ValueError, match="^name: the checkpoint .*tiny cannot be read: "):
        models.load_encoder("tiny")
    assert not (tmp_path / "touched").exists()


def test_code_that_comes_with_a_checkpoint_is_not_run(folder, tmp_path):
    config = json.loads((folder / "tiny" / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "tiny" / "config.json").write_text(json.dumps(config))
    (folder / "tiny" / "own.py").write_text(
        f"open({str(tmp_path / 'touched')!r}, 'w')\nclass OwnConfig: pass\nclass OwnModel: pass\n"
    )
    with pytest.raises(ValueError, match="^name: the checkpoint .*tiny cannot be read: "):
        models.load_encoder("tiny")
    assert not (tmp_path / "touched").exists()


def rewrite(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
CORRUPT = {  # file -> what happens to it
    "empty weights": (WEIGHTS, lambda f: f.write_bytes(b"")),
    "half the weights": (WEIGHTS, lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2])),
    "one byte less": (WEIGHTS, lambda f: f.write_bytes(f.read_bytes()[:-1])),
    "weights of noise": (WEIGHTS, lambda f: f.write_bytes(bytes(range(256)) * 40)),
    "damaged header": (
        WEIGHTS,
        lambda f: f.write_bytes(f.read_bytes()[:8] + b"x" * 40 + f.read_bytes()[48:]),
    ),
    "a tensor missing": (
        WEIGHTS,
        lambda f: rewrite(f, lambda t: t.pop("encoder.layer.1.output.dense.weight")),
    ),
    "no tensor at all": (WEIGHTS, lambda f: save_file({"x": torch.zeros(1)}, f, metadata={"format": "pt"})),
    "a tensor of another shape": (
        WEIGHTS,
        lambda f: rewrite(f, lambda t: t.update({"embeddings.word_embeddings.weight": torch.zeros(3, 3)})),
    ),
    "no config": (CONFIG, lambda f: f.unlink()),
    "config no JSON": (CONFIG, lambda f: f.write_text("{")),
    "config empty": (CONFIG, lambda f: f.write_text("{}")),
    "unknown model type": (CONFIG, lambda f: f.write_text('{"model_type": "nope"}')),
    "another size": (CONFIG, lambda f: f.write_text(json.dumps(tiny_config(hidden_size=32).to_dict()))),
    "tokenizer no JSON": (TOKENIZER, lambda f: f.write_text("{")),
    "tokenizer empty": (TOKENIZER, lambda f: f.write_text("")),
    "no tokenizer": (
        TOKENIZER,
        lambda f: [each.unlink() for g in ("*token*", "vocab*") for each in f.parent.glob(g)],
    ),
}


@pytest.mark.parametrize("file, damage", CORRUPT.values(), ids=CORRUPT)
@pytest.mark.filterwarnings("ignore")  # what libraries say about a damaged file before they give up
def test_a_corrupt_checkpoint_is_refused_with_its_name(folder, file, damage, capsys):
    damage(folder / "tiny" / file)
    with pytest.raises(ValueError) as caught:
        models.load_encoder("tiny")
    message = str(caught.value)
    assert (
        message.startswith(f"name: the checkpoint {folder / 'tiny'} cannot be read: ")
        and "\n" not in message
        and len(message) > len(str(folder)) + 50
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "damage, count",
    [
        ("a tensor missing", 1),
        ("a tensor of another shape", 1),
        ("another size", 37),
        ("no tensor at all", 37),
    ],
)
def test_weights_that_would_stay_random_are_counted_and_named(folder, damage, count):
    file, change = CORRUPT[damage]
    change(folder / "tiny" / file)
    with pytest.raises(
        ValueError,
        match=rf"{count} tensors are missing or of another shape, (embeddings|encoder)[\w.]+ among them$",
    ):
        models.load_encoder("tiny")


def test_a_missing_pooler_is_no_defect(folder):
    """Checkpoints of masked language models have none; every other tensor must be there."""
    rewrite(folder / "tiny" / WEIGHTS, lambda t: [t.pop(k) for k in list(t) if "pooler" in k])
    models.load_encoder("tiny")


def test_describe_names_source_and_sha256(folder, assets, checkpoint):
    put(checkpoint, assets / "own", seed=1)
    digest = {
        f: hashlib.sha256((f / WEIGHTS).read_bytes()).hexdigest() for f in (folder / "tiny", assets / "own")
    }
    assert models.describe("tiny") == {
        "name": "tiny",
        "source": "local folder",
        "sha256": digest[folder / "tiny"],
    }
    assert models.describe("own") == {"name": "own", "source": "embedded", "sha256": digest[assets / "own"]}
    assert models.describe("gpt2") == {"name": "gpt2", "source": "hub", "sha256": None}


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n one "), "one"),
        (KeyError(), "KeyError"),
        (OSError(2, "no file"), "[Errno 2] no file"),
    ],
)
def test_first_line_of_an_error(error, line):
    assert models.first_line(error) == line
