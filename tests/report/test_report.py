"""Reports: what is loaded, what may share a table, which rate is chosen, and what is written."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers.written import FORWARDS, write_run

import zobench
from zobench import report
from zobench.errors import UserError
from zobench.report.__main__ import main
from zobench.report.compare.comparable import Mixed
from zobench.report.papers.names import known_as

ROOT = Path(zobench.__file__).resolve().parent.parent
LENS = ("cosine", "gain", "bias", "variance_per_forward", "efficiency")
NO_RESULT = {"test_metric": None, "dev_metric": None, "dev/loss": None}


def edit(directory, **values):
    path = directory / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two methods, two rates for MeZO, two seeds; and a rate that diverges, an interrupted and a failed run."""
    runs = tmp_path_factory.mktemp("sweep")
    for seed in (0, 1):
        for rate in (1e-3, 1e-2):
            write_run(runs, "mezo", seed, **{"method.lr": rate}, directory="where/it/was/written")
        write_run(runs, "kerzoo", seed, **{"method.lr": 1e-3})
    write_run(runs, "mezo", 0, **{"method.lr": 1e12}, state="diverged", reason="loss is not finite", **NO_RESULT)
    write_run(runs, "mezo", 0, state="interrupted", reason="SIGINT after step 7", **NO_RESULT)
    write_run(runs, "mezo", 0, state="failed", reason="ConfigError: layers=99", **NO_RESULT)
    return runs


@pytest.fixture
def copied(sweep, tmp_path):
    """A copy of the sweep that a test may change: (folder, directories by (method, rate, seed))."""
    shutil.copytree(sweep, tmp_path / "runs")
    frame = report.load(tmp_path / "runs")
    rows = frame[frame["state"].isin(["finished", "diverged"])].to_dict("records")
    return tmp_path / "runs", {(r["method"], r["method.lr"], r["seed"]): Path(r["directory"]) for r in rows}


def test_every_state_is_a_row(sweep):
    frame = report.load(sweep)
    assert frame["state"].value_counts().to_dict() == {"finished": 6, "diverged": 1, "interrupted": 1, "failed": 1}
    assert frame.attrs["left_out"] == []
    for row in frame.to_dict("records"):
        stored = json.loads((Path(row["directory"]) / "summary.json").read_text())
        assert {k: row[k] for k in ("method", "seed", "state")} == {k: stored[k] for k in ("method", "seed", "state")}


def test_records_written_by_hand_have_the_fields_of_real_ones(tiny_record, tmp_path):
    write_run(tmp_path, scores=[1, 0])
    real, written = (report.load(folder) for folder in (tiny_record, tmp_path))
    assert set(written.columns) <= set(real.columns)
    assert set(report.curves(written).columns) <= set(report.curves(real).columns)
    assert set(report.predictions(written).columns) == set(report.predictions(real).columns)


def test_a_real_run_goes_by_the_name_of_its_method(tiny_record):
    (row,) = report.load(tiny_record).to_dict("records")
    assert row["method.rule"] == "sgd"
    assert known_as(row) == "mezo"


def test_torn_and_foreign_records(copied):
    runs, directories = copied
    torn, started = (directories[key] for key in (("mezo", 1e-3, 0), ("mezo", 1e-3, 1)))
    (torn / "summary.json").write_text((torn / "summary.json").read_text()[:200])
    (started / "summary.json").rename(started / "config.yaml")
    for name, content in (("list", "[1]"), ("other", '{"state": "finished", "loss": 1}')):
        (runs / name).mkdir()
        (runs / name / "summary.json").write_text(content)
    frame = report.load(runs)
    reasons = dict(frame.attrs["left_out"])
    assert len(frame) == 7
    assert set(reasons) == {str(path) for path in (torn, started, runs / "list", runs / "other")}
    assert "torn" in reasons[str(torn)]
    assert "no summary.json" in reasons[str(started)]
    assert "not of a zobench run" in reasons[str(runs / "other")]
    assert "left out: 1 interrupted, 1 failed, 4 unreadable" in sorted(report.comparison(frame).notes)


