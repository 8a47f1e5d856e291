"""Large imports, made quicker: torch and transformers leave half a million objects, and all of them stay.

Python's garbage collector would look through them again and again: a third of the CPU time of a run's start.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_kept = False


def keep_imports() -> None:
    """Take what this process has imported, or will import within ``importing``, out of the garbage collector's sight.

    Call it as a run begins, in a process of one's own, such as a command's: in one that others share, such as a
    notebook's, whatever else is alive would not be collected either. When another run begins in the process, all comes
    into sight again, for the sake of what the run before has left.
    """
    global _kept
    if _kept:
        gc.unfreeze()
    else:
        gc.freeze()
    _kept = True


def keep_what_is_left() -> None:
    """Take what a collection has left out of sight as well, where imports are kept."""
    if _kept:
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
