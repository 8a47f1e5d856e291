"""Errors that are the user's to mend. Each message says what was wrong, what was expected, and what to do."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Printed as it is, without a traceback."""


class ConfigError(UserError):
    """The configuration is not well-formed; exit code 2."""


class DataError(UserError):
    """A data set is missing, unreadable or not in the expected layout."""


class ModelError(UserError):
    """A model or tokenizer cannot be loaded or used."""


class RunExists(UserError):
    """The run directory holds a finished run; ``summary`` is its row."""

    def __init__(self, summary: dict[str, Any], directory: Path):
        self.summary, self.directory = summary, directory
        super().__init__(f"{summary['state'].capitalize()} already: {directory}. Add overwrite=true to run it again.")


class MissingExtra(UserError, ImportError):
    """A package of an optional extra is not installed."""

    def __init__(self, extra: str, missing: ModuleNotFoundError):
        super().__init__(f"{missing.name} is not installed; pip install 'zobench[{extra}]'")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like the given one, or None if none is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None
