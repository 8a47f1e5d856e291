"""One run as a story: built, evaluated, trained, recorded."""

from typing import Any


def __getattr__(name: str) -> Any:
    # What runs needs torch, which takes seconds; a misspelt key must not wait for it.
    if name == "run":
        from zobench.run.runner import run

        return run
    raise AttributeError(f"module 'zobench.run' has no attribute {name!r}")
