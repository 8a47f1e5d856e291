"""Large imports, made quicker: torch and transformers leave half a million objects, and all of them stay.

Python's garbage collector would look through them again and again: a third of the CPU time of a run's start.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_kept = False


def keep_imports() -> None:
    """Take what this process has imported, or imports from now on within ``importing``, out of the collector's sight.

    For a process of one's own, such as a command's: in one that others share, such as a notebook's, whatever else is
    alive by then would never be collected either.
    """
    global _kept
    _kept = True
    gc.freeze()


@contextmanager
def importing() -> Iterator[None]:
    """A context for imports, in which the garbage collector rests."""
    enabled, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if _kept and len(sys.modules) > before:
            gc.freeze()
        if enabled:
            gc.enable()
