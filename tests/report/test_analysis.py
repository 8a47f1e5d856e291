"""The stored sweep of analysis/: its tables and notebooks are what its records give."""

import ast
import shutil
import zipfile
from pathlib import Path

import matplotlib
import nbformat
import pytest
from helpers.modules import module_of

from zobench import report

ROOT = Path(__file__).resolve().parents[2]
ANALYSIS = ROOT / "analysis"
RECORDS = ANALYSIS / "records"
NOTEBOOKS = sorted(path.name for path in ANALYSIS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def make():
    return module_of(ANALYSIS / "make.py")


@pytest.fixture(scope="module")
def methods():
    return report.with_memory(report.load(RECORDS / "methods.zip"), report.load(RECORDS / "memory.zip"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to run notebooks in, which changes nothing in analysis/."""
    (tmp_path / "records").symlink_to(RECORDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(name):
    return [cell for cell in nbformat.read(ANALYSIS / name, as_version=4).cells if cell.cell_type == "code"]


def tables(cells):
    """The tables and texts that a reader sees of each code cell; numbers in passing and pictures apart."""
    return [[{kind: data[kind] for kind in ("text/html", "text/markdown") if kind in data}
             for data in (output.get("data", {}) for output in cell.outputs)] for cell in cells]  # fmt: skip


def run(source, names):
    """Run a cell, and give what its last line would show."""
    *body, last = ast.parse(source).body
    shows = isinstance(last, ast.Expr)
    exec(compile(ast.Module(body if shows else [*body, last], []), "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if shows else None
    kinds = {"text/html": "_repr_html_", "text/markdown": "_repr_markdown_"}
    said = {kind: getattr(value, form, lambda: None)() for kind, form in kinds.items()}
    return {kind: text for kind, text in said.items() if text}


def test_there_are_the_five_notebooks():
    assert [name[:2] for name in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom_and_says_what_is_stored(name, folder):
    names = {}
    with matplotlib.rc_context({"backend": "agg"}):
        for cell, shown in zip(stored(name), tables(stored(name)), strict=True):
            now = run(cell.source, names)
            assert [now] * bool(now) == [data for data in shown if data], "made anew by python analysis/make.py"
    assert any(data for shown in tables(stored(name)) for data in shown)


def test_make_runs_a_notebook_in_a_kernel(make, folder):
    name = min(NOTEBOOKS, key=lambda name: len(stored(name)))
    shutil.copy(ANALYSIS / name, folder)
    again = make.executed(folder / name, folder)
    assert tables(cell for cell in again.cells if cell.cell_type == "code") == tables(stored(name))


def test_the_pages_and_the_tables_are_those_of_the_records(make, methods, tmp_path):
    text = make.PAGE.read_text(encoding="utf-8")
    assert make.with_table(text, methods) == text
    assert make.WHICH.read_text(encoding="utf-8") == report.which(methods), "made anew by python analysis/make.py"
    again = report.write(report.tables(methods), tmp_path / "methods.md")
    assert (ANALYSIS / "tables" / "methods.md").read_text() == again.read_text()


def test_the_sweep_is_whole_and_fair(methods):
    everything = report.load([RECORDS / "methods.zip", RECORDS / "ablations.zip"])
    assert set(everything.state) == {"finished"}
    assert set(methods.method) == {"mezo", "loren", "curvzo", "pgap", "kerzoo", "ldsd"}
    assert set(everything.task) == {"sst2", "cb"}
    best = report.tables(everything)[0].frame
    assert len(best) == 2 * (6 + 4)
    assert (best.runs >= 3).all()
    assert best.forwards.between(3994, 4000).all()  # one step of the costliest method need not divide the budget
    assert everything.groupby(["task", "data_seed"]).rows_hash.nunique().eq(1).all()
    assert everything.base_checksum.nunique() == 1


def test_the_example_is_one_of_the_runs():
    with zipfile.ZipFile(RECORDS / "methods.zip") as packed:
        for path in (ANALYSIS / "example").iterdir():
            assert packed.read(f"sst2/smollm2/mezo/9a3e3083/{path.name}") == path.read_bytes()
