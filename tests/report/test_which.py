"""The page on which method to use: what it recommends follows from the runs, and it says no more than they do."""

import pytest
from helpers.written import write_run

from zobench import report
from zobench.errors import UserError
from zobench.report.__main__ import main
from zobench.report.compare.board import make_board
from zobench.report.compare.standing import LIKELY, TIED, WORSE, standings

#: test accuracies of three seeds: alike and far from them, and in between where the spread over seeds hides it
GOOD, AS_GOOD, BAD = (0.80, 0.82, 0.84), (0.81, 0.815, 0.84), (0.70, 0.721, 0.742)


def write(folder, method, scores, **values):
    for seed, score in enumerate(scores):
        write_run(folder, method, seed, test=score, **{"test/n": 10_000, **values})


def standing(folder):
    (found,) = standings(make_board(report.load(folder), ["method", "task", "model"]))
    return found


def answers(text):
    """The lines of the short answer: (model, wanted) -> (what to take, how sure that is)."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {(row[0], row[1]): (row[2], row[3]) for row in rows if len(row) == 4}


def test_the_cheapest_of_the_tied_is_taken_and_the_worse_are_named(tmp_path):
    write(tmp_path, "mezo", GOOD, cpu_hours=0.02, peak_gib=1.0)
    write(tmp_path, "loren", AS_GOOD, cpu_hours=0.04, peak_gib=2.0)
    write(tmp_path, "kerzoo", BAD, cpu_hours=0.01, peak_gib=0.5)
    found = standing(tmp_path)
    assert found.verdicts == {"loren": (TIED, ["sst2"]), "mezo": (TIED, ["sst2"]), "kerzoo": (WORSE, ["sst2"])}
    said = answers(report.which(report.load(tmp_path)))
    assert said["tiny-opt (264k)", "the best result"] == ("loren, mezo", "a tie of 2; worse: kerzoo (sst2)")
    time = "mezo 1.2 min; no better, and dearer: loren 2.4 min; cheaper, and worse: kerzoo 0.6 min"
    assert said["tiny-opt (264k)", "the least time"] == ("mezo", time)
    memory = "mezo 1,024 MiB; no better, and dearer: loren 2,048 MiB; cheaper, and worse: kerzoo 512 MiB"
    assert said["tiny-opt (264k)", "the least memory"] == ("mezo", memory)


def test_costs_within_noise_are_a_tie(tmp_path):
    for method, scores in (("mezo", GOOD), ("loren", AS_GOOD)):
        for seed, score in enumerate(scores):
            late = (method == "loren") / 1000 + seed / 100
            write_run(tmp_path, method, seed, test=score, cpu_hours=0.02 + late, peak_gib=1 + late / 10)
    found = standing(tmp_path)
    assert {row for row, _ in found.least("cpu_hours").take} == {"mezo", "loren"}
    assert {row for row, _ in found.least("peak_mib").take} == {"mezo", "loren"}
    assert "equal within noise" in report.which(report.load(tmp_path))


@pytest.mark.parametrize(("seeds", "verdict"), [(1, TIED), (2, LIKELY), (3, WORSE)])
def test_two_seeds_make_likely_and_three_make_sure(tmp_path, seeds, verdict):
    """Over test examples the rows differ beyond doubt; one seed says nothing of others."""
    for seed in range(seeds):
        write_run(tmp_path, "mezo", seed, scores=[1] * 900 + [0] * 100)
        write_run(tmp_path, "loren", seed, scores=[1] * 600 + [0] * 400)
    assert standing(tmp_path).verdicts == {"mezo": (TIED, ["sst2"]), "loren": (verdict, ["sst2"])}


def test_a_difference_that_the_number_of_methods_explains_makes_likely(tmp_path):
    for seed, noise in enumerate((0.0, 0.02, -0.02)):
        write_run(tmp_path, "mezo", seed, test=0.80)
        write_run(tmp_path, "loren", seed, test=0.74 + noise / 2)
        write_run(tmp_path, "kerzoo", seed, test=0.79 + noise)
        write_run(tmp_path, "pgap", seed, test=0.785 - noise)
    assert standing(tmp_path).verdicts["loren"] == (LIKELY, ["sst2"])


def test_a_method_is_as_good_as_on_its_hardest_task_and_must_have_run_on_all(tmp_path):
    for task, kerzoo in (("sst2", BAD), ("rte", GOOD)):
        write(tmp_path, "mezo", GOOD, task=task)
        write(tmp_path, "kerzoo", kerzoo, task=task)
    write(tmp_path, "ldsd", AS_GOOD, task="rte")
    assert standing(tmp_path).verdicts == {"mezo": (TIED, ["rte", "sst2"]), "kerzoo": (WORSE, ["sst2"])}


def test_models_stand_by_their_size_and_references_are_not_chosen(tmp_path):
    for model in ("opt-1.3b", "opt-125m"):
        write(tmp_path, "mezo", BAD, model=model)
        write(tmp_path, "adamw", GOOD, model=model, backwards=100)
    text = report.which(report.load(tmp_path))
    wants = ("the best result", "the least memory", "the least time")
    models = ("opt-125m (125M)", "opt-1.3b (1.32B)")
    assert list(answers(text))[2:] == [(model, want) for model in models for want in wants]
    assert "adamw" not in "".join(take for take, _ in answers(text).values())
    assert "one model only" not in text


def test_without_a_method_to_choose_there_is_no_page(tmp_path, capsys):
    write(tmp_path / "runs", "adamw", GOOD, backwards=100)
    with pytest.raises(UserError, match="nothing to choose"):
        report.which(report.load(tmp_path / "runs"))
    assert main([str(tmp_path / "runs"), "--which", str(tmp_path / "page.html")]) == 2
    assert "this page is written as .md" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
