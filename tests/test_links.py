"""The report on outside links, with servers of our own: nothing here needs a network."""

import http.server
import threading
from pathlib import Path

import pytest
import yaml

from tests import load_script

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def links(monkeypatch):
    loaded = load_script("links")
    monkeypatch.setattr(loaded, "downloads", dict)
    return loaded


def test_what_fetch_downloads_is_tried_too():
    found = load_script("links").downloads()
    trec = (
        "https://raw.githubusercontent.com/FreedomIntelligence/qnn/77f549372d4371e7f2d52e77bc18df5096dd4779"
    )
    assert found[f"{trec}/data/TREC/TREC_10.label"] == ["en_trec"]
    assert {name for names in found.values() for name in names} >= {
        "en_sst2",
        "en_moviereview2k",
        "all-MiniLM-L6-v2",
    }


@pytest.fixture
def server():
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.strip("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def site(folder, *addresses):
    (folder / "chapters").mkdir()
    (folder / "index.html").write_text(
        "".join(f'<a href="{address}">x</a>' for address in addresses), "utf-8"
    )
    (folder / "chapters" / "a.html").write_text(
        f'<a href="{addresses[0]}#part">x</a><a href="../index.html">y</a>', "utf-8"
    )
    return folder


def test_links_of_all_pages_once_each_and_none_of_the_sites_own(links, tmp_path):
    own = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]["url"] + "/issues"
    assert links.outside(site(tmp_path, "https://a.example/x", own, "#here", "mailto:a@b.c")) == {
        "https://a.example/x": ["chapters/a.html", "index.html"]
    }


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_gone_is_named_and_fails_only_in_strict_mode(
    links, tmp_path, monkeypatch, capsys, server, strict
):
    monkeypatch.setattr(links, "SITE", site(tmp_path, f"{server}/200", f"{server}/404", f"{server}/403"))
    assert links.main(["--strict"] if strict else []) == int(strict)
    out = capsys.readouterr().out
    assert (
        f"gone (404): {server}/404  on index.html" in out
        and "not told (403)" in out
        and "3 links: 1 answer, 1 gone, 1 not told" in out
    )


def test_without_a_network_it_says_so_and_passes(links, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(links, "SITE", site(tmp_path, "http://127.0.0.1:1/x"))
    assert links.main(["--strict"]) == 0
    assert "no network: none of 1 links could be tried" in capsys.readouterr().out


def test_without_a_site_it_says_how_to_build_one(links, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(links, "SITE", tmp_path)
    assert links.main([]) == 2 and "make site" in capsys.readouterr().err
