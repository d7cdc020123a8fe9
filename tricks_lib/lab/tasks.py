"""Data sets by name, as ``datasets.DatasetDict``: the embedded corpus, then parquet files of
``TRICKS_DATA``, then the hub (parquet-backed sets only).

Every split has the columns ``text`` (and ``text_b`` for pairs; ``tokens``, a list of words, where each word
has a label) and ``label``. Embedded and local files must have the sha256 that stands here.
"""

import functools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tricks_lib._checks import number
from tricks_lib.lab.models import ASSETS, first_line, sha256

SPLITS = ("train", "validation", "test")
CORPORA = ("corpus_en",)  # running text: no labels, nothing to load as a data set
TOPICS = ("staff", "room", "food", "facilities", "location", "booking", "noise", "accessibility")
ASPECTS = ("cleanliness", "comfort", "food", "service", "quiet", "value", "location", "maintenance")


@dataclass(frozen=True)
class Task:
    """Where a data set is and what its columns mean.

    ``kind``: ``classification`` (label: a string or index), ``multilabel`` (label: list of names),
    ``regression`` (label: a number), ``tokens`` (words in ``tokens``, label: as many tags); ``sha256``: of
    ``<split>.<ending>``, in the order of ``splits``;
    ``hub``: address and, after a colon, configuration; ``columns``: names there of text, (text_b,) label;
    ``splits``: those published with labels; one whose labels the hub hides (all are -1) is left out. Without
    a test split the published validation split is the test split; where validation is missing then, it is a
    fixed tenth of train.
    """

    kind: str
    sha256: tuple[str, ...] = ()
    label: str = "label"
    folder: str = ""
    hub: str = ""
    columns: dict = field(default_factory=dict)
    splits: tuple[str, ...] = SPLITS


