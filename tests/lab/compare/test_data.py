"""Tables of every kind that a reader may bring, and everything that can be wrong with them."""

import collections
import json

import numpy as np
import pandas
import pytest

from tricks_lib.lab.compare import data, splits
from tricks_lib.lab.compare.labels import names_of
from tricks_lib.lab.compare.metrics import entity_f1

NOUNS = ["room", "bed", "soup", "lift", "view", "pool", "desk", "lamp", "towel", "tea"]


def texts(n):
    return [f"the {NOUNS[i % 10]} number {i} was fine, they said" for i in range(n)]


def table(labels, **more):
    return pandas.DataFrame({"text": texts(len(labels)), "label": labels, **more})


def csv(path, frame, **options):
    frame.to_csv(path, index=False, **options)
    return path


def rows(read):
    return [row for own in read.splits.values() for row in own]


STARS = ["good", "bad", "bad", "so so"] * 30


# ---- Formats, which pandas writes and we read ----


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_table(tmp_path, ending):
    frame = table(STARS)
    write = {
        "csv": lambda f: frame.to_csv(f, index=False),
        "tsv": lambda f: frame.to_csv(f, index=False, sep="\t"),
        "jsonl": lambda f: frame.to_json(f, orient="records", lines=True),
        "parquet": frame.to_parquet,
    }[ending]
    file = tmp_path / f"stars.{ending}"
    write(file)
    found = data.read(file)
    assert (found.name, found.kind, found.names) == (file.name, "classes", ["bad", "good", "so so"])
    assert found.sizes == {"train": 84, "validation": 12, "test": 24}
    assert {(r["text"], found.names[r["label"]]) for r in rows(found)} == {
        *zip(frame["text"], frame["label"])
    }
    assert found.splits == data.read(str(file)).splits  # drawn by a fixed seed
    assert list(found.sha256) == [file.name] and len(found.sha256[file.name]) == 64
    assert all(set(row) == {"text", "label"} for row in rows(found))


def test_columns_have_any_name_and_pairs_have_two_texts(tmp_path):
    frame = table(STARS).rename(columns={"text": "review", "label": "stars"}).assign(answer=texts(120)[::-1])
    found = data.read(csv(tmp_path / "a.csv", frame), text="review", text_b="answer", label="stars")
    assert {(r["text"], r["text_b"]) for r in rows(found)} == {*zip(frame["review"], frame["answer"])}


@pytest.mark.parametrize("options", [{}, {"lineterminator": "\r\n"}, {"encoding": "utf-8-sig"}], ids=str)
def test_cells_with_quotes_commas_and_newlines_come_back_whole(tmp_path, options):
    frame = table(STARS)
    frame.loc[0, "text"] = 'he said "no", then\nleft;\tjust so'
    found = data.read(csv(tmp_path / "a.csv", frame, **options))
    assert {r["text"] for r in rows(found)} == {*frame["text"]} and len(rows(found)) == 120


def test_a_text_that_says_nan_or_null_is_a_text(tmp_path):
    frame = table(STARS)
    frame.loc[3, "text"], frame.loc[4, "text"] = "null", "NA"
    assert {"null", "NA"} <= {r["text"] for r in rows(data.read(csv(tmp_path / "a.csv", frame)))}


# ---- Kinds ----


def kind_of(tmp_path, labels, **options):
    found = data.read(csv(tmp_path / "a.csv", table(labels)), **options)
    return found.kind, found.names, found.warnings


def test_whole_numbers_are_classes_and_it_is_told(tmp_path):
    for labels in ([1, 2, 10] * 20, ["1.0", "2.0", "10.0"] * 20, [1.0, 2.0, 10.0] * 20):
        kind, names, told = kind_of(tmp_path, labels)
        assert (kind, names) == ("classes", ["1", "2", "10"])
        assert "the labels are whole numbers, 1 to 10, 3 different ones: read as classes" in told[0]
        assert "kind 'numbers'" in told[0]


def test_names_that_look_like_numbers_stay_names(tmp_path):
    assert kind_of(tmp_path, ["1_0", "2_0"] * 20)[:2] == ("classes", ["1_0", "2_0"])
    assert kind_of(tmp_path, ["01", "1", "x"] * 20)[:2] == ("classes", ["01", "1", "x"])
    table([["inf"], ["1.0", "b"]] * 20).to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    assert data.read(tmp_path / "a.jsonl").names == ["1", "b", "inf"]


