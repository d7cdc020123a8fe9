"""``fetch`` against a server of the test's own: what it writes, and what it refuses and leaves behind."""

import io
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.parquet
import pytest

from tricks_lib.lab import fetch, models, sources, tasks
from tricks_lib.lab.__main__ import main
from tricks_lib.lab.sources import SOURCES, Source

COMMIT = "0123456789012345678901234567890123456789"


@pytest.fixture
def serve(monkeypatch):
    """``serve(handler)``: a server on this machine, which is asked for everything."""
    running = []

    def start(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TRICKS_MIRROR", f"http://127.0.0.1:{server.server_port}/")
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def published(tmp_path, serve):
    """The folder that the server shows."""
    root = tmp_path / "published"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    serve(partial(Quiet, directory=root))
    return root


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRICKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left(cache):
    return (
        sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file()) if cache.exists() else []
    )


ROWS = [{"text": f"question {i}", "label": "AB"[i % 2]} for i in range(6)]


@pytest.fixture
def own(published, monkeypatch, tmp_path):
    """A registered source ``own`` whose validation rows are drawn from its train part."""
    file = published / f"raw.githubusercontent.com/someone/set/{COMMIT}/data/all.csv"
    file.parent.mkdir(parents=True)
    file.write_text("text,category\n" + "".join(f"{r['text']},{r['label']}\n" for r in ROWS))
    source = Source(
        "someone/set",
        COMMIT,
        ("data/all.csv",),
        "CC BY 4.0",
        lambda files: {"all": sources.banking([files[0], files[0]])["train"]},
        dict.fromkeys(("train", "validation", "test"), "all"),
    )
    drawn = {"train": [5, 0, 3], "validation": [1], "test": [2, 4]}
    assets = tmp_path / "assets"
    assets.mkdir()
    np.savez(assets / "splits.npz", **{f"own/{k}": np.array(v, dtype=np.uint16) for k, v in drawn.items()})
    monkeypatch.setattr(fetch, "ASSETS", assets)
    monkeypatch.setitem(SOURCES, "own", source)
    rows = {split: [ROWS[i] for i in at] for split, at in drawn.items()}
    sums = tuple(tasks.content_sha256(part) for part in rows.values())
    monkeypatch.setitem(tasks.TASKS, "own", tasks.Task("classification", sums))
    return file, rows


def test_a_fetched_data_set_has_the_drawn_rows_and_is_found(own, cache, capsys):
    _, rows = own
    assert fetch.fetch("own") == cache / "data" / "own"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "own: licence CC BY 4.0" and said[1].startswith("own: written to")
    assert left(cache) == [f"data/own/{split}.parquet" for split in ("test", "train", "validation")]
    for split, expected in rows.items():
        assert pyarrow.parquet.read_table(cache / f"data/own/{split}.parquet").to_pylist() == expected
    assert tasks.load_task("own")["train"]["text"][:] == [row["text"] for row in rows["train"]]


def test_what_is_there_is_not_downloaded_again(own, cache, capsys):
    file, _ = own
    fetch.fetch("own")
    file.unlink()
    capsys.readouterr()
    fetch.fetch("own")
    assert capsys.readouterr().out.startswith("own: in ")


def test_other_content_is_refused_and_nothing_stays(own, cache):
    file, _ = own
    file.write_text(file.read_text().replace("question 3", "question three"))
    with pytest.raises(ValueError, match=r"^name: 'own' has content of sha256 .*, .* is accepted$"):
        fetch.fetch("own")
    assert left(cache) == []


def test_a_source_with_fewer_rows_is_refused_and_nothing_stays(own, cache):
    file, _ = own
    file.write_text("text,category\nquestion 0,A\n")
    with pytest.raises(ValueError, match="has content of sha256"):
        fetch.fetch("own")
    assert left(cache) == []


def test_a_killed_download_is_started_anew(own, cache):
    (cache / "data" / "own.part" / "originals").mkdir(parents=True)
    (cache / "data" / "own.part" / "originals" / "half.csv").write_text("text,cat")
    fetch.fetch("own")
    assert left(cache) == [f"data/own/{split}.parquet" for split in ("test", "train", "validation")]


