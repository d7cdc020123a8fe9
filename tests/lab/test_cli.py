"""``python -m tricks_lib.lab``: exit codes, and one clear line on stderr for every bad input."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tricks_lib.lab import __main__ as cli
from tricks_lib.lab import experiment, fit, models, records, tasks
from tricks_lib.lab.compare import run as compared

from .conftest import WORDS
from .test_records import RECORDS

ROOT = Path(__file__).resolve().parents[2]
MODEL, NAME = "all-MiniLM-L6-v2", "probe/en_trec"  # of the experiment that is run here


def probe(experiment, settings, seed, split):
    """Accuracy of scikit-learn on a token's last state; the seed draws 30 of the training rows."""
    from sklearn.linear_model import LogisticRegression

    encoder, tokenizer = models.load_encoder(experiment.model)
    data, x = tasks.load_task(experiment.data), {}
    for part in ("train", split):
        states = fit.hidden_states(encoder, tokenizer, list(data[part]["text"]))
        x[part] = np.concatenate([h[:, settings["token"]].cpu().numpy() for h, _ in states])
    rows = np.random.default_rng(seed).permutation(len(x["train"]))[:30]
    fitted = LogisticRegression(C=settings["C"]).fit(x["train"][rows], np.array(data["train"]["label"])[rows])
    return {"accuracy": float(fitted.score(x[split], data[split]["label"]))}


PROBE = experiment.Experiment(
    trick="probe", task="en_trec", setting="frozen encoder, linear probe", model=MODEL, data="en_trec",
    arms={"first token": {"token": 0}, "second token": {"token": 1}}, baseline="first token",
    metric="accuracy", run=probe, grid={"C": [0.1, 1.0]}, tuning_seeds=(101,), seeds=(0, 1),
)  # fmt: skip


def rows(n):
    texts = [" ".join(WORDS[(i * k + 3 * k) % 14] for k in range(1, 3 + i % 5)) for i in range(n)]
    return [{"text": text, "label": "AB"[i % 2]} for i, text in enumerate(texts)]


class Place:
    """Folders for records, models and data, with a tiny model and tiny data under the registered names."""

    def __init__(self, folder, checkpoint, monkeypatch):
        self.records, self.models, self.data = folder / "records", folder / "models", folder / "data"
        self.records.mkdir()
        shutil.copytree(checkpoint, self.models / MODEL)
        (self.data / "en_trec").mkdir(parents=True)
        for split in tasks.SPLITS:
            pyarrow.parquet.write_table(
                pyarrow.Table.from_pylist(rows(40)), self.data / "en_trec" / f"{split}.parquet"
            )
        self.register(monkeypatch, "en_trec")
        monkeypatch.setattr(experiment, "registry", lambda: {NAME: PROBE})
        monkeypatch.setenv("TRICKS_MODELS", str(self.models))
        monkeypatch.setenv("TRICKS_DATA", str(self.data))

    def register(self, monkeypatch, name):
        sums = tuple(
            tasks.content_sha256(
                pyarrow.parquet.read_table(self.data / name / f"{split}.parquet").to_pylist()
            )
            for split in tasks.SPLITS
        )
        monkeypatch.setitem(tasks.TASKS, name, dataclasses.replace(tasks.TASKS[name], sha256=sums))


@pytest.fixture
def place(tmp_path, checkpoint, monkeypatch):
    return Place(tmp_path, checkpoint, monkeypatch)