def test_many_whole_numbers_are_numbers_unless_each_has_its_rows(tmp_path):
    assert kind_of(tmp_path, list(range(30)) * 3)[0] == "classes"
    kind, _, told = kind_of(tmp_path, [*range(29)] * 3 + [77])
    assert kind == "numbers" and "read as numbers (kind 'classes'" in told[0]
    assert kind_of(tmp_path, list(range(101)) * 3)[0] == "numbers"


def test_fractions_are_numbers(tmp_path):
    labels = np.linspace(0, 4.5, 100)
    found = data.read(csv(tmp_path / "a.csv", table(labels)))
    assert found.kind == "numbers" and found.names == []
    assert sorted(r["label"] for r in rows(found)) == pytest.approx(labels)
    for own in found.splits.values():  # every part of the scale is in every split
        assert {int(r["label"] // 0.9) for r in own} == {0, 1, 2, 3, 4} | (
            {5} & {int(r["label"] // 0.9) for r in own}
        )


def test_the_kind_can_be_said(tmp_path):
    kind, names, _ = kind_of(tmp_path, [1, 2, 3] * 20, kind="numbers")
    assert (kind, names) == ("numbers", [])
    assert kind_of(tmp_path, np.repeat([0.5, 1.5], 30), kind="classes")[:2] == ("classes", ["0.5", "1.5"])
    assert kind_of(tmp_path, ["a", "b", ""] * 20, kind="labels")[:2] == ("labels", ["a", "b"])
    with pytest.raises(ValueError, match="kind: 'ranks' given, one of classes, labels, tags, numbers"):
        kind_of(tmp_path, STARS, kind="ranks")


@pytest.mark.parametrize("given", ["list", "|", ";", "0 and 1"])
def test_several_labels_per_text(tmp_path, given):
    own = [["food"], ["noise", "food"], ["noise"], ["staff", "food", "noise"]] * 15
    names = ["food", "noise", "staff"]
    if given == "list":
        table(own + [[]]).to_json(tmp_path / "a.jsonl", orient="records", lines=True)
        found = data.read(tmp_path / "a.jsonl")
    elif given == "0 and 1":
        table([[int(name in x) for name in names] for x in own]).to_parquet(tmp_path / "a.parquet")
        found, names = data.read(tmp_path / "a.parquet"), ["0", "1", "2"]
        assert "lists of 0 and 1" in found.warnings[0]
    else:
        found = data.read(csv(tmp_path / "a.csv", table([f" {given} ".join(x) for x in own])))
        assert f"the labels are split at {given!r}" in found.warnings[0]
    assert (found.kind, found.names) == ("labels", names)
    counts = collections.Counter(tuple(r["label"]) for r in rows(found))
    assert counts[1, 0, 0] == counts[1, 1, 0] == counts[0, 1, 0] == counts[1, 1, 1] == 15
    assert all(
        any(r["label"][2] for r in split) for split in found.splits.values()
    )  # the rarest is everywhere


def test_a_semicolon_in_a_name_does_not_divide_it(tmp_path):
    assert kind_of(tmp_path, ["fine; thanks", "no"] * 30)[:2] == ("labels", ["fine", "no", "thanks"])
    labels = [f"note {i}; read" if i == 0 else f"{i % 3}x" for i in range(60)]
    with pytest.raises(ValueError, match="1 of 4 classes have fewer than 3 rows: 'note 0; read' \\(row 1\\)"):
        kind_of(tmp_path, labels)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_tags_of_words_stand_in_the_order_that_finds_entities(tmp_path, ending):
    words = [t.split() for t in texts(60)]
    tags = [
        ["O", "B-thing", "I-thing", *["O"] * 3, "B-person"][: len(w)] + ["O"] * (len(w) - 7) for w in words
    ]
    frame = pandas.DataFrame({"text": words, "label": tags})
    file = tmp_path / f"a.{ending}"
    frame.to_parquet(file) if ending == "parquet" else frame.to_json(file, orient="records", lines=True)
    found = data.read(file)
    assert found.kind == "tags" and found.names == ["O", "B-person", "I-person", "B-thing", "I-thing"]
    row = rows(found)[0]
    assert isinstance(row["text"], list) and row["label"][:3] == [0, 3, 4]
    labels = np.array([row["label"]])
    assert entity_f1(labels, labels) == 1 and entity_f1(np.zeros_like(labels), labels) == 0


def test_other_tags_stand_by_the_alphabet(tmp_path):
    words = [t.split() for t in texts(30)]
    pandas.DataFrame({"text": words, "label": [["VERB", *["NOUN"] * (len(w) - 1)] for w in words]}).to_json(
        tmp_path / "a.jsonl", orient="records", lines=True
    )
    assert data.read(tmp_path / "a.jsonl").names == ["NOUN", "VERB"]


# ---- Splits ----


def test_classes_are_drawn_in_proportion_and_each_is_everywhere(tmp_path):
    labels = ["often"] * 70 + ["rare"] * 27 + ["very rare"] * 3
    found = data.read(csv(tmp_path / "a.csv", table(labels)))
    counts = {s: collections.Counter(found.names[r["label"]] for r in own) for s, own in found.splits.items()}
    assert counts["test"] == {"often": 14, "rare": 5, "very rare": 1}
    assert counts["validation"] == {"often": 7, "rare": 3, "very rare": 1}
    assert counts["train"] == {"often": 49, "rare": 19, "very rare": 1}
    assert any("70/10/20" in sentence for sentence in found.warnings)


def parts():
    frame = table(STARS)
    return {"train": frame[:80], "dev": frame[80:100], "test": frame[100:]}


@pytest.mark.parametrize("how", ["files", "folder", "parquet shards", "column"])
def test_given_splits_are_kept(tmp_path, how):
    if how == "column":
        frame = pandas.concat([part.assign(split=name.upper()) for name, part in parts().items()])
        found = data.read(csv(tmp_path / "a.csv", frame))
    elif how == "parquet shards":
        for name, part in parts().items():
            for shard in range(2):
                part[shard::2].to_parquet(tmp_path / f"{name}-0000{shard}-of-00002.parquet")
        (tmp_path / "README.md").write_text("what this is")
        found = data.read(tmp_path)
    else:
        files = [csv(tmp_path / f"{name}.csv", part) for name, part in parts().items()]
        found = data.read(tmp_path if how == "folder" else files)
    for split, own in zip(("train", "dev", "test"), found.splits.values()):
        assert {r["text"] for r in own} == {*parts()[split]["text"]}
    assert list(found.splits) == ["train", "validation", "test"] and found.warnings == []


NAMED = {
    "first word": (["train", "dev", "test"], True),
    "parts": (["train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"], True),
    "last word": (["SICK_train", "SICK_val", "SICK_test_annotated"], True),
    "one says none": (["SICK_train", "SICK_trial", "SICK_test"], False),
    "one says two": (["train", "train_test", "test"], False),
    "as part of a word": (["train", "contest"], False),
}


@pytest.mark.parametrize("names, accepted", NAMED.values(), ids=NAMED)
def test_a_word_of_its_name_says_which_split_a_file_is(tmp_path, names, accepted):
    files = [tmp_path / f"{name}.csv" for name in names]
    for i, file in enumerate(files):
        csv(file, pandas.DataFrame([{"text": f"{i} {j} fine", "label": "ab"[j % 2]} for j in range(12)]))
    if accepted:
        assert data.read(files).sizes == {"train": 12, "validation": 12, "test": 12}
    else:
        with pytest.raises(ValueError, match=f"the name of {names[1]}.csv does not say which split it is"):
            data.read(files)


def test_a_column_of_another_name_holds_the_splits(tmp_path):
    frame = pandas.concat([part.assign(part=name) for name, part in parts().items()])
    assert data.read(csv(tmp_path / "a.csv", frame), split="part").sizes["train"] == 80


def test_without_test_the_validation_split_is_the_test(tmp_path):
    files = [csv(tmp_path / f"{name}.csv", parts()[name]) for name in ("train", "dev")]
    found = data.read(files)
    assert {r["text"] for r in found.splits["test"]} == {*parts()["dev"]["text"]}
    assert found.sizes == {"train": 72, "validation": 8, "test": 20}
    assert found.warnings == [
        "no test split: the validation split is the test",
        "no validation split: a tenth of train is drawn as one",
    ]


def test_duplicates_across_splits_are_counted_told_and_left_out_of_the_later_one(tmp_path):
    own = parts()
    own["test"] = pandas.concat([own["test"], own["train"][:3], own["dev"][:1]])
    own["dev"] = pandas.concat([own["train"][5:6], own["dev"]])
    found = data.read([csv(tmp_path / f"{name}.csv", part) for name, part in own.items()])
    assert found.sizes == {"train": 80, "validation": 20, "test": 20}
    assert found.warnings == [
        "1 of 21 texts of validation stand in an earlier split too and are left out of validation (row 1)",
        "4 of 24 texts of test stand in an earlier split too and are left out of test (rows 21, 22, 23, 24)",
    ]


def test_of_a_pair_both_texts_must_be_equal(tmp_path):
    own = {name: part.assign(text="the same", other=part["text"]) for name, part in parts().items()}
    found = data.read([csv(tmp_path / f"{n}.csv", p) for n, p in own.items()], text_b="other")
    assert found.warnings == [] and found.sizes["test"] == 20


def test_the_only_row_of_a_class_stays_in_train(tmp_path):
    own = parts()
    own["train"] = pandas.concat([own["train"], table(["once"]).assign(text="a text of its own")])
    found = data.read([csv(tmp_path / f"{name}.csv", own[name]) for name in ("train", "test")])
    assert found.names.index("once") in {r["label"] for r in found.splits["train"]}


def test_a_train_split_without_labels_is_refused(tmp_path):
    own = parts()
    own["train"] = own["train"].assign(label="")
    with pytest.raises(ValueError, match="label is missing in rows 1, 2, 3, 4, 5 and 75 more of train"):
        data.read([csv(tmp_path / f"{name}.csv", part) for name, part in own.items()])


def test_a_class_that_train_lacks_is_told(tmp_path):
    own = parts()
    own["test"] = own["test"].assign(label="unseen")
    found = data.read([csv(tmp_path / f"{name}.csv", part) for name, part in own.items()])
    assert "train has no row of 'unseen'" in found.warnings


# ---- Registry and hub ----


@pytest.mark.parametrize(
    "name, kind, names",
    [
        ("guest_notes/topic", "classes", 8),
        ("guest_notes/aspects", "labels", 8),
        ("guest_notes/rating", "numbers", 0),
        ("guest_notes/safety_issue", "classes", 2),
    ],
)
def test_names_of_the_registry_are_read(name, kind, names):
    from tricks_lib.lab import tasks

    found, loaded = data.read(name), tasks.load_task(name)
    assert (found.name, found.kind, len(found.names)) == (name, kind, names)
    left_out = sum(len(own) for own in loaded.values()) - sum(found.sizes.values())
    assert left_out == 0 and found.warnings == []  # what the registry says is not told
    assert found.sha256 == tasks.describe(name)["sha256"]  # of the rows, not of a file
    row, given = found.splits["train"][0], loaded["train"][0]
    assert row["text"] == given["text"]
    if kind == "classes":
        assert found.names[row["label"]] == loaded["train"].features["label"].int2str(given["label"])
    elif kind == "labels":
        assert {n for n, x in zip(found.names, row["label"]) if x} == {
            n for n, x in zip(tasks.ASPECTS, given["label"]) if x
        }
    else:
        assert row["label"] == given["label"]


SIZES = {
    "glue": [("train", 0, 80), ("validation", 80, 100), ("test", 100, 120)],
    "imdb": [("train", 0, 60), ("test", 60, 80), ("unsupervised", 80, 120)],
    "one": [("train", 0, 80), ("test", 80, 120)],
    "whole": [("all", 0, 120)],
}


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds three data sets, and notes what it was asked."""
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        made = {}
        without = {"glue": ["test"], "imdb": ["unsupervised"], "one": ["test"], "whole": []}[
            arguments[0].split("/")[1]
        ]
        for split, start, stop in SIZES[arguments[0].split("/")[1]]:
            labels = [-1] * (stop - start) if split in without else [i % 2 for i in range(start, stop)]
            made[split] = datasets.Dataset.from_dict(
                {"sentence": texts(120)[start:stop], "label": labels}, features=features
            )
        return datasets.DatasetDict(made)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_hub_data_set_has_names_of_its_classes_and_its_unlabelled_split_is_left_out(hub):
    found = data.read("nyu-mll/glue:rte", text="sentence")
    assert hub == [(("nyu-mll/glue", "rte"), {})]  # no trust_remote_code
    assert (found.kind, found.names, found.sha256) == ("classes", ["no", "yes"], {})
    assert found.warnings[:2] == [
        "test has no labels and is left out",
        "no test split: the validation split is the test",
    ]
    assert found.sizes == {"train": 72, "validation": 8, "test": 20}


def test_a_split_of_another_name_is_left_out(hub):
    found = data.read("stanfordnlp/imdb", text="sentence")
    assert found.warnings[0] == "unsupervised is no train, validation or test and is left out"
    assert found.sizes == {"train": 54, "validation": 6, "test": 20}


def test_where_train_alone_has_labels_it_is_split(hub):
    found = data.read("some/one", text="sentence")
    assert found.sizes == {"train": 56, "validation": 8, "test": 16}
    assert [told.split(" ")[0] for told in found.warnings] == ["test", "split"]


def test_a_single_split_of_another_name_is_split(hub):
    found = data.read("some/whole", text="sentence")
    assert found.sizes == {"train": 84, "validation": 12, "test": 24}


def test_a_hub_that_does_not_answer_is_said():
    with pytest.raises(FileNotFoundError, match="data: nobody/nothing could not be had from the hub"):
        data.read("nobody/nothing")


# ---- Bad data ----


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def with_label(i, value, labels=STARS):
    return [value if j == i else label for j, label in enumerate(labels)]


CAFE = "text,label\n\xe9t\xe9,good\n"
NUMBERED = table(STARS, number=range(120))
BAD = {
    "empty file": ("a.csv", b"", "data: a.csv is empty"),
    "header only": ("a.csv", "text,label\n", "data: a.csv has a header but no rows"),
    "no rows of JSON": ("a.jsonl", "\n", "data: a.jsonl (has a header but no rows|cannot be read)"),
    "one class": (
        "a.csv",
        table(["good"] * 30),
        "data: the label of every row is 'good'; two or more classes are accepted",
    ),
    "a class with one row": (
        "a.csv",
        table(with_label(6, "odd")),
        r"data: 1 of 4 classes have fewer than 3 rows: 'odd' \(row 7\); each needs one in train, valid",
    ),
    "a class with two rows": ("a.csv", table([*STARS, "odd", "odd"]), r"'odd' \(rows 121, 122\)"),
    "text as label": ("a.csv", table(texts(40)), r"40 of 40 classes .* \(row \d+\) and 35 more; each needs"),
    "label missing": ("a.csv", table(with_label(4, "")), "data: label is missing in row 5$"),
    "label NaN": ("a.csv", table(with_label(4, "NaN")), "data: label is missing in row 5$"),
    "labels missing": ("a.csv", table([""] * 8 + STARS), "missing in rows 1, 2, 3, 4, 5 and 3 more$"),
    "label null": ("a.jsonl", table(with_label(4, None)), "data: label is missing in row 5$"),
    "number NaN": ("a.parquet", table([0.5, np.nan, 1.5] * 9), "missing in rows 2, 5, 8, 11, 14 and 4 more"),
    "number infinite": ("a.parquet", table([0.5, np.inf, 1.5] * 9), "'label' holds an infinite number"),
    "text missing": ("a.csv", table(STARS).replace(texts(3)[2], "  "), "data: 'text' is missing in row 3$"),
    "column missing": (
        "a.csv",
        table(STARS).rename(columns={"label": "stars"}),
        "data: there is no column 'label'; there are 'text', 'stars'$",
    ),
    "other separator": (
        "a.csv",
        "text;label\nfine;good\n",
        "no column 'text', 'label'; there are 'text;label'; is it separated by ';'?",
    ),
    "Latin-1": (
        "a.csv",
        CAFE.encode("latin-1"),
        r"data: a.csv is not UTF-8 \(byte 0xe9\). If it is Latin-1 or .* the encoding 'latin-1' .*iconv",
    ),
    "Latin-1 in JSON": (
        "a.jsonl",
        '{"text": "\xe9t\xe9", "label": 1}'.encode("latin-1"),
        "a.jsonl is not UTF-8",
    ),
    "UTF-16": ("a.csv", CAFE.encode("utf-16"), "a.csv is not UTF-8"),
    "open quote": ("a.csv", 'text,label\n"fine,good\n', "a.csv cannot be read: .*EOF inside string"),
    "too many cells": ("a.csv", "text,label\na,b\nc,d,e\n", "data: a.csv cannot be read: .*line 3"),
    "too many cells in every row": (
        "a.csv",
        "text,label\n" + "fine, really,good\n" * 9,
        "data: a.csv cannot be read: .*index_col=False",
    ),
    "a word that is no text": (
        "a.jsonl",
        table([["O", "B-x"]] * 30).assign(text=[["a", "b"]] * 4 + [["a", None]] + [["a", "b"]] * 25),
        "data: 'text' holds a word that is no text in row 5$",
    ),
    "no JSON": ("a.jsonl", '{"text": "a", "label": 1}\n{"text"', "data: a.jsonl cannot be read: "),
    "no Parquet": ("a.parquet", b"PAR1 or not", "data: a.parquet cannot be read: "),
    "50 MB of one line": (
        "a.csv",
        b"text,label\n" + b"word " * 10_000_000 + b",good\n",
        "'text' has more than 1,000,000 characters in row 1",
    ),
    "50 MB of header": (
        "a.csv",
        b"word " * 10_000_000 + b"\nx\n",
        r"there are 'word word .{1,60}\.\.\.'",
    ),
    "numbers as text": ("a.csv", NUMBERED, "data: the column 'number' holds numbers, texts are accepted"),
    "numbers in Parquet": ("a.parquet", NUMBERED, "data: the column 'number' holds int; texts, or lists"),
    "dates": ("a.parquet", table(pandas.date_range("2020", periods=30)), "'label' holds Timestamp; strings"),
    "objects": ("a.jsonl", table([{"stars": 1}] * 30), "'label' holds dict; strings, numbers, or lists"),
    "lists of fractions": ("a.jsonl", table([[0.5, 1.5], [0.5]] * 20), "holds lists with 0.5, names are"),
    "mixed": ("a.jsonl", table([["a"], "b"] * 20), "'label' holds list; strings, numbers, or lists of them"),
    "other split": (
        "a.csv",
        table(STARS, split=["train", "later"] * 60),
        "data: a.csv has 'later' in its column 'split'; train, validation and test are accepted there",
    ),
    "only test": ("a.csv", table(STARS, split=["test", "dev"] * 60), "alone; train and test are needed"),
}


@pytest.mark.parametrize("name, content, message", BAD.values(), ids=BAD)
def test_bad_data_is_refused_and_the_place_is_named(tmp_path, name, content, message):
    file = tmp_path / name
    if isinstance(content, pandas.DataFrame):
        if file.suffix == ".csv":
            csv(file, content)
        elif file.suffix == ".parquet":
            content.to_parquet(file)
        else:
            content.to_json(file, orient="records", lines=True)
    else:
        write(file, content)
    with pytest.raises(ValueError, match=message) as error:
        data.read(file, text="number" if content is NUMBERED else "text")
    assert len(str(error.value)) < 600


def test_running_text_of_the_registry_is_no_table():
    with pytest.raises(
        FileNotFoundError, match="data: en_tinyshakespeare is no file or folder here"
    ) as error:
        data.read("en_tinyshakespeare")
    assert "en_trec" in str(error.value) and str(error.value).count("en_tinyshakespeare") == 1


def test_names_that_are_equal_as_numbers_keep_their_order():
    """The order of a set is another in each process, and with it the index of a class."""
    assert names_of(["01", "1", "2", "1.0"], "classes") == ["01", "1", "1.0", "2"]


def test_latin_1_is_read_where_it_is_said(tmp_path):
    file = csv(
        tmp_path / "a.csv", table(STARS).replace({"text": {texts(1)[0]: "\xe9t\xe9"}}), encoding="latin-1"
    )
    assert "\xe9t\xe9" in {r["text"] for r in rows(data.read(file, encoding="latin-1"))}


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("ascii", r"a.csv is not ASCII \(byte 0xc3\)"),
        ("utf-9", "encoding: 'utf-9' given, one that Python knows is accepted"),
    ],
)
def test_another_encoding_is_named_as_it_was_asked_for(tmp_path, encoding, message):
    with pytest.raises(ValueError, match=message):
        data.read(write(tmp_path / "a.csv", CAFE.encode()), encoding=encoding)


def test_spaces_around_labels_make_no_other_class(tmp_path):
    found = data.read(csv(tmp_path / "a.csv", table(["very good", " very good ", "bad", "bad "] * 20)))
    assert found.names == ["bad", "very good"]


def test_words_and_tags_must_be_as_many(tmp_path):
    words = [["a", "b"]] * 30
    frame = pandas.DataFrame({"text": words, "label": [["O"] if i == 7 else ["O", "B-x"] for i in range(30)]})
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    with pytest.raises(ValueError, match="data: label has not one tag for each word in row 8$"):
        data.read(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="the labels are labels and the texts are lists of words"):
        data.read(tmp_path / "a.jsonl", kind="labels")


def test_what_is_no_table_is_refused(tmp_path):
    csv(tmp_path / "a.csv", table(STARS)), csv(tmp_path / "b.csv", table(STARS))
    with pytest.raises(
        ValueError, match="the name of a.csv, b.csv does not say which split it is; .* test in its name"
    ):
        data.read(tmp_path)
    with pytest.raises(
        ValueError, match="data: a.xlsx given, .csv, .tsv, .jsonl, .parquet files are accepted"
    ):
        data.read(write(tmp_path / "a.xlsx", b"x"))
    with pytest.raises(ValueError, match="a.txt given, .*; its columns are divided by tabs: name it .tsv"):
        data.read(write(tmp_path / "a.txt", b"text\tlabel\nfine\t1\n"))
    with pytest.raises(FileNotFoundError, match="missing.csv is no file or folder here; .* guest_book"):
        data.read("missing.csv")
    with pytest.raises(FileNotFoundError, match="guest_nots is no file or folder here"):
        data.read("guest_nots")
    with pytest.raises(FileNotFoundError, match="data: .*c.csv is no file"):
        data.read([tmp_path / "a.csv", tmp_path / "c.csv"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no .csv"):
        data.read(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"data: \[\] given"):
        data.read([])


def test_a_split_that_has_only_known_texts_is_refused(tmp_path):
    own = parts()
    own["test"] = own["train"][:10]
    with pytest.raises(ValueError, match="data: no row is left in test"):
        data.read([csv(tmp_path / f"{name}.csv", part) for name, part in own.items()])


def test_strata_are_classes_tenths_of_numbers_and_the_rarest_label():
    assert splits.strata([2, 0, 2], "classes").tolist() == [2, 0, 2]
    assert splits.strata([[1, 1, 0], [1, 0, 0], [0, 0, 0]], "labels").tolist() == [1, 0, -1]
    assert splits.strata([[0, 0, 3], [0, 0], [0, 3, 4]], "tags").tolist() == [3, 0, 4]
    assert splits.strata(list(range(40, 0, -1)), "numbers").tolist() == sorted(
        [0, 1, 2, 3] * 10, reverse=True
    )


# ---- Texts beside the model ----


def test_texts_longer_than_the_model_are_counted(tmp_path):
    from tests.lab.conftest import tiny_tokenizer

    frame = table(STARS).assign(text=[" ".join(["bed"] * (1 + i % 12)) + f" {i}" for i in range(120)])
    found = data.read(csv(tmp_path / "a.csv", frame))
    tokenizer = tiny_tokenizer()
    lengths = [len(tokenizer(t)["input_ids"]) for t in frame["text"]]
    told = data.too_long(found, tokenizer, 10)
    over = sum(n > 10 for n in lengths)
    assert told.startswith(
        f"{over} of 120 texts ({100 * over / 120:.0f} %) are longer than 10 tokens and are cut"
    )
    assert told.endswith(f"the longest {max(lengths)}")
    assert data.too_long(found, tokenizer, max(lengths)) is None


def test_a_table_can_be_written_as_json(tmp_path):
    found = data.read(csv(tmp_path / "a.csv", table(STARS)))
    assert json.loads(json.dumps(found.splits)) == found.splits
