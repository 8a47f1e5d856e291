"""``environment.json``: the machine of a run, and the versions of what ran on it. Standard library only."""

from typing import Any

from zobench.record import digests
from zobench.record.archive import Place
from zobench.record.columns import ENVIRONMENT
from zobench.record.reading import Unreadable, as_object, text

NAME = "environment.json"


def read(directory: Place) -> dict[str, Any]:
    """Read what a run said of its machine; ``versions`` is a dictionary.

    Raises:
        Missing: if there is no such file, as of a run that ended before it knew.
        Unreadable: if it is damaged, holds a value that its name cannot have, or was changed.
    """
    path = directory / NAME
    written = text(path)
    facts = as_object(path, written)
    if wrong := ENVIRONMENT.misfit(facts):
        raise Unreadable(path, wrong)
    digests.check(path, written.encode())
    return facts