def test_a_missing_file_is_named_and_nothing_stays(own, cache):
    file, _ = own
    file.unlink()
    with pytest.raises(ConnectionError, match=r"data/all\.csv could not be downloaded: .*404"):
        fetch.fetch("own")
    assert left(cache) == []


def test_a_connection_that_breaks_leaves_nothing(own, cache, serve):
    class Breaks(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"text,category\nquestion 0,A\n")

        def log_message(self, *arguments):
            pass

    serve(Breaks)
    with pytest.raises(ConnectionError, match="of 1000 bytes came"):
        fetch.fetch("own")
    assert left(cache) == []


def test_without_a_network_it_says_so(cache):
    with pytest.raises(ConnectionError, match=r"raw\.githubusercontent\.com.* could not be downloaded"):
        fetch.fetch("en_trec")
    assert left(cache) == []


def test_folders_come_out_of_the_archive_of_the_commit(published, cache, monkeypatch):
    source = Source("someone/films", COMMIT, ("a/neg/", "a/pos/"), "", sources.films, {"train": "all"})
    archive = published / f"codeload.github.com/someone/films/tar.gz/{COMMIT}"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as content:
        files = {"a/neg/2.txt": "bad \n film", "a/neg/1.txt": "dull", "a/pos/1.txt": "good", "b/3.txt": "no"}
        for name, text in files.items():
            entry = tarfile.TarInfo(f"films-0123456/{name}")
            entry.size = len(text)
            content.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setitem(SOURCES, "own", source)
    rows = [{"text": text, "label": "negative"} for text in ("dull", "bad film")]
    rows.append({"text": "good", "label": "positive"})
    task = tasks.Task("classification", (tasks.content_sha256(rows),), splits=("train",))
    monkeypatch.setitem(tasks.TASKS, "own", task)
    fetch.fetch("own")
    assert pyarrow.parquet.read_table(cache / "data/own/train.parquet").to_pylist() == rows


# --- readers: two rows of each format, as published

SAMPLES = {
    sources.trec: ("ENTY:animal What \xbf is it ?\nABBR:exp Why ?\n", "latin-1", "train", [
        {"text": "What \xbf is it ?", "label": "ENTY", "label_fine": "ENTY:animal"},
        {"text": "Why ?", "label": "ABBR", "label_fine": "ABBR:exp"}]),
    sources.hate: (
        ',count,class,tweet\n0,3,2,"a &amp; ""b""\n c"\n1,3,0,d\n',
        "utf-8", "all", [{"text": 'a & "b" c', "label": "neither"}, {"text": "d", "label": "hate_speech"}]),
    sources.sts: ("news\tx\t2012\t1\t2.500\tOne \"a\"\tTwo\tlicence\n", "utf-8", "train", [
        {"text": 'One "a"', "text_b": "Two", "label": 2.5, "genre": "news"}]),
    sources.sst2: ("sentence\tlabel\nfine \t1\nnot so\t0\n", "utf-8", "validation", [
        {"text": "fine", "label": "positive"}, {"text": "not so", "label": "negative"}]),
    sources.rte: ("index\tsentence1\tsentence2\tlabel\n0\tA\u200bb.\tC.\tentailment\n", "utf-8", "train", [
        {"text": "A b.", "text_b": "C.", "label": "entailment"}]),
    sources.cola: ("gj04\t1\t\tIt works.\ngj04\t0\t*\tWorks it does it.\n", "utf-8", "validation", [
        {"text": "It works.", "label": "acceptable"},
        {"text": "Works it does it.", "label": "unacceptable"}]),
    sources.mrpc: ("\ufeffQuality\t#1 ID\t#2 ID\ta\tb\r\n1\t7\t8\tA \"q.\tB\r\n", "utf-8", "train", [
        {"text": 'A "q.', "text_b": "B", "label": "paraphrase"}]),
    sources.wnut: ("New\tB-location\nYork\tI-location\n\t\n\nHi\tO\n\n", "utf-8", "train", [
        {"tokens": ["New", "York"], "tags": ["B-location", "I-location"]},
        {"tokens": ["Hi"], "tags": ["O"]}]),
    sources.plain: ("a\n\n" + "b" * 20, "utf-8", "train", [{"text": "a"}, {"text": "b" * 17}]),
}  # fmt: skip


