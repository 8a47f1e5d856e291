"""What a column of a record is, and what a table of columns can be asked. Standard library only."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

TEXT, INTEGER, NUMBER, BOOLEAN, OBJECT, LIST, ANY = (
    "text", "integer", "number", "true or false", "object", "list", "any",
)  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    TEXT: (str,), INTEGER: (int,), NUMBER: (float, int), BOOLEAN: (bool,), OBJECT: (dict,), LIST: (list,),
    ANY: (str, int, float, bool, list, dict),
}  # fmt: skip
#: what a placeholder that no table has the names of stands for
_OPEN = r"[A-Za-z][\w-]*(\.[A-Za-z][\w-]*)*"


@dataclass(frozen=True)
class Column:
    """One name, or a family of names that end in a ``<placeholder>``.

    Attributes:
        type: TEXT, INTEGER, ...
        unit: of a number; empty where it has none.
        null: when the value is null; empty if never.
        where: when the column is there; empty if always, once its group is written.
        of: the table that the names of a family end in; None for any name.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""
    null: str = ""
    where: str = ""
    of: "Schema | None" = None

    def fits(self, value: object) -> bool:
        """Whether the record may hold a value in this column.

        >>> steps = count("steps", "steps taken")
        >>> steps.fits(100), steps.fits(None), steps.fits(0.5), steps.fits(True)
        (True, False, False, False)
        """
        if value is None:
            return bool(self.null)
        if isinstance(value, bool):
            return self.type in (BOOLEAN, ANY)
        return isinstance(value, _TYPES[self.type])

    @property
    def start(self) -> str:
        """The name up to its placeholder."""
        return self.name.partition("<")[0]

    @property
    def is_family(self) -> bool:
        """Whether the name ends in a placeholder."""
        return "<" in self.name

    def member(self, name: str) -> "Column | None":
        """The column of a family that has a name; None if none has."""
        rest = name.removeprefix(self.start)
        if not self.is_family or not name.startswith(self.start):
            return None
        if self.of is None:
            return replace(self, name=name) if re.fullmatch(_OPEN, rest) else None
        column = self.of.find(rest)
        return column and replace(column, name=name, where=self.where or column.where)


def text(name: str, meaning: str, *, null: str = "", where: str = "") -> Column:
    """A column of text."""
    return Column(name, TEXT, meaning, null=null, where=where)


def count(name: str, meaning: str, unit: str = "", *, null: str = "", where: str = "") -> Column:
    """A column of integers."""
    return Column(name, INTEGER, meaning, unit, null, where)


def number(name: str, meaning: str, unit: str = "", *, null: str = "", where: str = "") -> Column:
    """A column of numbers, written with all their digits."""
    return Column(name, NUMBER, meaning, unit, null, where)


def family(name: str, of: "Schema", meaning: str, *, where: str = "") -> Column:
    """Columns that end in the names of a table and have their types."""
    return Column(name, ANY, meaning, where=where, of=of)


@dataclass(frozen=True)
class Group:
    """Columns that one module writes together; its path is below ``zobench``. A title may have several groups."""

    title: str
    writer: str
    columns: tuple[Column, ...]


class Schema:
    """All columns of one file, in groups.

    >>> schema = Schema(Group("Every step", "run/train.py", (count("step", "steps taken"),)))
    >>> schema.find("step").meaning
    'steps taken'
    """

    def __init__(self, *groups: Group):
        self.groups = groups

    def __iter__(self) -> Iterator[Column]:
        return (column for group in self.groups for column in group.columns)

    def find(self, name: str) -> Column | None:
        """The column of a name, of a family its member; None if there is none."""
        exact = [column for column in self if column.name == name and not column.is_family]
        members = (column.member(name) for column in self)
        return exact[0] if exact else next((member for member in members if member), None)

    def names(self, name: str) -> bool:
        """Whether a name is told apart from others: a column, or of a family that begins with a word of its own."""
        return any(column.name == name or (column.start and column.member(name)) for column in self)

    def always(self, *titles: str, where: Collection[str] = ()) -> set[str]:
        """The names that are there when the groups of these titles are written.

        Args:
            where: those conditions of columns that hold.
        """
        holds = {"", *where}
        there = [c for group in self.groups if group.title in titles for c in group.columns if c.where in holds]
        members = {f"{c.start}{each.name}" for c in there if c.of for each in c.of if each.where in holds}
        return {c.name for c in there if not c.is_family} | members

    def markdown(self) -> str:
        """A table under each title."""
        lines = []
        for title, groups in groupby(self.groups, lambda group: group.title):
            lines += ["", f"**{title}**", "", "| name | type | unit | meaning | written by |", "|---|---|---|---|---|"]
            lines += [_line(column, group.writer) for group in groups for column in group.columns]
        return "\n".join([*lines, ""])


def _line(column: Column, writer: str) -> str:
    notes = [f"null: {column.null}"] * bool(column.null) + [f"only: {column.where}"] * bool(column.where)
    kind = f"that of the {column.name.partition('<')[2][:-1]}" if column.of else column.type
    return f"| `{column.name}` | {kind} | {column.unit} | {'; '.join([column.meaning, *notes])} | `{writer}` |"
