"""A comparison in real processes: trials, choice, scored seeds, equal seconds; its targets and its report."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from helpers.comparison import ONLY, held, rewritten, rules

from zobench.report.workloads.page import MARKS
from zobench.rules import load
from zobench.rules.stages import Comparison


def test_every_entry_has_its_trials_and_the_one_with_the_lowest_dev_loss_is_scored(folder, found):
    assert list(found) == ["mezo", "zeroshot", "two_probes"]
    for name in ("mezo", "two_probes"):
        losses = [run.row["dev/loss"] for run in found[name].trials]
        assert len(losses) == 6
        best = losses.index(min(losses))
        kept = json.loads((folder / "RUNS" / "choices" / "toy" / f"{name}.json").read_text())
        assert kept["trial"] == best
        for seed, run in found[name].scored["tuned"].items():
            assert run.row["method.lr"] == found[name].trials[best].row["method.lr"]
            assert (run.row["seed"], run.row["data_seed"]) == (seed, seed)
            assert run.row["forwards"] == 16
    assert set(found["mezo"].scored["tuned"]) == set(found["zeroshot"].scored["tuned"]) == {1, 2}


def test_scored_seeds_draw_rows_of_their_own_and_share_the_test_rows(found):
    runs = found["mezo"].scored["tuned"]
    assert runs[1].row["rows_hash"] != runs[2].row["rows_hash"]
    assert runs[1].row["test/n"] == runs[2].row["test/n"]


def test_the_others_have_the_references_seconds(folder, found):
    steps = json.loads((folder / "RUNS" / "choices" / "toy" / "two_probes.seconds.json").read_text())
    assert steps["steps"] == max(1, round(steps["seconds"] / steps["seconds_per_step"]))
    assert {run.row["steps"] for run in found["two_probes"].scored["seconds"].values()} == {steps["steps"]}
    assert not found["mezo"].scored.get("seconds")


def test_more_seeds_repeat_nothing_and_move_no_choice(copied):
    files = [*copied.rglob("summary.json"), *(copied / "RUNS" / "choices").rglob("*.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = rules(copied, "run", *ONLY, "--ruleset", "tuned", "--runs", "RUNS", "--seeds", "1,2,3")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert set(held(copied)["mezo"].scored["tuned"]) == {1, 2, 3}


def asked(folder, stage):
    """The runs that would be asked for of an entry, whose choice is made anew."""
    (folder / "RUNS" / "choices" / "toy" / f"two_probes{'.seconds' * (stage == 'at_seconds')}.json").unlink()
    own = [folder / "mine"]
    rules = load("v1", own)
    comparison = Comparison(rules, folder / "RUNS", folders=own, seeds=[1, 2])
    ruleset = rules.rulesets["seconds" if stage == "at_seconds" else "tuned"]
    return getattr(comparison, stage)(rules.workloads["toy"], ruleset, [rules.entries["two_probes"]])


@pytest.mark.parametrize(("state", "count"), [("diverged", 2), ("failed", 0), ("running", 0), ("interrupted", 0)])
def test_a_choice_waits_until_every_trial_has_a_result(copied, state, count):
    rewritten(held(copied)["two_probes"].trials[3], state=state, reason="by hand")
    assert len(asked(copied, "scored")) == count
    assert (copied / "RUNS" / "choices" / "toy" / "two_probes.json").exists() == bool(count)


@pytest.mark.parametrize(("name", "state"), [("mezo", "running"), ("mezo", "failed"), ("two_probes", "interrupted")])
def test_equal_seconds_wait_for_all_runs_that_tell_them(copied, name, state):
    rewritten(held(copied)[name].scored["tuned"][2], state=state, reason="by hand")
    assert asked(copied, "at_seconds") == []
    assert not (copied / "RUNS" / "choices" / "toy" / "two_probes.seconds.json").exists()


def test_an_entry_of_which_every_trial_diverged_is_said_to_have_no_score(copied):
    own = held(copied)["two_probes"]
    for run in own.trials:
        rewritten(run, state="diverged")
    for run in own.runs():
        if run not in own.trials:
            shutil.rmtree(str(run.place))
    choices = copied / "RUNS" / "choices" / "toy"
    assert "toy, two_probes: " not in rules(copied, "check", "RUNS").stdout
    (choices / "two_probes.json").unlink()
    checked = rules(copied, "check", "RUNS").stdout
    assert "| toy      | two_probes | 0 of 6 |" in checked
    assert "toy, two_probes" not in checked
    assert "toy: every trial diverged, so no score: two_probes" in rules(copied, "report", "RUNS").stdout
    ran = rules(copied, "run", "--workload", "toy", "--only", "two_probes", "--ruleset", "tuned", "--runs", "RUNS")
    assert "toy, tuned: nothing to run yet of two_probes, of which every trial diverged" in ran.stdout
    assert ran.returncode == 0


def test_the_folder_of_runs_may_have_any_name(copied):
    ran = rules(
        copied,
        "run",
        "--workload",
        "toy",
        "--only",
        "zeroshot",
        "--ruleset",
        "fixed",
        "--seeds",
        "1",
        "--runs",
        "a,b's (c)",
    )
    assert ran.returncode == 0, ran.stderr
    assert len([*(copied / "a,b's (c)" / "fixed").rglob("summary.json")]) == 1


def test_targets_are_the_medians_of_the_references_scored_seeds(folder, found):
    targets = yaml.safe_load(rules(folder, "targets", "RUNS").stdout)
    rows = [run.row for run in found["mezo"].scored["tuned"].values()]
    assert targets["toy"]["dev_loss"] == pytest.approx(sum(row["dev/loss"] for row in rows) / 2, abs=1e-6)
    assert targets["toy"]["seeds"] == 2


def test_a_report_tells_what_can_be_said_and_writes_a_page_and_readme(folder, found, tmp_path):
    said = rules(folder, "report", "RUNS")
    assert said.returncode == 0, said.stderr
    assert "mezo beyond doubt: " in said.stdout
    assert "two_probes" in said.stdout
    assert "6 trials each, 2 scored seeds" in said.stdout
    readme = tmp_path / "README.md"
    readme.write_text("# zobench\n")
    words = ("report", "RUNS", "--workload", "toy", "--out", str(tmp_path / "out"), "--readme", str(readme))
    refused = rules(folder, *words)
    assert refused.returncode == 2
    assert "add both where it goes" in refused.stderr
    assert not (tmp_path / "out").exists()
    readme.write_text("".join(MARKS))
    assert rules(folder, *words).returncode == 0
    assert "(out/headline.png)" in readme.read_text()
    scored = pd.read_csv(tmp_path / "out" / "scores.csv").set_index(["stage", "entry"])
    own = found["two_probes"]
    rows = [run.row for run in own.scored["tuned"].values()]
    assert scored["test_metric"]["tuned", "two_probes"] == pytest.approx(sum(row["test_metric"] for row in rows) / 2)
    assert scored["trial_forwards"]["tuned", "two_probes"] == sum(run.row["forwards"] for run in own.trials)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["shw"], "shw: no such command; did you mean show?", 2),
        (["report", "RUNS", "--readme", "README.md"], "its picture lies in the folder of --out; give one", 2),
        (["show", "v7"], "v7: no such version of the rules; did you mean v1?", 2),
        (["run", "--runs", "R", "--workload", "toi"], "toi: no such workload; did you mean toy?", 2),
        (["run", "--runs", "R", "--workload", "toy", "steps=3"], "steps: the rules of toy leave device to you", 2),
        (["run", "--runs", "R", "--workload", "sst2-tiny-opt"], "expected data.dir=DIR and model.dir=DIR too", 2),
        (["run", "--runs", "R", *ONLY, "--seeds", "0,1"], "seed 0 is that of the trials", 2),
        (["run", "--runs", "R", *ONLY, "--ruleset", "seconds"], "toy, seconds: nothing to run yet", 0),
        (["run", "--runs", "R", *ONLY, "--seeds=-1"], "--seeds -1: expected numbers with commas", 2),
        (["run", "--runs", "mine/rules/workloads.yaml/R", *ONLY], "cannot be written: Not a directory", 1),
        (["check", "nowhere"], "nowhere: no such folder", 1),
        (["check", "mine"], "mine: no run of a workload of v1", 1),
        (["targets", "mine"], "no finished run of mezo, which sets the targets", 2),
    ],
)
def test_what_cannot_be_done_is_answered_in_one_line(folder, words, said, code):
    ran = rules(folder, *words)
    assert said in ran.stdout + ran.stderr
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr
    assert len((ran.stdout + ran.stderr).splitlines()) == 1
    assert not (folder / "R").exists()


def test_the_rules_are_listed_and_shown(folder):
    listed, shown = rules(folder).stdout, rules(folder, "show").stdout
    assert "two_probes" in listed
    assert "tuned: The same number of trials for every entry" in shown
    assert "pgap_random" in shown
