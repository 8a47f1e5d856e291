"""The template of a repository of results: its commands exist, its actions are pinned, its example is a submission."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.commands import command

from zobench.rules import load
from zobench.verify import submission
from zobench.version import VERSION

TEMPLATE = Path(__file__).resolve().parents[1] / "results-template"
WORKFLOWS = sorted((TEMPLATE / ".github" / "workflows").glob("*.yml"))
#: a command with its options, up to the end of its line or of its code
_COMMAND = re.compile(r"python -m (zobench[.\w]*)((?: (?:(?! #)[^`\n])+)?)")
TEXTS = [path for path in TEMPLATE.rglob("*") if path.suffix in (".md", ".yml", ".sh") and path.is_file()]
COMMANDS = sorted({found.groups() for path in TEXTS for found in _COMMAND.finditer(path.read_text())})


def loaded(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # ``on`` is a key, not true


@pytest.mark.parametrize(("module", "words"), COMMANDS, ids=str)
def test_a_command_that_is_named_takes_its_options(module, words):
    first, *_ = [*words.split(), ""]
    of = [first] if module == "zobench.rules" else []
    helped = command(module, *of, "--help", cwd=".")
    assert helped.returncode == 0, helped.stderr
    assert [option for option in re.findall(r"--[\w-]+", words) if option not in helped.stdout] == []


def test_commands_are_found():
    assert {module for module, _ in COMMANDS} == {"zobench.report", "zobench.rules", "zobench.verify"}
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_alone_and_takes_actions_by_their_commit(path):
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow["on"]
    for name, job in workflow["jobs"].items():
        assert int(job["timeout-minutes"]) > 0
        assert set(job.get("permissions", {})) <= ({"pages", "id-token"} if name == "deploy" else set())
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert used
        assert [action for action in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")  # what a stranger names would be run by the shell
            assert "--trust-code" not in step.get("run", "")


def test_versions_are_pinned():
    lines = (TEMPLATE / "requirements.txt").read_text().splitlines()
    assert f"zobench[report]=={VERSION}" in lines
    assert all("==" in line for line in lines if not line.startswith("--"))


def test_the_example_is_a_submission_that_lacks_nothing_but_its_runs(tmp_path):
    example = shutil.copytree(TEMPLATE / "example", tmp_path / "mine")
    found = submission.read(example)
    submission.check_entry(found, load(found.content["rules"]))
    assert found.problems == []
    assert found.code
    entries = load(found.content["rules"], [example / "options"]).entries
    assert entries["my_method_plain"].of == found.content["entry"]
