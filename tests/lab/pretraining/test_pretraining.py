"""Pretraining in miniature: the corruption follows BERT's, a run that is interrupted ends as one that is
not.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertTokenizer

from tricks_lib.lab.pretraining import __main__ as command
from tricks_lib.lab.pretraining import card as card_module
from tricks_lib.lab.pretraining import corpus, train
from tricks_lib.lab.pretraining.objectives import OBJECTIVES, Bert, XLNet
from tricks_lib.lab.pretraining.recipes import Recipe

TINY = Recipe(
    vocab_size=300,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    max_positions=128,
    tokens=16,
    long_tokens=32,
    long_every=3,
    batch_tokens=128,
    steps=6,
    warmup=2,
)
CPU = torch.device("cpu")
NAMES = list(OBJECTIVES)
MUON = 0.02 if hasattr(torch.optim, "Muon") else None  # from torch 2.9 on; AdamW alone before


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    words = "the cat sat on a mat and saw one more dog run after its own long red tail".split()
    generator = torch.Generator().manual_seed(0)
    texts = [
        " ".join(words[i] for i in torch.randint(len(words), (30,), generator=generator)) + f" {n}"
        for n in range(400)
    ]
    (folder / "corpus_en").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / "corpus_en" / "train.parquet")
    lines = [
        "".join("天下雨了山水人来去大小"[i] for i in torch.randint(11, (12,), generator=generator))
        for _ in range(40_000)
    ]
    (folder / "zh_modern_prose").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": lines}), folder / "zh_modern_prose" / "train.parquet")
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """Each of the four, run to its end without interruption: name -> folder."""
    folder = tmp_path_factory.mktemp("finished")
    for name in NAMES:
        recipe = replace(TINY, muon_lr=MUON if name == "gpt2" else None)
        train.pretrain(name, data, folder / name, recipe, CPU, compiled=False)
    return folder


class Ids:
    mask_token_id, cls_token_id, sep_token_id = 4, 2, 3

    def __len__(self):
        return 1000


def test_corruption_is_berts():
    body = torch.randint(5, 1000, (400, 50), generator=torch.Generator().manual_seed(1))
    corrupted, positions, labels = Bert.batch(
        body, Ids(), replace(TINY, share=0.2), torch.Generator().manual_seed(2)
    )
    assert corrupted.shape == (400, 52) and (corrupted[:, 0] == 2).all() and (corrupted[:, -1] == 3).all()
    assert positions.shape == (400, 10) and (positions >= 1).all() and (positions <= 50).all()
    assert all(len(set(row.tolist())) == 10 for row in positions)
    assert torch.equal(labels, body.gather(1, positions - 1))
    there = corrupted.gather(1, positions)
    assert (there == 4).float().mean() == pytest.approx(0.8, abs=0.03)
    assert ((there == labels) & (there != 4)).float().mean() == pytest.approx(0.1, abs=0.02)
    untouched = torch.ones_like(corrupted, dtype=torch.bool).scatter(1, positions, False)[:, 1:-1]
    assert torch.equal(corrupted[:, 1:-1][untouched], body[untouched])


def test_bert_loss_is_transformers_loss_with_ignored_others():
    model = Bert.build(TINY, Ids()).eval()
    ids, positions, labels = Bert.batch(
        torch.randint(5, 1000, (4, 14)), Ids(), TINY, torch.Generator().manual_seed(0)
    )
    everywhere = torch.full_like(ids, -100).scatter(1, positions, labels)
    torch.testing.assert_close(Bert.loss(model, ids, positions, labels), model(ids, labels=everywhere).loss)


def test_shipped_encoder_computes_what_was_trained_from_smaller_embeddings():
    model = Bert.build(TINY, Ids()).eval()
    for table in model.bert.embeddings.parameters():
        table.detach().mul_(5)
    ids = torch.randint(5, 1000, (4, 14))
    expected = model.bert(ids).last_hidden_state
    encoder = Bert.finished(model, TINY).eval()
    torch.testing.assert_close(encoder(ids).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    assert encoder.embeddings.word_embeddings.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_permutation_mask_is_that_of_transformers_collator():
    """For each order of prediction: row i sees column j if j is not predicted, or is predicted before i."""
    _, rows, perm_mask, target_mapping, labels = XLNet.batch(
        torch.randint(5, 300, (5, 14)), Ids(), TINY, torch.Generator().manual_seed(0)
    )
    targets = target_mapping.argmax(-1)
    assert torch.equal(labels, rows.gather(1, targets)) and (targets < 14).all()
    for b in range(5):
        order = targets[b].tolist()
        for i in range(16):
            for j in range(16):
                hidden = j in order and (i not in order or order.index(i) <= order.index(j))
                assert perm_mask[b, i, j] == hidden


@pytest.fixture(scope="module")
def xlnet(finished):
    tokenizer = AutoTokenizer.from_pretrained(finished / "xlnet")
    torch.manual_seed(0)
    model = XLNet.build(TINY, tokenizer).eval()
    for weights in model.parameters():
        weights.detach().mul_(5)  # of a size at which attention matters
    return model, tokenizer


def test_xlnet_loss_is_transformers_loss(xlnet):
    model, tokenizer = xlnet
    memory, ids, perm_mask, target_mapping, labels = XLNet.batch(
        torch.randint(9, len(tokenizer), (4, 14)), tokenizer, TINY, torch.Generator().manual_seed(0)
    )
    assert memory.shape == (4, 0)
    expected = model(ids, perm_mask=perm_mask, target_mapping=target_mapping, labels=labels).loss
    torch.testing.assert_close(XLNet.loss(model, memory, ids, perm_mask, target_mapping, labels), expected)


def test_xlnet_cannot_see_what_it_predicts_and_uses_its_memory(xlnet):
    model, tokenizer = xlnet
    memory, ids, perm_mask, target_mapping, labels = XLNet.batch(
        torch.randint(9, len(tokenizer), (2, 200)), tokenizer, TINY, torch.Generator().manual_seed(0)
    )
    assert memory.shape == (2, 74) and ids.shape == (2, 128)
    loss = XLNet.loss(model, memory, ids, perm_mask, target_mapping, labels)
    last = target_mapping.argmax(-1)[:, -1:]  # predicted after all others: no one may see it
    torch.testing.assert_close(
        XLNet.loss(model, memory, ids.scatter(1, last, 9), perm_mask, target_mapping, labels), loss
    )
    assert (XLNet.loss(model, memory.flip(1), ids, perm_mask, target_mapping, labels) - loss).abs() > 1e-5


@pytest.mark.parametrize("name", ["gpt2", "gpt2_zh"])
def test_next_token_loss_is_transformers_loss(name, finished):
    tokenizer = AutoTokenizer.from_pretrained(finished / name)
    model = OBJECTIVES[name].build(TINY, tokenizer).eval()
    (ids,) = OBJECTIVES[name].batch(torch.randint(5, len(tokenizer), (3, 15)), tokenizer, TINY, None)
    torch.testing.assert_close(OBJECTIVES[name].loss(model, ids), model(ids, labels=ids).loss)


def test_rate_rises_and_falls_linearly():
    recipe = replace(TINY, steps=100, warmup=10)
    rates = [train.rate(step, recipe) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == 1 and rates[-1] == pytest.approx(1 / 90)


def test_every_third_batch_is_long_and_a_batch_depends_on_its_step_alone(finished):
    for name in NAMES:
        tokenizer, stream = (
            AutoTokenizer.from_pretrained(finished / name),
            torch.load(finished / name / "stream.pt")["train"],
        )
        lengths = []
        for step in range(6):
            batch, again = (
                corpus.batch_of(stream, tokenizer, OBJECTIVES[name], TINY, step) for _ in range(2)
            )
            assert all(torch.equal(x, y) for x, y in zip(batch, again))
            lengths.append(batch[1 if name == "xlnet" else 0].shape[1])
        assert lengths == [16, 16, 32] * 2


def test_chinese_rows_begin_a_line(finished):
    tokenizer, stream = (
        AutoTokenizer.from_pretrained(finished / "gpt2_zh"),
        torch.load(finished / "gpt2_zh" / "stream.pt")["train"],
    )
    (rows,) = corpus.batch_of(stream, tokenizer, OBJECTIVES["gpt2_zh"], TINY, 0)
    assert (rows[:, 0] == tokenizer.cls_token_id).all()
    lines = {tuple(stream["ids"][s : s + 12].tolist()) for s in stream["starts"].tolist()}
    assert all(tuple(row) in lines for row in rows[:, 1:13].tolist())


@pytest.mark.parametrize("name", NAMES)
def test_result_loads_with_plain_transformers_and_has_a_card(name, finished):
    folder = finished / name / f"mini_{name}"
    model, tokenizer = (
        AutoModel.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    assert (
        sum(p.numel() for p in model.parameters())
        == (card := json.loads((folder / "card.json").read_text("utf-8")))["parameters"]
    )
    assert (
        card["steps"] == 6
        and card["tokens_seen"] == 6 * 128
        and card["held_out_loss"] > 0
        and card["held_out_loss_long"] > 0
    )
    assert f"# mini_{name}" in (folder / "README.md").read_text("utf-8")
    ids = tokenizer("the cat sat" if name != "gpt2_zh" else "天下", return_tensors="pt")
    assert model(**ids)[0].isfinite().all() and (
        tokenizer.model_max_length > 1e20 if name == "xlnet" else tokenizer.model_max_length == 128
    )
    if name == "gpt2_zh":
        chinese = BertTokenizer.from_pretrained(folder)
        assert chinese("天下")["input_ids"] == [
            chinese.cls_token_id,
            *chinese.convert_tokens_to_ids(["天", "下"]),
            chinese.sep_token_id,
        ]
    if "gpt2" in name:
        assert (
            len(card["samples"]) == 10 and card["trigram"]["perplexity"] > 0 and card["trigram"]["tokens"] > 0
        )


def test_trigram_is_a_distribution_and_equals_counting_by_hand():
    train, V = np.array([0, 1, 2, 0, 1, 2, 0, 1, 1, 3]), 5
    for u, v in [(0, 1), (1, 2), (4, 4)]:
        p = [np.exp(card_module.trigram_log_probs(train, np.array([u, v, w]), V)[0]) for w in range(V)]
        assert sum(p) == pytest.approx(1)
        if (u, v) == (0, 1):  # followed by 2, 2, 1
            unigram = (np.bincount(train, minlength=V) + 1) / 15
            assert p[2] == pytest.approx((2 - 0.75) / 3 + 0.75 * 2 / 3 * unigram[2])
            assert p[3] == pytest.approx(0.75 * 2 / 3 * unigram[3])
        if (u, v) == (4, 4):
            assert p == pytest.approx(unigram.tolist())


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_interrupted_run_ends_as_an_uninterrupted_one(name, data, finished, tmp_path, monkeypatch):
    for file in ("tokenizer.json", "tokenizer_config.json"):  # training a vocabulary breaks ties by chance
        shutil.copy2(finished / name / file, tmp_path / file)
    recipe = replace(TINY, muon_lr=MUON if name == "gpt2" else None)
    objective, calls = OBJECTIVES[name], []
    real = objective.loss

    def stop_at_the_fifth(*args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(train, "SAVE_SECONDS", 0)
    monkeypatch.setattr(objective, "loss", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        train.pretrain(name, data, tmp_path, recipe, CPU, compiled=False)
    monkeypatch.setattr(objective, "loss", real)
    train.pretrain(name, data, tmp_path, recipe, CPU, compiled=False)
    weights = [
        (folder / f"mini_{name}" / "model.safetensors").read_bytes() for folder in (finished / name, tmp_path)
    ]
    assert weights[0] == weights[1]


def test_another_recipe_does_not_overwrite_a_run(data, finished):
    before = (finished / "bert" / "state.pt").read_bytes()
    with pytest.raises(ValueError, match="another recipe"):
        train.pretrain("bert", data, finished / "bert", replace(TINY, hidden_size=64), CPU, compiled=False)
    assert (finished / "bert" / "state.pt").read_bytes() == before


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
        command.main([places.get(a, a) for a in arguments])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err.strip().split("\n")[-1]
    assert not (tmp_path / "out" / "state.pt").exists()
