"""What a stranger's record may print: texts, and nothing that a terminal, a page or a spreadsheet would act on."""

import csv
import io
import json

import pandas as pd
import pytest
from helpers.written import write_run

from zobench import report
from zobench.errors import printable
from zobench.report.typeset.html import tables_page
from zobench.report.typeset.latex import latex
from zobench.report.typeset.table import Table

NAMES = ("=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "[x](javascript:alert(1))", "<script>", "$x_{")
HIDDEN = "\x1b]0;title\x07\x1b[2J\x00\u202e\r"
SIGNS = set("\x1b\x07\x00\u202e\r")


def table(text):
    numbers = pd.DataFrame([{text: text, "n": -1.5}])
    return Table(numbers, {"name": lambda row: row[text], "n": lambda row: "-1.5"}, [text], text)


@pytest.mark.parametrize("form", [Table.markdown, Table.csv, lambda t: latex([t]), lambda t: tables_page([t])])
def test_control_characters_are_written_out_in_every_format(form):
    written = form(table(f"a{HIDDEN}b"))
    assert not set(written) & SIGNS
    assert "x1b" in written


def test_cells_that_a_spreadsheet_would_run_are_quoted_and_numbers_are_not():
    for name in NAMES[:4]:
        header, row = csv.reader(io.StringIO(table(name).csv()))
        assert header[0] == row[0] == f"'{name}"
        assert row[1] == "-1.5"


def test_markdown_has_no_link_and_no_element_of_a_name():
    written = table("[x](javascript:alert(1)) ![y][z] <b>").markdown()
    assert "](" not in written
    assert "][" not in written
    assert "<b>" not in written.replace("\\<b>", "")


def test_what_is_printed_is_escaped_once():
    assert printable("line\nε ± 1\u00a0%") == "line\nε ± 1\u00a0%"
    assert printable(HIDDEN) == "\\x1b]0;title\\x07\\x1b[2J\\x00\\u202e\\r"


@pytest.mark.parametrize("name", NAMES)
def test_any_name_goes_through_tables_pictures_and_page(tmp_path, name):
    for seed in range(2):
        write_run(tmp_path, "mezo", seed)
        write_run(tmp_path, name.replace("/", " "), seed)
    frame = report.load(tmp_path)
    assert len(frame) == 4
    files = [*report.draw_times(frame, tmp_path / "t.svg"), *report.draw_heatmap(frame, tmp_path / "h.svg")]
    for file in files:
        assert "<script>" not in file.read_text()
    assert "<script>" not in report.tables(frame)[0].markdown().replace("\\<script>", "")


def test_a_reason_with_control_characters_is_a_row_and_is_shown_escaped(tmp_path):
    write_run(tmp_path, "mezo", 0)
    bad = write_run(tmp_path, "kerzoo", 0, state="failed")
    row = json.loads((bad / "summary.json").read_text())
    (bad / "summary.json").write_text(json.dumps(row | {"reason": HIDDEN}))
    page = report.page(report.load(tmp_path))
    assert "\\x1b]0;title" in page
    assert not set(page) & SIGNS
