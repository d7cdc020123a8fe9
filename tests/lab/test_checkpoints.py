"""The embedded checkpoint: loads with plain transformers, knows something, and its card says where that comes from."""

import json
import logging

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tricks_lib.lab import models

FOLDER = models.ASSETS / "mini_bert"


@pytest.fixture(scope="module")
def loaded():
    return AutoModel.from_pretrained(FOLDER, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(FOLDER)


def test_loads_with_plain_transformers_and_no_warning(caplog, capfd, recwarn):
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with caplog.at_level(logging.WARNING):
        AutoModel.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)
    assert not caplog.records and not list(recwarn) and not capfd.readouterr().err


def test_sizes(loaded):
    model, tokenizer = loaded
    assert 3.0e6 <= sum(p.numel() for p in model.parameters()) <= 3.7e6
    assert model.config.max_position_embeddings == 512 and tokenizer.model_max_length == 512
    assert len(tokenizer) == model.config.vocab_size == 8192


def test_forward_value(loaded):
    model, tokenizer = loaded
    with torch.no_grad():
        states = model(**tokenizer("The soup was cold, but the waiter was kind.", return_tensors="pt")).last_hidden_state
    assert states[0, 1, :4].tolist() == pytest.approx(FORWARD, abs=1e-3)


FORWARD = [-0.3967, 2.0893, -1.0066, 0.7331]


def test_neighbours_in_the_embedding_table_have_to_do_with_each_other(loaded):
    """A random table passes this for none of the words."""
    model, tokenizer = loaded
    table = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach(), dim=-1)
    index = tokenizer.convert_tokens_to_ids
    for word, near, far in [("good", "great", "engine"), ("king", "queen", "software"), ("two", "three", "funny")]:
        assert table[index(word)] @ table[index(near)] > table[index(word)] @ table[index(far)]


def test_card_has_its_fields_and_they_agree_with_the_weights(loaded):
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    for field in ("objective", "corpus", "corpus_sha256", "tokens_seen", "steps", "minutes", "held_out_loss", "held_out_loss_long", "hardware", "date", "recipe", "curve", "torch"):
        assert card[field], field
    assert card["parameters"] == sum(p.numel() for p in loaded[0].parameters())
    assert card["steps"] == card["recipe"]["steps"] == card["curve"][-1]["step"]
    assert len(card["corpus_sha256"]) == 64 and "seed" in card["recipe"]
    assert str(f"{card['steps']:,} steps") in (FOLDER / "README.md").read_text(encoding="utf-8")
