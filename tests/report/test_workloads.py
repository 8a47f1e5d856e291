"""Comparisons over workloads: scores, time to target, profiles, claims, and the pages that tell them."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers.written import FORWARDS, write_run

from zobench import report
from zobench.errors import ConfigError, UserError
from zobench.report.workloads.comparison import Compared, Target
from zobench.report.workloads.headline import claims, headline, power_table
from zobench.report.workloads.page import MARKS, Page
from zobench.report.workloads.pictures import entry_styles, forest_picture, profile_picture, ranks_picture
from zobench.report.workloads.profiles import LARGEST, areas, ratios
from zobench.report.workloads.scores import costs, scale, scores, together
from zobench.report.workloads.tables import ablations_table, overall_table, place_table

OF = {"loren_iso": "loren"}
#: entry -> share of right answers, and CPU hours
ENTRIES = {"mezo": (0.6, 0.01), "loren": (0.75, 0.02), "loren_iso": (0.75, 0.02), "kerzoo": (0.4, 0.01),
           "conmezo": (0.6, 0.01), "adamw": (0.9, 0.01)}  # fmt: skip
#: dev losses at four evaluations; the target is what mezo ends with
LOSSES = {"mezo": (0.69, 0.66, 0.63, 0.60), "loren": (0.66, 0.60, 0.55, 0.50), "kerzoo": (0.69, 0.69, 0.69, 0.69)}
TASKS = {"sst2-tiny": "sst2", "mr-tiny": "mr"}


def write(folder, entry, seed, task, share, hours, rng, **values):
    """A run whose answers share their difficult examples with those of all other entries."""
    hard = np.random.default_rng(len(task)).random(200)
    right = (hard + rng.normal(0, 0.05, 200) < share).astype(int)
    losses = LOSSES.get(entry, LOSSES["mezo"])
    write_run(folder, entry.partition("_")[0], seed, task=task, scores=right.tolist(), dev=(0.5, 0.5, 0.6, 0.6),
              dev_losses=losses, cpu_hours=hours, **{"dev/loss": losses[-1]} | values)  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Six entries, one of them an ablation, on two workloads at two stages, with three seeds and two trials each."""
    top, rng, frames = tmp_path_factory.mktemp("runs"), np.random.default_rng(0), []
    for workload, task in TASKS.items():
        for stage, seeds in (("trials", (0, 0)), ("tuned", (1, 2, 3)), ("seconds", (1, 2, 3))):
            for entry, (share, hours) in ENTRIES.items():
                if stage == "seconds" and entry == "mezo":
                    continue
                folder = top / stage / workload / entry
                for seed in seeds:
                    share_here = share - 0.15 * (stage == "seconds" and entry == "loren")
                    write(folder, entry, seed, task, share_here, hours, rng, backwards=50 * (entry == "adamw"))
                frames.append(report.load(folder).assign(stage=stage, workload=workload, entry=entry))
    runs = pd.concat(frames, ignore_index=True)
    trials = runs["stage"].eq("trials")
    targets = {workload: Target(0.6, 0.6) for workload in TASKS}
    return Compared(runs[~trials], runs[trials], targets, OF)


@pytest.fixture(scope="module")
def found(compared):
    return scores(compared)


@pytest.fixture(scope="module")
def overall(compared, found):
    return together(compared, found)


def line(found, entry, stage="tuned", workload="sst2-tiny"):
    (one,) = found[found[["entry", "stage", "workload"]].eq([entry, stage, workload]).all(axis=1)].to_dict("records")
    return one


def test_a_score_is_the_mean_over_seeds_and_its_difference_is_to_mezo(compared, found):
    runs = compared.of_place("sst2-tiny", "tuned")
    loren, mezo = line(found, "loren"), line(found, "mezo")
    assert loren["test_metric"] == pytest.approx(runs["loren"]["test_metric"].mean())
    assert loren["delta"] == pytest.approx(loren["test_metric"] - mezo["test_metric"])
    assert loren["delta_low"] < loren["delta"] < loren["delta_high"]
    assert loren["delta_p"] <= loren["delta_p_holm"]
    assert math.isnan(mezo["delta"])
    assert loren["runs"] == 3


def test_the_scale_goes_from_the_untrained_model_to_adamw(compared, found):
    low, high = scale(compared, "sst2-tiny")
    assert low == 0.5
    assert high == pytest.approx(line(found, "adamw")["test_metric"])
    assert line(found, "adamw")["normalised"] == pytest.approx(1)
    assert line(found, "mezo")["normalised"] == pytest.approx((line(found, "mezo")["test_metric"] - low) / (high - low))


def test_what_tuning_took_stands_beside_a_score_and_a_backward_pass_counts_as_two(found):
    assert line(found, "loren")["trials"] == 2
    assert line(found, "loren")["trial_hours"] == pytest.approx(0.04)
    assert line(found, "loren")["trial_forwards"] == 2 * FORWARDS
    assert line(found, "adamw")["trial_forwards"] == 2 * FORWARDS + 2 * 2 * 50


