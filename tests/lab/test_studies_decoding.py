"""The helpers of the decoding study, on a table of probabilities that one can search by hand and on a tiny
corpus.
"""

import itertools
import math

import matplotlib.pyplot as plt
import pytest
import torch

from tricks_lib.decoding import beam_search, greedy_search, sequence_log_prob
from tricks_lib.lab import models
from tricks_lib.lab.compare.kinds import writing
from tricks_lib.lab.studies import decoding as study

TABLE = torch.tensor(
    [[1e-9, 0.5, 0.4, 0.1], [0.35, 0.25, 0.2, 0.2], [0.05, 0.05, 0.05, 0.85], [0.25, 0.25, 0.25, 0.25]]
)


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
    assert found["repetition"] == 0 and found["distinct_2"] == pytest.approx(5 / 6, abs=1e-6)


def test_every_arm_writes_as_many_tokens_after_the_same_prompt_and_draws_follow_the_seed():
    model, prompts = models.load_gpt2("mini_gpt2")[0], torch.tensor([[5, 6], [7, 8], [6, 6]])
    for arm, settings in study.ARMS.items():  # a filter may leave one token
        first, again, other = (writing.write(model, prompts, 9, seed, **settings) for seed in (0, 0, 1))
        assert first.shape == (3, 11) and torch.equal(first[:, :2], prompts), arm
        assert torch.equal(first, again), arm
        assert torch.equal(first, other) or settings["mode"] == "sample", arm
    plain = study.ARMS[study.PLAIN]
    assert not torch.equal(*(writing.write(model, prompts, 9, seed, **plain) for seed in (0, 1)))


def test_every_mode_of_the_chapter_is_an_arm():
    modes = {settings["mode"] for settings in study.ARMS.values()}
    assert modes == {
        "greedy_search", "beam_search", "diverse_beam_search", "contrastive_search", "sample",
    }  # fmt: skip
    assert {"temperature", "top_k", "top_p", "min_p", "typical_p"} < {
        name for settings in study.ARMS.values() for name in settings
    }


def test_picture_draws_every_arm_in_each_panel_and_where_people_are():
    rows = {
        arm: {"log_prob": [-2.0 - i, -3.0 - i], "repetition": [0.5, 0.4], "distinct_2": [0.2, 0.3]}
        for i, arm in enumerate([*study.ARMS, study.PEOPLE])
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
