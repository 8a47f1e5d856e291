"""Cells of tables that lead somewhere, and tables made of them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from zobench.report.typeset.table import Bold, Table

_WEB = re.compile(r"https?://[^\s\"'<>\\]+")


class Link(str):
    """The text of a cell that leads to another page.

    >>> Link("mezo", "entry-1.html"), Link("mezo", "entry-1.html").href
    ('mezo', 'entry-1.html')
    """

    href: str
    strong: bool

    def __new__(cls, text: str, href: str) -> "Link":
        made = super().__new__(cls, text)
        made.href, made.strong = href, isinstance(text, Bold)
        return made


@dataclass(frozen=True)
class Links:
    """Several links in one cell."""

    each: Sequence[Link]


Cell = str | Links


@dataclass(frozen=True)
class Linked:
    """A table as a page shows it.

    Args:
        keys: how many columns, from the left, name a row.
        texts: whether its cells are texts, which stand at the left.
        name: what a reader who cannot see it is told, where it has no title.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    notes: Sequence[str] = ()
    keys: int = 1
    texts: bool = False
    name: str = "table"


def linked(table: Table, of_row: Callable[[list[str]], dict[str, Cell]], title: str | None = None) -> Linked:
    """A table of the report, with links in some cells and further columns.

    Args:
        of_row: the cells of a row -> header -> the cell that stands there instead, or at the end under a new header.
        title: instead of the table's own.
    """
    head, *rows = table.cells()
    shown: list[list[Cell]] = []
    added: dict[str, None] = {}
    for row in rows:
        changed = of_row(row)
        added |= dict.fromkeys(name for name in changed if name not in head)
        cells: list[Cell] = [changed.get(name, cell) for name, cell in zip(head, row, strict=True)]
        shown.append([*cells, *(changed[name] for name in changed if name not in head)])
    named = table.title if title is None else title
    return Linked([*head, *added], shown, named, table.notes, table.keys, name=table.title or "table")


def to(text: str, href: str) -> Cell:
    """A link, but from a dash, which is no number."""
    return text if text in ("-", "") else Link(text, href)


def web(address: str) -> str:
    """An address that may be linked to; empty for one that is none with http or https.

    >>> web("https://example.org/x"), web("javascript:alert(1)"), web("https://a\\"onclick=")
    ('https://example.org/x', '', '')
    """
    return address if _WEB.fullmatch(address) else ""


def counted(words: Iterable[str]) -> str:
    """How often each word occurs, most first.

    >>> counted(["verified", "stale", "verified"]), counted(["verified"])
    ('2 verified, 1 stale', '1 verified')
    """
    found = list(words)
    known = sorted(dict.fromkeys(found), key=found.count, reverse=True)
    return ", ".join(f"{found.count(word)} {word}" for word in known)
