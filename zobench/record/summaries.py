"""Run directories in folders and zips, and the summaries in them. Standard library only."""

import json
from collections.abc import Iterator
from typing import Any

from zobench.record import archive
from zobench.record.archive import Place

#: states of runs that hold a result; the others hold none, or none yet
RESULTS = ("finished", "diverged")
_RECORD_KEYS = frozenset(("state", "method", "task", "model"))


def directories(folder: Place) -> Iterator[Place]:
    """Find run directories at any depth, also those of runs that were stopped before they had a summary."""
    for path, inner, files in archive.walk(folder):
        if "summary.json" in files or {"config.yaml", "metrics.jsonl"} <= set(files):
            inner.clear()  # checkpoints and wandb's files hold no runs
            yield path


def read(path: Place) -> dict[str, Any]:
    """Read a ``summary.json`` as a row.

    Raises:
        ValueError: if the file is not the summary of a run.
        OSError: if it cannot be read.
    """
    if not path.is_file():
        raise ValueError("no summary.json; the run was stopped while it started")
    try:
        return as_row(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"summary.json is torn or not JSON ({error})") from None


def as_row(summary: Any) -> dict[str, Any]:
    """Make a row of a summary: its versions become columns, ``versions.torch`` and so on.

    >>> run = {"state": "finished", "method": "mezo", "task": "rte", "model": "opt-13b"}
    >>> as_row(run | {"versions": {"torch": "2.13"}})["versions.torch"]
    '2.13'

    Raises:
        ValueError: if it is not the summary of a run.
    """
    if not isinstance(summary, dict) or not summary.keys() >= _RECORD_KEYS:
        raise ValueError("the summary is not of a zobench run")
    row = dict(summary)
    versions = row.pop("versions", None)
    if isinstance(versions, dict):
        row |= {f"versions.{name}": version for name, version in versions.items()}
    return row
