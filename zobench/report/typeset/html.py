"""Tables as one self-contained HTML page, and the template of all pages."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from zobench.errors import printable
from zobench.report.typeset.table import Bold, Table

_TEMPLATE = "page.html.j2"


def tables_page(tables: Sequence[Table]) -> str:
    """Write tables alone as a page."""
    title = tables[0].title or "Comparison"
    return render(title=title, tables=tables, overall=(), sections=(), counts="", runs=None, facts={})


@cache
def _environment_of_templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, finalize=_finalized,
    )  # fmt: skip
    made.tests["bold"] = lambda cell: isinstance(cell, Bold)
    return made


def _finalized(value: Any) -> Any:
    """What the template prints: texts of records as they can be seen, pictures as they are."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(**values: Any) -> str:
    """Fill the template, which names the values that it needs; all text is escaped."""
    return _environment_of_templates().get_template(_TEMPLATE).render(**values)
