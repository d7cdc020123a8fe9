"""Data sets: what guest_notes is, what its pages are, and how files of one's own are found, checked and
refused.
"""

import collections
import hashlib
import json
import re
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tricks_lib.lab import registry, tasks
from tricks_lib.lab.tasks import ASPECTS, SPLITS, TOPICS, Task

FOLDER = Path(tasks.__file__).parents[1] / "assets" / "guest_notes"
NOTES = {
    split: [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    for split in SPLITS
}
ALL = [note for notes in NOTES.values() for note in notes]


def words(text):
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def grams(text, n):
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def digest(file):
    """sha256 of the rows, one line of JSON each, with the columns in the order of their names."""
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    else:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    lines = [json.dumps(dict(sorted(row.items())), ensure_ascii=False) + "\n" for row in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# --- guest_notes


def test_the_files_are_the_registered_ones():
    assert tuple(digest(FOLDER / f"{split}.jsonl") for split in SPLITS) == registry.NOTES_SHA256


def test_guest_notes_are_as_many_and_as_long_as_they_should_be():
    assert len(ALL) >= 1200
    assert {split: len(notes) for split, notes in NOTES.items()} == {
        "train": 902,
        "validation": 159,
        "test": 259,
    }
    lengths = [len(note["text"].split()) for note in ALL]
    assert min(lengths) >= 8 and max(lengths) <= 60


def test_every_note_has_every_field_in_range():
    for note in ALL:
        assert list(note) == ["text", "topic", "aspects", "rating", "safety_issue"]
        assert note["text"] == note["text"].strip() and "\n" not in note["text"]
        assert note["topic"] in TOPICS
        assert (
            note["aspects"]
            and set(note["aspects"]) <= set(ASPECTS)
            and len(set(note["aspects"])) == len(note["aspects"])
        )
        assert (
            isinstance(note["rating"], float)
            and 1.0 <= note["rating"] <= 5.0
            and (2 * note["rating"]).is_integer()
        )
        assert isinstance(note["safety_issue"], bool)


def test_topics_are_imbalanced_and_the_rarest_is_three_percent():
    share = {topic: sum(note["topic"] == topic for note in ALL) / len(ALL) for topic in TOPICS}
    assert len(share) == 8 and 0.025 <= min(share.values()) <= 0.035
    assert max(share.values()) > 5 * min(share.values())
    for notes in NOTES.values():
        assert {note["topic"] for note in notes} == set(TOPICS)
        for topic in TOPICS:  # the split is stratified
            assert sum(note["topic"] == topic for note in notes) / len(notes) == pytest.approx(
                share[topic], abs=0.015
            )


def test_safety_issues_are_four_to_six_percent():
    assert 0.04 <= sum(note["safety_issue"] for note in ALL) / len(ALL) <= 0.06
    assert all(sum(note["safety_issue"] for note in notes) >= 10 for notes in NOTES.values())


def test_every_rating_and_every_aspect_occurs():
    assert {note["rating"] for note in ALL} == {x / 2 for x in range(2, 11)}
    counts = collections.Counter(a for note in ALL for a in note["aspects"])
    assert set(counts) == set(ASPECTS) and min(counts.values()) >= 0.03 * len(ALL)
    assert any(len(note["aspects"]) > 1 for note in ALL)


def test_no_text_stands_twice_in_any_split():
    plain = collections.Counter(" ".join(words(note["text"])) for note in ALL)
    assert max(plain.values()) == 1


@pytest.mark.parametrize(
    "split_words", [words, lambda text: text.lower().split()], ids=["words", "white space"]
)
def test_at_most_twelve_percent_of_the_word_4_grams_are_shared(split_words):
    """All (note, 4-gram) pairs whose 4-gram also stands in another note; natural text of this size has 2 to 7
    %.
    """
    sets = []
    for note in ALL:
        found = split_words(note["text"])
        sets.append({tuple(found[i : i + 4]) for i in range(len(found) - 3)})
    notes_with = collections.Counter(gram for each in sets for gram in each)
    shared = sum(notes_with[gram] > 1 for each in sets for gram in each)
    assert shared / sum(map(len, sets)) <= 0.12


@pytest.mark.parametrize("n, limit", [(1, 0.45), (3, 0.2)])
def test_no_two_notes_are_nearly_the_same(n, limit):
    """Jaccard similarity of the sets of words, and of word 3-grams, of every two notes."""
    sets = [grams(note["text"], n) for note in ALL]
    index = {gram: i for i, gram in enumerate(sorted(set().union(*sets)))}
    table = np.zeros((len(sets), len(index)), dtype=np.float32) if n == 1 else None
    if n == 1:
        for row, each in zip(table, sets):
            row[[index[gram] for gram in each]] = 1
        both = table @ table.T
    else:
        both = np.zeros((len(sets), len(sets)), dtype=np.float32)
        notes_with = collections.defaultdict(list)
        for i, each in enumerate(sets):
            for gram in each:
                notes_with[gram].append(i)
        for rows in notes_with.values():
            both[np.ix_(rows, rows)] += 1
    size = np.array([len(each) for each in sets])
    similar = both / (size[:, None] + size - both)
    np.fill_diagonal(similar, 0)
    a, b = np.unravel_index(similar.argmax(), similar.shape)
    assert similar.max() < limit, (ALL[a]["text"], ALL[b]["text"])


def test_notes_do_not_begin_alike():
    """Templates would: no three first words open more than 1 % of the notes."""
    opening, count = collections.Counter(tuple(words(note["text"])[:3]) for note in ALL).most_common(1)[0]
    assert count <= 0.01 * len(ALL), opening


# --- its label columns


def test_topic_is_a_class_label_in_the_order_of_topics():
    loaded = tasks.load_task("guest_notes/topic")
    assert list(loaded) == list(SPLITS)
    for split, notes in NOTES.items():
        assert loaded[split].column_names == ["text", "label"]
        assert loaded[split].features["label"] == datasets.ClassLabel(names=list(TOPICS))
        assert loaded[split]["text"][:] == [note["text"] for note in notes]
        assert [TOPICS[i] for i in loaded[split]["label"]] == [note["topic"] for note in notes]


def test_aspects_are_zeros_and_ones_in_the_order_of_aspects():
    loaded = tasks.load_task("guest_notes/aspects")
    for split, notes in NOTES.items():
        label = loaded[split].features["label"]
        assert (label.feature.dtype, label.length) == ("float32", 8)
        assert [{a for a, x in zip(ASPECTS, row) if x == 1.0} for row in loaded[split]["label"]] == [
            set(note["aspects"]) for note in notes
        ]
        assert {x for row in loaded[split]["label"] for x in row} == {0.0, 1.0}


def test_rating_is_a_number():
    loaded = tasks.load_task("guest_notes/rating")
    for split, notes in NOTES.items():
        assert loaded[split].features["label"].dtype == "float32"
        assert loaded[split]["label"][:] == [note["rating"] for note in notes]


def test_safety_issue_is_class_one():
    loaded = tasks.load_task("guest_notes/safety_issue")
    for split, notes in NOTES.items():
        assert loaded[split].features["label"].names == ["0", "1"]
        assert [bool(i) for i in loaded[split]["label"]] == [note["safety_issue"] for note in notes]


# --- guest_book


@pytest.fixture(scope="module")
def book():
    return tasks.load_task("guest_book")


def test_pages_are_as_many_as_long_and_as_balanced_as_they_should_be(book):
    assert {split: len(pages) for split, pages in book.items()} == {
        "train": 1500,
        "validation": 300,
        "test": 500,
    }
    for pages in book.values():
        assert pages.column_names == ["text", "label", "position"]
        assert sum(pages["label"]) == len(pages) / 2
        for text in pages["text"]:
            assert 10 <= len(text.split("\n")) <= 14 and 300 <= len(text.split()) <= 450


def test_a_page_holds_notes_of_its_own_split_and_an_issue_where_it_says(book):
    for split, pages in book.items():
        issue = {note["text"]: note["safety_issue"] for note in NOTES[split]}
        for page in pages:
            notes = page["text"].split("\n")
            assert set(notes) <= set(issue), "a note of another split"
            places = [i for i, note in enumerate(notes) if issue[note]]
            assert len(places) == page["label"]
            if places:
                assert page["position"] == sum(len(note.split()) for note in notes[: places[0]])
                assert " ".join(page["text"].split()[page["position"] :]).startswith(
                    " ".join(notes[places[0]].split())
                )
            else:
                assert page["position"] == -1


def test_the_issue_stands_anywhere(book):
    """Its place among the notes is uniform: thirds of the page are equally likely, within 4 standard
    errors.
    """
    places = []
    issue = {note["text"] for note in NOTES["train"] if note["safety_issue"]}
    for page in book["train"].filter(lambda page: page["label"] == 1):
        notes = page["text"].split("\n")
        places.append(next(i for i, note in enumerate(notes) if note in issue) / len(notes))
    for low in (0, 1 / 3, 2 / 3):
        share = np.mean([low <= place < low + 1 / 3 for place in places])
        assert abs(share - 1 / 3) < 0.08
    assert min(places) == 0 and max(places) > 0.9


def test_length_does_not_tell_the_label(book):
    lengths = np.array([len(text.split()) for text in book["train"]["text"]])
    labels = np.array(book["train"]["label"])
    wins = (lengths[labels == 1][:, None] > lengths[labels == 0]).mean() + 0.5 * (
        lengths[labels == 1][:, None] == lengths[labels == 0]
    ).mean()
    assert 0.42 < wins < 0.58


def test_pages_follow_the_seed():
    few = (4, 2, 3)
    one, same, other = (tasks.guest_book(seed, few) for seed in (1, 1, 2))
    assert {split: len(pages) for split, pages in one.items()} == dict(zip(SPLITS, few))
    assert one["train"].to_list() == same["train"].to_list() != other["train"].to_list()


BOOK_REFUSED = {
    "two numbers": (
        (0, (3, 3)),
        ValueError,
        r"pages: \(3, 3\) given, one number for each of train, validation, test",
    ),
    "no pages": ((0, (3, 0, 3)), ValueError, "pages: 0 given, a positive integer for each split"),
    "negative": ((0, (3, -1, 3)), ValueError, "pages: -1 given"),
    "halves": ((0, (3, 1.5, 3)), TypeError, "pages: 1.5 given"),
    "negative seed": ((-1,), ValueError, "seed: -1 given, an integer of at least 0"),
    "seed a string": (("0",), TypeError, "seed: '0' given"),
}


@pytest.mark.parametrize("arguments, error, message", BOOK_REFUSED.values(), ids=BOOK_REFUSED)
def test_guest_book_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        tasks.guest_book(*arguments)


# --- files of one's own


@pytest.fixture
def local(tmp_path, monkeypatch):
    """``local(kind, rows)``: a registered data set ``own`` in a folder of ``TRICKS_DATA``; returns that
    folder.
    """

    def make(kind, rows, check=True, **task):
        folder = tmp_path / "data" / "own"
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            pyarrow.parquet.write_table(
                pyarrow.Table.from_pylist(rows[split] if isinstance(rows, dict) else rows),
                folder / f"{split}.parquet",
            )
        sha256 = tuple(digest(folder / f"{split}.parquet") for split in SPLITS) if check else ()
        monkeypatch.setitem(tasks.TASKS, "own", Task(kind, sha256, **task))
        monkeypatch.setenv("TRICKS_DATA", str(tmp_path / "data"))
        return folder

    return make


def rows(*labels):
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


LABELS = {  # kind, labels, label column, names
    "strings": ("classification", ["b", "a", "b"], [1, 0, 1], ["a", "b"]),
    "topics keep their order": ("classification", ["noise", "staff"], [1, 0], ["staff", "noise"]),
    "indices": ("classification", [2, 0], [2, 0], ["0", "1", "2"]),
    "booleans": ("classification", [True, False], [1, 0], ["0", "1"]),
    "numbers": ("regression", [0.5, 4.75], [0.5, 4.75], None),
    "whole numbers": ("regression", [1, 2], [1.0, 2.0], None),
}


@pytest.mark.parametrize("kind, labels, column, names", LABELS.values(), ids=LABELS)
def test_labels_of_every_kind(local, kind, labels, column, names):
    local(kind, rows(*labels))
    loaded = tasks.load_task("own")
    assert list(loaded) == list(SPLITS)
    for split in loaded.values():
        assert split["text"][:] == [f"text {i}" for i in range(len(labels))] and split["label"][:] == column
        assert getattr(split.features["label"], "names", None) == names


def test_pairs_keep_both_texts(local):
    local("regression", [{"text": "a", "text_b": "b", "label": 1.0, "genre": "x"}])
    assert tasks.load_task("own")["test"].to_list() == [{"text": "a", "text_b": "b", "label": 1.0}]


WORDS = [
    {"tokens": ["the", "bed"], "tags": ["O", "B-x"], "more": 0},
    {"tokens": ["cold"], "tags": ["I-x"], "more": 1},
]


def test_words_keep_their_tags(local):
    local("tokens", {"train": WORDS, "validation": WORDS[:1], "test": WORDS[1:]}, label="tags")
    loaded = tasks.load_task("own")
    assert loaded["train"].to_list() == [
        {"tokens": ["the", "bed"], "label": [2, 0]},
        {"tokens": ["cold"], "label": [1]},
    ]
    assert [split.features["label"].feature.names for split in loaded.values()] == [["B-x", "I-x", "O"]] * 3
    assert tasks.describe("own")["sizes"] == {"train": 2, "validation": 1, "test": 1}


def test_a_label_that_train_lacks_is_a_class_all_the_same(local):
    local("classification", {"train": rows(0, 1), "validation": rows(2), "test": rows(3)})
    assert [tasks.load_task("own")[split].features["label"].num_classes for split in SPLITS] == [4, 4, 4]
    local("classification", {"train": rows("a"), "validation": rows("b"), "test": rows("c")})
    assert tasks.load_task("own")["test"]["label"][:] == [2]


def test_describe_names_sizes_and_sha256(local):
    folder = local("classification", {"train": rows(0, 1, 1), "validation": rows(1), "test": rows(0, 1)})
    assert tasks.describe("own") == {
        "name": "own",
        "sizes": {"train": 3, "validation": 1, "test": 2},
        "sha256": {split: digest(folder / f"{split}.parquet") for split in SPLITS},
    }
    assert tasks.describe("guest_notes/topic")["sha256"] == dict(zip(SPLITS, registry.NOTES_SHA256))


def test_describe_knows_guest_book(book, monkeypatch):
    monkeypatch.setattr(tasks, "guest_book", lambda: book)
    assert tasks.describe("guest_book") == {
        "name": "guest_book",
        "sizes": {"train": 1500, "validation": 300, "test": 500},
        "sha256": dict(zip(SPLITS, registry.NOTES_SHA256)),
    }


def test_embedded_data_needs_and_heeds_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRICKS_DATA", str(tmp_path / "nowhere"))
    assert len(tasks.load_task("guest_notes/topic")["train"]) == 902


def test_the_registered_addresses_are_those_of_glue():
    """Public sets whose splits are published with labels as the registry says; the others are local files
    only.
    """
    hub = {name: task for name, task in tasks.TASKS.items() if task.hub}
    assert {name: task.hub for name, task in hub.items()} == {
        "en_rte": "nyu-mll/glue:rte", "en_mrpc": "nyu-mll/glue:mrpc", "en_cola": "nyu-mll/glue:cola",
        "en_sst2": "nyu-mll/glue:sst2", "en_stsb": "nyu-mll/glue:stsb", "ag_news": "fancyzhx/ag_news",
    }  # fmt: skip
    for name, task in tasks.TASKS.items():
        assert len(task.sha256) == (0 if name == "ag_news" else len(task.splits)) and all(
            re.fullmatch("[0-9a-f]{64}", each) for each in task.sha256
        )
        assert (
            name in ("en_mrpc", "en_stsb")
            or task.splits == ("train", "validation")
            or not task.hub.startswith("nyu-mll")
        ), "GLUE hides the labels of its test splits; those of STS-B are in its local files"


# --- refusals


@pytest.mark.parametrize(
    "name", ["nope", "", "guest_notes", "guest_notes/nope", "../guest_notes", 5, None, ["guest_notes/topic"]]
)
@pytest.mark.parametrize("function", [tasks.load_task, tasks.files, tasks.describe])
def test_an_unknown_name_is_refused_with_those_there_are(function, name):
    with pytest.raises(
        ValueError, match=r"^name: .* given; accepted are .*en_trec.*guest_notes/topic.*guest_book$"
    ):
        function(name)


def test_a_data_set_that_is_not_here_says_where_it_is_looked_for(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError,
        match="^name: 'en_trec' is not here; python -m tricks_lib.lab fetch en_trec "
        r"\(TRICKS_DATA is not set\)$",
    ):
        tasks.load_task("en_trec")
    monkeypatch.setenv("TRICKS_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=rf"python -m tricks_lib.lab fetch en_trec \(TRICKS_DATA is {tmp_path}\)$"
    ):
        tasks.load_task("en_trec")
    monkeypatch.setenv("TRICKS_DATA", str(tmp_path / "nowhere"))
    for name in ("en_trec", "ag_news"):
        with pytest.raises(
            FileNotFoundError, match="^TRICKS_DATA: '.*nowhere' given, an existing folder is accepted$"
        ):
            tasks.load_task(name)


@pytest.mark.parametrize("check", [True, False], ids=["registered", "not registered"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_file_is_named(local, split, check):
    folder = local("classification", rows(0, 1), check)
    (folder / f"{split}.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^name: 'own' has no file .*own/{split}\.parquet$"):
        tasks.load_task("own")


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_rows_in_another_file_are_accepted(local, split):
    """Another version of the writer, or another compression, changes bytes and nothing else."""
    folder = local("classification", rows(0, 1))
    file, before = folder / f"{split}.parquet", tasks.load_task("own")[split].to_list()
    bytes_before = file.read_bytes()
    table = pyarrow.parquet.read_table(file)
    pyarrow.parquet.write_table(
        table.select(sorted(table.column_names, reverse=True)), file, compression="gzip"
    )
    assert file.read_bytes() != bytes_before and tasks.load_task("own")[split].to_list() == before


@pytest.mark.parametrize("split", SPLITS)
def test_other_rows_than_the_registered_ones_are_refused_with_both_sums(local, split):
    folder = local("classification", rows(0, 1))
    expected = digest(folder / f"{split}.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(1, 0)), folder / f"{split}.parquet")
    with pytest.raises(
        ValueError,
        match=rf"^name: .*{split}\.parquet have sha256 {digest(folder / f'{split}.parquet')}, "
        f"{expected} is accepted$",
    ):
        tasks.load_task("own")


CORRUPT = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "no end mark": lambda data: data[:-4],
    "text": lambda data: b"text,label\na,1\n",
    "footer of noise": lambda data: data[:-200] + bytes(range(192)) + data[-8:],
    "pages of noise": lambda data: data[:4] + b"\xff" * 120 + data[124:],
}


@pytest.mark.parametrize("damage", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_parquet_file_is_refused_with_its_name(local, damage):
    folder = local("classification", rows(*range(50)), check=False)
    file = folder / "validation.parquet"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError) as caught:
        tasks.load_task("own")
    assert str(caught.value).startswith(f"name: {file} cannot be read as parquet: ") and "\n" not in str(
        caught.value
    )


WRONG_ROWS = {
    "no rows": ("classification", [], "has no rows in train"),
    "no text": ("classification", [{"label": 1}], "has None as 'text' in train"),
    "no label": ("classification", [{"text": "a"}], "has None as 'label' in train"),
    "text null": (
        "classification",
        [{"text": "a", "label": 1}, {"text": None, "label": 0}],
        "has None as 'text'",
    ),
    "label null": ("classification", rows(1, None), "has None as 'label'"),
    "class a fraction": ("classification", rows(1.5), "has 1.5 as 'label'"),
    "class negative": ("classification", rows(1, -1), "has label -1 in train; 0 and above are accepted"),
    "number a string": ("regression", rows("1.5"), "has '1.5' as 'label'"),
    "words a string": ("tokens", [{"tokens": "a b", "label": ["O", "O"]}], "has 'a b' as 'tokens'"),
    "a tag for two words": ("tokens", [{"tokens": ["a"], "label": "O"}], "has 'O' as 'label'"),
    "a word without a tag": (
        "tokens",
        [{"tokens": ["a"], "label": ["O"]}, {"tokens": ["a", "b"], "label": ["O"]}],
        "has a row of 2 words and 1 labels in train; as many of each",
    ),
    "no words": ("tokens", [{"tokens": [], "label": []}], "has a row of 0 words and 0 labels in train"),
    "several labels a string": ("multilabel", rows("food"), "has 'food' as 'label'"),
    "pair null": ("regression", [{"text": "a", "text_b": None, "label": 1.0}], "has None as 'text_b'"),
}


@pytest.mark.parametrize("kind, content, message", WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_rows_that_make_no_sense_are_refused(local, kind, content, message):
    local(kind, content)
    with pytest.raises(ValueError, match=f"^name: 'own' {message}"):
        tasks.load_task("own")


def test_a_column_that_only_train_has_is_named_with_its_split(local):
    local(
        "regression",
        {"train": [{"text": "a", "text_b": "b", "label": 1.0}], "validation": rows(1.0), "test": rows(1.0)},
    )
    with pytest.raises(ValueError, match="^name: 'own' has None as 'text_b' in validation$"):
        tasks.load_task("own")


# --- the hub


@pytest.fixture
def hub(monkeypatch):
    """``hub(splits)``: what the hub gives for ``own``; returns the list of what it was asked for."""
    asked = []

    def gives(loaded, kind="classification", **task):
        def load_dataset(*arguments):
            asked.append(arguments)
            if isinstance(loaded, Exception):
                raise loaded
            return datasets.DatasetDict(
                {split: datasets.Dataset.from_list(rows) for split, rows in loaded.items()}
            )

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setitem(
            tasks.TASKS,
            "own",
            Task(kind, hub="someone/set:config", columns={"text": "sentence", "label": "y"}, **task),
        )
        return asked

    return gives


def foreign(n):
    return [{"sentence": f"text {i}", "y": i % 3, "more": 0} for i in range(n)]


def test_a_set_of_the_hub_gets_our_columns(hub):
    asked = hub({"train": foreign(6), "validation": foreign(3), "test": foreign(4)})
    loaded = tasks.load_task("own")
    assert asked == [("someone/set", "config")]
    assert loaded["test"].to_list() == [{"text": f"text {i}", "label": i % 3} for i in range(4)]
    assert tasks.describe("own") == {
        "name": "own",
        "sha256": {},
        "sizes": {"train": 6, "validation": 3, "test": 4},
    }


def test_classes_of_the_hub_keep_their_names(hub, monkeypatch):
    """As numbers they would be other classes than those of the local files."""
    hub({"train": foreign(6), "validation": foreign(3), "test": foreign(3)}, names={"maybe": "perhaps"})
    load, named = datasets.load_dataset, datasets.ClassLabel(names=["yes", "no", "maybe"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *a: load(*a).cast_column("y", named))
    loaded = tasks.load_task("own")
    assert loaded["train"].features["label"].names == ["no", "perhaps", "yes"]
    assert [loaded["train"].features["label"].int2str(i) for i in loaded["train"]["label"]] == [
        "yes",
        "no",
        "perhaps",
    ] * 2


def test_a_fetched_set_is_found_and_a_local_folder_comes_first(local, monkeypatch, tmp_path):
    folder = local("classification", rows(0, 1))
    monkeypatch.delenv("TRICKS_DATA")
    (tmp_path / "cache" / "data").mkdir(parents=True)
    shutil.move(folder, tmp_path / "cache" / "data" / "own")
    monkeypatch.setenv("TRICKS_CACHE", str(tmp_path / "cache"))
    assert len(tasks.load_task("own")["train"]) == 2
    local("classification", rows(0, 1, 1))
    assert len(tasks.load_task("own")["train"]) == 3


def test_without_a_validation_split_it_is_a_fixed_tenth_of_train(hub):
    hub({"train": foreign(50), "test": foreign(4)}, splits=("train", "test"))
    one, again = tasks.load_task("own"), tasks.load_task("own")
    assert {split: len(part) for split, part in one.items()} == {"train": 45, "validation": 5, "test": 4}
    assert one["validation"].to_list() == again["validation"].to_list()
    assert sorted(one["train"]["text"][:] + one["validation"]["text"][:]) == sorted(
        row["sentence"] for row in foreign(50)
    )


def test_without_labels_of_the_test_split_validation_is_the_test_and_a_tenth_of_train_is_validation(hub):
    hidden = [{"sentence": "hidden", "y": -1, "more": 0}]
    hub({"train": foreign(50), "validation": foreign(7), "test": hidden}, splits=("train", "validation"))
    loaded = tasks.load_task("own")
    assert {split: len(part) for split, part in loaded.items()} == {"train": 45, "validation": 5, "test": 7}
    assert loaded["test"]["text"][:] == [row["sentence"] for row in foreign(7)]
    assert not {*loaded["train"]["text"]} & {*loaded["validation"]["text"]}


@pytest.mark.parametrize("kind, label", [("classification", -1), ("regression", -1.0)])
def test_a_split_whose_labels_the_hub_hides_is_no_split(hub, kind, label):
    hidden = [{"sentence": "hidden", "y": label, "more": 0}] * 3
    hub({"train": foreign(50), "validation": foreign(7), "test": hidden}, kind=kind)
    loaded = tasks.load_task("own")
    assert {split: len(part) for split, part in loaded.items()} == {"train": 45, "validation": 5, "test": 7}
    assert loaded["test"]["text"][:] == [row["sentence"] for row in foreign(7)]


def test_a_split_with_one_label_that_is_shown_is_kept(hub):
    shown = [{"sentence": "hidden", "y": -1.0, "more": 0}, {"sentence": "shown", "y": 2.0, "more": 0}]
    hub({"train": foreign(50), "validation": foreign(7), "test": shown}, kind="regression")
    assert tasks.load_task("own")["test"]["label"][:] == [-1.0, 2.0]


def test_a_local_set_without_a_test_split(local):
    folder = local(
        "classification",
        {"train": rows(*range(20)), "validation": rows(0, 1), "test": rows(0)},
        splits=("train", "validation"),
    )
    (folder / "test.parquet").unlink()
    assert tasks.describe("own") == {
        "name": "own",
        "sizes": {"train": 18, "validation": 2, "test": 2},
        "sha256": {split: digest(folder / f"{split}.parquet") for split in ("train", "validation")},
    }


def test_a_local_folder_comes_before_the_hub(local, hub):
    asked = hub({})
    local("classification", rows(0, 1), check=False, hub="someone/set")
    assert len(tasks.load_task("own")["train"]) == 2 and asked == []


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("cannot reach\nthe hub"),
        ValueError("no parquet"),
        RuntimeError("scripts are not supported"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_hub_that_fails_in_any_way_says_what_to_do(hub, error):
    hub(error)
    with pytest.raises(
        FileNotFoundError,
        match=r"^name: 'own' could not be had from the hub \([a-z ]+\); "
        "put it into a folder and set TRICKS_DATA$",
    ):
        tasks.load_task("own")


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError,
        match=r"^name: 'ag_news' could not be had from the hub \(.+\); "
        "put it into a folder and set TRICKS_DATA$",
    ):
        tasks.load_task("ag_news")