def test_a_target_is_reached_at_the_first_evaluation_that_is_as_good(found):
    assert line(found, "mezo")["target_forwards"] == FORWARDS
    assert line(found, "loren")["target_forwards"] == FORWARDS / 2
    assert line(found, "kerzoo")["target_forwards"] == math.inf
    assert line(found, "kerzoo")["target_runs"] == 0


def test_seconds_are_told_in_forward_passes_of_mezo(compared, found):
    mezo = line(found, "mezo")
    inside = 30 / 36  # the share of training that forward passes take in runs written by hand
    assert mezo["seconds"] == pytest.approx(FORWARDS / inside)
    assert mezo["target_seconds"] == pytest.approx(mezo["seconds"])
    assert line(found, "loren")["target_seconds"] == pytest.approx(mezo["seconds"])  # half of a run twice as long


def test_seconds_of_another_machine_are_those_that_its_dev_evaluations_tell_of(compared):
    """The same entry on a machine of half the speed; and nothing of it where one record does not tell."""
    runs = compared.runs.assign(dev_cpu_seconds=0.5)
    slow = runs["entry"].eq("loren")
    runs.loc[slow, ["cpu_hours", "dev_cpu_seconds"]] *= 2
    moved = Compared(runs, compared.trials, compared.targets, compared.of)
    before, after = (line(scores(each), "loren") for each in (compared, moved))
    assert after["seconds"] == pytest.approx(before["seconds"])
    assert after["target_seconds"] == pytest.approx(before["target_seconds"])
    runs.loc[runs.index[0], "dev_cpu_seconds"] = None
    blind = Compared(runs, compared.trials, compared.targets, compared.of)
    assert line(scores(blind), "loren")["seconds"] == pytest.approx(2 * before["seconds"])


def test_at_equal_seconds_mezo_stands_with_its_runs_at_equal_forward_passes(found):
    assert line(found, "mezo", "seconds")["test_metric"] == line(found, "mezo")["test_metric"]


def test_over_all_workloads_a_difference_is_the_mean_of_theirs(found, overall):
    own = overall[overall["stage"].eq("tuned")].set_index("entry")
    of = [line(found, "loren", workload=workload)["delta"] for workload in TASKS]
    assert own["delta"]["loren"] == pytest.approx(np.mean(of))
    assert own["delta_p"]["loren"] < line(found, "loren")["delta_p"]
    assert own["rank"].dropna().sort_values().tolist() == [1, 2, 3, 4, 5]  # adamw has none


def test_claims_say_what_is_above_what_is_below_and_what_cannot_be_told(found, overall):
    tuned, seconds = claims(found, overall, "tuned"), claims(found, overall, "seconds")
    assert tuned[0].startswith("above mezo beyond doubt: loren")
    assert "loren_iso" in tuned[0]
    assert "not told from mezo: 1: conmezo" in tuned
    assert "below mezo beyond doubt, or diverged: 1: kerzoo" in tuned
    assert any(said.startswith("not above an ablation of theirs: loren (less loren_iso:") for said in tuned)
    assert "loren," in next(said for said in seconds if said.startswith("not told"))


def test_a_method_that_diverged_with_one_seed_has_no_difference_and_is_counted_as_below(compared):
    runs = compared.runs.copy()
    once = runs["entry"].eq("loren") & runs["stage"].eq("tuned") & runs["seed"].eq(1)
    runs.loc[once, ["state", "test_metric"]] = ["diverged", math.nan]
    damaged = Compared(runs, compared.trials, compared.targets, OF)
    found = scores(damaged)
    overall = together(damaged, found)
    assert math.isnan(line(found, "loren")["delta"])
    assert line(found, "loren")["diverged"] == 1
    assert "loren" in claims(found, overall, "tuned")[2]


def test_runs_that_occur_twice_are_refused_and_so_is_nothing(compared):
    twice = pd.concat([compared.runs, compared.runs.iloc[:1]])
    with pytest.raises(UserError, match="two scored runs of stage"):
        Compared(twice, compared.trials)
    with pytest.raises(UserError, match="nothing to compare yet"):
        Compared(compared.runs.iloc[:0], compared.trials)


def test_profiles_divide_by_the_fastest_and_no_entry_is_fast_where_none_arrives():
    table = pd.DataFrame({"mezo": [100.0, math.inf], "loren": [200.0, math.inf]}, index=["sst2", "mr"])
    assert ratios(table).loc["sst2"].tolist() == [1, 2]
    assert ratios(table).loc["mr"].eq(math.inf).all()
    assert areas(table)["mezo"] == 0.5
    assert areas(table)["loren"] == pytest.approx((1 - 1 / math.log2(LARGEST)) / 2)


def test_tables_have_a_line_an_entry_and_bold_where_the_claim_is_beyond_doubt(found, overall):
    place = place_table(found[found["stage"].eq("tuned") & found["workload"].eq("sst2-tiny")])
    assert place.cells()[1][0] == "adamw"
    assert len(place.cells()) == len(ENTRIES) + 1
    tuned = overall_table(overall[overall["stage"].eq("tuned")], {})
    assert "| loren_iso |" in tuned.markdown()
    assert "**+" in tuned.markdown()
    assert ablations_table(found, overall, "tuned").cells()[1][:2] == ["loren", "loren_iso"]
    shown = headline(found, overall, ["tuned", "seconds"])
    assert "kerzoo" in shown.notes[0]
    assert "kerzoo" not in [row[0] for row in shown.cells()]


