"""What a release says of itself, and the workflows that check it elsewhere."""

import re
import shutil
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from zobench.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def loaded(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # ``on`` is a key, not true


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changes = re.search(r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    cited = loaded(ROOT / "CITATION.cff")
    assert {project["version"], cited["version"], changes[1]} == {VERSION}
    assert date.fromisoformat(changes[2]) == date.fromisoformat(cited["date-released"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_alone_and_takes_actions_by_their_commit(path):
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert int(job["timeout-minutes"]) > 0
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert [action for action in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []


def test_the_pythons_that_are_tested_are_those_that_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r"Python :: 3\.\d+$", name)]
    tested = loaded(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert said == tested
    assert project["requires-python"] == f">={tested[0]}"


def test_workflows_pass_actionlint():
    if not shutil.which("actionlint"):
        pytest.skip("actionlint is not installed; the workflow tests.yml installs it")
    ended = subprocess.run(["actionlint"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_scripts_that_workflows_run_are_there():
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    named = re.findall(r"run: bash ([\w./]+)", text)
    assert {"test.sh", "scripts/try_wheel.sh"} <= set(named)
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_fields_of_their_own(path):
    form = loaded(path)
    if path.stem == "config":
        assert form["blank_issues_enabled"] in ("true", "false")
        return
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert form["name"]
    assert form["description"]
    assert len({part["id"] for part in fields}) == len({part["attributes"]["label"] for part in fields}) == len(fields)
