"""The helpers of the decoding study, on a table of probabilities that one can search by hand and on a tiny
corpus.
"""

import dataclasses
import itertools
import math

import matplotlib.pyplot as plt
import pyarrow
import pyarrow.parquet
import pytest
import torch

from tricks_lib.decoding import beam_search, greedy_search, sequence_log_prob
from tricks_lib.lab import models, tasks
from tricks_lib.lab.compare.kinds import writing
from tricks_lib.lab.studies import decoding as study

TABLE = torch.tensor(
    [[1e-9, 0.5, 0.4, 0.1], [0.35, 0.25, 0.2, 0.2], [0.05, 0.05, 0.05, 0.85], [0.25, 0.25, 0.25, 0.25]]
)
(EXPERIMENT,) = study.EXPERIMENTS


class Letters:
    """A tokenizer for the tiny corpus: a token a letter."""

    def __call__(self, texts, **options):
        return {"input_ids": [[ord(letter) - ord("a") for letter in text] for text in texts]}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Documents of four letters, of which 1 in 100 is held out, and a model of them."""
    texts = [
        "".join("abcd"[(i * k + k // 7) % 4] + "abcd"[i >> k & 3] for k in range(30)) for i in range(1200)
    ]
    (tmp_path / "corpus_en").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "corpus_en" / "train.parquet")
    monkeypatch.setenv("TRICKS_DATA", str(tmp_path))
    monkeypatch.setattr(models, "load_gpt2", lambda name: (study.Bigrams(TABLE), Letters()))
    monkeypatch.setattr(study, "TEXTS", 3)
    for cached in (study.corpus, study.held_out):
        cached.cache_clear()
    yield texts
    for cached in (study.corpus, study.held_out):
        cached.cache_clear()


def test_table_model_has_the_probabilities_of_its_table_and_greedy_misses_the_best_sequence():
    model, start = study.Bigrams(TABLE), torch.tensor([[0]])
    every = torch.tensor([[0, a, b] for a, b in itertools.product(range(4), repeat=2)])
    p = sequence_log_prob(model, every, 1).exp()
    assert p.tolist() == pytest.approx(
        [(TABLE[0, a] * TABLE[a, b]).item() for _, a, b in every.tolist()], rel=1e-5
    )
    best = every[p.argmax()].tolist()
    assert beam_search(model, start, 2, num_beams=2).tolist() == [best] == [[0, 2, 3]]
    assert greedy_search(model, start, 2).tolist() == [[0, 1, 0]]


def test_measures_agree_with_the_package_and_with_the_table():
    model, rows = study.Bigrams(TABLE), torch.tensor([[0, 1, 0, 1, 0, 1], [0, 2, 3, 3, 1, 1]])
    found = study.measures(model, rows, 2)
    assert found["log_prob"] == pytest.approx(
        sequence_log_prob(model, rows, 2, length_penalty=1.0).mean().item(), rel=1e-5
    )
    by_hand = math.log(TABLE[1, 0]) + math.log(TABLE[0, 1])  # of four tokens: each of the two stands twice
    assert study.measures(model, rows[:1], 2)["log_prob"] == pytest.approx(by_hand / 2, rel=1e-5)
    assert found["new_3grams"] == 1 and found["distinct_1"] == 3 / 8 and found["distinct_2"] == 5 / 6


def test_every_arm_writes_as_many_tokens_after_the_same_prompt_and_draws_follow_the_seed(corpus):
    model, rows = study.held_out("", "corpus_en")
    prompts = rows[:3, : study.PROMPT]
    for arm, settings in study.ARMS.items():
        first, again, other = (
            writing.write(model, prompts, 7, seed, **settings) for seed in (0, 0, 1)
        )  # four letters: a filter may leave one
        assert (
            first.shape == (3, study.PROMPT + 7)
            and torch.equal(first[:, : study.PROMPT], prompts)
            and torch.equal(first, again)
        ), arm
        assert torch.equal(first, other) or settings["mode"] == "sample", arm
    assert not torch.equal(first, other)  # plain sampling, the last


def test_every_mode_of_the_chapter_is_an_arm():
    arms = EXPERIMENT.arms
    modes = {settings["mode"] for settings in arms.values()}
    assert modes == {
        "greedy_search",
        "beam_search",
        "diverse_beam_search",
        "contrastive_search",
        "sample",
        study.PEOPLE,
    }
    assert {"temperature", "top_k", "top_p", "min_p", "typical_p"} < {
        name for settings in arms.values() for name in settings
    }
    assert len(EXPERIMENT.seeds) * study.TEXTS >= 200 and not EXPERIMENT.grid


def test_prompts_are_held_out_and_no_two_seeds_share_one(corpus, monkeypatch):
    train, held, _ = study.corpus("corpus_en")
    assert sorted(train + held) == sorted(corpus) and 3 <= len(held) < 30
    _, rows = study.held_out("", "corpus_en")
    starts = {tuple(row) for row in study.beginnings(Letters(), held, study.PROMPT + study.NEW).tolist()}
    assert {tuple(row) for row in rows.tolist()} == starts
    seen = []
    monkeypatch.setattr(
        study, "measures", lambda model, sequences, length: seen.extend(map(tuple, sequences.tolist())) or {}
    )
    for seed in range(len(rows) // 3):
        study.run(EXPERIMENT, {"mode": study.PEOPLE}, seed, "test")
    assert len(seen) == len({*seen}) == len(rows) // 3 * 3
    with pytest.raises(ValueError, match="held-out documents last"):
        study.run(EXPERIMENT, {"mode": study.PEOPLE}, len(rows) // 3, "test")


def test_a_run_gives_the_measures_and_the_speed(corpus):
    found = study.run(EXPERIMENT, EXPERIMENT.arms["greedy"], 0, "test")
    assert found["tokens_per_second"] > 0 and EXPERIMENT.metric in found and found["log_prob"] < 0
    people = study.run(EXPERIMENT, {"mode": study.PEOPLE}, 0, "test")
    assert {*found} - {*people} == {"tokens_per_second"}


def test_the_corpus_is_described_without_labels_and_other_sets_as_before(corpus):
    train, held, sha256 = study.corpus("corpus_en")
    assert tasks.describe("corpus_en") == {
        "name": "corpus_en",
        "sha256": {"train": sha256},
        "sizes": {"train": len(train), "test": len(held)},
    }
    assert tasks.describe("guest_notes/topic")["sizes"]["test"] > 100


def test_picture_draws_every_arm_in_each_panel_and_where_people_are():
    rows = {
        arm: {"log_prob": [-2.0 - i, -3.0 - i], "new_3grams": [0.5, 0.6], "distinct_2": [0.2, 0.3]}
        for i, arm in enumerate(EXPERIMENT.arms)
    }
    panels = study.picture(rows)
    assert [len(ax.containers) for ax in panels] == [len(rows)] * 3
    names = [tick.get_text() for tick in panels[0].get_yticklabels()]
    assert names == [*reversed(rows)]  # the least probable first
    at_people = [ax.containers[names.index(study.PEOPLE)][0].get_xdata()[0] for ax in panels]
    assert at_people == pytest.approx([-2.5 - [*rows].index(study.PEOPLE), 45, 25])
    dashed = [[line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] for ax in panels]
    assert dashed == [[pytest.approx(x)] for x in at_people]
    assert len({tick.get_color() for tick in panels[0].get_yticklabels()}) == 3
    plt.close("all")


def test_the_shipped_speeches_are_long_enough_for_the_demonstration():
    model, tokenizer = models.load_gpt2("mini_gpt2")
    speeches = study.speeches()
    assert len(speeches) == 21 and all(text.split("\n")[0].endswith(":") for text in speeches)
    assert len(study.beginnings(tokenizer, speeches, 36)) == 21


def test_without_the_corpus_the_error_says_what_to_set(monkeypatch):
    study.corpus.cache_clear()
    with pytest.raises(FileNotFoundError, match="TRICKS_DATA"):
        dataclasses.replace(EXPERIMENT, model="mini_gpt2").run(
            EXPERIMENT, EXPERIMENT.arms["greedy"], 0, "test"
        )