@pytest.mark.parametrize("read", SAMPLES, ids=lambda read: read.__name__)
def test_reader(read, tmp_path):
    content, encoding, part, expected = SAMPLES[read]
    file = tmp_path / "file"
    file.write_bytes(content.encode(encoding))
    assert read([file] * 3)[part][-len(expected) :] == expected


def test_reader_of_the_news(tmp_path):
    articles, truth = tmp_path / "a.xml", tmp_path / "t.xml"
    articles.write_text(
        '<articles><article id="1" title="T">x<p>one <b>two</b></p>y<a>z</a></article></articles>'
    )
    truth.write_text('<articles><article id="1" hyperpartisan="true"/></articles>')
    assert sources.news([articles, truth]) == {"all": [{"text": "T . one two z", "label": "hyperpartisan"}]}


def test_reader_of_the_spreadsheet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    file = tmp_path / "c.xlsx"
    pandas.DataFrame({"Excerpt": ["a\n b"], "BT_easiness": [-0.123456789], "s.e.": [0.5]}).to_excel(file)
    assert sources.clear([file]) == {"all": [{"text": "a b", "label": -0.12346, "label_se": 0.5}]}


# --- the registry


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_pinned_registered_and_of_known_licence(name):
    source, task = SOURCES[name], tasks.TASKS[name]
    assert len(source.commit) == 40 and source.files and source.licence
    assert tuple(source.parts) == task.splits and len(task.sha256) == len(task.splits)


def test_every_local_set_but_the_corpus_can_be_fetched():
    local = {name for name, task in tasks.TASKS.items() if task.sha256 and not task.folder}
    assert local == {*SOURCES}


def test_drawn_rows_are_a_partition():
    """No row is in two splits: what one split has, no other has."""
    with np.load(models.ASSETS / "splits.npz") as drawn:
        assert {name.split("/")[0] for name in drawn} == {
            n for n, s in SOURCES.items() if len({*s.parts.values()}) < len(s.parts)
        }
        for name in {each.split("/")[0] for each in drawn}:
            rows = np.concatenate([drawn[each] for each in drawn if each.startswith(f"{name}/")])
            assert np.array_equal(np.sort(rows), np.arange(len(rows)))


# --- models


def test_minilm_is_kept_in_half_precision_whatever_is_published(published, cache, monkeypatch):
    import hashlib

    import safetensors.torch
    import torch

    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    base = f"huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/{commit}"
    (published / base).mkdir(parents=True)
    for name in (
        "config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ):
        (published / base / name).write_text("{}")
    weight = torch.tensor([[1.00001, -3.0]])
    safetensors.torch.save_file({"b": weight, "ids": torch.arange(3)}, published / base / "model.safetensors")
    digest = hashlib.sha256(b"b" + np.array([[1.0, -3.0]], dtype=np.float16).tobytes()).hexdigest()
    monkeypatch.setitem(
        fetch.CHECKPOINTS, "all-MiniLM-L6-v2", fetch.Checkpoint("Apache-2.0", fetch.minilm, digest)
    )
    folder = fetch.fetch("all-MiniLM-L6-v2")
    kept = safetensors.torch.load_file(folder / "model.safetensors")
    assert list(kept) == ["b"] and kept["b"].dtype == torch.float16
    assert models.locate("all-MiniLM-L6-v2") == (str(folder), "cache")


def test_a_model_that_only_fetch_can_make_says_so():
    with pytest.raises(
        ValueError, match="is not here; python -m tricks_lib.lab fetch SmolLM2-135M-Instruct$"
    ):
        models.load_decoder("SmolLM2-135M-Instruct")


# --- the command


def test_the_command_names_what_failed_and_goes_on(own, cache, capsys):
    assert main(["fetch", "en_trec", "own"]) == 2
    said = capsys.readouterr()
    assert "error: en_trec: " in said.err and "own: written to" in said.out


@pytest.mark.parametrize("words", [[], ["--all", "own"]])
def test_the_command_says_what_it_takes(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fetch", *words])
    assert stop.value.code == 2 and "names or --all are accepted: en_banking77" in capsys.readouterr().err


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ValueError, match=r"^name: 'en_nothing' given; accepted are en_banking77, .*SmolLM2"):
        fetch.fetch("en_nothing")
