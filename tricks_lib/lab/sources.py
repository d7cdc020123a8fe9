"""Where the registered data sets are published, and how their files are read.

Every address is pinned to a commit. A reader turns the files of a source into the parts that were published.
Splits that the book drew from a part travel as row numbers in ``assets/splits.npz``, so they are the same on
every machine. In all texts, runs of white space and control characters become one space.
"""

import csv
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

Rows = list[dict]


@dataclass(frozen=True)
class Source:
    """One data set as it is published.

    Attributes:
        repository: ``owner/name`` on GitHub. commit: the one that the files are taken from.
        files: paths there; one that ends with ``/`` is a folder.
        licence: of the data, as its publisher states it; ``unclear`` where nothing is stated.
        read: ``read(files) -> {part: rows}``; ``files`` are the local copies, in the order of ``files``.
        parts: split -> the part that it is, or that it was drawn from if ``assets/splits.npz`` has its rows.
    """

    repository: str
    commit: str
    files: tuple[str, ...]
    licence: str
    read: Callable[[list[Path]], dict[str, Rows]]
    parts: dict[str, str]


def fold(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f\u200b]+", " ", text).strip()


def lines(file: Path, encoding: str = "utf-8") -> list[str]:
    """Lines of a file; only a newline ends one."""
    return file.read_bytes().decode(encoding).replace("\r\n", "\n").rstrip("\n").split("\n")


def columns(file: Path, header: bool = True, encoding: str = "utf-8") -> list[list[str]]:
    """Cells of a tab-separated file without quoting."""
    return [line.split("\t") for line in lines(file, encoding)[header:]]