def test_power_is_told_for_each_workload_and_stage(compared):
    first = power_table(compared).cells()[1]
    assert first[:4] == ["mr-tiny", "tuned, equal forward passes", "3", "200"]


def test_an_ablation_has_the_colour_of_its_method_and_an_open_marker():
    known = entry_styles(["loren", "loren_iso", "mezo"], OF)
    assert known["loren_iso"].colour == known["loren"].colour
    assert not known["loren_iso"].filled
    assert known["loren"].filled
    assert known["mezo"].colour != known["loren"].colour


def test_pictures_name_every_entry_that_is_compared(found, overall):
    names = {"loren", "loren_iso", "kerzoo", "conmezo"}
    for picture in (forest_picture(found, overall, "tuned", OF), ranks_picture(found, overall, "tuned", OF)):
        panels = picture.figure().axes
        assert [panel.get_title() for panel in panels] == ["all workloads", "mr-tiny", "sst2-tiny"]
        assert names <= {label.get_text() for label in panels[0].get_yticklabels()}
    profiles = profile_picture({"forward passes": costs(found, "tuned", "target_forwards")}, OF)
    assert "count, no estimate" in profiles.caption
    assert "nowhere: kerzoo" in profiles.caption


def test_a_page_keeps_what_stands_outside_its_marks_and_readme_gets_the_headline(compared, tmp_path):
    page, out, readme = Page(compared), tmp_path / "docs", tmp_path / "README.md"
    out.mkdir()
    (out / "comparison.md").write_text(f"# Mine\n{MARKS[0]}what was said before\n{MARKS[1]}what it says\n")
    readme.write_text(f"# zobench\n{MARKS[0]}{MARKS[1]}end\n")
    files = page.write(out)
    text = (out / "comparison.md").read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("what it says\n")
    assert "what was said before" not in text
    assert all((out / name).is_file() for name in ("headline.png", "profiles.png", "scores.csv", "overall.csv"))
    assert all(f"({file.name})" in text for file in files if file.suffix == ".png")
    page.write_readme(readme, out)
    assert "(docs/headline.png)" in readme.read_text()
    assert readme.read_text().endswith("end\n")
    before = readme.read_text()
    page.write_readme(readme, out)
    assert readme.read_text() == before
    again = pd.read_csv(out / "scores.csv")
    assert again["test_metric"].tolist() == pytest.approx(page.found["test_metric"].tolist())


def test_a_page_without_marks_is_refused_and_nothing_is_written(compared, tmp_path):
    (tmp_path / "comparison.md").write_text("# Mine\n")
    with pytest.raises(ConfigError, match="add both where it goes"):
        Page(compared).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.md"]


def test_a_method_whose_trials_chose_its_ablation_is_said_to_be_the_same_runs(compared):
    runs = compared.runs[~compared.runs["entry"].eq("loren_iso")]
    shared = runs[runs["entry"].eq("loren")].assign(entry="loren_iso")
    found = scores(Compared(pd.concat([runs, shared]), compared.trials, compared.targets, OF))
    assert line(found, "loren_iso")["own_same"]
    assert not line(found, "loren")["own_same"]
    assert ablations_table(found, found.iloc[:0], "tuned").cells()[1][2:] == ["same runs", "same runs"]


def test_a_backward_pass_counts_as_two_on_the_way_to_a_target(found):
    assert line(found, "adamw")["target_forwards"] == FORWARDS + 2 * 50


def test_two_seeds_make_no_claim(compared):
    two = Compared(compared.runs[compared.runs["seed"].le(2)], compared.trials, compared.targets, OF)
    found = scores(two)
    loren = line(found, "loren")
    assert loren["delta_p_holm"] < 0.05
    assert (loren["delta_seeds"], loren["rank_low"], loren["rank_high"]) == (2, 1, 5)
    assert claims(found, together(two, found), "tuned")[0] == "above mezo beyond doubt: none"


def test_no_scale_is_told_where_its_upper_end_is_not_above_the_lower(compared):
    runs = compared.runs.assign(**{"zero_shot/test/accuracy": 0.95, "zero_shot/test/accuracy_calibrated": 0.95})
    found = scores(Compared(runs, compared.trials, compared.targets, OF))
    assert found["normalised"].isna().all()


def test_a_stage_with_fewer_workloads_and_what_is_left_out_are_told(compared):
    runs = compared.runs[~(compared.runs["stage"].eq("seconds") & compared.runs["workload"].eq("mr-tiny"))]
    said = Page(Compared(runs, compared.trials, compared.targets, OF, ["kerzoo was left out"])).said()
    assert "- tuned, equal seconds: of sst2-tiny alone\n" in said
    assert "equal forward passes: of" not in said
    assert said.endswith("- kerzoo was left out")