def test_a_moved_record_is_found_where_it_lies(copied):
    runs, _ = copied
    frame = report.load(runs)
    assert all(Path(directory).is_relative_to(runs) for directory in frame["directory"])
    assert len(report.curves(frame)) > 0


def test_a_run_that_wandb_recorded_offline_is_one_row(tmp_path):
    files = write_run(tmp_path) / "wandb" / "offline-run-20260101_000000-x"
    files.mkdir(parents=True)
    (files / "run-x.wandb").write_bytes(b":W&B")
    (files / "summary.json").write_text("{}")
    frame = report.load(tmp_path)
    assert (len(frame), frame.attrs["left_out"]) == (1, [])


def test_curves_hold_the_logged_numbers(copied):
    runs, directories = copied
    directory = directories["mezo", 1e-3, 0]
    path = directory / "metrics.jsonl"
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(path.read_text() + '{"step": 9, "forw')
    found = report.curves(report.load(runs))
    assert list(found.columns[:5]) == ["directory", "method", "seed", "step", "forwards"]
    assert found.attrs["left_out"] == []
    found = found[found["directory"].eq(str(directory))]
    for name in ("train/loss", "dev/loss", "dev/accuracy"):
        expected = [(line["forwards"], line[name]) for line in logged if name in line]
        assert expected
        assert list(found.loc[found[name].notna(), ["forwards", name]].itertuples(index=False, name=None)) == expected
    path.write_text("garbage\n" + path.read_text())
    ((place, reason),) = report.curves(runs).attrs["left_out"]
    assert place == str(directory)
    assert reason.startswith("metrics.jsonl, line 1: not a JSON object")


def test_a_thousand_records_load_quickly(copied, tmp_path):
    _, directories = copied
    text = (directories["mezo", 1e-3, 0] / "summary.json").read_text()
    for n in range(1000):
        (tmp_path / "many" / str(n)).mkdir(parents=True)
        (tmp_path / "many" / str(n) / "summary.json").write_text(text)
    start = time.process_time()
    assert len(report.load(tmp_path / "many")) == 1000
    assert time.process_time() - start < 5


def test_the_rate_is_chosen_by_dev_never_by_test(copied):
    runs, directories = copied
    for seed in (0, 1):
        edit(directories["mezo", 1e-3, seed], dev_metric=0.6 + seed / 10, test_metric=0.5 + seed / 5)
        edit(directories["mezo", 1e-2, seed], **{"dev_metric": 0.5, "test_metric": 0.99, "test/loss": 0.01})
    edit(directories["mezo", 1e12, 0], dev_metric=1.0)
    row = report.comparison(report.load(runs)).frame.set_index("row").loc["mezo"]
    assert (row["method.lr"], row["rates_tried"], row["runs"], row["diverged"]) == (1e-3, 3, 2, 0)
    assert (row["test_metric"], row["test_metric_std"]) == pytest.approx((0.6, 0.2 / 2**0.5))


def test_rates_are_compared_on_the_seeds_they_share(copied):
    runs, directories = copied
    shutil.rmtree(directories["mezo", 1e-2, 1])
    for rate, seed, value in ((1e-3, 0, 0.6), (1e-3, 1, 0.9), (1e-2, 0, 0.7)):
        edit(directories["mezo", rate, seed], dev_metric=value)
    row = report.comparison(report.load(runs)).frame.set_index("row").loc["mezo"]
    assert (row["method.lr"], row["runs"]) == (1e-2, 1)


def test_a_rate_with_a_diverged_seed_is_passed_over(copied):
    runs, directories = copied
    edit(directories["mezo", 1e-3, 0], dev_metric=1.0)
    edit(directories["mezo", 1e-3, 1], state="diverged")
    assert report.comparison(report.load(runs)).frame.set_index("row").loc["mezo", "method.lr"] == 1e-2


