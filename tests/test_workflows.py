"""What GitHub reads: valid YAML, actions pinned by commit, forms with what GitHub asks of them."""

import json
import re
from pathlib import Path

import pytest
import tomllib
import yaml

from tests import load_script

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
USES = re.compile(r"^\s*(?:- )?uses: (\S+)(.*)$", re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(path):
    for action, comment in USES.findall(path.read_text("utf-8")):
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # \S+", comment), f"{action} {comment}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_says_what_it_may_do_and_how_long(path):
    content = yaml.safe_load(path.read_text("utf-8"))
    assert content["permissions"]
    for name, job in content["jobs"].items():
        assert "timeout-minutes" in job, name


@pytest.mark.parametrize("path", [p for p in FORMS if p.stem != "config"], ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_for(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    assert form["name"] and form["description"] and form["body"]
    ids = [field["id"] for field in form["body"]]
    assert len({*ids}) == len(ids) and all(field["attributes"]["label"] for field in form["body"])


def test_publishing_is_prepared_and_off():
    publish = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text("utf-8"))["jobs"]["publish"]
    assert publish["if"] == "vars.PUBLISH_TO_INDEX == 'true'" and publish["permissions"] == {
        "id-token": "write"
    }


def test_the_records_of_the_release_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    zenodo = json.loads((ROOT / ".zenodo.json").read_text("utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == zenodo["license"] == project["license"]
    assert citation["title"] == zenodo["title"]
    assert citation["url"] in zenodo["related_identifiers"][0]["identifier"]


def test_the_version_agrees_everywhere_and_the_notebooks_install_its_release():
    assert not load_script("version").agreement()
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        text = path.read_text("utf-8")
        assert ("%pip install" in text) == ('RELEASE = \\"' in text), path.name


def test_a_new_version_is_written_everywhere(tmp_path, monkeypatch):
    version = load_script("version")
    for pattern in [*version.PLACES, version.CHANGELOG]:
        for file in ROOT.glob(pattern):
            (tmp_path / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(ROOT)).write_text(file.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(version, "ROOT", tmp_path)
    version.write("9.8.7")
    assert version.current() == "9.8.7" and version.agreement() == ["chapters/changelog.md: no section 9.8.7"]
