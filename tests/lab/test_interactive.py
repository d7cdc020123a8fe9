"""The interactive figures: what is stored of them, and that the JavaScript of each computes what the package
computes.
"""

import importlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tricks_lib.decoding import min_p_filter, top_k_filter, top_p_filter
from tricks_lib.focal_loss import binary_focal_loss
from tricks_lib.lab import models
from tricks_lib.lab.studies.ema import follow, noisy_descent
from tricks_lib.rdrop import rdrop_loss

pytest.importorskip("bokeh", reason="the book's environment has Bokeh")
from tricks_lib.lab import interactive
from tricks_lib.lab.interactive import decoding, ema, focal_loss, rdrop

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="needs node; tests/site/test_interactive.py asks Chromium"
)


@pytest.fixture(scope="module")
def prompts():
    """The next token's distribution of mini_gpt2 after two prompts, and the logits it comes from."""
    model, tokenizer = models.load_gpt2("mini_gpt2")
    ids = {
        text: torch.tensor([tokenizer(text)["input_ids"]]) for text in ("The United", "In my opinion, the")
    }
    with torch.no_grad():
        logits = {text: model(i).logits[0, -1].double() for text, i in ids.items()}
    return {text: decoding.distribution(model, i, tokenizer.decode) for text, i in ids.items()}, logits


@pytest.fixture(scope="module", params=["focal_loss", "ema", "rdrop", "decoding"])
def make(request, prompts):
    """Each chapter's figure, made anew at every call."""
    return {"focal_loss": focal_loss.playground, "ema": ema.playground, "rdrop": rdrop.playground,
            "decoding": lambda: decoding.playground(prompts[0])}[request.param]  # fmt: skip


def stored(page) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page.data, re.DOTALL)[1])


def moved(page, *settings: dict) -> list[dict]:
    """What the page's own function gives for settings; those not named stay where the controls start."""
    code = re.search(r"const move = .*?(?=\nconst {item)", page.data, re.DOTALL)[0]
    start = {control["name"]: control["start"] for control in stored(page)["controls"]}
    given = json.dumps([[{**start, **one} for one in settings], stored(page)["data"]])
    program = (
        f"{code} const [all, data] = {given}; console.log(JSON.stringify(all.map(at => move(at, data))));"
    )
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


# ---- What is stored ----


def test_html_is_the_same_each_time(make):
    assert make().data == make().data


def test_html_is_small_and_bokeh_is_not_in_it(make):
    assert len(make().data.encode()) < 40_000


def test_only_address_is_bokehs_own_for_pages_that_do_not_bring_it(make):
    import bokeh

    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+/[^\s\"'<]*", make().data)
    assert addresses == [f"https://cdn.bokeh.org/bokeh/release/bokeh-{bokeh.__version__}.min.js"]
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", make().data, re.DOTALL)
    assert len(scripts) == 2 and not any(
        addresses[0] in script for script in scripts
    )  # it is an attribute, and nothing loads it by itself


def test_nothing_shows_before_the_script_has_run(make):
    assert re.match(r'<div class="interactive" id="[\w-]+" role="group" [^>]* hidden>', make().data)
    assert "<noscript>" in make().data and "@media print { .interactive { display: none; } }" in make().data


def test_ids_are_the_figures_own(make):
    item, name = stored(make())["item"], re.search(r'id="([\w-]+)"', make().data)[1]
    ids = re.findall(r'"id": "([^"]*)"', json.dumps(item))
    assert item["root_id"] in ids and all(re.fullmatch(rf"{name}-\d+", one) for one in ids)


def test_every_source_that_is_filled_is_drawn_with_these_columns(make):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    page = make()
    (given,) = moved(page, {})
    assert len(given.pop("sentence")) > 60
    sources = {
        source["attributes"]["name"]: source["attributes"]["data"]["entries"]
        for source in found(stored(page)["item"], "ColumnDataSource")
        if source["attributes"].get("name")
    }
    assert {name: set(values) for name, values in given.items()} == {
        name: {column for column, _ in entries} for name, entries in sources.items()
    }
    for values in given.values():
        assert len({len(column) for column in values.values()}) == 1
        assert all(x is not None for column in values.values() for x in column)  # JSON's null is NaN


def found(tree, kind):
    if isinstance(tree, dict):
        if tree.get("name") == kind and "attributes" in tree:
            yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from found(branch, kind)


def test_data_cannot_close_the_script():
    page = interactive.playground(
        "a",
        "b",
        [interactive.axes("x", "y")],
        {"c": (["</script>"], "</script>")},
        "return {};",
        data="</script><p>",
    )
    assert page.data.count("</script>") == 2 and stored(page)["data"] == "</script><p>"


