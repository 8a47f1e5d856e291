"""A comparison of an outside method, verified: its rules, its submission, and its code, run only when trusted."""

import json
import os
import shutil
import sys

import pytest
import yaml
from helpers import forged
from helpers.commands import command
from helpers.tiny_runs import TINY

from zobench.config.folders import conf_dir

METHOD = """
from zobench.methods.mezo import MeZO


class Mine(MeZO):
    pass
"""
ENTRY = {
    "words": "method=mine",
    "shipped": {"method.lr": 1e-6},
    "space": {"method.lr": "tag(log, interval(1e-8, 1e-5))"},
}
SUBMISSION = {
    "who": "A. Person, a laboratory", "method": "MeZO by another name", "entry": "mine", "rules": "v1",
    "licence": "MIT", "code": {"url": "https://example.org/mine", "commit": "0123456789abcdef" * 2 + "01234567"},
}  # fmt: skip


def verify(folder, *words):
    """Exit code, printed lines, and what was written for machines."""
    ended = command("zobench.verify", *words, "--json", "found.json", cwd=folder)
    assert "Traceback" not in ended.stderr
    file = folder / "found.json"
    return ended, json.loads(file.read_text()) if file.is_file() else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the trials and two scored seeds of a method were run, whose code is in ``mine``."""
    folder = tmp_path_factory.mktemp("submission")
    mine = folder / "mine"
    for path in (mine / "rules", mine / "method"):
        path.mkdir(parents=True)
    (mine / "method_of_mine.py").write_text(METHOD)
    shipped = yaml.safe_load((conf_dir() / "method" / "mezo.yaml").read_text())
    own = yaml.safe_dump(shipped | {"_target_": "method_of_mine.Mine"}, sort_keys=False)
    (mine / "method" / "mine.yaml").write_text(f"# Mine\n{own}")
    (mine / "rules" / "entries.yaml").write_text(yaml.safe_dump({"mine": ENTRY}))
    toy = {"words": " ".join([*TINY, "task=sst2"]), "forwards": 8, "rates": 100}
    (mine / "rules" / "workloads.yaml").write_text(yaml.safe_dump({"toy": toy}))
    words = ("--workload", "toy", "--only", "mine", "--ruleset", "tuned", "--seeds", "1,2", "--config-dir", "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{mine}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.syspath_prepend(mine)
        ran = command("zobench.rules", "run", *words, "--runs", "RUNS", cwd=folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    sys.modules.pop("method_of_mine")
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    sys.modules.pop("method_of_mine", None)
    sys.path[:] = [place for place in sys.path if not place.startswith(str(tmp_path))]


def submit(folder, **changed):
    content = {name: value for name, value in (SUBMISSION | changed).items() if value is not None}
    (folder / "RUNS" / "submission.yaml").write_text(yaml.safe_dump(content))
    options = folder / "RUNS" / "options"
    shutil.copytree(folder / "mine", options, dirs_exist_ok=True)
    (options / "rules" / "workloads.yaml").unlink()


def toys(folder):
    """A folder with the workload alone, as who keeps a comparison has it."""
    (folder / "toys" / "rules").mkdir(parents=True)
    shutil.copy(folder / "mine" / "rules" / "workloads.yaml", folder / "toys" / "rules")
    return "toys"


def test_code_that_is_trusted_is_run_and_all_is_verified(copied):
    ended, found = verify(copied, "RUNS", "--trust-code", "mine", "--sample", "3")
    words = [run["verdict"] for run in found["runs"]]
    assert (words.count("verified"), words.count("consistent")) == (3, 5)
    assert all("rules" in run["verified"] for run in found["runs"])
    assert found["lines"] == ["toy, mine, tuned: seeds 3, 4, 5 are missing"]
    assert ended.returncode == 1


def test_code_of_a_submission_is_not_run_unasked(copied):
    submit(copied)
    ended, found = verify(copied, "RUNS", "--submission", "--config-dir", toys(copied))
    assert found["lines"] == ["toy, mine, tuned: seeds 3, 4, 5 are missing"]
    assert ended.returncode == 1
    assert {run["verdict"] for run in found["runs"]} == {"consistent"}
    assert all("--trust-code FOLDER runs it" in run["unverified"]["weights"] for run in found["runs"])
    assert "method_of_mine" not in sys.modules
    assert found["submission"]["who"] == SUBMISSION["who"]


def test_a_trial_that_was_removed_and_another_choice_are_named(copied):
    place = copied / "RUNS" / "choices" / "toy" / "mine.json"
    kept = json.loads(place.read_text())
    rows = {path: json.loads(path.read_text()) for path in (copied / "RUNS" / "trials").rglob("summary.json")}
    other = next(
        row for row in rows.values() if f"{row['method.lr']:.3g}" != f"{float(kept['settings']['method.lr']):.3g}"
    )
    place.write_text(json.dumps(kept | {"settings": {"method.lr": f"{other['method.lr']:.3g}"}}))
    words = ("RUNS", "--trust-code", "mine", "--no-replay")
    assert any("scored with another setting than that of trial" in line for line in verify(copied, *words)[1]["lines"])
    place.write_text(json.dumps(kept))
    shutil.rmtree(next(path for path, row in rows.items() if row is not other).parent)
    ended, found = verify(copied, *words)
    assert any("but of 6 trials" in line and "are missing" in line for line in found["lines"])
    assert ended.returncode == 1


def test_what_a_submission_with_code_of_its_own_leaves_out_is_counted(copied):
    submit(copied)
    choice = json.loads((copied / "RUNS" / "choices" / "toy" / "mine.json").read_text())
    rate = float(choice["settings"]["method.lr"])
    trials, scored = ([*(copied / "RUNS" / stage).rglob("summary.json")] for stage in ("trials", "tuned"))
    chosen, other, *_ = sorted(trials, key=lambda path: abs(forged.row(path.parent)["method.lr"] - rate))
    shutil.rmtree(chosen.parent)
    forged.write_row(other.parent, **{"method.lr": 0.123})
    shutil.rmtree(next(path.parent for path in scored if forged.row(path.parent)["seed"] == 1))
    ended, found = verify(copied, "RUNS", "--submission", "--no-replay", "--config-dir", toys(copied))
    missing, another, seeds, strange = found["lines"]
    assert missing.startswith("toy, mine: tuned, but of 6 trials ")
    assert str(choice["trial"]) in missing.removeprefix("toy, mine: tuned, but of 6 trials ")
    assert "scored with another setting than that of trial" in another
    assert seeds == "toy, mine, tuned: seeds 1, 3, 4, 5 are missing"
    assert (
        strange == f"{other.parent.relative_to(copied)}: trials: no trial of the declared space, and no scored run "
        "of the chosen setting"
    )
    assert ended.returncode == 1


def test_stages_of_a_comparison_in_several_places_are_verified_as_one(copied):
    (copied / "other").mkdir()
    shutil.move(copied / "RUNS" / "trials", copied / "other" / "trials")
    found = verify(copied, "RUNS", "other", "--trust-code", "mine", "--no-replay")[1]
    assert found["lines"] == ["toy, mine, tuned: seeds 3, 4, 5 are missing"]
    assert len(found["runs"]) == 8
    assert all("rules" in run["verified"] for run in found["runs"])
    submit(copied)
    ended = command("zobench.verify", "RUNS", "other", cwd=copied)
    assert "a submission is verified alone" in ended.stderr
    assert ended.returncode == 2


def test_a_folder_of_submissions_has_no_other(copied):
    ended, found = verify(copied, "RUNS", "--submission", "--no-replay", "--config-dir", toys(copied))
    assert found["lines"][-1] == "submission.yaml: missing; a submission says in it whose runs these are"
    assert ended.returncode == 1


def test_trusted_code_may_lie_beside_its_options_and_without_them_nothing_is_judged(copied):
    submit(copied)
    (copied / "lab").mkdir()
    shutil.move(copied / "mine" / "method_of_mine.py", copied / "lab")
    ended = command("zobench.verify", "RUNS", "--no-replay", "--trust-code", "lab", cwd=copied)
    assert ended.returncode == 2
    assert "--trust-code lab: no entry mine in lab/rules/entries.yaml" in ended.stderr
    shutil.move(copied / "mine", copied / "lab" / "options")
    found = verify(copied, "RUNS", "--no-replay", "--trust-code", "lab")[1]
    assert all("rules" in run["verified"] for run in found["runs"])


def test_rules_of_runs_whose_method_cannot_be_imported_say_so(copied):
    ended = command("zobench.rules", "check", "RUNS", "--config-dir", "mine", cwd=copied)
    assert "method_of_mine.Mine: cannot be imported" in ended.stderr
    assert ended.returncode == 2


def test_a_run_that_no_rule_asks_for_is_refuted(copied):
    words = [*TINY, "task=sst2", "method=mezo", "method.lr=0.5", "seed=1", "data_seed=1", "forwards=8"]
    assert command("zobench", *words, "runs_dir=RUNS/tuned", cwd=copied).returncode == 0
    found = verify(copied, "RUNS", "--trust-code", "mine", "--no-replay")[1]
    (refuted,) = [run for run in found["runs"] if run["verdict"] == "refuted"]
    assert "no rule asks for it" in refuted["differs"][0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"who": None}, "submission.yaml: who is missing; expected who submits"),
        ({"colour": "red"}, "colour: no such key"),
        ({"who": "a\nb"}, "expected a text of one line"),
        ({"code": "https://example.org"}, "expected {url: https://..., commit: 40 digits} or {wheel: FILE.whl}"),
        ({"code": {"url": "file:///etc/passwd", "commit": "0" * 40}}, "expected https://..."),
        ({"code": {"url": "https://example.org/x", "commit": "main"}}, "expected 40 hexadecimal digits"),
        ({"code": {"wheel": "../x.whl"}}, "no such file beside submission.yaml"),
        ({"entry": "yours"}, "no entry of v1"),
    ],
    ids=str,
)
def test_a_submission_that_lacks_something_is_told_what(copied, changed, said):
    submit(copied, **changed)
    ended, found = verify(copied, "RUNS", "--no-replay")
    assert said in " ".join(found["lines"])
    assert ended.returncode == 1


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("rules/workloads.yaml", "easy: {words: task=sst2, forwards: 1}", "workloads are those of the rules"),
        ("hydra/launcher/x.yaml", "_target_: os.system", "expected rules/entries.yaml and method/*.yaml alone"),
        ("rules/entries.yaml", "mine: {words: method=mezo method.rule._target_=os.abort}", "mine: a _target_"),
        (
            "rules/entries.yaml",
            "mine: {words: method=mezo batch_size=64}",
            "batch_size: expected settings",
        ),
        ("rules/entries.yaml", "mine: {words: method=mezo}", "expected shipped values"),
        ("rules/entries.yaml", "mine: {words: method=mezo, backprop: true}", "expected a budget in forward passes"),
    ],
)
def test_options_of_a_submission_run_nothing(copied, file, text, said):
    submit(copied)
    path = copied / "RUNS" / "options" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = verify(copied, "RUNS", "--no-replay")[1]
    assert said in " ".join(found["lines"])
    assert "method_of_mine" not in sys.modules