NOTES_SHA256 = (
    "35ea984d89328dcdfe009d2ae209c7153ffaed7629d968968f798af0e4c3125e",
    "f7f7ce09e43b759a46f18779b33603f0c6653a90e52bc47ea1ae7e8e0c09f49f",
    "061bb99b41a2c8b106794684bc23760461b6486c19e9d84a35d109ea63624139",
)
PAIR = {"text": "sentence1", "text_b": "sentence2"}  # GLUE's names
TASKS = {
    **{
        f"guest_notes/{label}": Task(kind, NOTES_SHA256, label, "guest_notes")
        for label, kind in {
            "topic": "classification", "aspects": "multilabel", "rating": "regression", "safety_issue": "classification",
        }.items()
    },
    "en_trec": Task("classification", (
        "68a02a6921d3045386b5f4450ea4705f92c53030b4a9921f60e38a5c7653502d",
        "60e09e9d69a5c20d8dd69e45a05cfb27a1782a0c03582b2b26e45b3da624881e",
        "da1e0f6c73483ec1282cec6b7074c483b9edb74a3a424e1ac073c730667dcb44")),
    "en_banking77": Task("classification", (
        "66ccccf52caec462754361c2142371d3df47f93644268f8f35b72094c05ffaf7",
        "ec6d420f473ee84c78e14c36b516aecda3c9bbf1c10aa9d7bb5b56fa9ed40c73",
        "bb5ad882e3a4a9c54be47d9f804592ecf5eb738c836a010d52fbcfc4743f7cf0")),
    "en_stsb": Task("regression", (
        "da938cc98f5b05ab54055f9ae429da28cdf4c95f1ed66c47de4a64677914a8ea",
        "f50d56592e50d3e76bc574f9905a49074b5dadddc653f8acdb4bf4d243a7e02c",
        "9fe33635dd47d31698cfc60873981a84cc6b40b1d6d192582d90b6c80b67045f"),
        hub="nyu-mll/glue:stsb", columns=PAIR),
    "en_rte": Task("classification", (
        "9d02cb1660f36cb5a5fe6347ee15819af42c61a13f1c756c0d52b94b98e6ad20",
        "79b0f5d46ef82004965fa178d3b326c781deb591073c33f965ec5b27f538ed15"),
        hub="nyu-mll/glue:rte", columns=PAIR, splits=("train", "validation")),
    "en_mrpc": Task("classification", (
        "a74e435bc461cb396e92869a5405046a975c75b56f71763c7464501bf5072969",
        "374fddc59cc4fa012d7da16739038aaabf8f58a62cca64e0e69937957a128c9b",
        "f27a0bb78c4661fb77d8a40c9290321173979c906735cea0f8b602c7379de252"),
        hub="nyu-mll/glue:mrpc", columns=PAIR),
    "en_cola": Task("classification", (
        "c6715de07d0b5c7e251ed4d3da6ab3c89c53930a2ecc29e184297e89b0b42424",
        "ce02855961cd3b97592f2d4fdc48937d1623a7507e769b5924fcae3f043f034f"),
        hub="nyu-mll/glue:cola", columns={"text": "sentence"}, splits=("train", "validation")),
    "en_sst2": Task("classification", (
        "b4af6ad1098c9f4a85d731cc736bd87cfe8637b2cb5549739f9c261dac28bdd9",
        "e90a51875ab6dea22591bcc4a83fcbfd9138ec04e4eaefca9dc136fb25e9ab0d"),
        hub="nyu-mll/glue:sst2", columns={"text": "sentence"}, splits=("train", "validation")),
    "en_wnut17": Task("tokens", (
        "13eb2ecb0e2f3238eea8517f59cd445fa89c73a718ff0e8de9ec2c8b728cc3d7",
        "a83658a142af797485cb88140c874b8c8b10187be213fbda36d20ba63041717d",
        "ef444e844919d24acb402d86137b80c585558005bcdb8e85dc74ebb68015397a"), label="tags"),
    "en_hyperpartisan": Task("classification", (
        "61746d39ab2b3e8df8e6b746bb4046d8d46e850cbf4a9f8e350cbde7d26709b1",
        "a800bbdbe1a9697522c8537bd1050ac78cbefc89a475ab53c6b308ab496dedd8",
        "f6c863a1ee0954418f8ebe1ac42f2061277a4370cdf6295565bb8467f927b702")),
    "en_hate_davidson": Task("classification", (
        "42fd810a2348d36b5c4d53a32fb703fe68e2831556c598e3f37f92af75b0657f",
        "f9b59e2100ea8cf1682f6adffbee7d16940c03a785af25afa60cd2794842ad4d",
        "20741d3849162ac0a41f153cda479e6c128ec732b7bdef017f0335b470e445f7")),
    "en_clear_readability": Task("regression", (
        "d02b07a404a5a8f2d5e6936354d8adaa96558e0be21efe2231a0c5de9c80d0b6",
        "648e94a34ee2ef92675392e2018d4a00d769881845a7e488fc3426fbbeb7621b",
        "6a86bcaed4e84ed84d1aae7cd769417c4e8470d7a2a9aca9644432e5915307ca")),
    "en_moviereview2k": Task("classification", (
        "8730415a330c3749fd867c7d121c33f6a12799b4179f58b75d85eafd39513427",
        "5cbe44d219006dc56bd42bb5ae877cc384bb3c786798bc482d3395f1a7a99703",
        "40a0349be1d3007f7172bfb86fbeb784bedbe319b87a56d4b38a89b7345ba7cf")),
    "ag_news": Task("classification", hub="fancyzhx/ag_news", splits=("train", "test")),
}  # fmt: skip


def load_task(name: str):
    """A data set by name.

    Args:
        name: a key of ``TASKS``, or ``guest_book`` (assembled from ``guest_notes``, see :func:`guest_book`).

    Returns:
        ``datasets.DatasetDict``; ``label`` is a ``ClassLabel``, a 0/1 list in the order of ``ASPECTS``, a
        float, or a list of ``ClassLabel``, one for each of ``tokens``.

    Raises:
        ValueError: unknown name; a file that is not the registered one, or cannot be read.
        FileNotFoundError: no copy of it here, and no hub to ask.
    """
    found = files(name)
    if name == "guest_book":
        return guest_book()
    task = TASKS[name]
    frames = {split: read(file) for split, file in found.items()} if found else from_hub(name, task)
    check_rows(name, task, frames)
    return to_datasets(task, all_splits(frames))


