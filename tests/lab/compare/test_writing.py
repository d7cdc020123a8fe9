"""Decoding beside people's text. Oracles: the definition in NumPy, ``transformers``' logits."""

import dataclasses

import numpy as np
import pytest
import torch

from tricks_lib.lab import models, tasks
from tricks_lib.lab.compare import metrics, records, summary, verify
from tricks_lib.lab.compare.comparison import Comparison
from tricks_lib.lab.compare.kinds import writing
from tricks_lib.lab.studies import decoding as study

from .test_frozen import ran

SOURCE = writing.Text("guest_notes/topic", documents=5, prompt=6, new=8)
SOME = {
    name: study.MODES[name]
    for name in ("plain sampling", "greedy", "beam 4", "contrastive", "temperature 0.7", "min-p 0.1")
}


def small(**changes):
    training = {"rows": {}, "unit": "new tokens", "prompt": SOURCE.prompt}
    given = {
        "name": "decoding/mini", "source": SOURCE, "model": "mini_gpt2", "arms": SOME, "command": "run",
        "metric": "log_prob_gap", "training": training, "rates": (), "steps": SOURCE.new, "tuning_seeds": (),
    }  # fmt: skip
    return writing.WriteComparison(**{**given, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return ran(small(), tmp_path_factory.mktemp("decoding")), tmp_path_factory


def test_the_gap_is_the_distance_of_the_means():
    rng = np.random.default_rng(0)
    texts, people = rng.normal(-2, 1, (2, 3, 64)), rng.normal(-3, 1, 64)
    assert metrics.log_prob_gap(texts, people) == pytest.approx(np.abs(texts.mean(-1) - people.mean()))
    assert metrics.METRICS["log_prob_gap"].guess(people) == pytest.approx(0, abs=1e-12)
    assert not metrics.METRICS["log_prob_gap"].higher_is_better


def test_what_people_wrote_is_scored_by_the_models_own_logits(made):
    decoder, tokenizer = models.load_decoder("mini_gpt2")
    documents = SOURCE.tokens(tokenizer)
    assert documents.shape == (5, 14)
    with torch.no_grad():
        log_p = decoder(documents).logits.log_softmax(-1)[:, 5:-1].gather(2, documents[:, 6:, None])
    record, _ = made
    assert record["data"]["people"]["log_prob"] == pytest.approx(float(log_p.mean()), abs=1e-4)
    assert record["data"]["sizes"]["test"] == 5


def test_searches_write_the_same_for_every_seed_and_samples_do_not(made):
    record, _ = made
    different = {name: len({run["score"] for run in arm["runs"]}) for name, arm in record["arms"].items()}
    searches = {"greedy", "beam 4", "contrastive"}
    assert all((count == 1) == (name in searches) for name, count in different.items())
    greedy = record["arms"]["greedy"]["runs"][0]
    assert greedy["log_prob"] > record["data"]["people"]["log_prob"], "greedy is more probable than people"


def test_two_searches_are_compared_over_examples_alone(made):
    record, _ = made
    beam, contrastive = record["statistics"]["rivals"][:2]
    assert (beam["arm"], beam["rival"], beam["n"]) == ("beam 4", "greedy", 5), "five documents, no seeds"
    assert beam["verdict"] == "counts only"
    assert record["statistics"]["arms"]["greedy"]["baseline"]["n"] == len(record["seeds"])


def test_differences_that_every_seed_repeats_are_counted_once():
    rng = np.random.default_rng(0)
    row, zeros = rng.normal(size=(1, 9)), np.zeros((3, 9))
    assert summary.once(np.repeat(row, 3, axis=0)).tolist() == row.tolist()
    assert summary.once(zeros).shape == (3, 9) and summary.once(rng.normal(size=(3, 9))).shape == (3, 9)


def test_a_record_without_training_has_neither_rates_nor_trials(made):
    record, folders = made
    assert record["rates"] == [] == record["steps"]["settled"] and record["tuning_seeds"] == []
    assert not any(run["failed"] for arm in record["arms"].values() for run in arm["runs"])
    folder = next(folders.getbasetemp().glob("decoding*"))
    _, predictions = records.load("decoding/mini", folder)
    for field, value, message in [
        ("rates", [0.1, 0.2, 0.4, 0.8], "tuning_seeds: 0 given"),
        ("steps", {**record["steps"], "still_improving": True}, "steps: settled by trials, where no rates"),
        ("seeds", record["seeds"][:5], "seeds: 5 for 5 comparisons"),
    ]:
        with pytest.raises(ValueError, match=message):
            verify.verify({**record, field: value}, predictions, "decoding__mini.json")


def test_an_arm_is_pasted_as_its_call(made):
    record, _ = made
    assert (
        record["arms"]["beam 4"]["arguments"]
        == "beam_search(model, input_ids, max_new_tokens=8, num_beams=4)"
    )


def test_a_text_that_is_too_short_is_refused():
    _, tokenizer = models.load_decoder("mini_gpt2")
    with pytest.raises(ValueError, match="tokens, too few for 5000 of 14"):
        dataclasses.replace(SOURCE, documents=5000).tokens(tokenizer)


def test_the_books_row_has_twelve_comparisons_with_plain_sampling_on_a_registered_text():
    row = study.COMPARISONS["decoding/en_tinyshakespeare"]()
    assert isinstance(row, Comparison) and row.baseline == "plain sampling" and row.comparisons == 12
    assert len(row.seeds) >= 10 and row.source.documents == 64 and row.steps == 60
    assert row.source.spec in tasks.TASKS and not row.trained


def test_the_data_are_known_by_their_rows_as_everywhere():
    assert SOURCE.sha256 == tasks.digests("guest_notes/topic") != {}


def test_shares_of_ngrams_by_hand():
    assert writing.repeated([1, 2, 1, 2, 1], 2) == 0.5  # 12 21 12 21
    assert writing.repeated([1, 2, 3, 4], 3) == 0
    assert writing.distinct([[1, 2, 1], [1, 2, 3]], 2) == 0.75  # 12 21 12 23
    assert writing.distinct([[1, 2, 1], [1, 2, 3]], 1) == 0.5
