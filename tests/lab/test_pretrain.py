"""Pretraining in miniature: the corruption follows BERT's, a run that is interrupted ends as one that is not."""

import json
import shutil
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
import torch

from tricks_lib.lab import pretrain

TINY = pretrain.Recipe(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2, max_positions=64, trained_tokens=16, batch=8, steps=6, warmup=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    words = "the cat sat on a mat and saw one more dog run after its own long red tail".split()
    generator = torch.Generator().manual_seed(0)
    texts = [" ".join(words[i] for i in torch.randint(len(words), (30,), generator=generator)) + f" {n}" for n in range(400)]
    (folder / "corpus_en").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / "corpus_en" / "train.parquet")
    return folder


class Ids:
    vocab_size, mask_token_id, cls_token_id, sep_token_id = 1000, 4, 2, 3


def test_corruption_is_berts():
    ids = torch.randint(5, 1000, (400, 52), generator=torch.Generator().manual_seed(1))
    corrupted, positions, labels = pretrain.mask_tokens(ids, Ids, 0.2, torch.Generator().manual_seed(2))
    assert positions.shape == (400, 10) and (positions >= 1).all() and (positions <= 50).all()
    assert all(len(set(row.tolist())) == 10 for row in positions)
    assert torch.equal(labels, ids.gather(1, positions))
    there = corrupted.gather(1, positions)
    assert (there == 4).float().mean() == pytest.approx(0.8, abs=0.03)
    assert ((there == labels) & (there != 4)).float().mean() == pytest.approx(0.1, abs=0.02)
    untouched = torch.ones_like(ids, dtype=torch.bool).scatter(1, positions, False)
    assert torch.equal(corrupted[untouched], ids[untouched])


def test_loss_at_selected_positions_is_transformers_loss_with_ignored_others(data, tmp_path):
    tokenizer = pretrain.train_wordpiece(pretrain.read_corpus(data / "corpus_en")[0], 300)
    model = pretrain.build_model(TINY, tokenizer).eval()
    ids = torch.randint(5, tokenizer.vocab_size, (4, 16))
    corrupted, positions, labels = pretrain.mask_tokens(ids, tokenizer, 0.2, torch.Generator().manual_seed(0))
    everywhere = torch.full_like(ids, -100).scatter(1, positions, labels)
    torch.testing.assert_close(pretrain.mlm_loss(model, corrupted, positions, labels), model(corrupted, labels=everywhere).loss)


def test_rate_rises_and_falls_linearly():
    recipe = replace(TINY, steps=100, warmup=10)
    rates = [pretrain.rate(step, recipe) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == 1 and rates[-1] == pytest.approx(1 / 90)


def test_interrupted_run_ends_as_an_uninterrupted_one(data, tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    pretrain.pretrain("bert", data, tmp_path / "whole", TINY, cpu, compiled=False)
    (tmp_path / "cut").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):  # training a vocabulary breaks ties by chance
        shutil.copy2(tmp_path / "whole" / name, tmp_path / "cut" / name)
    real, calls = pretrain.mlm_loss, []

    def stop_at_the_fifth(*args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(pretrain, "SAVE_SECONDS", 0)
    monkeypatch.setattr(pretrain, "mlm_loss", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain("bert", data, tmp_path / "cut", TINY, cpu, compiled=False)
    monkeypatch.setattr(pretrain, "mlm_loss", real)
    pretrain.pretrain("bert", data, tmp_path / "cut", TINY, cpu, compiled=False)
    weights = [(tmp_path / name / "mini_bert" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    card = json.loads((tmp_path / "cut" / "mini_bert" / "card.json").read_text())
    assert card["steps"] == 6 and card["tokens_seen"] == 6 * 128 and card["held_out_loss"] > 0


def test_another_recipe_does_not_overwrite_a_run(data, tmp_path):
    pretrain.pretrain("bert", data, tmp_path, TINY, torch.device("cpu"), compiled=False)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(ValueError, match="another recipe"):
        pretrain.pretrain("bert", data, tmp_path, replace(TINY, hidden_size=64), torch.device("cpu"), compiled=False)
    assert (tmp_path / "state.pt").read_bytes() == before


def damaged(folder):
    (folder / "corpus_en").mkdir()
    (folder / "corpus_en" / "train.parquet").write_bytes(b"no parquet")
    return folder


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["gpt5", "--out", "x"], "invalid choice: 'gpt5'"),
        (["bert", "--data", "nowhere"], "--out"),
        (["bert", "--data", "nowhere", "--out", "OUT"], "no file nowhere"),
        (["bert", "--out", "OUT"], "--data"),
        (["bert", "--data", "DAMAGED", "--out", "OUT"], "Parquet"),
        (["bert", "--data", "nowhere", "--out", "OUT", "--steps", "0"], "--steps: 0"),
        (["bert", "--data", "nowhere", "--out", "OUT", "--device", "abacus"], "abacus"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRICKS_DATA", raising=False)
    places = {"OUT": str(tmp_path / "out"), "DAMAGED": str(damaged(tmp_path))}
    with pytest.raises(SystemExit) as stopped:
        pretrain.main([places.get(a, a) for a in arguments])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err.strip().split("\n")[-1]
    assert not (tmp_path / "out" / "state.pt").exists()
