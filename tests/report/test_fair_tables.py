"""What a table says so that its numbers are read rightly: baselines, settings tried, numbers of runs, the unknown."""

import json
import math
import re

import pytest
from helpers.written import write_run

from zobench import report
from zobench.errors import UserError
from zobench.report.compare.board import CALIBRATED
from zobench.report.typeset.latex import latex

FAIR = {"zero_shot/test/accuracy_calibrated": 0.688, "zero_shot/dev/accuracy_calibrated": 0.68}


@pytest.fixture
def uneven(tmp_path):
    """MeZO with five rates, of which one has three seeds; KerZOO with two rates."""
    for i, rate in enumerate((1e-3, 2e-3, 3e-3, 4e-3, 5e-3)):
        write_run(tmp_path, "mezo", 0, test=0.7, dev=(0.6 + (i == 2) / 10,), **{"method.lr": rate}, **FAIR)
    for seed in (1, 2):
        write_run(tmp_path, "mezo", seed, test=0.72, dev=(0.4,), **{"method.lr": 3e-3}, **FAIR)
        write_run(tmp_path, "kerzoo", seed, test=0.69, dev=(0.7,), **FAIR)
    write_run(tmp_path, "kerzoo", 1, test=0.69, dev=(0.6,), **{"method.lr": 1e-2}, **FAIR)
    return tmp_path


def test_the_fair_baseline_is_in_every_format(uneven):
    tables = report.tables(report.load(uneven))
    assert [CALIBRATED, "0.688"] in tables[0].cells()
    assert tables[0].frame["zero_shot_calibrated"].eq(0.688).all()
    for text in (tables[0].markdown(), tables[-1].markdown(), latex(tables[:1]), report.page(report.load(uneven))):
        assert f"{CALIBRATED}" in text
        assert "0.688" in text
    assert any(f"{CALIBRATED} 0.688" in note for note in report.grid(report.load(uneven)).notes)


def test_a_result_within_the_errors_of_the_fair_baseline_is_marked(uneven):
    headline = report.tables(report.load(uneven))[0]
    assert all("†" in row[1] for row in headline.cells()[1:3])


def test_every_table_says_how_many_settings_were_tried(uneven):
    frame = report.load(uneven)
    for table in (*report.tables(frame), report.comparison(frame), report.grid(frame)):
        (said,) = [note for note in table.notes if note.startswith("settings (learning rates) tried: ")]
        assert "5 for mezo" in said
        assert "2 for" in said
        assert "UNEVEN" in said


def test_a_table_of_rates_says_of_how_many_runs_each_value_is(uneven):
    table = report.grid(report.load(uneven))
    header, *rows = table.cells()
    dev, chosen = header.index("dev accuracy"), header.index("chosen by")
    shown = {row[1]: (row[dev], row[chosen]) for row in rows if row[0] == "mezo"}
    assert shown["0.001"] == ("0.600 (1)", "0.600 (1)")
    assert shown["0.003"] == ("0.500 ± 0.173 (3)", "0.700 (1)")  # chosen by the seed that all its rates have
    assert any("cannot be compared as they stand" in note for note in table.notes)


def test_a_table_of_rates_with_equal_runs_needs_no_marks(tmp_path):
    for rate in (1e-3, 1e-2):
        write_run(tmp_path, "mezo", 0, **{"method.lr": rate})
    header, *rows = report.grid(report.load(tmp_path)).cells()
    assert "chosen by" not in header
    assert not any("(1)" in cell for row in rows for cell in row)


@pytest.mark.parametrize("untrained", ["zero_shot/dev/accuracy", "zero_shot/dev/accuracy_calibrated"])
def test_nobody_reaches_a_level_that_the_untrained_model_has(tmp_path, untrained):
    write_run(tmp_path, "mezo", 0, dev=(0.5, 0.55), **{untrained: 0.6})
    write_run(tmp_path, "kerzoo", 0, dev=(0.58, 0.58), **{untrained: 0.6})
    write_run(tmp_path, "loren", 0, dev=(0.58, 0.62), **{untrained: 0.6})
    reached = report.comparison(report.load(tmp_path)).frame.set_index("row")["reached_runs"]
    assert dict(reached) == {"mezo": 0, "kerzoo": 0, "loren": 1}


