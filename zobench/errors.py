"""Errors that are the user's to mend; each message says what was wrong, what was expected, and what to do."""

import contextlib
import difflib
import io
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

#: torchrun ends all processes once one has ended badly; by then the first must have said why
_FIRST_SPEAKS_S = 2.0
#: white space that moves what is printed elsewhere
_BREAKS = "\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029"
#: what errors of torch and of C++ say where memory is used up
_SIGNS = re.compile(r"out of memory|allocate memory|not enough memory|bad_alloc|ALLOC_FAILED", re.I)


class UserError(Exception):
    """The base of all: its message is printed as it is, without a traceback."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Without ``__init__``, whose arguments may not be at hand: errors cross from a cell's process to its sweep.
        return _rebuilt, (type(self), self.args, vars(self))


def _rebuilt(kind: type[UserError], arguments: tuple[Any, ...], values: dict[str, Any]) -> UserError:
    """The error that was pickled."""
    base = kind.__base__ or kind  # of two, the one whose memory layout it has
    error = base.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(values)
    return error


class ConfigError(UserError):
    """The configuration is not well-formed; exit code 2."""


class DataError(UserError):
    """A data set is missing, unreadable, or not in the expected layout."""


class ModelError(UserError):
    """A model or tokenizer cannot be loaded or used."""


class CannotWrite(UserError, OSError):
    """A file of the record cannot be written: a full disk, a quota, a folder without permission.

    Args:
        error: what the operating system said.
    """

    def __init__(self, path: Path, error: OSError):
        reason = error.strerror or error
        super().__init__(f"{path} cannot be written: {reason}; mend that, then the same command goes on")


class RunExists(UserError):
    """The run directory holds a finished run.

    Args:
        summary: the run's row.
    """

    def __init__(self, summary: dict[str, Any], directory: Path):
        self.summary, self.directory = summary, directory
        super().__init__(f"{summary['state'].capitalize()} already: {directory}. Add overwrite=true to run it again.")


class RunBusy(UserError):
    """Another process is writing to the run directory."""


class RunLost(UserError):
    """The run directory is no longer the one that a run opened: nothing may be written under its name."""

    def __init__(self, directory: Path):
        super().__init__(
            f"{directory} was removed, moved or replaced while the run was at work; it stopped and wrote nothing more. "
            "The same command begins there, or goes on with what is there now"
        )


class SweepFailed(UserError):
    """Some cells of a sweep failed; the message lists them."""


class MissingExtra(UserError, ImportError):
    """A package of an optional extra is not installed.

    Args:
        extra: the extra of zobench that brings the package.
        missing: what its import raised.
    """

    def __init__(self, extra: str, missing: ModuleNotFoundError):
        super().__init__(f"{missing.name} is not installed; pip install 'zobench[{extra}]'")


def complain(error: object, program: str = "zobench") -> int:
    """Print an error on standard error, after the program's name.

    Of several processes that torchrun started, the first speaks for all.

    Returns:
        The exit code: 2 if the configuration was wrong, else 1.
    """
    if os.environ.get("RANK", "0") == "0":
        show(f"{program}: {error}", sys.stderr)
    else:
        time.sleep(_FIRST_SPEAKS_S)
    return 2 if isinstance(error, ConfigError) else 1


def shown(value: object, limit: int = 80) -> str:
    """Return a value as an error prints it: on one line, cut to a length, without characters that act on a terminal.

    Example:
        >>> shown("a\\x1b[2Jb\\n"), shown(["x" * 100], limit=8)
        ('a\\\\x1b[2Jb\\\\n', "['xxxxxx… (104 characters)")
    """
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = f"a very large {type(value).__name__}"
    kept = text[:limit]
    if not kept.isprintable():
        kept = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept)
    return kept if len(text) <= limit else f"{kept}… ({len(text)} characters)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is used up."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_SIGNS.search(str(error))))


def first_line(error: BaseException, limit: int = 240) -> str:
    """Return the first line of what a library's error says; the error's kind if it says nothing."""
    return shown(next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__), limit)


def told(error: BaseException, kind: type[UserError] = UserError) -> str:
    """What is told of an error of anybody's code: a user error's own words, else its kind and its first line.

    >>> told(ConfigError("eps: expected a number")), told(KeyError("lr"))
    ('eps: expected a number', "KeyError: 'lr'")

    Args:
        kind: of the errors whose own words are told.
    """
    return str(error) if isinstance(error, kind) else f"{type(error).__name__}: {first_line(error)}"


def printable(text: str, encoding: str | None = None) -> str:
    """A text for a terminal or a page: what is no sign of its own, such as an escape sequence, is written out.

    Line breaks and tabs stay. A record of somebody else could else set a terminal's title, or hide what it says.

    >>> printable("mezo\\x1b[2J \\u202e")
    'mezo\\\\x1b[2J \\\\u202e'
    >>> printable("0.5 ± 0.1", "ascii")
    '0.5 +/- 0.1'

    Args:
        encoding: of the terminal, whose other signs are written out too; None: any sign can be shown.
    """
    text = text if text.isprintable() else "".join(map(_sign, text))
    if encoding is None or text.isascii():
        return text
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_IN_ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return text


def _sign(sign: str) -> str:
    if sign.isprintable() or sign in "\n\t" or (sign.isspace() and sign not in _BREAKS):
        return sign
    return repr(sign)[1:-1]


_IN_ASCII = {ord(sign): plain for sign, plain in (("±", "+/-"), ("−", "-"), ("…", "..."), ("→", "->"), ("×", "x"))}


def show(text: str, file: TextIO | None = None) -> None:
    """Print a text on a terminal or into a file of whatever encoding; nobody need read it to its end."""
    stream = file or sys.stdout
    try:
        print(printable(text, getattr(stream, "encoding", None)), file=stream, flush=True)
    except OSError:  # a closed pipe, a full disk
        give_up(stream)


def tolerant_streams() -> None:
    """Have standard output and error take any sign, whatever their encoding, also where they were closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO) -> None:
    """Send what is still written to a stream nowhere, so that its end harms nobody."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_one_line(error: BaseException) -> str:
    """What a library's error says, without its line breaks and its links.

    >>> in_one_line(ValueError("Could not override 'a'.\\nKey 'a' is not in struct\\n    full_key: a"))
    "Could not override 'a'. Key 'a' is not in struct"
    """
    wholly = f"{error}\n{error.__cause__}" if error.__cause__ and str(error.__cause__) not in str(error) else str(error)
    lines = [line.strip() for line in wholly.splitlines()]
    said = [line for line in lines if line and not line.startswith(("See https://", "full_key:", "object_type=", "^"))]
    return " ".join(said) or type(error).__name__


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like the given one, or None if none is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str], before: str = "", otherwise: str = "") -> str:
    """Return what a complaint about an unknown word ends with.

    Args:
        known: the words there are.
        before: what is typed in front of the word, such as ``method=``.
        otherwise: the ending where no known word is near.

    Example:
        >>> did_you_mean("lorn", ["mezo", "loren"], before="method=")
        '; did you mean method=loren?'
    """
    near = nearest(word, known)
    return f"; did you mean {before}{near}?" if near else otherwise
