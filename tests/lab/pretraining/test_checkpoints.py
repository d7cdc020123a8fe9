"""The embedded checkpoints: each loads with plain transformers, knows something, and its card says where that
comes from.
"""

import json
import logging

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertTokenizer

from tricks_lib.lab import models
from tricks_lib.lab.pretraining.recipes import RECIPES

NAMES = [f"mini_{name}" for name in RECIPES]
SENTENCES = {name: "The soup was cold, but the waiter was kind." for name in NAMES} | {
    "mini_gpt2_zh": "最美不过下雨天"
}


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(name):
    return AutoModel.from_pretrained(
        models.ASSETS / name, dtype=torch.float32
    ).eval(), AutoTokenizer.from_pretrained(models.ASSETS / name)


@pytest.fixture(scope="module")
def card(name):
    return json.loads((models.ASSETS / name / "card.json").read_text(encoding="utf-8"))


def test_all_are_there():
    assert {file.parent.name for file in models.ASSETS.glob("*/model.safetensors")} == {*NAMES}


def test_loads_with_plain_transformers_and_no_warning(name, caplog, capfd, recwarn):
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with caplog.at_level(logging.WARNING):
        AutoModel.from_pretrained(models.ASSETS / name), AutoTokenizer.from_pretrained(models.ASSETS / name)
    assert not caplog.records and not list(recwarn) and not capfd.readouterr().err


def test_sizes(name, loaded):
    model, tokenizer = loaded
    assert 3.0e6 <= sum(p.numel() for p in model.parameters()) <= 3.7e6
    assert len(tokenizer) == model.config.vocab_size == RECIPES[name.removeprefix("mini_")].vocab_size
    if name == "mini_xlnet":
        assert (
            model.config.mem_len == 512
            and tokenizer.padding_side == "left"
            and tokenizer.model_max_length > 1e20
        )
    else:
        assert model.config.max_position_embeddings == 512 and tokenizer.model_max_length == 512


def test_forward_value(name, loaded):
    model, tokenizer = loaded
    with torch.no_grad():
        states = model(**tokenizer(SENTENCES[name], return_tensors="pt")).last_hidden_state
    assert states[0, 1, :4].tolist() == pytest.approx(FORWARD[name], abs=1e-3)


FORWARD = {
    "mini_bert": [-0.3967, 2.0893, -1.0066, 0.7331],
    "mini_xlnet": [-0.7156, -0.3307, -1.1421, 3.4845],
    "mini_gpt2": [1.313, 0.8795, -0.7209, 0.3366],
    "mini_gpt2_zh": [-0.2128, -0.8307, 0.9706, -0.9196],
}  # fmt: skip


NEIGHBOURS = [("good", "great", "engine"), ("king", "queen", "software"), ("two", "three", "funny")]


def test_neighbours_in_the_embedding_table_have_to_do_with_each_other(name, loaded):
    """A random table passes this for none of the words."""
    model, tokenizer = loaded
    table = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach(), dim=-1)
    words = (
        [("大", "小", "马"), ("东", "西", "说"), ("二", "三", "马")] if name == "mini_gpt2_zh" else NEIGHBOURS
    )

    def row(word):
        return table[tokenizer(" " + word, add_special_tokens=False)["input_ids"][0]]

    for word, near, far in words:
        assert row(word) @ row(near) > row(word) @ row(far), word


def test_card_has_its_fields_and_they_agree_with_the_weights(name, loaded, card):
    for field in (
        "objective",
        "corpus",
        "corpus_sha256",
        "tokens_seen",
        "steps",
        "minutes",
        "held_out_loss",
        "held_out_loss_long",
        "hardware",
        "date",
        "recipe",
        "curve",
        "torch",
    ):
        assert card[field], field
    assert card["parameters"] == sum(p.numel() for p in loaded[0].parameters())
    assert card["steps"] == card["recipe"]["steps"] == card["curve"][-1]["step"]
    assert len(card["corpus_sha256"]) == 64 and "seed" in card["recipe"]
    assert f"{card['steps']:,} steps" in (models.ASSETS / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["mini_gpt2", "mini_gpt2_zh"], scope="module")
def test_a_language_model_is_far_better_than_a_trigram_and_shows_ten_samples(name, card):
    assert (
        card["trigram"]["ratio"] <= (0.6 if name == "mini_gpt2" else 0.9)
        and card["trigram"]["tokens"] > 50_000
    )
    assert len(card["samples"]) == 10 and all(text.startswith(card["prompt"]) for text in card["samples"])
    page = (models.ASSETS / name / "README.md").read_text(encoding="utf-8")
    assert all(" ".join(text.split()) in page for text in card["samples"])


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13."),
    reason="other releases of torch draw other numbers from the same seed",
)
@pytest.mark.parametrize("name", ["mini_gpt2"], scope="module")
def test_the_first_sample_of_the_card_is_what_the_model_says(name, card):
    from tricks_lib.lab.pretraining.card import samples

    model, tokenizer = models.load_gpt2(name)
    assert samples(model, tokenizer, card["prompt"], seeds=1)[0][:20] == card["samples"][0][:20]


def test_the_chinese_vocabulary_is_read_by_bert_tokenizer():
    tokenizer = BertTokenizer.from_pretrained(models.ASSETS / "mini_gpt2_zh")
    ids = tokenizer("最美不过下雨天")["input_ids"]
    assert (
        ids[0] == tokenizer.cls_token_id
        and ids[-1] == tokenizer.sep_token_id
        and tokenizer.unk_token_id not in ids
    )
    assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == list("最美不过下雨天")