def test_a_spread_below_one_row_is_marked_and_its_interval_takes_one_row(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "mezo", seed, test=0.5, **{"test/n": 56})
        write_run(tmp_path, "kerzoo", seed, test=0.5 - 1 / 56, **{"test/n": 56})
    tables = report.tables(report.load(tmp_path))
    assert tables[1].cells()[2][1] == "-0.018 [-0.062, +0.027]§"
    assert all(any(note.startswith("§ no spread seen") for note in table.notes) for table in tables[1:])
    assert not tables[0].frame["supported"].any()
    assert any(
        "9 seeds (here 3, over seeds alone)" in note for note in tables[0].notes
    )  # at a spread of one row, not of none
    assert r"\S{}" in latex(tables[1:2])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_perfect_score_of_few_rows_is_not_beyond_guessing(tmp_path, score):
    write_run(tmp_path, "mezo", 0, scores=[score] * 2, majority=0.5)
    assert "†" in report.tables(report.load(tmp_path))[0].cells()[1][1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", ["test_metric", "dev_metric", "test/loss", "dev/loss", "test/auc", "peak_gib"])
def test_a_run_with_a_number_that_is_not_finite_is_left_out_and_named(tmp_path, column, value):
    for seed in range(3):
        path = write_run(tmp_path, "mezo", seed) / "summary.json"
        write_run(tmp_path, "kerzoo", seed)
    path.write_text(json.dumps(json.loads(path.read_text()) | {column: value}))
    frame = report.load(tmp_path)
    ((where, why),) = frame.attrs["left_out"]
    assert str(path.parent) in where
    assert column in why or "not JSON" in why
    tables = report.tables(frame)
    assert tables[0].frame.set_index("row").loc["mezo", "runs"] == 2
    assert any("1 unreadable" in note for table in tables for note in table.notes)


@pytest.mark.parametrize(
    ("how", "marked"),
    [("VmHWM of the process since the run began, libraries and evaluations included", True), (None, True),
     ("torch.cuda.max_memory_allocated, summed over the GPUs of this process, evaluations included", False)],
)  # fmt: skip
def test_peaks_that_cannot_be_compared_are_marked_and_not_drawn(tmp_path, how, marked):
    for method in ("mezo", "kerzoo"):
        write_run(tmp_path / "runs", method, memory_measured_by=how)
    frame = report.load(tmp_path / "runs")
    table = report.comparison(frame)
    assert ("1024¶" in table.markdown()) == marked == any(note.startswith("¶") for note in table.notes)
    drawn = report.draw_pareto(frame, tmp_path / "pareto.svg")[0].read_text()
    assert (">peak memory (MiB)" in drawn) != marked
    assert (">weights and method state (MiB)" in drawn) == marked


SHARED = "VmHWM of the process since the run began, libraries and evaluations included"


def test_peaks_may_come_from_short_runs_with_the_same_settings(tmp_path):
    long, short = tmp_path / "long", tmp_path / "short"
    for seed in range(2):
        write_run(long, "mezo", seed, **{"method.lr": 1e-3, "method.eps": 1e-3}, memory_measured_by=SHARED)
        write_run(long, "kerzoo", seed, **{"method.lr": 1e-3, "method.eps": 1e-3}, memory_measured_by=SHARED)
    for seed, gib in enumerate((0.25, 0.5)):
        write_run(short, "mezo", seed, steps=5, **{"method.lr": 1e-6, "method.eps": 1e-3}, peak_gib=gib)
    write_run(short, "kerzoo", **{"method.lr": 1e-3, "method.eps": 1e-2}, peak_gib=0.1)  # of another eps
    write_run(short, "mezo", 7, **{"method.lr": 1e-3, "method.eps": 1e-3}, peak_gib=9.0, memory_measured_by=SHARED)
    frame = report.with_memory(report.load(long), report.load(short))
    assert frame.groupby("method")["peak_gib"].unique().map(list).to_dict() == {"mezo": [0.5], "kerzoo": [1.0]}
    assert frame.groupby("method")["steps"].unique().map(list).to_dict() == {"mezo": [100], "kerzoo": [100]}
    text = report.comparison(frame).markdown()
    assert "512 " in text
    assert "1024¶" in text
    with pytest.raises(UserError, match="no run has the method, model and settings"):
        report.with_memory(report.load(long), report.load(short).query("method == 'kerzoo'"))


def test_what_all_runs_of_a_method_have_set_otherwise_than_it_ships_is_said(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "mezo", seed, **{"method.weight_decay": 0, "method.eps": 1e-3})
        write_run(tmp_path, "loren", seed, **{"method.variant": "iso_rloo", "method.eps": 1e-3})
    frame = report.load(tmp_path)
    for table in (report.tables(frame)[0], report.tables(frame)[-1], report.comparison(frame)):
        (said,) = [note for note in table.notes if note.startswith("set otherwise")]
        assert said.endswith(": variant=iso_rloo (loren)")


def test_numbers_that_no_record_knows_are_no_obstacle(tmp_path):
    unknown = dict.fromkeys(
        ("train_seconds", "peak_gib", "cpu_hours", "gpu_hours", "weights_gib", "state_bytes", "test/n", "test/loss",
         "test/auc", "method.lr", "backwards", "test_metric_stderr", "dev/loss")
    )  # fmt: skip
    for seed in (0, 1):
        for method in ("mezo", "loren"):
            write_run(tmp_path, method, seed, **unknown)
    frame = report.load(tmp_path)
    tables = [*report.tables(frame), report.comparison(frame), report.grid(frame)]
    assert not re.search(r"\b(nan|inf|None)\b", "".join(table.markdown() for table in tables))


def test_runs_of_different_objectives_share_no_row(tmp_path):
    scored = {"objective": "metric", "objective.score": None, "objective.max_new_tokens": 50}
    for seed in range(3):
        write_run(tmp_path, "mezo", seed, test=0.7)  # of a version that had no other objective
        write_run(tmp_path, "mezo", seed, test=0.8, **scored)
    frame = report.load(tmp_path)
    with pytest.raises(UserError, match=r"objective \(loss in 3 runs, metric in 3 runs\)"):
        report.tables(frame)
    table, *_ = report.tables(frame, columns=["objective"])
    assert [row[1:] for row in table.cells() if row[0] == "mezo"] == [["0.700 ± 0.000 (3)", "0.800 ± 0.000 (3)"]]
    write_run(tmp_path, "kerzoo", 0, test=0.8, **scored | {"objective.max_new_tokens": 8})
    with pytest.raises(UserError, match=r"objective.max_new_tokens \(50 in 3 runs, 8 in 1 run\)"):
        report.tables(report.load(tmp_path), columns=["objective"])
