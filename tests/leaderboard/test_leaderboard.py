"""A leaderboard of a real comparison and two submissions: whose runs, which command, which verdict."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from helpers.commands import command
from helpers.processes import Sweep
from helpers.tiny_runs import TINY

from zobench.config.folders import conf_dir
from zobench.config.signature import compose
from zobench.errors import DataError
from zobench.leaderboard.read import read
from zobench.leaderboard.verdicts import Verdicts
from zobench.report.site import boards
from zobench.rules import stages

METHOD = "from zobench.methods.mezo import MeZO\n\n\nclass Mine(MeZO):\n    pass\n"
SPACE = {"shipped": {"method.lr": 1e-6}, "space": {"method.lr": "tag(log, interval(1e-8, 1e-5))"}}
#: a method of its own code, and one that is settings alone
ENTRIES = {"mine": {"words": "method=mine", **SPACE}, "probes": {"words": "method=mezo method.probes=2", **SPACE}}
TOY = {"words": " ".join([*TINY, "task=sst2"]), "forwards": 8, "rates": 100}
CODE = {"url": "https://example.org/mine", "commit": "0123456789abcdef" * 2 + "01234567"}
SUBMISSION = {"who": "A. Person", "method": "MeZO by another name", "rules": "v1", "licence": "MIT", "code": CODE}


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))


def split(folder, entry):
    """Move the runs and choices of an entry from the comparison into a submission."""
    for stage in ("trials", "tuned"):
        for summary in [*(folder / "RUNS" / stage).rglob("summary.json")]:
            row = json.loads(summary.read_text())
            if (row["method"] == "mine") == (entry == "mine") and (row["method.probes"] == 2) == (entry == "probes"):
                shutil.move(summary.parent, folder / entry / summary.parent.relative_to(folder / "RUNS"))
    choice = Path("choices") / "toy" / f"{entry}.json"
    written(folder / entry / choice, (folder / "RUNS" / choice).read_text())
    (folder / "RUNS" / choice).unlink()
    written(folder / entry / "submission.yaml", SUBMISSION | {"entry": entry})
    written(folder / entry / "options" / "rules" / "entries.yaml", {entry: ENTRIES[entry]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A comparison of MeZO, and two submissions to it, each with six trials and two scored seeds."""
    folder = tmp_path_factory.mktemp("leaderboard")
    node = yaml.safe_load((conf_dir() / "method" / "mezo.yaml").read_text()) | {"_target_": "method_of_mine.Mine"}
    own = f"# Mine: by another name\n{yaml.safe_dump(node, sort_keys=False)}"
    written(folder / "all" / "method_of_mine.py", METHOD)
    written(folder / "all" / "method" / "mine.yaml", own)
    written(folder / "all" / "rules" / "entries.yaml", ENTRIES)
    for name in ("all", "toys"):
        written(folder / name / "rules" / "workloads.yaml", {"toy": TOY})
    words = ("--workload", "toy", "--only", "mezo,mine,probes", "--ruleset", "tuned", "--seeds", "1,2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "subprocess", SimpleNamespace(Popen=Sweep))
        patch.setenv("PYTHONPATH", f"{folder / 'all'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.syspath_prepend(folder / "all")
        ran = command("zobench.rules", "run", *words, "--runs", "RUNS", "--config-dir", "all", cwd=folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    sys.modules.pop("method_of_mine")
    for entry in ENTRIES:
        split(folder, entry)
    written(folder / "mine" / "options" / "method" / "mine.yaml", own)
    words = ("RUNS", "--trust-code", "toys", "--sample", "1", "--json", "RUNS/verification.json")
    assert "1 verified, 7 consistent, 0 refuted" in command("zobench.verify", *words, cwd=folder).stdout
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def of(folder, *names, verifications=()):
    return read([str(folder / name) for name in names], [folder / "toys"], verifications)


@pytest.fixture(scope="module")
def content(folder):
    return of(folder, "RUNS", "mine", "probes")


def test_submissions_stand_beside_the_comparison_and_none_of_their_code_runs(content):
    assert list(content.entries) == ["mezo", "mine", "probes"]
    assert content.left_out == []
    assert content.entries["mine"].source.said["who"] == "A. Person"
    assert content.entries["mine"].source.code == CODE["url"]
    assert [name for name, entry in content.entries.items() if entry.source.outside] == ["mine"]
    notes = boards.workload(content, "toy")["boards"][0]["table"].notes
    assert [note.rpartition(": ")[2] for note in notes[-2:]] == ["mine, probes", "mine"]
    lines = content.found.set_index("entry")
    assert lines["runs"].to_dict() == {"mezo": 2, "mine": 2, "probes": 2}
    assert lines["trials"].to_dict() == {"mezo": 6, "mine": 6, "probes": 6}
    assert "method_of_mine" not in sys.modules


def test_a_comparison_packed_by_stages_is_one_comparison(folder, content, tmp_path):
    ended = command("zobench.rules", "pack", "RUNS", "--out", str(tmp_path), "--config-dir", "toys", cwd=folder)
    zips = [line.removeprefix("written: ") for line in ended.stdout.splitlines()]
    assert [Path(each).name for each in zips] == ["toy.trials.zip", "toy.tuned.zip"]
    files = [folder / "RUNS" / "verification.json"]
    found = read([str(folder / "mine"), *zips, str(folder / "probes")], [folder / "toys"], files)
    assert found.left_out == []
    assert {(run.entry, run.place, run.digest, run.check.verdict, run.command) for run in found.runs.values()} == {
        (run.entry, run.place, run.digest, run.check.verdict, run.command) for run in content.runs.values()
    }
    pd.testing.assert_frame_equal(found.found, content.found)


def test_the_command_of_a_run_makes_the_run_of_that_name(content):
    told = [run for run in content.runs.values() if run.entry != "mine"]
    assert len(told) == 16
    for run in told:
        _, _, module, *words = shlex.split(run.command)
        assert module == "zobench"
        own = words[2:] if words[0] == "--config-dir" else words
        assert Path(compose(*own).out).name == run.row["config_hash"]


def test_the_trial_whose_settings_were_scored_is_marked(content):
    for entry in ("mezo", "probes", "mine"):
        (chosen,) = [run for run in content.trials_of(entry)["toy"] if run.chosen]
        ((_, scored),) = content.of_entry(entry)
        assert {run.row["method.lr"] for run in scored} == {chosen.row["method.lr"]}


def test_a_verdict_is_of_the_very_record_and_a_changed_one_has_none(content, copied):
    (run,) = [run for run in content.runs.values() if run.check.verdict == "verified"]
    assert {other.check.verdict for other in content.runs.values() if other.entry == "mine"} == {"not verified"}
    lines = copied / "RUNS" / run.place / "metrics.jsonl"
    lines.write_text(lines.read_text() + "\n")
    again = of(copied, "RUNS").runs["mezo", str(copied / "RUNS" / run.place)]
    assert again.check.verdict == "stale"
    assert again.digest != run.digest


def test_what_a_submission_says_of_its_own_verification_is_not_read(copied):
    written(copied / "toys" / "rules" / "entries.yaml", {"probes": ENTRIES["probes"]})
    words = ("probes", "--trust-code", "toys", "--no-replay", "--json", "found.json")
    assert "8 consistent, 0 refuted" in command("zobench.verify", *words, cwd=copied).stdout
    (copied / "toys" / "rules" / "entries.yaml").unlink()
    shutil.copy(copied / "found.json", copied / "probes" / "verification.json")
    words = [{run.check.verdict for run in of(copied, "RUNS", "probes", verifications=files).runs.values()
              if run.entry == "probes"} for files in ((), (copied / "found.json",))]  # fmt: skip
    assert words == [{"not verified"}, {"consistent"}]


def test_a_submission_that_is_none_or_has_other_rows_is_left_out_and_the_others_stand(copied):
    written(copied / "probes" / "submission.yaml", SUBMISSION | {"entry": "probes", "who": None})
    for summary in (copied / "mine" / "tuned").rglob("summary.json"):
        row = json.loads(summary.read_text())
        kept = {name: value for name, value in row.items() if name not in ("digest", "digests")}
        summary.write_text(json.dumps(kept | {"rows_hash": "0123456789abcdef"}))
    found = of(copied, "RUNS", "mine", "probes")
    assert list(found.entries) == ["mezo"]
    said = dict(found.left_out)
    assert "who is missing" in said["probes"]
    assert said["mine"] == "toy, mine: its rows_hash is not the comparison's"


def test_a_folder_of_submissions_holds_no_comparison_that_verifies_itself(copied):
    shutil.move(copied / "mine", copied / "submissions" / "mine")
    shutil.copytree(copied / "RUNS", copied / "submissions" / "evil")
    shutil.rmtree(copied / "RUNS" / "trials")
    found = read([str(copied / "RUNS")], [copied / "toys"], submissions=copied / "submissions")
    assert found.left_out == [("evil", "no submission.yaml in it")]
    assert {run.source.name for run in found.runs.values()} == {"RUNS", "mine"}


def test_a_file_without_digests_of_records_is_refused(tmp_path):
    (tmp_path / "found.json").write_text('{"runs": [{"verdict": "verified", "run": {}}]}')
    with pytest.raises(DataError, match="write it anew"):
        Verdicts([tmp_path / "found.json"])


def test_the_command_writes_the_pages_and_names_what_is_left_out(copied):
    written(copied / "probes" / "submission.yaml", "who: [")
    words = ("RUNS", "mine", "probes", "--site", "site", "--config-dir", "toys")
    ended = command("zobench.report", *words, cwd=copied)
    assert ended.returncode == 0, ended.stderr
    assert "written: site/index.html" in ended.stdout
    assert "left out: probes: " in ended.stdout
    assert (copied / "site" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("RUNS", "--verification", "x.json"), "--verification: has no effect without --site"),
        (("RUNS", "--site", "RUNS"), "holds something else than a leaderboard"),
        (("RUNS", "RUNS", "--site", "new"), "two folders of this name"),
        (("none", "--site", "new"), "no such folder"),
        (("RUNS", "--site", "a/b/c"), "no folder a/b to make it in"),
    ],
    ids=str,
)
def test_what_cannot_be_a_leaderboard_is_answered_in_a_line(folder, words, said):
    ended = command("zobench.report", *words, cwd=folder)
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert ended.returncode
    assert not (folder / "new").exists()
