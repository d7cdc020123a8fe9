"""Serves a folder of :mod:`tests.full.repositories` as the Hugging Face hub would, on 127.0.0.1.

Only what ``huggingface_hub``, ``transformers`` and ``datasets`` ask for when they load something: files, with
their hash and their commit; the list of a repository's files; its commits; its pull requests.
"""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

DATE = "2024-01-01T00:00:00.000Z"
BOT = {
    "title": "Adding `safetensors` variant of this model", "author": {"name": "SFconvertbot"},
    "status": "open", "isPullRequest": True, "repo": {"type": "model", "name": ""},
}  # fmt: skip
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)")
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/([^/]+))?(?:/(refs/[^/]+/[^/]+|[^/]+))?(?:/(.*))?")


class Missing(Exception):
    """What is not there, as the hub names it: a repository, a revision or an entry."""


class Repository:
    """One repository at one revision; a revision is a branch, a pull request, or the commit of either."""

    def __init__(self, path: Path, revision: str):
        if not path.is_dir():
            raise Missing("RepoNotFound")
        known = {unquote(each.name): each for each in path.iterdir()}
        known |= {self.commit(each): each for each in known.values()}
        if revision not in known:
            raise Missing("RevisionNotFound")
        self.path, self.root = path, known[revision]
        self.sha = self.commit(self.root)

    @staticmethod
    def commit(revision: Path) -> str:
        return hashlib.sha1("/".join(revision.parts[-3:]).encode()).hexdigest()

    def file(self, name: str) -> Path:
        path = (self.root / name).resolve()
        if self.root.resolve() not in path.parents or not path.is_file():
            raise Missing("EntryNotFound")
        return path

    def entries(self, below: str = "", recursive: bool = True) -> list[dict]:
        top = self.root / below
        if not top.is_dir():
            raise Missing("EntryNotFound")
        return [self.entry(path) for path in sorted(top.rglob("*") if recursive else top.iterdir())]

    def entry(self, path: Path) -> dict:
        name = path.relative_to(self.root).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        size, digest = path.stat().st_size, sha256(path)
        entry = {"type": "file", "path": name, "oid": digest[:40], "size": size}
        large = path.suffix in (".safetensors", ".parquet", ".bin")
        return entry | ({"lfs": {"oid": digest, "size": size, "pointerSize": 134}} if large else {})

    def info(self, name: str) -> dict:
        files = [{"rfilename": e["path"], "size": e["size"]} for e in self.entries() if e["type"] == "file"]
        return {
            "_id": "0", "id": name, "sha": self.sha, "siblings": files, "tags": [], "createdAt": DATE,
            "lastModified": DATE, "private": False, "gated": False, "disabled": False, "downloads": 0,
            "likes": 0,
        }  # fmt: skip

    def commits(self) -> list[dict]:
        """A pull request stands one commit above the main branch."""
        main = self.commit(self.path / "main")
        ids = [main] if self.sha == main else [self.sha, main]
        return [{"id": each, "title": "", "message": "", "date": DATE, "authors": []} for each in ids]

    def discussions(self) -> dict:
        """The pull requests, each opened by the bot that converts weights to safetensors."""
        names = [unquote(each.name) for each in self.path.iterdir()]
        numbers = [int(name.removeprefix("refs/pr/")) for name in names if name.startswith("refs/pr/")]
        rows = [{**BOT, "num": number, "createdAt": DATE} for number in numbers]
        return {"discussions": rows, "count": len(rows), "start": 0}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *_):
        pass

    def do_GET(self):
        try:
            body, headers = self.answer()
        except Missing as missing:
            body, headers = json.dumps({"error": str(missing)}).encode(), {"X-Error-Code": str(missing)}
            return self.send(404, body, headers)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.send(200, body, headers)
        start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
        self.send(206, body[start : end + 1], headers)

    do_HEAD = do_POST = do_GET

    def send(self, status: int, body: bytes, headers: dict):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self) -> tuple[bytes, dict]:
        address = urlparse(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(address.path)
        if path == "/":
            return b"hub", {}
        if found := FILE.fullmatch(path):
            kind, name, revision, inside = found.groups()
            repository = Repository(self.root / ("datasets" if kind else "models") / name, revision)
            body = (file := repository.file(inside)).read_bytes()
            etag = f'"{sha256(file)}"'
            linked = {"X-Linked-Size": len(body), "X-Linked-Etag": etag}
            return body, {"ETag": etag, "X-Repo-Commit": repository.sha, "Accept-Ranges": "bytes", **linked}
        if found := API.fullmatch(path):
            return json.dumps(self.api(*found.groups(), parse_qs(address.query), sent)).encode(), {
                "Content-Type": "application/json"
            }
        raise Missing("EntryNotFound")

    def api(self, kind, name, what, revision, inside, query, sent):
        repository = Repository(self.root / kind / name, revision or "main")
        if what in (None, "revision"):
            return repository.info(name)
        if what == "commits":
            return repository.commits()
        if what == "discussions":
            return repository.discussions()
        if what == "tree":
            return repository.entries(inside or "", query.get("recursive", ["false"])[0].lower() == "true")
        if what == "paths-info":
            text = sent.decode()
            paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            there = [repository.root / each for each in paths]
            return [repository.entry(path) for path in there if path.exists()]
        raise Missing("EntryNotFound")


@contextlib.contextmanager
def serve(root: Path):
    """The hub's address, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"root": Path(root)}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def settings(address: str, home: Path) -> dict[str, str]:
    """Environment of a process for which ``address`` is the hub and ``home`` an empty cache."""
    return {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "NO_PROXY": "127.0.0.1",
    }
