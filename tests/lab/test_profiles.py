"""Profiles: what TRICKS_PROFILE, CUDA and the hub decide; each decision is made once in a process."""

import http.client
import io
import platform
import subprocess
import sys
import urllib.error
import urllib.request

import huggingface_hub.constants
import pytest
import torch
import transformers

from tricks_lib import lab
from tricks_lib.lab import profiles


@pytest.fixture
def hub(monkeypatch):
    """``hub(outcome)``: what a request to the hub gives, an answer or an error; returns the list of
    requests.
    """
    requests = []

    def answers(outcome):
        def urlopen(request, timeout):
            requests.append((request.get_method(), request.full_url, timeout))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return requests

    return answers


@pytest.mark.parametrize("asked", ["", "mini", "full", None])
@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("reachable", [False, True])
@pytest.mark.parametrize("local", [False, True])
def test_profile_follows_the_setting_cuda_and_the_hub(monkeypatch, capsys, asked, cuda, reachable, local):
    monkeypatch.delenv("TRICKS_PROFILE")
    if asked is not None:
        monkeypatch.setenv("TRICKS_PROFILE", asked)
    if local:
        monkeypatch.setenv("TRICKS_MODELS", "models")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(profiles, "hub_answers", lambda: reachable)
    wanted = asked == "full" or (asked != "mini" and cuda)
    expected = "full" if wanted and (reachable or local) else "mini"
    assert profiles.profile() == expected
    printed = capsys.readouterr().out
    said = "profile full: the hub does not answer and TRICKS_MODELS is not set, so this is profile mini\n"
    assert printed == (said if asked == "full" and expected == "mini" else "")
    assert profiles.device().type == ("cuda" if expected == "full" and cuda else "cpu")


@pytest.mark.parametrize("asked", ["MINI", "mini ", "gpu", "0", "full,mini"])
def test_another_profile_is_refused(monkeypatch, asked):
    monkeypatch.setenv("TRICKS_PROFILE", asked)
    for function in (profiles.profile, profiles.device, profiles.setup):
        with pytest.raises(ValueError, match=f"^TRICKS_PROFILE: '{asked}' given, mini or full is accepted$"):
            function()
    monkeypatch.setenv("TRICKS_PROFILE", "mini")
    assert profiles.profile() == "mini", "an error is no decision"


def test_the_decision_is_made_and_said_once(monkeypatch, capsys):
    monkeypatch.setenv("TRICKS_PROFILE", "full")
    assert [profiles.profile() for _ in range(3)] == ["mini"] * 3
    assert capsys.readouterr().out.count("the hub does not answer") == 1
    monkeypatch.setenv("TRICKS_PROFILE", "nonsense")
    assert profiles.profile() == "mini"


def test_mini_asks_nobody(monkeypatch, hub):
    requests = hub(None)
    for asked in ("mini", ""):
        monkeypatch.setenv("TRICKS_PROFILE", asked)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: asked == "mini")
        profiles.profile.cache_clear()
        assert profiles.profile() == "mini"
    assert requests == []


NO_ANSWER = {
    "no network": urllib.error.URLError("no route"),
    "no name": OSError("no address"),
    "too late": TimeoutError(),
    "an error": urllib.error.HTTPError("x", 503, "busy", {}, io.BytesIO()),
    "no HTTP": http.client.BadStatusLine("x"),
    "hung up": http.client.RemoteDisconnected(),
    "no URL": ValueError("unknown url type"),
    "half an answer": http.client.IncompleteRead(b""),
}


@pytest.mark.parametrize("error", NO_ANSWER.values(), ids=NO_ANSWER)
def test_a_hub_that_fails_in_any_way_does_not_answer(hub, error, monkeypatch):
    requests = hub(error)
    assert profiles.hub_answers() is False
    assert profiles.hub_answers() is False and len(requests) == 1, "asked once in a process"
    monkeypatch.setenv("TRICKS_PROFILE", "full")
    assert profiles.profile() == "mini"


def test_a_hub_that_answers_makes_it_full(hub, monkeypatch, capsys):
    requests = hub(io.BytesIO())
    monkeypatch.setenv("TRICKS_PROFILE", "full")
    assert profiles.profile() == "full" and capsys.readouterr().out == ""
    assert requests == [("HEAD", huggingface_hub.constants.ENDPOINT, 3)]


def test_an_address_that_is_none_does_not_answer(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "nonsense")
    assert profiles.hub_answers() is False


def test_an_offline_hub_is_not_asked(hub, monkeypatch):
    requests = hub(None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert profiles.hub_answers() is False and requests == []


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_setup_prints_one_line_seeds_and_takes_one_thread(capsys, threads):
    torch.set_num_threads(2)
    lab.setup(seed=3)
    drawn = torch.rand(4)
    assert (
        capsys.readouterr().out
        == f"profile mini on CPU; Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}\n"
    )
    assert torch.get_num_threads() == 1
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)))
    assert transformers.utils.logging.get_verbosity() == transformers.logging.ERROR
    transformers.utils.logging.set_verbosity_warning()


def test_full_keeps_the_threads(monkeypatch, threads):
    monkeypatch.setenv("TRICKS_PROFILE", "full")
    monkeypatch.setenv("TRICKS_MODELS", "models")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(2)
    profiles.setup()
    assert torch.get_num_threads() == 2
    transformers.utils.logging.set_verbosity_warning()


def test_the_package_itself_imports_neither_the_lab_nor_torch():
    names = "{'torch', 'transformers', 'tricks_lib.lab'}"
    code = f"import tricks_lib, sys; print(sorted({names} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.mark.parametrize(
    "asked, capability, flags, expected",
    [
        ("", None, "avx2 amx_bf16", ("cpu", "bf16")),  # no hub and no TRICKS_MODELS: not asked for
        ("full", None, "avx2 avx512_bf16", ("cpu", "bf16")),
        ("", None, "avx2", ("cpu", "fp32")),
        ("", (8, 0), "avx2", ("cuda", "bf16")),
        ("full", (7, 5), "amx_bf16", ("cuda", "fp16")),
        ("mini", None, "amx_bf16", ("cpu", "fp32")),
        ("mini", (9, 0), "amx_bf16", ("cpu", "fp32")),
    ],
)
def test_comparisons_use_the_hardware_unless_mini_is_asked_for(
    monkeypatch, tmp_path, asked, capability, flags, expected
):
    (tmp_path / "cpuinfo").write_text(f"model name : a CPU\nflags : {flags}\n")
    monkeypatch.setattr(profiles, "CPUINFO", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setenv("TRICKS_PROFILE", asked)
    monkeypatch.delenv("TRICKS_MODELS", raising=False)
    assert (profiles.hardware().type, profiles.precision()) == expected
