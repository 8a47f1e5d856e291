"""Tables as one self-contained HTML page, and the template of all pages.

A page loads nothing, and says so in its Content-Security-Policy: whatever a stranger's record may hold, a browser
runs the one script whose hash stands there. Without scripts it shows the same; its check boxes are plain CSS.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from zobench.errors import printable
from zobench.report.pictures.colours import class_of, colour_of
from zobench.report.typeset.table import Bold, Table

_FOLDER = Path(__file__).parent
_TEMPLATE = "page.html.j2"


def tables_page(tables: Sequence[Table]) -> str:
    """Write tables alone as a page."""
    title = tables[0].title or "Comparison"
    return render(title=title, tables=tables, overall=(), sections=(), counts="", runs=None, facts={})


@cache
def templates(folder: Path = _FOLDER) -> Environment:
    """The templates in a folder: all text is escaped, and control characters are written out."""
    made = Environment(
        loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, finalize=_finalized,
    )  # fmt: skip
    made.tests["bold"] = lambda cell: isinstance(cell, Bold)
    made.filters |= {"class": class_of, "colour": colour_of}
    return made


def _finalized(value: Any) -> Any:
    """What the template prints: texts of records as they can be seen, pictures as they are."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(tables: Sequence[Table], runs: Table | None, **values: Any) -> str:
    """Fill the template, which names the further values that it needs; all text is escaped."""
    script = script_of_tables()
    methods = dict.fromkeys(name for table in [*tables, *filter(None, [runs])] for name in table.methods() if name)
    return (
        templates()
        .get_template(_TEMPLATE)
        .render(
            tables=tables,
            runs=runs,
            methods=methods if len(methods) > 1 else (),
            style=style(),
            script=Markup(script),
            policy=policy(script),
            **values,
        )
    )


def style() -> Markup:
    """The style sheet of all pages."""
    return Markup((_FOLDER / "page.css").read_text("utf-8"))


def script_of_tables() -> str:
    """The script of all pages, which sorts tables."""
    return (_FOLDER / "page.js").read_text("utf-8")


def policy(script: str) -> str:
    """The Content-Security-Policy of a page with this script; styles are free, for pictures have them at each line."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
