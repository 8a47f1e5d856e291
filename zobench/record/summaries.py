"""Finding run directories and reading their summaries. Standard library only."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: states of runs that hold a result; the others hold none, or none yet
RESULTS = ("finished", "diverged")
_OLD_NAMES = {"lr": "method.lr", "eps": "method.eps"}
_RECORD_KEYS = frozenset(("state", "method", "task", "model"))


def directories(folder: Path) -> Iterator[Path]:
    """Run directories at any depth, also those that were stopped before they had a summary."""
    return (path for path, _, is_run in walk(folder) if is_run)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], bool]]:
    """Every folder, its files, and whether it is a run's directory, below which nothing else is looked for."""
    for path, inner, files in os.walk(folder):
        is_run = "summary.json" in files or {"config.yaml", "metrics.jsonl"} <= set(files)
        if is_run:
            inner.clear()  # checkpoints and wandb's files hold no runs
        yield Path(path), files, is_run


def read(path: Path) -> dict[str, Any]:
    """A ``summary.json`` as a row.

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


def as_row(row: Any) -> dict[str, Any]:
    """A summary, with the names of today. Raises ValueError if it is not that of a run."""
    if not isinstance(row, dict) or not row.keys() >= _RECORD_KEYS:
        raise ValueError("the summary is not of a zobench run")
    row |= {new: row[old] for old, new in _OLD_NAMES.items() if old in row and new not in row}
    versions = row.pop("versions", None)
    if isinstance(versions, dict):
        row |= {f"versions.{name}": version for name, version in versions.items()}
    return row
