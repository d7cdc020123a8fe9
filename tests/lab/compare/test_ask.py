"""The reader's question: which tricks fit, what it would cost, what hours buy, and what is pasted."""

import dataclasses
import json
import math
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from tricks_lib import lab
from tricks_lib.lab import __main__ as cli
from tricks_lib.lab.compare import (
    arms,
    ask,
    classifier,
    comparison,
    pasted,
    plan,
    run,
    statistics,
    tokens,
    train,
    tricks,
)  # fmt: skip
from tricks_lib.lab.compare.statistics import seeds_needed
from tricks_lib.lab.studies import tournament
from tricks_lib.trainer import TricksArguments

from .conftest import Task, small

TRAINING = comparison.TRAINING | {"precision": "fp32"}


@pytest.mark.parametrize("kind", ["classes", "labels", "tags", "numbers"])
def test_every_trick_stands_beside_its_controls(kind):
    names = tricks.fitting(kind)
    found = tricks.arms_of(names, kind, 2)
    assert [*found][0] == "baseline" and {arm.trick for arm in found.values()} - {None} <= {*names}
    assert all(arm.rival in found for arm in found.values() if arm.rival)
    passes = {arms.passes({**a.settings, **c}) for a in found.values() for c in a.candidates}
    longer = {arm.settings["times"] for arm in found.values() if "times" in arm.settings}
    assert longer == ({max(passes)} if max(passes) > 1 else set())


def test_a_trick_that_is_not_there_or_does_not_fit_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="tricks: 'rdorp' given; accepted are rdrop, fgm"):
        tricks.arms_of(["rdorp"], "classes", 2)
    with pytest.raises(ValueError, match="tricks: 'mse_corr_loss' given for classes; accepted are rdrop"):
        tricks.arms_of(["mse_corr_loss"], "classes", 2)


def test_a_threshold_is_for_two_classes():
    assert tricks.THRESHOLD in tricks.arms_of(["dice_loss"], "classes", 2)
    assert tricks.THRESHOLD not in tricks.arms_of(["dice_loss"], "classes", 3)


def every_setting() -> list:
    """Those of the table of evidence, each once."""
    found = {}
    for make in tournament.COMPARISONS.values():
        for name, arm in make().arms.items():
            for candidate in arm.candidates:
                settings = {**arm.settings, **candidate}
                found.setdefault(
                    arms.key(settings), pytest.param(settings, id=f"{name} {candidate or ''}".strip())
                )
    return [*found.values()]


@pytest.mark.parametrize("settings", every_setting())
def test_what_is_pasted_is_what_is_trained(settings):
    """The printed arguments and classifier, evaluated, are those of the training."""
    c = small(training=TRAINING | {"batch_size": 8})
    text = pasted.pasted(c, Task, settings, 3e-4, 100)
    imported, *lines = text.splitlines()
    encoder, model, args = (line.partition(" = ")[2] for line in lines[:3])
    reading = arms.reading_of(settings)
    given = eval(args, {"TricksArguments": lambda folder, **fields: fields})
    expected = train.arguments(settings, c.training, 3e-4, 100)
    assert {k: given[k] for k in expected} == expected and given["max_steps"] == 100 * settings.get(
        "times", 1
    )
    extra = {*given} - {*expected}
    assert ("ema_decay" in extra) == (reading["weights"] == "ema")
    assert ("load_best_model_at_end" in extra) == (reading["weights"] == "best checkpoint")
    told = reading["weights"] == "swa", reading["threshold"] == "tuned", bool(settings.get("prior_bias"))
    assert text.count("#") == sum(told)
    TricksArguments(
        "out", use_cpu=True, report_to="none", **{k: v for k, v in given.items() if k not in extra}
    )
    made, own = classifier.chosen(settings, "classes", Task.num_labels, Task.labels["train"])
    assert (
        eval(model, {made.__name__: lambda encoder, **fields: fields, "encoder": 0})
        == {"num_labels": 4} | own
    )
    assert ("hidden_dropout_prob" in encoder) == ("dropout" in settings)
    exec(imported, names := {"AutoModel": SimpleNamespace(from_pretrained=lambda place, **fields: place)})
    assert (eval(encoder, names) / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "where"),
    [("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"), ("owner/name", "owner/name")],
)
def test_a_model_is_pasted_by_its_address_on_the_hub(name, where):
    text = pasted.pasted(small(model=name), Task, {}, 3e-4, 100)
    assert text.startswith(f"encoder = AutoModel.from_pretrained({where!r})\nmodel = ")


