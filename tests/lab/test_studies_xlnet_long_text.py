import numpy as np
import torch
from torch import nn
from transformers import BertModel, XLNetConfig, XLNetModel

from tests.lab.conftest import tiny_config, tiny_tokenizer
from tricks_lib.lab import fit
from tricks_lib.lab.studies import xlnet_long_text as study
from tricks_lib.xlnet_long_text import SlidingWindowClassifier, XLNetLongClassifier, truncate_head_tail

STACK = fit.collate(tiny_tokenizer())
ROWS = [
    {"input_ids": [5 + (i + j) % 18 for j in range(n)], "attention_mask": [1] * n, "labels": i % 2}
    for i, n in enumerate([9, 3, 14, 6, 11])
]


def bert():
    torch.manual_seed(0)
    return BertModel(tiny_config()).eval()


def xlnet(layers=2):
    torch.manual_seed(0)
    return XLNetModel(
        XLNetConfig(vocab_size=30, d_model=8, n_layer=layers, n_head=2, d_inner=8, initializer_range=0.5)
    ).eval()


def test_reader_is_of_the_encoders_kind():
    long, windows = (
        study.reader(xlnet(), 2, length=4, memory=3, pool="max"),
        study.reader(bert(), 3, length=4, stride=2),
    )
    assert isinstance(long, XLNetLongClassifier) and (long.segment_length, long.mem_len, long.pool) == (
        4,
        3,
        "max",
    )
    assert isinstance(windows, SlidingWindowClassifier) and (
        windows.window_length,
        windows.stride,
        windows.pool,
    ) == (4, 2, "mean")
    assert study.reader(xlnet(), 2).mem_len == 0 and study.reader(bert(), 2, length=8).stride == 8


def test_cut_keeps_first_or_head_and_tail_of_every_column_and_the_labels():
    assert study.cut(ROWS) == ROWS
    first = study.cut(ROWS, "first", 4)
    assert [row["input_ids"] for row in first] == [row["input_ids"][:4] for row in ROWS]
    both = study.cut(ROWS, "head and tail", 4)
    for row, short in zip(ROWS, both):
        assert short["input_ids"] == truncate_head_tail(torch.tensor([row["input_ids"]]), 4)[0].tolist()
        assert (
            len(short["attention_mask"]) == len(short["input_ids"]) <= 4 and short["labels"] == row["labels"]
        )


def test_scores_are_differences_of_logits_in_the_order_of_the_rows():
    model = study.reader(bert(), 2, length=4).eval()
    got = study.scores(model, ROWS, STACK, batch_size=2)
    with torch.no_grad():
        logits = [model(torch.tensor([row["input_ids"]])).logits[0] for row in ROWS]
    np.testing.assert_allclose(got, [(x[1] - x[0]).item() for x in logits], atol=1e-5)


def test_choose_takes_the_first_pages_of_each_bin():
    position = [-1, 0, 250, 99, 100, -1, 7, 260, 900, -1]
    index, place = study.choose(position, per_bin=2, without=2, width=100, bins=3)
    assert index.tolist() == [0, 5, 1, 3, 4, 2, 7] and place.tolist() == [-1, -1, 0, 0, 1, 2, 2]


def test_marked_notes_and_how_much_of_them_is_left():
    import datasets

    text = "the room was cold\nsoup is good\nbad bed and loud room"
    pages = datasets.Dataset.from_dict(
        {"text": [text, text, text], "label": [1, 1, 0], "position": [4, 7, -1]}
    )
    rows = study.marked(tiny_tokenizer(), pages)
    assert [sum(row["note"]) for row in rows] == [3, 5, 0]
    words = ["[CLS]", *text.split(), "[SEP]"]
    assert [w for w, flag in zip(words, rows[0]["note"]) if flag] == ["soup", "is", "good"]
    assert study.shown(rows, "first", 6).tolist() == [1 / 3, 0, 0]
    assert study.shown(rows, "all").tolist() == [1, 1, 0]
    assert study.shown(rows, "head and tail", 8)[1] == 1  # the last six of eight: five words and [SEP]


def test_recall_at_a_rate_of_false_alarms():
    values = np.array([0.0, 1, 2, 3, 4, 5, 1, 5, 0])
    place = np.array([-1, -1, -1, -1, -1, 0, 0, 1, 1])
    assert study.recall(values, place, alarms=0.25).tolist() == [0.5, 0.5]


def test_sees_one_segment_more_with_every_layer():
    for layers, memory in ((1, 0), (1, 3), (2, 3)):
        model = XLNetLongClassifier(xlnet(layers).double(), 2, 3, mem_len=memory).double().eval()
        segment = np.arange(9) // 3
        back = segment[:, None] - segment[None]
        assert np.array_equal(study.sees(model, 9), (back >= 0) & (back <= (layers if memory else 0)))


def test_seconds_of_each_way_up_to_its_length():
    ways = {"slow": nn.Identity(), "fast": nn.Identity()}
    found = study.seconds(ways, torch.ones(1, 8), (2, 4, 8), most=4)
    assert [*found["slow"]] == [2, 4] and [*found["fast"]] == [2, 4, 8]


def test_training_moves_the_last_layers_only():
    encoder = bert()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    model = study.train(
        encoder, ROWS, STACK, layers=1, steps=2, lr=1e-2, batch_size=4, length=16, device="cpu"
    )
    moved = {k for k, v in model.encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all(k.startswith("encoder.layer.1.") for k in moved if "pooler" not in k)
