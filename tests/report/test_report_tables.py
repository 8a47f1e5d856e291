"""The comparison of methods by tasks: what is bold, what is set against what, and what is refused."""

import io
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from helpers.written import write_run
from rich.console import Console

from zobench import report
from zobench.errors import ConfigError
from zobench.report.__main__ import main
from zobench.report.compare.comparable import Mixed
from zobench.report.compare.crossed import MeanSquares, difference
from zobench.report.typeset.latex import escape
from zobench.report.typeset.table import Bold
from zobench.report.typeset.write import show_tables

BETTER = (0.80, 0.82, 0.81, 0.83)
WORSE = (0.70, 0.73, 0.70, 0.71)


@pytest.fixture
def runs(tmp_path):
    """Two methods on two tasks, four seeds; kerzoo is clearly better on sst2, and the two do not differ on rte."""
    for seed in range(4):
        write_run(tmp_path, "mezo", seed, test=WORSE[seed])
        write_run(tmp_path, "kerzoo", seed, test=BETTER[seed], dev=(0.5, 0.75, 0.8), peak_gib=1.0 + seed / 10)
        write_run(tmp_path, "mezo", seed, task="rte", test=0.55 + 0.01 * (seed % 2), majority=0.53)
        write_run(tmp_path, "kerzoo", seed, task="rte", test=0.56 - 0.01 * (seed % 2), majority=0.53)
    return tmp_path


def lines_of(frame, **key):
    found = frame
    for name, value in key.items():
        found = found[found[name].eq(value)]
    assert len(found) == 1
    return found.iloc[0]


def test_methods_by_tasks(runs):
    headline, deltas, details = report.tables(report.load(runs))
    header, mezo, kerzoo, *bases = headline.cells()
    assert header == ["method", "rte", "sst2"]
    assert mezo == ["mezo", "0.555 ± 0.006 (4)†", "0.710 ± 0.014 (4)"]
    assert kerzoo == ["kerzoo", "0.555 ± 0.006 (4)†", "0.815 ± 0.013 (4)"]
    assert [row[0] for row in bases] == ["zero-shot", "majority class", "chance"]
    assert bases[1] == ["majority class", "0.530", "0.500"]
    assert [isinstance(cell, Bold) for cell in kerzoo] == [False, False, True]
    assert not any(isinstance(cell, Bold) for cell in mezo)
    assert deltas.cells()[1] == ["mezo", "-", "-"]
    assert deltas.cells()[2][2] == "+0.105 [+0.084, +0.126]"
    assert [row[:2] for row in details.cells()[1:]] == [
        ["mezo", "rte"], ["kerzoo", "rte"], ["mezo", "sst2"], ["kerzoo", "sst2"]
    ]  # fmt: skip
    assert any("to see 2 points" in note and "sst2" in note for note in headline.notes)


def test_the_numbers_are_those_of_scipy(runs):
    from scipy import stats

    line = lines_of(report.tables(report.load(runs))[0].frame, row="kerzoo", task="sst2")
    assert line["delta_p"] == pytest.approx(stats.ttest_rel(BETTER, WORSE).pvalue)
    assert (line["delta"], line["delta_seeds"]) == pytest.approx((np.mean(BETTER) - np.mean(WORSE), 4))
    assert line["peak_mib"] == pytest.approx(1.3 * 1024)


def test_a_lead_that_no_test_supports_is_not_bold(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "mezo", seed, test=0.70 + 0.05 * seed)
        write_run(tmp_path, "kerzoo", seed, test=0.82 - 0.04 * seed)
    frame = report.tables(report.load(tmp_path))[0].frame
    assert lines_of(frame, row="kerzoo")["best"]
    assert not frame["supported"].any()


def test_two_seeds_are_marked_and_never_bold(tmp_path):
    for seed in range(2):
        write_run(tmp_path, "mezo", seed, test=0.60 + 0.001 * seed)
        write_run(tmp_path, "kerzoo", seed, test=0.90 + 0.002 * seed)
    headline = report.tables(report.load(tmp_path))[0]
    assert headline.cells()[2] == ["kerzoo", "0.901 ± 0.001 (2)‡"]
    assert not isinstance(headline.cells()[2][1], Bold)
    assert "‡ fewer than 3 runs" in headline.notes