@pytest.mark.parametrize(
    "name, change",
    {
        "name": {"name": "two words"},
        "panels": {"panels": []},
        "controls": {"controls": {"gamma": ([0, 1], 2)}},
    }.items(),
)
def test_bad_input_is_named(name, change):
    good = {
        "name": "a",
        "label": "b",
        "panels": [interactive.axes("x", "y")],
        "controls": {"c": ([1, None], None)},
        "code": "return {};",
    }
    interactive.playground(**good)
    with pytest.raises(ValueError, match=f"^{name}: "):
        interactive.playground(**good | change)


def test_without_bokeh_the_error_says_what_to_install(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "bokeh"]:
        monkeypatch.setitem(sys.modules, module, None)
    for module in [name for name in sys.modules if name.startswith("tricks_lib.lab.interactive")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("tricks_lib.lab.interactive")
    with pytest.raises(ImportError, match="pip install bokeh"):
        importlib.import_module("tricks_lib.lab.interactive.focal_loss")


# ---- What is computed ----


@needs_node
def test_focal_curves_are_the_packages():
    settings = [{"gamma": gamma, "alpha": alpha} for gamma in (0, 0.5, 2, 5) for alpha in (None, 0.25, 0.9)]
    for (gamma, alpha), given in zip(map(dict.values, settings), moved(focal_loss.playground(), *settings)):
        curves, p = given["curves"], torch.tensor(given["curves"]["p"], dtype=torch.float64)
        assert curves["cross_entropy"] == pytest.approx((-p.log()).tolist()) and curves[
            "plain"
        ] == pytest.approx((1 - p).tolist())
        for label, name in (1.0, "positive"), (0.0, "negative"):
            x = ((2 * label - 1) * torch.logit(p)).requires_grad_()
            loss = binary_focal_loss(x, torch.full_like(x, label), gamma, alpha, "none")
            assert curves[f"loss_{name}"] == pytest.approx(loss.tolist())
            assert curves[f"slope_{name}"] == pytest.approx(
                torch.autograd.grad(loss.sum(), x)[0].abs().tolist()
            )


@needs_node
def test_focal_sentence_by_hand():
    (given,) = moved(focal_loss.playground(), {"gamma": 2, "alpha": None})
    # 0.1^2; (4): 0.1^2 (1 + 2 * 0.9 * 0.10536 / 0.1); (3): 10 * 0.9^2 (0.2 * 2.3026 + 0.9) to 1000 * 0.05^2
    # (1.9 * 0.051293 + 0.05)
    assert "leaves 1% of cross-entropy's loss and 2.9% of its gradient" in given["sentence"]
    assert "the ten have 97% of the gradient" in given["sentence"]


@needs_node
def test_ema_path_and_averages_are_the_studys():
    settings = [{"decay": decay, "learning rate": rate} for decay in (0, 0.9, 0.999) for rate in (0.1, 0.3)]
    for (decay, rate), given in zip(map(dict.values, settings), moved(ema.playground(), *settings)):
        path = noisy_descent(600, lr=rate, start=3.0, noise=3.0)
        wanted = {
            "weight": path,
            "plain": follow(path, decay=decay),
            "warm": follow(path, decay=decay, warmup=True),
        }
        for name, values in wanted.items():
            assert given["path"][name] == pytest.approx(
                values, abs=0.004
            )  # the noise is stored to three digits
            assert f"{np.sqrt(np.mean(np.square(given['path'][name][-300:]))):.2f}" in given["sentence"]


@needs_node
def test_rdrop_paths_are_those_of_rdrop_loss():
    starts = (0, 0.9, 0.3), (0.5, 0.02, 0.98), (8, 0.9, 0.3), (8, 0.4, 0.4)
    settings = [
        {"alpha": alpha, "first pass": first, "second pass": second} for alpha, first, second in starts
    ]
    for (alpha, first, second), given in zip(
        map(dict.values, settings), moved(rdrop.playground(), *settings)
    ):
        for name, strength in ("path", alpha), ("plain", 0):
            p, q = rdrop.descent(first, second, strength).T.tolist()
            assert given[name]["p"] == pytest.approx(p) and given[name]["q"] == pytest.approx(q)


@needs_node
def test_rdrop_arrows_point_down_the_gradient():
    for alpha, given in zip((0.5, 4), moved(rdrop.playground(), {"alpha": 0.5}, {"alpha": 4})):
        x0, y0, x1, y1 = np.array(list(given["arrows"].values()))
        x = torch.tensor(np.stack([x0, y0]), dtype=torch.float64).logit().requires_grad_()
        logits = torch.stack([x, torch.zeros_like(x)], dim=-1)  # (2 passes, N, 2 classes)
        slope = torch.autograd.grad(rdrop_loss(*logits, torch.zeros(len(x0), dtype=torch.long), alpha), x)[0]
        down = -(slope * x.sigmoid() * (1 - x.sigmoid())).detach().numpy()  # of the probabilities
        drawn = np.stack([x1 - x0, y1 - y0])
        assert drawn / np.linalg.norm(drawn, axis=0) == pytest.approx(down / np.linalg.norm(down, axis=0))


@needs_node
def test_rdrop_sentence_names_the_alpha_at_which_the_surer_pass_turns_back():
    (given,) = moved(rdrop.playground(), {"alpha": 2, "first pass": 0.9, "second pass": 0.3})
    border = float(re.search(r"begins at alpha ([\d.]+)\. ", given["sentence"])[1])
    falls = [
        (rdrop.descent(0.9, 0.3, alpha, steps=1)[1, 0] < 0.9).item()
        for alpha in (border - 0.01, border + 0.01)
    ]
    assert falls == [False, True]
    (agreeing,) = moved(rdrop.playground(), {"alpha": 2, "first pass": 0.5, "second pass": 0.5})
    assert "changes nothing" in agreeing["sentence"]


def test_descent_without_the_term_leaves_each_pass_alone_and_with_it_ends_in_agreement():
    alone, other = rdrop.descent(0.9, 0.3, 0.0), rdrop.descent(0.9, 0.6, 0.0)
    assert torch.equal(alone[:, 0], other[:, 0])
    assert (rdrop.descent(0.9, 0.3, 8.0)[-1].diff().abs() < 1e-6).all()


CUTS = [
    {},
    {"top-p": None},
    {"top-p": None, "top-k": 50},
    {"top-p": None, "min-p": 0.1},
    {"temperature": 0.3},
    {"temperature": 2},
    {"top-p": 0.05},
    {"top-p": 0.99, "top-k": 200, "min-p": 0.02, "temperature": 1.5},
    {"top-p": 0.5, "top-k": 3},
]


def kept_by_the_package(of: dict, temperature: float = 1.0, **settings):
    """Probabilities that the filters of the package leave of a stored distribution, largest first, and their
    mass before.
    """
    tail = torch.arange(len(of["levels"])).repeat_interleave(torch.tensor(of["levels"]))
    p = torch.cat([torch.tensor(of["top"], dtype=torch.float64), (-tail.double() / 100).exp()])
    whole = logits = p.log() / temperature
    for name, keep in ("top-k", top_k_filter), ("top-p", top_p_filter), ("min-p", min_p_filter):
        if settings.get(name) is not None:
            logits = keep(logits, settings[name])
    kept = logits.isfinite()
    return logits.softmax(-1)[kept], whole.softmax(-1)[kept].sum().item()


@needs_node
def test_cuts_are_those_of_the_packages_filters(prompts):
    page = decoding.playground(prompts[0])
    start = {control["name"]: control["start"] for control in stored(page)["controls"]}
    settings = [{**start, **cut, "after the words": text} for text in prompts[0] for cut in CUTS]
    for one, given in zip(settings, moved(page, *settings)):
        p, mass = kept_by_the_package(prompts[0][one["after the words"]], **one)
        number, share = re.match(
            r"Kept: ([\d,]+) of 8,192 tokens, with ([\d.]+)% ", given["sentence"]
        ).groups()
        assert int(number.replace(",", "")) == len(p)
        assert float(share) == pytest.approx(100 * mass, rel=0.05)
        shown = [*p.tolist(), *[0.0] * decoding.NAMED][: decoding.NAMED]
        assert given["bars"]["now"] == pytest.approx(shown)
        assert [colour == "#0072B2" for colour in given["bars"]["colour"]] == [x > 0 for x in shown]


def test_stored_distribution_is_the_models(prompts):
    for text, logits in prompts[1].items():
        of, p = prompts[0][text], logits.softmax(-1).sort(descending=True).values
        assert of["top"] == pytest.approx(p[: decoding.NAMED].tolist(), rel=1e-3)
        assert len(of["tokens"]) == decoding.NAMED and decoding.NAMED + sum(of["levels"]) == len(p)
        for top_p in (0.5, 0.9, 0.99):  # a hundredth of a nat is enough to count by
            assert len(kept_by_the_package(of, **{"top-p": top_p})[0]) == pytest.approx(
                top_p_filter(logits, top_p).isfinite().sum().item(), abs=2
            )
