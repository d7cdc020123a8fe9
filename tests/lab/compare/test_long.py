"""Long texts, read by a frozen encoder. Oracle: the package's classifier on whole documents."""

import pytest
import torch

from tricks_lib.lab.compare import tokens
from tricks_lib.lab.compare.kinds import frozen, long
from tricks_lib.lab.studies import readouts
from tricks_lib.mean_pooling import mean_pool
from tricks_lib.xlnet_long_text import SlidingWindowClassifier

from .test_frozen import ran

NOTES = tokens.Source("guest_notes/rating")
LENGTH, STRIDE = 12, 8


@pytest.fixture(scope="module")
def task():
    return tokens.prepare(NOTES, "mini_bert", 4096)


@pytest.fixture(scope="module")
def ids(task):
    return [torch.tensor([row["input_ids"]]) for row in task.rows["test"][:7]]


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_windows_are_those_of_the_packages_classifier(task, ids, pool):
    x, real = long.window_vectors(task.encoder, ids, LENGTH, STRIDE)
    assert len({*real.sum(dim=1).tolist()}) > 1, "texts of several lengths"
    reader = SlidingWindowClassifier(task.encoder, 2, window_length=LENGTH, stride=STRIDE, pool=pool).eval()
    reader.classifier = torch.nn.Identity()
    reader.classifier.weight = next(task.encoder.parameters())
    with torch.no_grad():
        expected = torch.cat([reader.document_vectors(one, torch.ones_like(one).bool(), None) for one in ids])
    ours = mean_pool(x, real) if pool == "mean" else x.masked_fill(~real.unsqueeze(-1), -1e9).amax(dim=1)
    assert ours == pytest.approx(expected, abs=1e-5)


def test_the_tail_is_the_end_of_the_whole_text():
    ids = torch.arange(5000).view(1, -1)
    assert long.PARTS["head"](ids, 4).tolist() == [[0, 1, 2, 3]]
    assert long.PARTS["tail"](ids, 4).tolist() == [[4996, 4997, 4998, 4999]]
    assert long.PARTS["head and tail"](ids, 4).tolist() == [[0, 4997, 4998, 4999]]


def test_reviews_are_read_whole():
    made = readouts.reviews()
    assert made.training["max_length"] >= 4096 and made.training["length"] < 512
    assert made.arms["windows, mean"].rival == "head and tail"


@pytest.mark.parametrize("part", long.PARTS)
def test_vectors_of_a_part_are_the_means_of_its_states(task, ids, part):
    pieces = [long.PARTS[part](one, LENGTH)[0] for one in ids]
    found = long.part_vectors(task.encoder, task, pieces)
    with torch.no_grad():
        expected = [task.encoder(one.unsqueeze(0)).last_hidden_state.mean(dim=1) for one in pieces]
    assert found == pytest.approx(torch.cat(expected), abs=1e-5)


def test_long_texts_in_miniature(tmp_path):
    training = {"rate": "expected weight", "max_length": 4096, "pool": 60, "rows": {"rows": 50}}
    made = long.LongComparison(
        "long/mini", tokens.Source("guest_notes/topic"), "mini_bert", readouts.LONG, "accuracy",
        training | {"length": LENGTH, "stride": STRIDE}, readouts.RATES, 6, (101, 102, 103), command="run",
    )  # fmt: skip
    record = ran(made, tmp_path)
    scores = {tuple(run["score"] for run in arm["runs"]) for arm in record["arms"].values()}
    assert len(scores) == len(readouts.LONG), "each arm reads something else"
    assert issubclass(long.LongJob, frozen.ProbeJob) and "lab/compare/kinds/long.py" in long.LongJob.more_code