def test_selection_by_loss_follows_the_loss(copied):
    runs, directories = copied
    for (method, rate, _), directory in directories.items():
        by_loss = {"dev_metric": 0.9, "dev/loss": 2.0} if rate == 1e-3 else {"dev_metric": 0.1, "dev/loss": 1.0}
        edit(directory, selection="lowest dev loss", **(by_loss if method == "mezo" else {}))
    assert report.comparison(report.load(runs)).frame.set_index("row").loc["mezo", "method.lr"] == 1e-2


def test_the_grid_marks_divergence_and_the_choice(sweep):
    table = report.grid(report.load(sweep))
    mezo = [line for line in table.markdown().splitlines() if line.startswith("| mezo")]
    assert len(mezo) == 3
    assert mezo[2].count("diverged") == 6  # the count and five values
    assert sum("**" in line for line in mezo) == 1
    kerzoo = table.frame[table.frame["row"].eq("kerzoo")].iloc[0]
    lines = report.curves(sweep)
    last = lines.loc[lines["method"].eq("kerzoo") & lines["forwards"].eq(FORWARDS), "train/loss"].dropna()
    assert kerzoo["train/loss"] == pytest.approx(last.mean())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("protocol", "mezo_exact"), ("task", "rte"), ("model", "opt-125m"), ("selection", "lowest dev loss"),
        ("forwards", 32), ("tuning", "lora"), ("rows_hash", "0000"),
    ],
)  # fmt: skip
def test_mixing_is_refused_with_what_differs(copied, key, value):
    runs, directories = copied
    edit(directories["kerzoo", 1e-3, 0], **{key: value}, **({"model_checksum": "other"} if key == "model" else {}))
    frame = report.load(runs)
    said = "rows of data_seed=0" if key == "rows_hash" else key
    for make in (report.comparison, report.grid, lambda frame: report.draw_curves(frame, runs / "never.png")):
        with pytest.raises(Mixed, match=rf"differ in .*{said} .*{value} in 1 run"):
            make(frame)
    assert not (runs / "never.png").exists()


def test_a_budget_that_no_whole_step_fills_is_the_same_budget(copied):
    runs, directories = copied
    for seed in (0, 1):
        edit(directories["kerzoo", 1e-3, seed], steps=49, forwards=FORWARDS - 3)
    assert len(report.comparison(report.load(runs)).frame) == 2


def test_settings_make_rows_and_repetitions_are_refused(copied):
    runs, directories = copied
    edit(directories["kerzoo", 1e-3, 0], **{"method.probes": 3})
    names = list(report.comparison(report.load(runs)).frame["row"])
    assert names == ["mezo", "kerzoo", "kerzoo (probes=3)"]
    shutil.copy(directories["kerzoo", 1e-3, 1] / "summary.json", directories["kerzoo", 1e-3, 0])
    with pytest.raises(Mixed, match="count twice"):
        report.comparison(report.load(runs))