def call(*arguments) -> int:
    """Exit code, also where argparse ends the program."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def one_line(text):
    assert text.endswith("\n") and text.count("\n") == 1 and "Traceback" not in text, text
    assert text.startswith("error: ")
    return text[len("error: ") : -1]


def contents(folder):
    return {f: f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


# --- what works


def test_run_show_list_verify(place, capsys):
    folder = ["--folder", place.records]
    assert call("run", NAME, *folder, "--quiet") == 0
    printed = capsys.readouterr()
    file = place.records / "probe__en_trec.json"
    assert (
        printed.out.splitlines()[-1] == f"wrote {file}"
        and printed.out.startswith(f"{MODEL}: ")
        and printed.err == ""
    )
    assert [f.name for f in place.records.iterdir()] == [file.name]

    assert call("verify", *folder) == 0
    assert capsys.readouterr().out == f"ok    {NAME}\n"
    assert call("verify", NAME, *folder) == 0
    capsys.readouterr()

    assert call("show", NAME, *folder) == 0
    shown = capsys.readouterr().out
    record = json.loads(file.read_text())
    assert shown.startswith(
        f"{NAME}: {record['setting']}\n{MODEL} on en_trec "
        f"{{'train': 40, 'validation': 40, 'test': 40}}, 2 seeds\n"
    )
    for arm, own in record["statistics"].items():
        assert f"{100 * own['mean']:.1f}" in next(
            line for line in shown.splitlines() if line.startswith(f"{arm} ")
        )
    assert shown.splitlines()[-1].endswith(f"python -m tricks_lib.lab run {NAME}")

    assert call("list", *folder) == 0
    listed = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert (
        listed[NAME] == "recorded"
        and listed["pooling/en_trec"] == "-"
        and set(listed) == {*experiment.registry(), *cli.comparisons()}
    )


def test_a_run_shows_its_progress_and_records_what_was_tuned(place, capsys):
    assert call("run", NAME, "--folder", place.records) == 0
    assert f"{NAME} test: 100%" in capsys.readouterr().err
    record = records.load(NAME, place.records)
    assert set(record["arms"]) == {"first token", "second token"}
    for content in record["arms"].values():
        assert [row["point"]["C"] for row in content["tuning"]] == [0.1, 1.0]


def test_the_default_folder_is_the_books(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(records, "folder", lambda: tmp_path)
    (tmp_path / "toy__seeds.json").write_text(json.dumps(RECORDS["seeds"]))
    assert call("verify") == 0 and capsys.readouterr().out == "ok    toy/seeds\n"
    assert call("list") == 0 and re.search(r"^toy/seeds +recorded$", capsys.readouterr().out, re.MULTILINE)
    assert (
        call("show", "toy/seeds") == 0 and "CPU, torch 2.13, 2026-01-31, 3 s: run" in capsys.readouterr().out
    )


def test_the_records_of_the_book_are_true(capsys):
    assert call("verify") == 0
    assert capsys.readouterr().out.splitlines() == [f"ok    {name}" for name in records.names(schema=None)]


def test_verify_passes_over_an_experiment_under_way(place, capsys):
    (place.records / "toy__seeds.json").write_text(json.dumps(RECORDS["seeds"]))
    (place.records / "toy__other.partial.json").write_text('{"runs": {')
    assert call("verify", "--folder", place.records) == 0
    assert capsys.readouterr().out == "ok    toy/seeds\n"


def test_records_are_listed_by_their_schema_and_a_file_that_cannot_be_read_is_one_of_any(tmp_path):
    for schema in (1, 2):
        (tmp_path / f"toy__{schema}.json").write_text(json.dumps({"schema": schema}))
    (tmp_path / "toy__cut.json").write_text('{"sch')
    assert records.names(tmp_path) == ["toy/1", "toy/cut"]
    assert records.names(tmp_path, 2) == ["toy/2", "toy/cut"]
    assert records.names(tmp_path, None) == ["toy/1", "toy/2", "toy/cut"]


def others(monkeypatch, **runs):
    """Experiments ``toy/<name>`` with these run functions, in this order; one with the name ``absent`` is of
    data that are not here.
    """
    toy = {
        "trick": "toy",
        "setting": "a toy",
        "model": MODEL,
        "metric": "accuracy",
        "baseline": "a",
        "arms": {"a": {}, "b": {}},
        "seeds": (0, 1),
    }
    data, describe = {"absent": "en_cola"}, tasks.describe
    known = {
        f"toy/{name}": experiment.Experiment(task=name, run=run, data=data.get(name, "own"), **toy)
        for name, run in runs.items()
    }
    monkeypatch.setattr(experiment, "registry", lambda: known)
    monkeypatch.setattr(
        tasks,
        "describe",
        lambda name: {"name": name, "sha256": {}, "sizes": {}} if name == "own" else describe(name),
    )
    monkeypatch.setattr(cli, "comparisons", dict)


def test_run_all_runs_what_has_no_record_in_the_order_of_the_list(place, monkeypatch, capsys):
    """One fails for its data, one in a run, one is recorded, one was interrupted: each is said in a line, and
    the next call does what is left.
    """
    monkeypatch.delenv("TRICKS_DATA")
    made, broken = [], True

    def good(each, settings, seed, split):
        made.append(each.task)
        return {"accuracy": 0.5 + 0.1 * seed}

    def bad(each, settings, seed, split):
        if broken:
            raise RuntimeError("out of\nmemory")
        return good(each, settings, seed, split)

    def stopped(each, settings, seed, split):
        if broken and made.count("stopped") == 2:
            raise ValueError
        return good(each, settings, seed, split)

    others(monkeypatch, recorded=good, z=good, absent=good, bad=bad, stopped=stopped, a=good)
    folder = ["--folder", place.records]
    assert call("run", "toy/recorded", *folder, "--quiet") == 0
    old = contents(place.records)
    made.clear()
    capsys.readouterr()
    assert call("run", "--all", *folder, "--quiet") == 2
    printed = capsys.readouterr()
    wrote = [f"wrote {place.records / f'toy__{name}.json'}" for name in ("z", "a")]
    assert printed.out.splitlines() == [*wrote, "2 of 5 experiments without a record have one now"]
    absent, *errors = printed.err.splitlines()
    assert re.fullmatch(
        r"error: toy/absent: name: 'en_cola' could not be had from the hub \(.+\); "
        "python -m tricks_lib.lab fetch en_cola, or put it into a folder and set TRICKS_DATA",
        absent,
    )
    assert errors == ["error: toy/bad: out of memory", "error: toy/stopped: ValueError"]
    assert made == ["z"] * 4 + ["stopped"] * 2 + ["a"] * 4
    assert call("list", *folder) == 0
    listed = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    states = {
        "recorded": "recorded",
        "z": "recorded",
        "absent": "-",
        "bad": "-",
        "stopped": "-, interrupted run",
        "a": "recorded",
    }
    assert listed == [[f"toy/{name}", state] for name, state in states.items()]

    broken = False
    made.clear()
    assert call("run", "--all", *folder, "--quiet") == 2, "the data are still not here"
    assert (
        made == ["bad"] * 4 + ["stopped"] * 2
        and capsys.readouterr().out.splitlines()[-1] == "2 of 3 experiments without a record have one now"
    )
    assert contents(place.records).items() > old.items()
    assert call("verify", *folder) == 0


def test_the_table_of_evidence_is_run_and_listed_before_all_else(place, monkeypatch, capsys):
    """And one row that fails does not keep the others from running."""
    made, table = [], list(cli.comparisons())
    others(monkeypatch, one=lambda *arguments: {"accuracy": 0.5})
    rows = {name: (lambda name=name: name) for name in table}
    monkeypatch.setattr(cli, "comparisons", lambda: rows)

    def run(name, file, jobs, progress):
        if name == table[1]:
            raise ValueError("its data are not here")
        made.append(name)
        file.write_text("{}")

    monkeypatch.setattr(compared, "run", run)
    assert call("list", "--folder", place.records) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*table, "toy/one"]
    assert call("run", "--all", "--folder", place.records, "--quiet") == 2
    printed = capsys.readouterr()
    assert made == [table[0], *table[2:]] and printed.err == f"error: {table[1]}: its data are not here\n"
    last = f"{len(table)} of {len(table) + 1} experiments without a record have one now"
    assert printed.out.splitlines()[-2:] == [f"wrote {place.records / 'toy__one.json'}", last]


def test_run_all_with_nothing_to_do(place, monkeypatch, capsys):
    others(monkeypatch)
    assert call("run", "--all", "--folder", place.records) == 0
    assert capsys.readouterr().out == "0 of 0 experiments without a record have one now\n"


def test_ctrl_c_ends_all_and_leaves_what_is_finished(place, monkeypatch, capsys):
    def interrupted(each, settings, seed, split):
        if seed:
            raise KeyboardInterrupt
        return {"accuracy": 0.5}

    others(monkeypatch, one=interrupted, two=interrupted)
    assert call("run", "--all", "--folder", place.records, "--quiet") == 130
    assert capsys.readouterr().err == "interrupted; the finished runs are kept, `run --all` goes on\n"
    assert [f.name for f in place.records.iterdir()] == ["toy__one.partial.json"]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["verify", "--help"]])
def test_help_is_printed(arguments, capsys):
    assert call(*arguments) == 0
    assert "usage: python -m tricks_lib.lab" in capsys.readouterr().out


# --- arguments

ARGUMENTS = {
    "nothing": ([], "the following arguments are required: compare|fetch|run|list|show|verify"),
    "unknown command": (["frob"], "invalid choice: 'frob' (choose from"),
    "run without a name": (
        ["run", "--jobs", "1"],
        "name: none given, the name of an experiment or --all is accepted",
    ),
    "show without a name": (["show"], "required: name"),
    "run a name and all": (
        ["run", "pooling/en_trec", "--all"],
        "name: 'pooling/en_trec' and --all given, the name of an experiment or --all is accepted",
    ),
    "unknown option": (["list", "--frob"], "unrecognized arguments: --frob"),
    "two names": (["show", "a", "b"], "unrecognized arguments: b"),
    "no jobs": (
        ["run", "pooling/en_trec", "--jobs", "0"],
        "--jobs: 0 given, a positive number is accepted",
    ),
    "negative jobs": (
        ["run", "pooling/en_trec", "--jobs", "-2"],
        "--jobs: -2 given, a positive number is accepted",
    ),
    "jobs a word": (["run", "pooling/en_trec", "--jobs", "two"], "--jobs: invalid int value: 'two'"),
    "jobs a fraction": (["run", "pooling/en_trec", "--jobs", "1.5"], "--jobs: invalid int value: '1.5'"),
    "jobs without a value": (["run", "pooling/en_trec", "--jobs"], "--jobs: expected one argument"),
    "unknown experiment": (["run", "nope"], "name: 'nope' given; accepted are "),
    "no experiment": (["run", ""], "name: '' given; accepted are "),
    "a path": (["run", "../../x"], "name: '../../x' given; accepted are "),
    "half a name": (["run", "pooling"], "name: 'pooling' given; accepted are "),
    "show unknown": (["show", "nope/x"], "name: no record 'nope/x' in "),
    "show nothing": (["show", ""], "name: no record '' in "),
    "show a path": (["show", "../../../etc/passwd"], "name: no record '../../../etc/passwd' in "),
    "show a long name": (["show", "x" * 300], "x" * 300),
    "verify nothing": (["verify"], "--folder: no record in "),
}


@pytest.mark.parametrize("arguments, message", ARGUMENTS.values(), ids=ARGUMENTS)
def test_bad_arguments_are_one_line_and_exit_code_2(place, capsys, arguments, message):
    arguments = (
        arguments if not arguments or arguments[0] == "frob" else [*arguments, "--folder", place.records]
    )
    if arguments[-3:-2] == ["--jobs"]:
        arguments = arguments[:-2]
    before = contents(place.records)
    assert call(*arguments) == 2
    printed = capsys.readouterr()
    assert message in one_line(printed.err) and printed.out == ""
    assert contents(place.records) == before


@pytest.mark.parametrize("command", [["list"], ["show", "toy/seeds"], ["verify"]])
@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_folder_that_is_none_is_refused(tmp_path, capsys, command, kind):
    where = tmp_path / "where"
    if kind == "a file":
        where.write_text("")
    assert call(*command, "--folder", where) == 2
    assert one_line(capsys.readouterr().err) == f"--folder: {where} given, an existing folder is accepted"


def test_run_makes_its_folder_but_not_over_a_file(place, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        assert call("run", NAME, "--folder", where, "--quiet") == 2
        assert str(tmp_path / "file") in one_line(capsys.readouterr().err)
    assert (tmp_path / "file").read_text() == "mine"


# --- bad input on disk and out of reach


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_folder(variable):
    return lambda place, patch: patch.setenv(variable, str(place.records / "nowhere"))


def corrupt_data(place, patch):
    """A parquet file that is cut in half."""
    cut(place.data / "en_trec" / "test.parquet")


def other_rows(place, patch):
    file = place.data / "en_trec" / "test.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).slice(1), file)


def hub_only(place, patch):
    patch.delenv("TRICKS_MODELS")


def no_safetensors(place, patch):
    (place.models / MODEL / "model.safetensors").rename(place.models / MODEL / "pytorch_model.bin")


def damaged_partial(place, patch):
    (place.records / "probe__en_trec.partial.json").write_text('{"definition": {')


def partial_of_another(place, patch):
    (place.records / "probe__en_trec.partial.json").write_text(
        '{"definition": {}, "results": {}, "seconds": 0}'
    )


def no_scikit_learn(place, patch):
    patch.setitem(sys.modules, "sklearn.linear_model", None)


INPUT = {
    "no folder of data": (
        no_folder("TRICKS_DATA"),
        "TRICKS_DATA: .*nowhere' given, an existing folder is accepted",
    ),
    "data not in the folder": (
        lambda p, _: shutil.rmtree(p.data / "en_trec"),
        "name: 'en_trec' is not here; python -m tricks_lib.lab fetch en_trec",
    ),
    "data nowhere": (
        lambda p, patch: patch.delenv("TRICKS_DATA"),
        "name: 'en_trec' is not here; python -m tricks_lib.lab fetch en_trec",
    ),
    "a split missing": (
        lambda p, _: (p.data / "en_trec" / "test.parquet").unlink(),
        "'en_trec' has no file .*test.parquet",
    ),
    "another sha256": (
        other_rows,
        "test.parquet have sha256 [0-9a-f]{64}, [0-9a-f]{64} is accepted",
    ),
    "corrupt parquet": (corrupt_data, "test.parquet cannot be read as parquet: "),
    "no folder of models": (
        no_folder("TRICKS_MODELS"),
        "TRICKS_MODELS: .*nowhere' given, an existing folder is accepted",
    ),
    "corrupt checkpoint": (
        lambda p, _: cut(p.models / MODEL / "model.safetensors"),
        f"the checkpoint .*{MODEL} cannot be read: ",
    ),
    "corrupt tokenizer": (
        lambda p, _: cut(p.models / MODEL / "tokenizer.json"),
        f"the checkpoint .*{MODEL} cannot be read: ",
    ),
    "pickled checkpoint": (
        no_safetensors,
        f"{MODEL} holds no model.safetensors, the only format that is read",
    ),
    "hub out of reach": (
        hub_only,
        rf"'{MODEL}' could not be had from the hub \(.+\); put it into a folder and set TRICKS_MODELS",
    ),
    "damaged partial": (
        damaged_partial,
        r"probe__en_trec.partial.json: not a readable interrupted run \(.*\); move it away to start "
        r"anew",
    ),
    "partial of another definition": (
        partial_of_another,
        r"partial.json: belongs to another definition \(.*\); move it away to start anew",
    ),
}


@pytest.mark.parametrize("prepare, message", INPUT.values(), ids=INPUT)
@pytest.mark.filterwarnings("ignore")  # what libraries say about a damaged file before they give up
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_overwritten(
    place, monkeypatch, capsys, prepare, message
):
    prepare(place, monkeypatch)
    record = place.records / "probe__en_trec.json"
    record.write_text("an older record")
    before = contents(place.records)
    assert call("run", NAME, "--folder", place.records, "--quiet") == 2
    assert re.search(message, one_line(capsys.readouterr().err))
    assert contents(place.records) == before


def test_without_scikit_learn_the_missing_module_is_named(place, monkeypatch, capsys):
    no_scikit_learn(place, monkeypatch)
    assert call("run", NAME, "--folder", place.records, "--quiet") == 2
    assert "sklearn.linear_model" in one_line(capsys.readouterr().err)


def test_a_run_that_diverges_is_one_line(place, monkeypatch, capsys):
    def diverge(*arguments):
        raise FloatingPointError("loss is nan at step 3; lr is 9")

    bad = dataclasses.replace(PROBE, run=diverge)
    monkeypatch.setattr(experiment, "registry", lambda: {NAME: bad})
    assert call("run", NAME, "--folder", place.records, "--quiet") == 2
    assert one_line(capsys.readouterr().err) == "loss is nan at step 3; lr is 9"


PARTIALS = {
    "empty": "",
    "half": '{"definition": {}, "res',
    "a list": "[]",
    "no results": '{"definition": {}, "seconds": 1}',
    "results a list": '{"definition": {}, "results": [], "seconds": 1}',
    "nan": '{"definition": {}, "results": {}, "seconds": NaN}',
}


@pytest.mark.parametrize("text", PARTIALS.values(), ids=PARTIALS)
def test_show_refuses_a_damaged_partial_by_name(place, capsys, text):
    file = place.records / "toy__seeds.partial.json"
    file.write_text(text)
    assert call("show", "toy/seeds", "--folder", place.records) == 2
    line = one_line(capsys.readouterr().err)
    assert line.startswith(f"{file}: not a readable interrupted run (") and line.endswith(
        "; move it away to start anew"
    )
    assert file.read_text() == text


DAMAGED_RECORDS = {
    "not JSON": ("{", "toy__seeds.json: cannot be read as JSON: "),
    "nan": (
        json.dumps(RECORDS["seeds"]).replace('"wall_seconds": 3', '"wall_seconds": NaN'),
        "NaN given, a finite number",
    ),
    "a field missing": (
        json.dumps({k: v for k, v in RECORDS["seeds"].items() if k != "model"}),
        "toy__seeds.json: field 'model' is missing",
    ),
    "a number changed": (
        json.dumps(RECORDS["seeds"]).replace('"seed": 3, "accuracy": 0.', '"seed": 3, "accuracy": 0.1'),
        "toy__seeds.json: statistics of .* do not follow from the raw numbers",
    ),
}


@pytest.mark.parametrize("text, message", DAMAGED_RECORDS.values(), ids=DAMAGED_RECORDS)
def test_show_and_verify_refuse_a_damaged_record(place, capsys, text, message):
    (place.records / "toy__seeds.json").write_text(text)
    (place.records / "toy__untuned.json").write_text(json.dumps(RECORDS["untuned"]))
    assert call("show", "toy/seeds", "--folder", place.records) == 2
    assert re.search(message, one_line(capsys.readouterr().err))
    assert call("verify", "--folder", place.records) == 2
    printed = capsys.readouterr()
    assert printed.out == "ok    toy/untuned\n", "the others are verified all the same"
    assert re.fullmatch(f"WRONG .*{message}.*\n", printed.err)
    assert call("verify", "toy/untuned", "--folder", place.records) == 0
    assert call("verify", "toy/nope", "--folder", place.records) == 2


def test_ctrl_c_outside_of_a_run_promises_nothing(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "list_all", interrupted)
    assert call("list") == 130 and capsys.readouterr().err == "interrupted\n"


# --- the program itself


def program(*arguments, **settings):
    environment = (
        {k: v for k, v in os.environ.items() if not k.startswith("TRICKS_")}
        | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        | settings
    )
    return subprocess.run(
        [sys.executable, "-m", "tricks_lib.lab", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_program_ends_with_one_line_and_exit_code_2_when_the_hub_is_out_of_reach(place):
    """Real data of the book are not here, so the program runs on guest_notes, through a study of its own."""
    code = (
        "import dataclasses, sys; from tricks_lib.lab import experiment as e, __main__ as m; own = "
        "e.registry()['mini_bert/guest_notes_topic'];"
        f"e.registry = lambda: {{'mini_bert/own': dataclasses.replace(own, task='own', model={MODEL!r})}};"
        f"sys.exit(m.main(['run', 'mini_bert/own', '--folder', {str(place.records)!r}]))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRICKS_")} | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and done.stdout == ""
    lines = [
        line
        for line in done.stderr.replace("\r", "\n").splitlines()
        if line.strip() and "it/s]" not in line and "?it" not in line
    ]
    assert len(lines) == 1 and lines[0].startswith(f"error: name: '{MODEL}' could not be had from the hub (")
    assert list(place.records.iterdir()) == []


def test_the_program_refuses_an_unknown_name(tmp_path):
    done = program("run", "nope", "--folder", tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert one_line(done.stderr).startswith("name: 'nope' given; accepted are ")
