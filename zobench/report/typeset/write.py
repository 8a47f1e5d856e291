"""Files by their suffix, and tables in the terminal."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.errors import ConfigError, printable, show
from zobench.report.typeset.latex import latex
from zobench.report.typeset.table import Bold, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable


def _html(tables: Sequence[Table]) -> str:
    from zobench.report.typeset.html import tables_page  # the template engine, where it is needed

    return tables_page(tables)


_WRITERS: dict[str, Callable[[Sequence[Table]], str]] = {
    ".md": lambda tables: "\n".join(table.markdown() for table in tables),
    ".tex": latex,
    ".html": _html,
    ".csv": lambda tables: tables[0].csv(),
}


def table_file(path: str | Path) -> Path:
    """Check that tables are written with the suffix of a path, and return it. Raises ConfigError if they are not."""
    if Path(path).suffix not in _WRITERS:
        raise ConfigError(f"{path}: tables are written as {', '.join(_WRITERS)}")
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, and make the folders above it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write(tables: Sequence[Table], path: str | Path) -> Path:
    """Write tables into one file, in the format that its suffix names.

    Args:
        tables: all are written; as CSV the numbers of the first alone, unrounded.
        path: ends in .md, .tex (booktabs), .html or .csv.

    Returns:
        The path.

    Raises:
        ConfigError: if the suffix is another.
    """
    return write_text(path, _WRITERS[table_file(path).suffix](tables))


def show_tables(tables: Sequence[Table], console: "Console") -> None:
    """Print tables: drawn on a terminal, turned on their side where too wide; as Markdown into a file or pipe."""
    for table in tables:
        if not console.is_terminal:
            show(table.markdown())
            continue
        cells = table.cells()
        drawn = _drawn(table.title, cells)
        if _width(cells) > console.width:
            sideways = [list(column) for column in zip(*cells, strict=True)]
            drawn = _drawn(table.title, sideways) if _width(sideways) < _width(cells) else drawn
        console.print(drawn)
        for note in table.notes:
            console.print(printable(f"- {note}"), markup=False, highlight=False)
        console.print()


def _width(cells: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 3 for column in zip(*cells, strict=True)) + 1


def _drawn(title: str, cells: Sequence[Sequence[str]]) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    header, *rows = cells
    drawn = RichTable(title=Text(printable(title)) if title else None, title_justify="left")
    for i, name in enumerate(header):
        drawn.add_column(Text(printable(name)), justify="right" if i else "left")
    for row in rows:
        drawn.add_row(*(Text(printable(cell), style="bold" if isinstance(cell, Bold) else "") for cell in row))
    return drawn