@pytest.mark.parametrize(("examples", "bold"), [(20, False), (400, True)])
def test_the_same_lead_needs_enough_test_examples(tmp_path, examples, bold):
    """Every seed gains a tenth of the examples or a little more: seeds agree, twenty examples prove nothing."""
    for seed in range(3):
        worse = [i % 2 for i in range(examples)]
        better = list(worse)
        for i in range(0, examples // 5 + 2 * seed * (examples // 20), 2):
            better[i] = 1
        write_run(tmp_path, "mezo", seed, scores=worse)
        write_run(tmp_path, "kerzoo", seed, scores=better)
    line = lines_of(report.tables(report.load(tmp_path))[0].frame, row="kerzoo")
    assert bool(line["delta_p"] < 0.05) is bold
    assert line["delta_examples"] == examples
    assert bool(line["supported"]) is bold


def test_predictions_pair_by_seed_and_example(tmp_path):
    for seed in range(2):
        write_run(tmp_path, "mezo", seed, scores=[1, 0, 0, 0, 0, 0, 0, 0, seed, 1])
        write_run(tmp_path, "kerzoo", seed, scores=[0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    frame = report.load(tmp_path)
    answers = report.predictions(frame)
    assert len(answers) == 40
    assert set(answers["score"]) == {0.0, 1.0}
    line = lines_of(report.tables(frame)[0].frame, row="kerzoo")
    expected = difference(MeanSquares.of([[-1, 1, 1, 1, 1, 1, 1, 1, 1 - seed, 0] for seed in range(2)]))
    assert line[["delta", "delta_p", "delta_low"]].tolist() == pytest.approx([0.65, expected.p, expected.low])
    assert line[["delta_seeds", "delta_examples"]].tolist() == [2, 10]


def test_runs_without_predictions_are_named(runs):
    found = report.predictions(report.load(runs))
    assert found.empty
    assert len(found.attrs["left_out"]) == 16
    assert "predictions.parquet" in found.attrs["left_out"][0][1]


def test_the_way_to_the_reference(tmp_path):
    """MeZO ends at 0.7 with seed 0 and at 0.6 with seed 1; the other is there after a quarter, or never."""
    write_run(tmp_path, "mezo", 0, dev=(0.5, 0.6, 0.65, 0.7))
    write_run(tmp_path, "mezo", 1, dev=(0.5, 0.5, 0.5, 0.6))
    write_run(tmp_path, "kerzoo", 0, dev=(0.71, 0.6, 0.6, 0.6))
    write_run(tmp_path, "kerzoo", 1, dev=(0.5, 0.5, 0.5, 0.59))
    table = report.comparison(report.load(tmp_path))
    kerzoo, mezo = (lines_of(table.frame, row=name) for name in ("kerzoo", "mezo"))
    assert (kerzoo["reached_steps"], kerzoo["reached_forwards"]) == (25, 50)
    assert kerzoo["reached_cpu_hours"] == pytest.approx(0.0025)
    assert (kerzoo["reached_runs"], kerzoo["reached_of"]) == (1, 2)
    assert table.columns["passes to reach"](kerzoo.to_dict()) == "50 (1 of 2)"
    assert (mezo["reached_steps"], mezo["reached_runs"]) == (100, 2)


def test_another_reference(runs):
    frame = report.tables(report.load(runs), reference="kerzoo")[0].frame
    assert lines_of(frame, row="mezo", task="sst2")["delta"] == pytest.approx(-0.105)
    with pytest.raises(ConfigError, match="rows are kerzoo, mezo"):
        report.tables(report.load(runs), reference="ldsd")
    for path in runs.glob("sst2-mezo-0*/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"method.eps": 1e-2}))
    details = report.tables(report.load(runs))[-1]
    assert any(note.startswith("no single row mezo to set others against in sst2, tiny-opt;") for note in details.notes)


def test_old_records_with_few_fields_make_a_table_and_a_page(tmp_path):
    for method, test in (("mezo", 0.6), ("kerzoo", 0.7)):
        for seed in range(3):
            folder = tmp_path / f"{method}-{seed}"
            folder.mkdir()
            row = {
                "state": "finished",
                "method": method,
                "task": "sst2",
                "model": "opt-125m",
                "seed": seed,
                "method.lr": 1e-6,
                "metric": "accuracy",
                "dev_metric": 0.7,
                "test_metric": test + seed / 100,
                "forwards": 40,
                "steps": 20,
            }
            (folder / "summary.json").write_text(json.dumps(row))  # fmt: skip
    headline, deltas, details = report.tables(report.load(tmp_path))
    assert headline.cells()[2] == ["kerzoo", "0.710 ± 0.010 (3)"]
    assert deltas.cells()[2][1] == "+0.100§"
    assert any(note.startswith("§ no spread seen") and note.endswith("nothing is tested") for note in deltas.notes)
    assert details.columns["peak MiB"](details.frame.iloc[0].to_dict()) == "-"
    page = report.page(report.load(tmp_path))
    assert page.count("metrics.jsonl: No such file") == 6


def test_the_power_statement_is_checked_by_hand(tmp_path):
    gains = (0.01, 0.03, 0.05)  # standard deviation 0.02
    for seed, gain in enumerate(gains):
        write_run(tmp_path, "mezo", seed, test=0.7)
        write_run(tmp_path, "kerzoo", seed, test=0.7 + gain)
    (note,) = [note for note in report.comparison(report.load(tmp_path)).notes if note.startswith("to see 2 points")]
    assert "10 seeds (here 3, over seeds alone)" in note  # no predictions


MIXES = (("protocol", "mezo_exact"), ("selection", "lowest dev loss"), ("forwards", 400))


@pytest.mark.parametrize(("key", "value"), MIXES)
def test_mixing_is_refused_even_across_columns(runs, key, value):
    for path in runs.glob("rte-*/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    frame = report.load(runs)
    for rows, columns in ((["method"], ["task"]), (["method"], ["task", key])):
        with pytest.raises(Mixed, match=rf"differ in {key} \(.*{value} in 8 runs"):
            report.tables(frame, rows, columns)


@pytest.mark.parametrize(("key", "value"), MIXES)
def test_what_is_mixed_on_request_is_labelled_and_not_tested(runs, key, value, capsys):
    for path in runs.glob("sst2-kerzoo-*/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert main([str(runs)]) == 1
    assert key in capsys.readouterr().err
    assert main([str(runs), "--allow-mixed"]) == 0
    said = capsys.readouterr().out
    assert "- MIXED, not a comparison: the runs differ in" in said
    assert f"| kerzoo ({key}={value})" in said
    assert "less that of mezo" not in said
    assert "to see 2 points" not in said
    assert "**0." not in said
    tables = report.tables(report.load(runs), allow_mixed=True)
    assert not tables[0].frame["supported"].any()
    assert tables[0].notes[0].startswith("MIXED")


def test_another_key_makes_columns(runs):
    other = {"task": "sst2", "model": "tiny-llama", "model_checksum": "other", "rows_hash": "x"}
    for path in runs.glob("rte-*/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | other))
    frame = report.load(runs)
    with pytest.raises(Mixed, match="--columns model"):
        report.tables(frame)
    headline = report.tables(frame, columns=["model"])[0]
    assert headline.cells()[0] == ["method", "tiny-llama", "tiny-opt"]
    turned = report.tables(frame, rows=["model"], columns=["method"])[0]
    assert [row[0] for row in turned.cells()[:3]] == ["model", "tiny-llama", "tiny-opt"]
    assert turned.cells()[0][1:] == ["mezo", "kerzoo"]


def test_formats_agree(runs, tmp_path, capsys):
    out = tmp_path / "out"
    paths = [out / f"t.{end}" for end in ("md", "tex", "html", "csv")]
    assert main([str(runs), *(word for path in paths for word in ("--table", str(path)))]) == 0
    markdown, tex, html, _ = (path.read_text() for path in paths)
    assert "| **0.815 ± 0.013 (4)** |" in markdown
    assert r"\textbf{0.815 $\pm$ 0.013 (4)}" in tex
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == 3
    assert "<td><strong>0.815 ± 0.013 (4)</strong></td>" in html
    numbers = pd.read_csv(paths[3])
    assert len(numbers) == 4
    assert lines_of(numbers, row="kerzoo", task="sst2")["test_metric"] == pytest.approx(np.mean(BETTER))
    assert capsys.readouterr().out.startswith(markdown)


@pytest.mark.parametrize("width", [60, 200])
def test_a_terminal_shows_every_number(runs, width):
    written = io.StringIO()
    tables = report.tables(report.load(runs))
    show_tables(tables, Console(file=written, force_terminal=True, width=width, color_system=None))
    said = written.getvalue()
    assert max(map(len, said.splitlines())) <= width
    assert "0.815 ± 0.013 (4)" in said
    if width == 200:
        assert "+0.105 [+0.084, +0.126]" in said


def test_hostile_names_stay_text(tmp_path):
    name = r"<script>alert(1)</script>|&_%$#{x}~^\*"
    for seed in range(3):
        write_run(tmp_path, "mezo", seed, model=name, test=0.7 + seed / 100)
    tables = report.tables(report.load(tmp_path), columns=["model"])
    assert r"\<script>alert(1)\</script>\|&_%$#{x}~^\\\*" in tables[0].markdown()
    page = report.page(report.load(tmp_path), columns=["model"])
    assert "<script>alert" not in page
    assert page.count("<script") == 1  # the page's own
    assert "&lt;script&gt;alert(1)" in page


def test_latex_escapes_what_pdflatex_cannot_print():
    assert escape("a_b & 5% -0.5 x-1") == r"a\_b \& 5\% $-$0.5 x-1"
    assert escape("naïve 模") == "naïve (U+6A21)"
    assert escape("\\") == r"\textbackslash{}"


@pytest.mark.slow
def test_latex_compiles(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    for seed in range(3):
        write_run(tmp_path / "runs", "mezo", seed, model=r"odd [name] <a>|&_%$#{x}~^\*é模", test=0.7 + seed / 100)
        write_run(tmp_path / "runs", "kerzoo", seed, model=r"odd [name] <a>|&_%$#{x}~^\*é模", test=0.8 + seed / 200)
    report.write(report.tables(report.load(tmp_path / "runs")), tmp_path / "table.tex")
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx,xcolor}\begin{document}"
    (tmp_path / "all.tex").write_text(head + "\n\\input{table}\n\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