def test_the_number_of_seeds_follows_the_number_of_arms():
    assert len(small().seeds) == seeds_needed(5) == 10
    whole = tournament.COMPARISONS["tournament/en_banking77"]()
    assert len(whole.arms) == 27 and len(whole.seeds) == 13
    assert 2 ** (1 - 13) * 26 <= 0.01 < 2 ** (1 - 12) * 26


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rates": (1e-4, 2e-4, 4e-4)}, "rates: .* at least 4"),
        ({"rates": (1e-4, 2e-4, 4e-4, 9e-4)}, "each twice the one before"),
        ({"metric": "acuracy"}, "metric: 'acuracy' given"),
        ({"steps": 0}, "steps: 0 given"),
        ({"seeds": (1, 2, 1001)}, "a seed stands there twice"),
        ({"tuning_seeds": ()}, "tuning_seeds: none given"),
        ({"arms": {"baseline": arms.Arm()}}, "at least two"),
        ({"arms": {"a": arms.Arm(), "b": arms.Arm({}, "x", "c")}}, r"rivals \['c'\] are not among them"),
        ({"arms": {"a": arms.Arm({"times": 2}), "b": arms.Arm()}}, "'a' is the baseline"),
    ],
)
def test_a_comparison_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"^rdrop/letters: .*{message}"):
        small(**changes)


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="settings: 'rdrop_aplha' given; fields of TricksArguments, pool"):
        arms.Arm({"rdrop_aplha": 1.0})


def made(tricks_given, seconds_a_step=1.0) -> plan.Plan:
    c = small(arms=tricks.arms_of(tricks_given, "classes", 4))
    return plan.Plan(c, seconds_a_step, 0.0, {"validation": 40, "test": 40})


def test_hours_buy_seeds_then_tuning_seeds_then_tricks():
    given = ["ema", "layer_decay"]
    whole = made(given)
    hours = whole.seconds / 3600

    def cut(share):
        found = plan.bought_down(whole, share * hours, given, lambda some: made(some).comparison)
        assert found.seconds <= 3600 * share * hours and found.comparison.hours == share * hours
        c = found.comparison
        return len(c.seeds), len(c.tuning_seeds), {arm.trick for arm in c.arms.values()} - {None}

    least = statistics.seeds_for_a_verdict(5)
    assert 2 ** (1 - least) * 5 <= 0.05 < 2 ** (2 - least) * 5
    assert cut(0.99) == (least, 3, {"ema", "layer_decay"})
    assert cut(0.75) == (least, 2, {"ema", "layer_decay"})
    assert cut(0.45)[2] == {"ema"}
    with pytest.raises(ValueError, match="hours: .* given; ema alone with 7 seeds, .* takes 0"):
        cut(0.01)


