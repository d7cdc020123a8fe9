"""What `make` says to a word or a setting that it cannot use: what is accepted, before anything is set up."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].replace("\\\n", " ").split()


def make(*words):
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words, accepted",
    [
        (["tset"], "no target 'tset'; accepted: book, test"),
        (["book", "JOBS=0"], "JOBS=0: accepted is a number from 1"),
        (["test", "JOBS=two"], "JOBS=two: accepted is a number from 1"),
        (["notebooks", "JOBS="], "JOBS=: accepted is a number from 1"),
        (["book", "TRICKS_PROFILE=big"], "TRICKS_PROFILE=big: accepted is mini or full"),
        (["test-versions", "ENDS=oldest"], "ENDS=oldest: accepted is lowest or newest"),
        (["site", "PYTHON=nothing", "VENV=_build/none"], "nothing is not Python 3.11, 3.12 or 3.13"),
    ],
)
def test_wrong_word_says_what_is_accepted(words, accepted):
    done = make(*words)
    assert done.returncode == 2 and accepted in done.stderr


@pytest.mark.parametrize("url", ["", "https://gitlab.com/a/b", "https://github.com/a", "a/b"])
def test_wrong_address_says_what_is_accepted(url):
    """What `make repository` hands its address to."""
    done = subprocess.run(
        [sys.executable, "scripts/repository.py", url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (
        done.returncode == 2
        and f"URL is {url or 'nothing'}; accepted: https://github.com/OWNER/NAME" in done.stderr
    )


@pytest.mark.parametrize(
    "words", [["TRICKS_PROFILE=full"], ["ENDS=lowest"], ["JOBS=12"], ["TRICKS_PROFILE=", "ENDS="]]
)
def test_right_settings_pass(words):
    assert make("help", *words).returncode == 0


def test_help_and_refusal_name_every_target():
    shown, refused = make("help").stdout, make("tset").stderr
    assert not [target for target in TARGETS if target != "help" and f"make {target} " not in shown]
    assert not [target for target in TARGETS if not re.search(rf"[ ,]{target}\b", refused)]