def files(name: str) -> dict[str, Path]:
    """Files of the splits of an embedded or local data set, after their sha256 was checked; {} for one on the
    hub.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_task`.
    """
    if not isinstance(name, str) or name not in (*TASKS, "guest_book"):
        raise ValueError(f"name: {name!r} given; accepted are {', '.join(sorted(TASKS))}, guest_book")
    task = TASKS["guest_notes/safety_issue" if name == "guest_book" else name]
    embedded = ASSETS / task.folder if task.folder else None
    local = os.environ.get("TRICKS_DATA")
    if not embedded and local and not Path(local).is_dir():
        raise FileNotFoundError(f"TRICKS_DATA: {local!r} given, an existing folder is accepted")
    if embedded:
        found = {split: embedded / f"{split}.jsonl" for split in task.splits}
    elif local and (Path(local) / name).is_dir():
        found = {split: Path(local) / name / f"{split}.parquet" for split in task.splits}
    elif task.hub:
        return {}
    else:
        raise FileNotFoundError(
            f"name: {name!r} is not embedded; TRICKS_DATA must name a folder that holds {name}/ (it is "
            f"{local or 'not set'})"
        )
    for split in found:
        if not found[split].is_file():
            raise FileNotFoundError(f"name: {name!r} has no file {found[split]}")
    for split, expected in zip(found, task.sha256):
        given = sha256(found[split])
        if given != expected:
            raise ValueError(f"name: {found[split]} has sha256 {given}, {expected} is accepted")
    return found


def read(file: Path) -> list[dict]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise ValueError(f"name: {file} cannot be read as parquet: {first_line(error)}") from error


def from_hub(name: str, task: Task) -> dict[str, list[dict]]:
    import datasets

    address, _, configuration = task.hub.partition(":")
    try:
        loaded = datasets.load_dataset(address, configuration or None)
    except Exception as error:  # the hub client raises many kinds
        raise FileNotFoundError(
            f"name: {name!r} could not be had from the hub ({first_line(error)}); put it into a folder and "
            f"set TRICKS_DATA"
        ) from error
    loaded = loaded.rename_columns({v: k for k, v in task.columns.items()})
    frames = {split: list(loaded[split]) for split in task.splits}
    hidden = {split for split, rows in frames.items() if rows and all(row[task.label] == -1 for row in rows)}
    return {split: rows for split, rows in frames.items() if split not in hidden}


def all_splits(frames: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """The three splits of a set that was published with fewer: see :class:`Task`."""
    frames = dict(frames)
    if "test" not in frames:
        frames["test"] = frames.pop("validation")
    if "validation" not in frames:
        order = np.random.default_rng(0).permutation(len(frames["train"]))
        tenth, rows = max(1, len(order) // 10), frames["train"]
        frames["validation"], frames["train"] = (
            [rows[i] for i in sorted(order[:tenth])],
            [rows[i] for i in sorted(order[tenth:])],
        )
    return {split: frames[split] for split in SPLITS}


def check_rows(name: str, task: Task, frames: dict[str, list[dict]]) -> None:
    """Refuse a split without rows, a missing column, a text or label of another type, and words that are not
    as many as their tags.
    """
    label = {"classification": (str, int), "multilabel": list, "regression": (int, float), "tokens": list}[
        task.kind
    ]
    text = ("tokens", list) if task.kind == "tokens" else ("text", str)
    for split, rows in frames.items():
        if not rows:
            raise ValueError(f"name: {name!r} has no rows in {split}")
        pair = [("text_b", str)] if "text_b" in frames["train"][0] else []
        for column, kind in [text, *pair, (task.label, label)]:
            wrong = [row.get(column) for row in rows if not isinstance(row.get(column), kind)]
            if wrong:
                raise ValueError(f"name: {name!r} has {wrong[0]!r} as {column!r} in {split}")
        if (
            isinstance(rows[0][task.label], int)
            and task.kind == "classification"
            and (low := min(row[task.label] for row in rows)) < 0
        ):
            raise ValueError(f"name: {name!r} has label {low} in {split}; 0 and above are accepted")
        if task.kind == "tokens" and (
            wrong := [row for row in rows if len(row["tokens"]) != len(row[task.label]) or not row["tokens"]]
        ):
            given = f"{len(wrong[0]['tokens'])} words and {len(wrong[0][task.label])} labels"
            raise ValueError(
                f"name: {name!r} has a row of {given} in {split}; as many of each, and at least one, are "
                f"accepted"
            )


def to_datasets(task: Task, frames: dict[str, list[dict]]):
    import datasets

    words = task.kind == "tokens"
    texts = ["tokens"] if words else [c for c in ("text", "text_b") if c in frames["train"][0]]
    labels = {split: [row[task.label] for row in rows] for split, rows in frames.items()}
    if task.kind == "classification":
        if isinstance(labels["train"][0], str):
            seen = {x for split in labels.values() for x in split}
            names = [t for t in TOPICS if t in seen] if seen <= set(TOPICS) else sorted(seen)
            labels = {split: [names.index(x) for x in column] for split, column in labels.items()}
        else:
            names = [str(i) for i in range(1 + max(int(x) for split in labels.values() for x in split))]
            labels = {split: [int(x) for x in column] for split, column in labels.items()}
        feature = datasets.ClassLabel(names=names)
    elif task.kind == "multilabel":
        feature = datasets.Sequence(datasets.Value("float32"), length=len(ASPECTS))
        labels = {
            split: [[float(a in x) for a in ASPECTS] for x in column] for split, column in labels.items()
        }
    elif words:
        names = sorted({tag for split in labels.values() for tags in split for tag in tags})
        labels = {
            split: [[names.index(tag) for tag in tags] for tags in column] for split, column in labels.items()
        }
        feature = datasets.Sequence(datasets.ClassLabel(names=names))
    else:
        feature = datasets.Value("float32")
    text = datasets.Sequence(datasets.Value("string")) if words else datasets.Value("string")
    features = datasets.Features({**{c: text for c in texts}, "label": feature})
    columns = {
        split: {**{c: [row[c] for row in rows] for c in texts}, "label": labels[split]}
        for split, rows in frames.items()
    }
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(c, features=features) for split, c in columns.items()}
    )