def quoted(file: Path) -> Rows:
    """Rows of a comma-separated file."""
    with file.open(encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


def banking(files):
    parts = [
        [{"text": fold(row["text"]), "label": row["category"]} for row in quoted(file)] for file in files
    ]
    return dict(zip(("train", "test"), parts))


def trec(files):
    """``COARSE:fine the question``; not UTF-8."""
    split = [[line.partition(" ") for line in lines(file, "latin-1")] for file in files]
    return {
        part: [
            {"text": fold(text), "label": label.partition(":")[0], "label_fine": label}
            for label, _, text in rows
        ]
        for part, rows in zip(("train", "test"), split)
    }


def hate(files):
    names = {"0": "hate_speech", "1": "offensive_language", "2": "neither"}
    rows = quoted(files[0])
    return {"all": [{"text": fold(html.unescape(r["tweet"])), "label": names[r["class"]]} for r in rows]}


def sts(files):
    return {
        part: [
            {"text": fold(c[5]), "text_b": fold(c[6]), "label": float(c[4]), "genre": c[0]}
            for c in columns(file, header=False)
        ]
        for part, file in zip(("train", "validation", "test"), files)
    }


def sst2(files):
    names = {"0": "negative", "1": "positive"}
    parts = [[{"text": fold(text), "label": names[label]} for text, label in columns(file)] for file in files]
    return {"train": parts[0] + parts[1], "validation": parts[2]}


def rte(files):
    parts = [
        [{"text": fold(a), "text_b": fold(b), "label": y} for _, a, b, y in columns(file)] for file in files
    ]
    return dict(zip(("train", "validation"), parts))


def cola(files):
    names = {"0": "unacceptable", "1": "acceptable"}
    parts = [
        [{"text": fold(text), "label": names[label]} for _, label, _, text in columns(file, header=False)]
        for file in files
    ]
    return {"train": parts[0] + parts[1], "validation": parts[2]}


def mrpc(files):
    names = {"0": "not_paraphrase", "1": "paraphrase"}
    parts = [
        [
            {"text": fold(a), "text_b": fold(b), "label": names[y]}
            for y, _, _, a, b in columns(f, True, "utf-8-sig")
        ]
        for f in files
    ]
    return dict(zip(("train", "test"), parts))


def wnut(files):
    """CoNLL: a word and its tag on each line, an empty line after each sentence."""
    parts = {}
    for part, file in zip(("train", "validation", "test"), files):
        sentences = [[]]
        for line in lines(file):
            if line.strip():
                sentences[-1].append(line.split("\t")[:2])
            elif sentences[-1]:
                sentences.append([])
        parts[part] = [{"tokens": [w for w, _ in s], "tags": [t for _, t in s]} for s in sentences if s]
    return parts


def films(folders):
    """One review a file, a folder for each label, in the order of the names."""
    return {
        "all": [
            {"text": fold(file.read_text("utf-8", errors="replace")), "label": label}
            for folder, label in zip(folders, ("negative", "positive"))
            for file in sorted(folder.glob("*.txt"))
        ]
    }


def clear(files):
    try:
        import pandas

        table = pandas.read_excel(files[0])
    except ImportError as error:
        raise ImportError(
            f"{files[0].name} is a spreadsheet: pip install openpyxl", name=error.name
        ) from error
    of_each = zip(table["Excerpt"], table["BT_easiness"], table["s.e."])
    return {
        "all": [{"text": fold(t), "label": round(y, 5), "label_se": round(se, 5)} for t, y, se in of_each]
    }


def news(files):
    articles, truth = (ElementTree.parse(file).getroot() for file in files)
    names = {"true": "hyperpartisan", "false": "mainstream"}
    label = {each.get("id"): names[each.get("hyperpartisan")] for each in truth}
    return {
        "all": [
            {
                "text": fold(" ".join([a.get("title"), ".", *("".join(part.itertext()) for part in a)])),
                "label": label[a.get("id")],
            }
            for a in articles
        ]
    }


def plain(files):
    """Running text, cut in order into 90, 5 and 5 % of its characters; a row is a line that is not empty."""
    text = files[0].read_bytes().decode()
    first, second = len(text) * 9 // 10, len(text) * 19 // 20
    cuts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
    return {part: [{"text": line} for line in cut.split("\n") if line] for part, cut in cuts.items()}


PUBLISHED = {split: split for split in ("train", "validation", "test")}
WITHOUT_TEST = {split: split for split in ("train", "validation")}
DRAWN_VALIDATION = {"train": "train", "validation": "train", "test": "test"}
DRAWN = dict.fromkeys(PUBLISHED, "all")
SOURCES = {
    "en_banking77": Source(
        "PolyAI-LDN/task-specific-datasets",
        "57ec275d8078af65b7731c2a98be812d844a6d6b",
        ("banking_data/train.csv", "banking_data/test.csv"),
        "CC BY 4.0",
        banking,
        DRAWN_VALIDATION,
    ),
    "en_clear_readability": Source(
        "scrosseye/CLEAR-Corpus",
        "dbf1cf0df30bf6be8b0691d2c078b75043ca6199",
        ("CLEAR_corpus_final.xlsx",),
        "CC BY-NC-SA 4.0: no commercial use",
        clear,
        DRAWN,
    ),
    "en_cola": Source(
        "amrnag/Specialized-Transformers",
        "fa673a93a5c27cb1f5954ac2a8a49eec6fcba6b9",
        ("data/CoLA/train.tsv", "data/CoLA/val.tsv", "data/CoLA/dev.tsv"),
        "unclear: sentences of linguistics papers, released for research",
        cola,
        WITHOUT_TEST,
    ),
    "en_hate_davidson": Source(
        "t-davidson/hate-speech-and-offensive-language",
        "cb50f7e9eb855a99abc51423bf40df0e26d6fe30",
        ("data/labeled_data.csv",),
        "MIT; the tweets are hateful and offensive",
        hate,
        DRAWN,
    ),
    "en_hyperpartisan": Source(
        "anshuly10/Biased-News-Detection",
        "89e4073cca91dfa8a250a2636082788bad170f4e",
        ("articles-training-byarticle-20181122.xml", "ground-truth-training-byarticle-20181122.xml"),
        "CC BY 4.0 (SemEval-2019 task 4); the articles belong to their publishers",
        news,
        DRAWN,
    ),
    "en_moviereview2k": Source(
        "AcademiaSinicaNLPLab/sentiment_dataset",
        "23c72429de5fb3d2f3da87bf2efb5559c15b78f7",
        ("data/panglee/txt_sentoken/neg/", "data/panglee/txt_sentoken/pos/"),
        "unclear: Pang & Lee 2004, for research",
        films,
        DRAWN,
    ),
    "en_mrpc": Source(
        "wasiahmad/paraphrase_identification",
        "88b208d0d094ab945d2401d9393531be1fec0076",
        tuple(f"dataset/msr-paraphrase-corpus/msr_paraphrase_{part}.txt" for part in ("train", "test")),
        "Microsoft Research licence: restricted",
        mrpc,
        DRAWN_VALIDATION,
    ),
    "en_rte": Source(
        "marcwww/nlu_eval",
        "ccd55c37de74ebd86c70ae58f67dceb0aa444f43",
        ("data/RTE/train.tsv", "data/RTE/dev.tsv"),
        "unclear: RTE 1, 2, 3 and 5, used for research",
        rte,
        WITHOUT_TEST,
    ),
    "en_sst2": Source(
        "forest-snow/alps",
        "3c7ef2c98249fc975a897b27f275695f97d5b7a9",
        ("data/SST-2/train.tsv", "data/SST-2/dev.tsv", "data/SST-2/test.tsv"),
        "unclear: Stanford Sentiment Treebank, for research",
        sst2,
        WITHOUT_TEST,
    ),
    "en_stsb": Source(
        "zhangzhenhu/Semantic-Texual-Similarity-Toolkits",
        "c55a72f51bd15a8bd75114247c06984b432050f9",
        tuple(f"data/stsbenchmark/sts-{part}.csv" for part in ("train", "dev", "test")),
        "scores CC BY-SA 4.0; the texts have several licences",
        sts,
        PUBLISHED,
    ),
    "en_tinyshakespeare": Source(
        "karpathy/char-rnn",
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e",
        ("data/tinyshakespeare/input.txt",),
        "public domain",
        plain,
        PUBLISHED,
    ),
    "en_trec": Source(
        "FreedomIntelligence/qnn",
        "77f549372d4371e7f2d52e77bc18df5096dd4779",
        ("data/TREC/train_5500.label", "data/TREC/TREC_10.label"),
        "unclear: Li & Roth 2002, for research",
        trec,
        DRAWN_VALIDATION,
    ),
    "en_wnut17": Source(
        "leondz/emerging_entities_17",
        "e52a2d2a71ac1a051ca2d532eef28653c5c02603",
        ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
        "CC BY 4.0",
        wnut,
        PUBLISHED,
    ),
}
