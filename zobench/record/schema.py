"""What a column of a record is, and what a table of columns can be asked. Standard library only."""

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from zobench.record.reading import shown

TEXT, INTEGER, NUMBER, BOOLEAN, OBJECT, LIST, ANY = (
    "text", "integer", "number", "true or false", "object", "list", "any",
)  # fmt: skip
#: unit of a number -> the range that it can have; a share may be off by its rounding
_RANGES = {
    "0 to 1": (-1e-9, 1 + 1e-9), "−1 to 1": (-1 - 1e-6, 1 + 1e-6),
    **dict.fromkeys(("s", "h", "GiB", "bytes"), (0.0, 1e15)),
}  # fmt: skip
_FINITE = (-1e100, 1e100)  # beyond, squares and pictures overflow
_COUNTS = 2**63
_NAME, _TEXT = 1_000, 100_000  # characters of a text at most
_ENTRIES = 10_000  # of a list or an object at most
_COLUMNS = 2_000  # of a row at most
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
        words: of a text, those it is one of; empty for any text.
        free: of a text: it may hold line breaks and control characters, which are escaped where it is shown.
        signed: of a number: it may be negative although its unit is of amounts.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""
    null: str = ""
    where: str = ""
    of: "Schema | None" = None
    words: tuple[str, ...] = ()
    free: bool = False
    signed: bool = False

    def fits(self, value: object) -> bool:
        """Whether the record may hold a value in this column.

        >>> steps = count("steps", "steps taken")
        >>> steps.fits(100), steps.fits(None), steps.fits(0.5), steps.fits(True)
        (True, False, False, False)
        """
        return self.check(value)

    @property
    def expected(self) -> str:
        """What the record may hold, in words."""
        low, high = self._range
        between = f" from {low:.3g} to {high:.3g}" if self.unit in _RANGES else ""
        kinds = {
            TEXT: f"one of {', '.join(self.words)}" if self.words else "a text without control characters",
            INTEGER: "an integer from 0 to 2^63", NUMBER: f"a finite number{between}", BOOLEAN: "true or false",
            OBJECT: "texts by name", LIST: "a list of numbers or texts", ANY: "a number, a text, true or false",
        }  # fmt: skip
        return kinds[self.type] + (" or null" if self.null else "")

    @property
    def _range(self) -> tuple[float, float]:
        low, high = _RANGES.get(self.unit, _FINITE)
        return (-high if self.signed else low), high

    @cached_property
    def check(self) -> Callable[[object], bool]:
        """``fits`` as a function, made once: records have many values."""
        holds = self._of_type
        return (lambda value: value is None or holds(value)) if self.null else holds

    @property
    def _of_type(self) -> Callable[[object], bool]:
        """Tells of a value other than null whether it fits."""
        low, high = self._range
        kinds: dict[str, Callable[[object], bool]] = {
            TEXT: self._is_text if self.words or self.free else is_plain,
            INTEGER: lambda value: type(value) is int and 0 <= value < _COUNTS,
            NUMBER: lambda value: (type(value) is float or type(value) is int) and low <= value <= high,
            BOOLEAN: lambda value: type(value) is bool,
            OBJECT: _is_object,
            LIST: _is_list,
            ANY: _is_scalar if self.name == OWN else lambda value: _is_scalar(value) or _is_list(value),
        }
        return kinds[self.type]

    def _is_text(self, value: object) -> bool:
        if self.words:
            return type(value) is str and value in self.words
        return is_plain(value) or (self.free and isinstance(value, str) and len(value) <= _TEXT)

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


def is_plain(value: object) -> bool:
    """Whether a value is a short text without control characters, line breaks or changes of direction.

    >>> is_plain("prompt ε"), is_plain("\\x1b[2J"), is_plain("\\u202e"), is_plain(1)
    (True, False, False, False)
    """
    return type(value) is str and len(value) <= _NAME and (value.isprintable() or all(map(_is_shown, value)))


def _is_shown(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"


def _is_scalar(value: object) -> bool:
    """Whether a value is one of those of which settings and columns of one's own consist."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool) or is_plain(value) or (type(value) is int and abs(value) < _COUNTS)


def _is_list(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) <= _ENTRIES and all(each is None or _is_scalar(each) for each in value)
    )


def _is_object(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _ENTRIES
        and all(is_plain(name) and (each is None or is_plain(each)) for name, each in value.items())
    )


def text(
    name: str, meaning: str, *, null: str = "", where: str = "", words: tuple[str, ...] = (), free: bool = False
) -> Column:
    """A column of text."""
    return Column(name, TEXT, meaning, null=null, where=where, words=words, free=free)


def count(name: str, meaning: str, unit: str = "", *, null: str = "", where: str = "") -> Column:
    """A column of integers."""
    return Column(name, INTEGER, meaning, unit, null, where)


def number(name: str, meaning: str, unit: str = "", *, null: str = "", where: str = "", signed: bool = False) -> Column:
    """A column of numbers, written with all their digits."""
    return Column(name, NUMBER, meaning, unit, null, where, signed=signed)


def family(name: str, of: "Schema", meaning: str, *, where: str = "") -> Column:
    """Columns that end in the names of a table and have their types."""
    return Column(name, ANY, meaning, where=where, of=of)


#: the name of a column that no schema knows: one of a user's own, or of another version
OWN = "<own>"
_OWN = Column(OWN, ANY, "a column that no schema knows", null="unknown")


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
        #: name -> ``fits`` of its column, of names that were seen
        self._known: dict[str, Callable[[object], bool]] = {}

    def __iter__(self) -> Iterator[Column]:
        return (column for group in self.groups for column in group.columns)

    def find(self, name: str) -> Column | None:
        """The column of a name, of a family its member; None if there is none."""
        exact = [column for column in self if column.name == name and not column.is_family]
        members = (column.member(name) for column in self)
        return exact[0] if exact else next((member for member in members if member), None)

    def misfit(self, values: Mapping[str, object]) -> str | None:
        """The first value that does not fit its column, with what was expected; None if all fit.

        A name that is not of the schema may have any plain value. Null is as good as nothing: what cannot be missing is
        for the reader of a file to say.

        >>> Schema(Group("", "", (count("steps", "steps taken"),))).misfit({"steps": -1, "own": 0.5})
        'steps=-1; expected an integer from 0 to 2^63'
        """
        known = self._known
        for name, value in values.items():
            if not (known.get(name) or self._learn(name))(value) and (value is not None or not is_plain(name)):
                if not is_plain(name):
                    return f"the name {shown(name)}; expected a short text without control characters"
                return f"{name}={shown(value)}; expected {(self.find(name) or _OWN).expected}"
        return f"{len(values):,} names; expected {_COLUMNS:,} at most" if len(values) > _COLUMNS else None

    def _learn(self, name: str) -> Callable[[object], bool]:
        """``fits`` of a name's column, remembered; a name that no column can have fits nothing."""
        if not is_plain(name):
            return lambda value: False
        fits = (self.find(name) or _OWN).check
        if len(self._known) < _COLUMNS:
            self._known[name] = fits
        return fits

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