def test_pictures(copied, tmp_path):
    runs, directories = copied
    for (_, _, seed), directory in directories.items():
        with (directory / "metrics.jsonl").open("a") as file:
            for forwards in (0, FORWARDS // 2, FORWARDS):
                values = {f"lens/{name}": 0.1 + seed / 10 for name in LENS} | {"lens/cosine_stderr": 0.05}
                line = {"step": forwards // 2, "forwards": forwards, **values, "lens/bias": None}
                file.write(json.dumps(line) + "\n")
    frame = report.load(runs)
    written = report.draw_curves(frame, tmp_path / "curves") + report.draw_lens(frame, tmp_path / "new" / "lens.svg")
    assert [path.name for path in written] == ["curves.png", "curves.svg", "lens.svg"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert written[0].stat().st_size > 20_000
    curves, lens = (path.read_text() for path in written[1:])
    for name in ("mezo", "kerzoo", "zero-shot", "forward passes", "dev accuracy", "training loss", "Mean of 2 runs"):
        assert f">{name}" in curves, name
    assert ">cosine with the gradient" in lens
    assert ">bias" not in lens  # never measured
    assert report.draw_lens(frame, tmp_path / "again.svg")[0].read_text() == lens
    with pytest.raises(UserError, match=r"\.png, \.svg"):
        report.draw_curves(frame, tmp_path / "curves.gif")


def test_an_untrained_row_has_no_rate_and_no_curve(sweep, tmp_path):
    alone = tmp_path / "alone"
    write_run(alone, "zeroshot", **{"method.lr": None}, trains=False, steps=0, forwards=0)
    frame = report.load([sweep, alone])
    row = report.comparison(frame).frame.set_index("row").loc["zeroshot"]
    assert pd.isna(row["method.lr"])
    assert (row["forwards"], row["runs"]) == (0, 1)
    assert ">mezo" in (drawn := report.draw_curves(frame, tmp_path / "curves.svg")[0].read_text())
    assert ">zeroshot" not in drawn
    with pytest.raises(UserError, match="nothing to draw"):
        report.draw_curves(report.load(alone), tmp_path / "alone.svg")


def test_a_task_without_classes(tmp_path):
    write_run(tmp_path, task="squad", metric="f1", **{"test/auc": None})
    table = report.comparison(report.load(tmp_path))
    assert "test f1" in table.columns
    assert table.columns["AUC"](table.frame.iloc[0].to_dict()) == "-"
    assert report.draw_curves(report.load(tmp_path), tmp_path / "curves.png")[0].stat().st_size > 20_000


def test_the_lens_needs_measurements(sweep, tmp_path):
    with pytest.raises(UserError, match="no run has lens measurements"):
        report.draw_lens(report.load(sweep), tmp_path / "lens.png")


def test_the_command_line(sweep, tmp_path, capsys):
    names = (("table", "md"), ("table", "csv"), ("grid", "md"))
    files = {f"{name}.{end}": tmp_path / "out" / f"{name}.{end}" for name, end in names}
    options = [word for name, path in files.items() for word in (f"--{name.partition('.')[0]}", str(path))]
    assert main([str(sweep), *options, "--curves", str(tmp_path / "c.svg"), "--where", "method.lr=1e-3,1e-2"]) == 0
    said = capsys.readouterr().out
    assert files["table.md"].read_text() in said
    numbers = pd.read_csv(files["table.csv"])
    assert list(numbers["row"]) == ["mezo", "kerzoo"]
    assert list(numbers["forwards"]) == [FORWARDS, FORWARDS]
    assert "diverged" not in files["grid.md"].read_text()
    assert (tmp_path / "c.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--where", "methd=mezo"], 2, "did you mean method?"),
        (["--where", "method=lozo"], 2, "kerzoo, mezo"),
        (["--where", "method"], 2, "expected KEY=VALUE"),
        (["--where", "state=failed"], 1, "no finished or diverged run"),
        (["--curves", "x.gif"], 2, "pictures are written as"),
        (["--table", "x.docx"], 2, "tables are written as .md, .tex, .html, .csv"),
        (["--rows", "methd"], 2, "did you mean method?"),
        (["--curves", "x.png", "--against", "secnds"], 2, "did you mean seconds?"),
        (["--wandb-group", "g"], 2, "no effect without --wandb"),
        (["--rows", "model"], 1, "would mix the methods kerzoo, mezo"),
    ],
)
def test_the_command_line_says_what_is_wrong(sweep, capsys, arguments, code, said):
    assert main([str(sweep), *arguments]) == code
    assert said in capsys.readouterr().err


def test_folders_without_runs(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert f"no runs below {tmp_path}" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err


PATCHED = "import sys; sys.modules['{}'] = None; import zobench.report as r; r.{}"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys, zobench.report; print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))", "set()"),
        ("import sys; from zobench.report import tables; print({'torch', 'matplotlib'} & set(sys.modules))", "set()"),
        (PATCHED.format("pandas", "load"), "pip install 'zobench[report]'"),
        (PATCHED.format("matplotlib", "draw_curves"), "pip install 'zobench[report]'"),
    ],
)
def test_the_extra_is_optional(code, said):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert said in ended.stdout + ended.stderr
