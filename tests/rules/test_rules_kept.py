"""What a check says of the records of a comparison."""

import json
import shutil
import zipfile
from dataclasses import replace

from helpers import forged
from helpers.commands import command
from helpers.comparison import ONLY, held, rewritten, rules
from helpers.tiny_runs import TINY

from zobench.record import configs
from zobench.rules import check


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
    assert "outside the rules or unreadable, left out: 1" in rules(copied, "report", "RUNS").stdout


def test_a_check_names_an_entry_that_was_tried_and_not_scored(copied):
    for run in held(copied)["two_probes"].scored["tuned"].values():
        shutil.rmtree(str(run.place))
    said = rules(copied, "check", "RUNS").stdout.splitlines()
    assert "toy, two_probes, tuned: seeds 1, 2, 3, 4, 5 are missing" in said


def test_a_check_names_a_score_that_no_trial_chose_and_steps_that_no_seconds_pay_for(copied):
    for run in held(copied)["two_probes"].trials:
        rewritten(run, state="diverged")
    path = copied / "RUNS" / "choices" / "toy" / "two_probes.seconds.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"steps": 3 * kept["steps"]}))
    said = rules(copied, "check", "RUNS").stdout
    assert "but no trial finished that could have chosen it" in said
    assert f"two_probes.seconds.json has {3 * kept['steps']} steps, where the seconds beside them pay for" in said


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


def test_packed_records_are_the_comparison_that_they_were(folder, tmp_path):
    packed = rules(folder, "pack", "RUNS", "--out", str(tmp_path))
    zips = [str(tmp_path / f"toy.{stage}.zip") for stage in ("trials", "tuned", "seconds")]
    assert packed.stdout == "".join(f"written: {file}\n" for file in zips)
    before, after = (rules(folder, "check", *tops).stdout for tops in (["RUNS"], zips))
    assert after == before
    assert rules(folder, "report", *zips).stdout == rules(folder, "report", "RUNS").stdout


def test_runs_go_on_from_unpacked_records(folder, tmp_path):
    rules(folder, "pack", "RUNS", "--out", str(tmp_path))
    for file in tmp_path.glob("*.zip"):
        with zipfile.ZipFile(file) as packed:
            packed.extractall(tmp_path / "RUNS")
    (tmp_path / "mine").symlink_to(folder / "mine")
    words = (*ONLY, "--ruleset", "tuned,seconds", "--runs", "RUNS", "--seeds", "1,2", "--dry-run")
    assert rules(tmp_path, "run", *words).stdout == rules(folder, "run", *words).stdout


def test_records_of_several_places_are_one_comparison(copied):
    whole = rules(copied, "check", "RUNS").stdout
    (copied / "other").mkdir()
    shutil.move(copied / "RUNS" / "tuned", copied / "other" / "tuned")
    assert rules(copied, "check", "RUNS", "other").stdout == whole
    assert rules(copied, "check", "RUNS").stdout != whole
