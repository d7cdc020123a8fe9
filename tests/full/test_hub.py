"""What the libraries load from the stand-in hub is what it was made of, by way of their own clients."""

import json
import os
import subprocess
import sys

import pytest

from tests.full import hub, repositories, small_data
from tricks_lib.lab.tasks import TASKS

pytestmark = pytest.mark.full
MODELS = {
    "google-bert/bert-base-uncased": "AutoModel",
    "xlnet/xlnet-base-cased": "XLNetModel",
    "openai-community/gpt2": "GPT2LMHeadModel",
    "uer/gpt2-chinese-cluecorpussmall": "GPT2LMHeadModel",
}
ROWS = {
    "stanfordnlp/imdb": {"train": 200, "test": 60, "unsupervised": 60},
    "fancyzhx/ag_news": {"train": 600, "test": 200},
    "SetFit/20_newsgroups": {"train": 600, "test": 200},
}


@pytest.fixture
def ask(address, tmp_path):
    """``ask(code)``: what the code, in a process for which this is the hub, leaves in ``out``."""

    def run(code):
        environment = os.environ | hub.settings(address, tmp_path) | {"TRICKS_PROFILE": "full"}
        for name in ("TRICKS_DATA", "TRICKS_MODELS"):
            environment.pop(name, None)
        code = f"import json, sys\n{code}\nprint(json.dumps(out))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_whole_by_the_revision_that_has_its_weights(ask, name):
    revision = repositories.PULL_REQUEST if name in repositories.BIN_ONLY else "main"
    code = f"""
import transformers
where = {name!r}, {revision!r}
tokenizer = transformers.AutoTokenizer.from_pretrained(where[0], revision=where[1])
model, loaded = transformers.{MODELS[name]}.from_pretrained(
    where[0], revision=where[1], use_safetensors=True, output_loading_info=True
)
text = tokenizer("最美 the room was quiet", return_tensors="pt")
model(text["input_ids"])
missing = sorted(key for key in loaded["missing_keys"] if "pooler" not in key and "mask_emb" not in key)
highest = max(text["input_ids"][0].tolist())
out = [model.config.num_hidden_layers, missing, len(loaded["mismatched_keys"]), highest]
"""
    layers, missing, mismatched, highest = ask(code)
    assert (layers, missing, mismatched) == (12, [], 0)
    assert highest > 8192, "numbers of the pieces that no mini checkpoint has"


@pytest.mark.parametrize("name", repositories.BIN_ONLY)
def test_the_main_branch_without_safetensors_is_refused_when_nothing_converts_it(ask, name):
    code = f"""
import os
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
import transformers
try:
    transformers.AutoModel.from_pretrained({name!r}, use_safetensors=True)
    out = "loaded"
except OSError as error:
    out = str(error)
"""
    assert "does not appear to have a file named model.safetensors" in ask(code)


@pytest.mark.parametrize("revision, error", [("main", None), ("refs/pr/1", None), ("refs/pr/2", "Revision")])
def test_a_revision_is_a_branch_a_pull_request_or_the_commit_of_either(ask, revision, error):
    code = f"""
import huggingface_hub
api, name = huggingface_hub.HfApi(), "xlnet/xlnet-base-cased"
try:
    info = api.model_info(name, revision={revision!r})
    again = api.model_info(name, revision=info.sha)
    out = [info.sha == again.sha, sorted(f.rfilename for f in again.siblings)]
except huggingface_hub.errors.RevisionNotFoundError as missing:
    out = "Revision"
"""
    if error:
        assert ask(code) == error
    else:
        weights = ["model.safetensors"] if revision != "main" else []
        assert ask(code) == [True, ["config.json", *weights, "pytorch_model.bin", "tokenizer.json"]]


@pytest.mark.parametrize("name", ROWS)
def test_a_data_set_loads_with_its_splits(ask, name):
    code = f"import datasets\nout = {{k: len(v) for k, v in datasets.load_dataset({name!r}).items()}}"
    assert ask(code) == ROWS[name]


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.hub])
def test_the_registry_reads_its_sets(ask, name):
    code = f"""
from tricks_lib.lab import tasks
data = tasks.load_task({name!r})
out = [sorted({{*rows["label"]}})[:9] for rows in data.values()], [len(rows) for rows in data.values()]
"""
    labels, sizes = ask(code)
    assert all(min(each) >= 0 and len(each) > 1 for each in labels), "hidden labels stay on the hub"
    if name == "en_mrpc":
        assert tuple(sizes) == small_data.ROWS["mrpc"]


def test_what_is_not_there_is_not_found(ask):
    code = """
import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
out = []
for name, file in (("no/where", "config.json"), ("openai-community/gpt2", "nothing.json")):
    try:
        huggingface_hub.hf_hub_download(name, file)
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        out.append(type(error).__name__.removeprefix("Remote"))
"""
    assert ask(code) == ["RepositoryNotFoundError", "EntryNotFoundError"]