def test_what_hours_have_cut_before_is_not_cut_anew(tmp_path, monkeypatch):
    """A step is never measured twice alike; what was interrupted goes on, what is finished stays."""
    given, file = ["ema", "layer_decay"], tmp_path / ask.RECORD
    monkeypatch.setattr(ask, "comparison", lambda source, model, some, **options: made([*some]).comparison)
    monkeypatch.setattr(comparison.Comparison, "prepared", lambda self: SimpleNamespace(kind="classes"))
    monkeypatch.setattr(run, "defined", lambda c: c.definition())

    def planned(seconds, hours):
        monkeypatch.setattr(
            plan, "measured", lambda c: dataclasses.replace(made(given, seconds), comparison=c)
        )
        return ask.planned(None, "m", given, hours, tmp_path).comparison

    hours = 0.99 * made(given).seconds / 3600
    first = planned(1.0, hours)
    assert planned(1.5, hours) != first
    for name, content in (
        ("record.partial.json", {"definition": first.definition(), "code": "", "seconds": 0.0, "runs": {}}),
        (ask.RECORD, {"definition": run.digest(first)}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        assert planned(1.5, hours) == first
        assert run.is_finished(first, file) == (name == ask.RECORD)
        (tmp_path / name).unlink()


def test_the_plan_counts_every_training_once():
    """Readings share one; dropout's first candidate is the baseline; 2x steps are tried anyway."""
    found = made(["ema", "rdrop"])
    c = found.comparison
    assert (found.tuning_runs, found.test_runs) == (12 * (1 + 1 + 3 + 1), 11 * 4)
    assert math.isclose(found.seconds, c.steps * (12 * (1 + 2 + 3 + 2) + 11 * (1 + 1 + 2 + 2)))
    assert 0 < found.smallest < 0.2


def test_the_plan_is_printed_and_nothing_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        ask, "planned", lambda *args, **kwargs: dataclasses.replace(made(["ema"]), warnings=("x",))
    )
    out = tmp_path / "report"
    assert cli.main(["compare", "--data", "a.csv", "--plan", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 arms, read from 1 training;" in printed and "note: x" in printed and not out.exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--hours", "0"], "hours: 0.0 given, a positive number is accepted"),
        (["--batch-size", "0"], "batch_size: 0 given, a positive integer is accepted"),
        (["--steps", "-5"], "steps: -5 given, a positive integer is accepted"),
        (["--steps", "0"], "steps: 0 given, a positive integer is accepted"),
        (["--jobs", "0"], "--jobs: 0 given, a positive number is accepted"),
        (["--tricks", "nope"], "tricks: 'nope' given; accepted are"),
        (["--tricks", "all", "fgm"], "tricks: 'all' given; accepted are rdrop, fgm, "),
        (["--metric", "rmse"], "metric: 'rmse' given for classes; accepted are accuracy, macro_f1, mcc"),
        (["--metric", "f1"], "metric: 'f1' given for classes; accepted are accuracy, macro_f1, mcc"),
        (["--max-length", "600"], "max_length: 600 given, at most the model's 512 positions are accepted"),
        (["--rare", "nope"], "rare: 'nope' given, one of ["),
        (["--model", "nope"], "name: 'nope' given; accepted are"),
        (["--data", "nope.csv"], "data: nope.csv is no file or folder here"),
    ],
)
def test_bad_options_are_one_line(options, message, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRICKS_PROFILE", "mini")
        try:
            code = cli.main(["compare", "--data", "guest_notes/topic", "--model", "mini_bert", *options])
        except SystemExit as end:
            code = end.code
    line = capsys.readouterr().err
    assert code == 2 and line.startswith(f"error: {message}") and line.count("\n") == 1


CALLS = [
    {},
    {"tricks": ["ema", "fgm"]},
    {"tricks": "ema"},
    {"data": Path("a.csv"), "tricks": "all"},
    {"text": "review text", "text_b": "b", "kind": "numbers", "split": "part", "encoding": "latin-1"},
    {"data": ["a.csv", "b c.csv"], "hours": 2.5},
    {"steps": 40, "batch_size": 8, "max_length": 64, "metric": "mcc"},
    {"metric": "f1", "rare": "hate speech"},
]


@pytest.mark.parametrize("given", CALLS)
def test_the_command_of_a_call_asks_the_same(given, monkeypatch, capsys):
    """It is parsed by the command line; what is usual is left out."""
    asked = []

    def planned(source, model, names, hours, out, **options):
        command = options.pop("command")
        asked.append((source, model, [*names], hours, {k: v for k, v in options.items() if v is not None}))
        return dataclasses.replace(made(["ema"]), comparison=small(command=command))

    monkeypatch.setattr(ask, "planned", planned)
    found = ask.compare(**{"data": "a.csv", "model": "mini_bert", **given}, plan_only=True)
    words = shlex.split(found.comparison.command)
    assert words[:3] == ["python", "-m", "tricks_lib.lab"]
    usual = given in ({}, {"data": Path("a.csv"), "tricks": "all"})
    assert usual == (words[3:] == ["compare", "--data", "a.csv", "--model", "mini_bert"])
    assert cli.main([*words[3:], "--plan"]) == 0
    (*called, own), (*typed, all_options) = asked
    assert called == typed and own == {k: v for k, v in all_options.items() if k in own}
    assert capsys.readouterr().out.count("rdrop/letters") == 2  # two plans, and nothing ran


def test_where_it_goes_and_on_how_many_processes_is_part_of_the_command():
    words = ask.terminal(tokens.Source("a.csv"), "mini_bert", ["all"], hours=None, out="x y", jobs=2)
    assert words.endswith("--model mini_bert --out 'x y' --jobs 2")


def test_the_package_is_called_as_its_function(monkeypatch):
    monkeypatch.setattr(ask, "compare", lambda *args, **kwargs: (args, kwargs))
    assert lab.compare("a.csv", model="m") == (("a.csv",), {"model": "m"})
    assert lab.compare.ask is ask and tokens.Source("a").text == "text"
