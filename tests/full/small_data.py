"""Data sets under the hub's names and in its layouts, made of the embedded guest notes."""

import json
from pathlib import Path

import numpy as np

from tests.full.repositories import folder, write
from tricks_lib.lab.models import ASSETS
from tricks_lib.lab.tasks import TOPICS, guest_book

# Rows of train, validation and test: those of the hub where a chapter reads the set, else a few.
ROWS = {
    "mrpc": (3668, 408, 1725),
    "rte": (2490, 277, 3000),
    "stsb": (5749, 1500, 1379),
    "cola": (8551, 1043, 1063),
    "sst2": (300, 60, 60),
}


def make(root: Path) -> None:
    for data in (glue, imdb, ag_news, newsgroups):
        data(root)


def notes() -> list[dict]:
    lines = (ASSETS / "guest_notes/train.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def stretch(rng, words: list[str], mean: float, spread: float) -> list[str]:
    """Words that follow each other; their number is log-normal with that mean and that spread of its log."""
    count = int(np.clip(rng.lognormal(np.log(mean) - spread**2 / 2, spread), 3, 180))
    start = int(rng.integers(max(1, len(words) - count)))
    return words[start : start + count]


def pair(rng, words: list[str], means: tuple[float, float], spread: float) -> tuple[str, str, float]:
    """Two texts, the second made of words of the first and of new ones; the share that it took over."""
    first = stretch(rng, words, means[0], spread)
    second = stretch(rng, words, means[1], spread)
    kept, place = rng.random(), int(rng.integers(len(first)))
    same = round(kept * len(second))
    second = [*(first[place:] + first)[:same], *second[same:]]
    return " ".join(first), " ".join(second), kept


def publish(root: Path, name: str, splits: dict, features: dict, configuration: str = "") -> str:
    """Parquet files as the hub names them; the lines of the card that say where they are."""
    import datasets

    inside = configuration or "data"
    lines = [f"- config_name: {configuration or 'default'}", "  data_files:"]
    for split, rows in splits.items():
        file = folder(root, name) / inside / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        columns = {column: [row[column] for row in rows] for column in features}
        datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(file))
        lines += [f"  - split: {split}", f"    path: {inside}/{split}-*"]
    return "\n".join(lines)


def card(root: Path, name: str, configurations: list[str]) -> None:
    write(folder(root, name) / "README.md", ["---", "configs:", *configurations, "---", f"# {name}"])


def glue(root: Path) -> None:
    """Labels of the test splits are -1, but for MRPC's. Lengths are near those of the published sets: with
    special tokens about 53 pieces in MRPC, 70 in RTE, 28 in STS-B and 12 in CoLA.
    """
    import datasets

    text, index = datasets.Value("string"), {"idx": datasets.Value("int32")}
    rng, words = np.random.default_rng(0), " ".join(note["text"] for note in notes()).split()
    sets = {  # mean words of both texts, spread of their logarithm, names of the classes
        "mrpc": ((15.5, 15.5), 0.25, ["not_equivalent", "equivalent"]),
        "rte": ((36, 6), 0.6, ["entailment", "not_entailment"]),
        "stsb": ((8, 8), 0.45, None),
        "cola": ((6, 0), 0.4, ["unacceptable", "acceptable"]),
        "sst2": ((6, 0), 0.6, ["negative", "positive"]),
    }
    lines = []
    for name, (means, spread, classes) in sets.items():
        splits = {}
        for split, count in zip(("train", "validation", "test"), ROWS[name]):
            splits[split] = []
            for i in range(count):
                first, second, kept = pair(rng, words, (means[0], means[1] or 1), spread)
                label = (
                    round(5 * kept, 1)
                    if classes is None
                    else int(kept > 0.32 if name == "mrpc" else kept > 0.5)
                )
                texts = {"sentence1": first, "sentence2": second} if means[1] else {"sentence": first}
                hidden = split == "test" and name != "mrpc"
                splits[split].append({**texts, "label": -1 if hidden else label, "idx": i})
        kind = datasets.ClassLabel(names=classes) if classes else datasets.Value("float32")
        features = {column: text for column in splits["train"][0] if column not in ("label", "idx")}
        lines.append(publish(root, "nyu-mll/glue", splits, {**features, "label": kind, **index}, name))
    card(root, "nyu-mll/glue", lines)


def imdb(root: Path) -> None:
    """Long texts; a third split without labels."""
    import datasets

    pages = guest_book(pages=(200, 60, 60))
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    splits = {
        split: [{"text": row["text"], "label": label(row["label"])} for row in pages[source]]
        for split, source, label in (
            ("train", "train", int),
            ("test", "test", int),
            ("unsupervised", "validation", lambda known: -1),
        )
    }
    name = "stanfordnlp/imdb"
    card(root, name, [publish(root, name, splits, features, "plain_text")])


def ag_news(root: Path) -> None:
    import datasets

    names = ["World", "Sports", "Business", "Sci/Tech"]
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    rows = [{"text": note["text"], "label": TOPICS.index(note["topic"]) // 2} for note in notes()]
    splits = {"train": rows[:600], "test": rows[600:800]}
    card(root, "fancyzhx/ag_news", [publish(root, "fancyzhx/ag_news", splits, features)])


def newsgroups(root: Path) -> None:
    """JSON lines, no card that says where they are."""
    rows = [
        json.dumps({"text": note["text"], "label": TOPICS.index(note["topic"]), "label_text": note["topic"]})
        for note in notes()
    ]
    main = folder(root, "SetFit/20_newsgroups")
    write(main / "train.jsonl", rows[:600])
    write(main / "test.jsonl", rows[600:800])