@functools.cache
def corpus(name: str) -> tuple[list[str], list[str], str]:
    """Training documents, held-out documents and the file's sha256 of a running text, as the checkpoint's
    pretraining divided them.
    """
    from tricks_lib.lab import pretrain

    return pretrain.read_corpus(Path(os.environ.get("TRICKS_DATA", "")) / name, lines=False)


def describe(name: str) -> dict:
    """Name, sha256 and number of rows of each split, for a record; of a running text the test split is what
    the pretraining held out.
    """
    if name in CORPORA:
        train, held, digest = corpus(name)
        return {"name": name, "sha256": {"train": digest}, "sizes": {"train": len(train), "test": len(held)}}
    found = files(name)
    sizes = {split: len(rows) for split, rows in load_task(name).items()}
    return {"name": name, "sha256": {split: sha256(f) for split, f in found.items()}, "sizes": sizes}


def guest_book(seed: int = 0, pages: tuple[int, int, int] = (1500, 300, 500)):
    """Pages of 10 to 14 guest notes (300 to 450 words): does any note report a safety issue?

    Notes are drawn with replacement inside each split, so no note of a test page is in a training page.
    Half of the pages hold exactly one note with an issue, at a uniform place, half hold none.

    Returns:
        ``datasets.DatasetDict`` with ``text`` (notes joined by a newline), ``label`` (0 or 1), and
        ``position``: index of the first word of the safety note, -1 where there is none.

    Raises:
        TypeError, ValueError: ``pages`` are not three positive integers, or ``seed`` is negative.
    """
    import datasets

    number("seed", seed, 0, accepted="an integer of at least 0", integer=True)
    if len(pages) != len(SPLITS):
        raise ValueError(f"pages: {pages} given, one number for each of {', '.join(SPLITS)} is accepted")
    for each in pages:
        number("pages", each, 1, accepted="a positive integer for each split", integer=True)

    rng = np.random.default_rng(seed)
    notes = load_task("guest_notes/safety_issue")
    label = datasets.ClassLabel(names=["no issue", "issue"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": label, "position": datasets.Value("int32")}
    )
    out = {}
    for split, count in zip(SPLITS, pages):
        texts, flags = np.array(notes[split]["text"], dtype=object), np.array(notes[split]["label"])
        rows = []
        while len(rows) < count:
            page = list(rng.choice(texts[flags == 0], rng.integers(10, 15)))
            issue, position = len(rows) % 2, -1
            if issue:
                place = int(rng.integers(len(page)))
                page[place] = rng.choice(texts[flags == 1])
                position = sum(len(note.split()) for note in page[:place])
            if 300 <= sum(len(note.split()) for note in page) <= 450:
                rows.append({"text": "\n".join(page), "label": issue, "position": position})
        out[split] = datasets.Dataset.from_dict(
            {c: [row[c] for row in rows] for c in features}, features=features
        )
    return datasets.DatasetDict(out)
