"""The stored sweep of analysis/: its tables and notebooks are what its records give."""

import importlib.util
import shutil
from pathlib import Path

import nbformat
import pytest

from zobench import report

ROOT = Path(__file__).resolve().parents[2]
ANALYSIS = ROOT / "analysis"
NOTEBOOKS = sorted(path.name for path in ANALYSIS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_analysis", ANALYSIS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def methods():
    return report.load(ANALYSIS / "runs" / "methods")


def shown(notebook):
    """What a reader sees of each code cell, pictures apart."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = [output.get("data", output) for output in cell.outputs]
            kinds = ("text", "text/markdown", "text/html")
            found.append([{kind: text[kind] for kind in kinds if kind in text} for text in texts])
    return found


def test_there_are_the_five_notebooks():
    assert [name[:2] for name in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom_and_says_what_is_stored(name, make, tmp_path):
    shutil.copy(ANALYSIS / name, tmp_path)
    for records in ("runs", "lens"):
        (tmp_path / records).symlink_to(ANALYSIS / records)
    stored = nbformat.read(ANALYSIS / name, as_version=4)
    again = make.executed(tmp_path / name, tmp_path)
    assert shown(again) == shown(stored), "make the outputs anew: python analysis/make.py"
    assert any(output for cell in shown(stored) for output in cell)


def test_the_readme_and_the_tables_are_those_of_the_records(make, methods, tmp_path):
    text = make.README.read_text(encoding="utf-8")
    assert make.with_table(text, methods) == text
    again = report.write(report.tables(methods), tmp_path / "methods.md")
    assert (ANALYSIS / "tables" / "methods.md").read_text() == again.read_text()


def test_the_sweep_is_whole_and_fair(methods):
    everything = report.load(ANALYSIS / "runs")
    assert set(everything.state) == {"finished"}
    assert set(methods.method) == {"mezo", "loren", "curvzo", "pgap", "kerzoo", "ldsd"}
    assert set(everything.task) == {"sst2", "cb"}
    best = report.tables(everything)[0].frame
    assert len(best) == 2 * (6 + 4)
    assert (best.runs >= 3).all()
    assert best.forwards.between(3994, 4000).all()  # one step of the costliest method need not divide the budget
    assert everything.groupby(["task", "data_seed"]).rows_hash.nunique().eq(1).all()
    assert everything.base_checksum.nunique() == 1
