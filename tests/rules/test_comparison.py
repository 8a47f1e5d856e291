"""A comparison in real processes: trials, choice, scored seeds, equal seconds; and what a check says of its records."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from helpers import forged
from helpers.commands import command
from helpers.processes import Sweep
from helpers.tiny_runs import TINY

from zobench.record import configs
from zobench.report.workloads.page import MARKS
from zobench.rules import check, load, stages
from zobench.rules.records import Records

ENTRIES = """
two_probes:
  words: method=mezo method.probes=2
  of: mezo
  shipped: {method.lr: 1.0e-6}
  space: {method.lr: "tag(log, interval(1e-8, 1e-5))"}
"""
ONLY = ("--workload", "toy", "--only", "mezo,two_probes,zeroshot")


def rules(folder, *words):
    return command("zobench.rules", *words, "--config-dir", "mine", cwd=folder)


@pytest.fixture(scope="module", autouse=True)
def sweeps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "subprocess", SimpleNamespace(Popen=Sweep))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a comparison of two entries and zero-shot was run, with two of the five seeds."""
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "mine" / "rules").mkdir(parents=True)
    (folder / "mine" / "rules" / "entries.yaml").write_text(ENTRIES)
    toy = {"words": " ".join([*TINY, "task=sst2"]), "forwards": 16, "rates": 100}
    (folder / "mine" / "rules" / "workloads.yaml").write_text(yaml.safe_dump({"toy": toy}))
    ran = rules(folder, "run", *ONLY, "--ruleset", "tuned,seconds", "--runs", "RUNS", "--seeds", "1,2")
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


def held(folder):
    own = [folder / "mine"]
    return {each.entry.name: each for each in Records(load("v1", own), folder / "RUNS", own).held}


@pytest.fixture(scope="module")
def found(folder):
    return held(folder)


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


def test_a_check_names_seeds_that_are_missing_and_prints_what_entries_were_given(folder):
    checked = rules(folder, "check", "RUNS")
    assert checked.returncode == 1
    said = checked.stdout.splitlines()
    missing = [line for line in said if line.endswith("seeds 3, 4, 5 are missing")]
    assert len(missing) == 4  # three entries, one of them at equal seconds too
    assert said[-1] == "4 lines"
    assert any(line.startswith("| toy ") and " mezo | 6 of 6 |" in line for line in said)


def test_a_run_outside_the_rules_is_named(copied):
    words = [*TINY, "task=sst2", "method=mezo", "method.lr=0.5", "seed=1", "data_seed=1", "forwards=16"]
    assert command("zobench", *words, "runs_dir=RUNS/tuned", cwd=copied).returncode == 0
    said = rules(copied, "check", "RUNS").stdout
    assert "no rule asks for it: tuned, sst2, mezo" in said
    assert "method.lr=0.5" in said


def test_a_choice_by_anything_but_the_dev_loss_is_named(copied, found):
    path = copied / "RUNS" / "choices" / "toy" / "mezo.json"
    kept = json.loads(path.read_text())
    other = next(run for run in found["mezo"].trials if run.row["method.lr"] != float(kept["settings"]["method.lr"]))
    chosen = {"method.lr": f"{other.row['method.lr']:.3g}", "method.eps": f"{other.row['method.eps']:g}"}
    path.write_text(json.dumps(kept | {"settings": chosen}))
    said = rules(copied, "check", "RUNS").stdout
    assert f"toy, mezo: scored with another setting than that of trial {kept['trial']}" in said


def test_a_run_on_rows_of_another_place_is_named_though_its_name_fits(folder, copied, found):
    place = copied / found["mezo"].scored["tuned"][1].place.relative_to(folder)
    settings = configs.read(place)
    settings["data"]["dir"] = "/data"
    forged.rename(place, settings)
    assert (
        f"{place.relative_to(copied)}: data.dir=/data: the rules ask for the rows of another place"
        in rules(copied, "check", "RUNS").stdout
    )


def test_a_run_that_has_only_the_name_of_the_one_that_is_asked_for_is_named(found):
    run = found["mezo"].scored["tuned"][1]
    assert not list(check.of_settings(run))
    (line,) = check.of_settings(replace(run, asked=run.asked | {"batch_size": 5}))
    assert line == f"{run.place}: the rules ask for other settings under its name: batch_size=5, now 4"


def test_a_record_whose_settings_were_changed_is_named(folder, copied, found):
    place = found["mezo"].scored["tuned"][1].place.relative_to(folder)
    path = copied / place / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 4", "batch_size: 5"))
    said = rules(copied, "check", "RUNS").stdout
    assert f"{place}: config.yaml" in said


def test_a_damaged_choice_is_answered(copied):
    (copied / "RUNS" / "choices" / "toy" / "mezo.json").write_text('{"settings": 3}')
    checked = rules(copied, "check", "RUNS")
    assert checked.returncode == 1
    assert "expected settings, a mapping of texts" in checked.stderr


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
