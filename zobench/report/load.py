"""Records as DataFrames: one row a run, or one row a logged step."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from zobench.errors import UserError

#: what identifies a repetition of the same settings
SEEDS = ("seed", "data_seed", "noise_seed", "order_seed", "init_seed")
_OLD_NAMES = {"lr": "method.lr", "eps": "method.eps"}
_RECORD_KEYS = frozenset(("state", "method", "task", "model"))
Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def load(folders: Folders) -> pd.DataFrame:
    """The summary of every run below one or more folders, sorted by directory.

    Runs in any state are rows; ``state`` and ``reason`` tell which. ``directory`` is where the record lies now, not
    where it was written. ``frame.attrs["left_out"]`` lists ``(directory, reason)`` of what could not be a row.

    Raises:
        UserError: if a folder does not exist.
    """
    rows: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for folder in _listed(folders):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give one that holds run directories, such as runs")
        for directory in _directories(folder):
            try:
                rows[str(directory)] = {**_row(directory / "summary.json"), "directory": str(directory)}
            except (OSError, ValueError) as error:
                left_out[str(directory)] = str(error)
    frame = pd.DataFrame([rows[key] for key in sorted(rows)])
    frame.attrs["left_out"] = sorted(left_out.items())
    return frame


def curves(runs: Folders | pd.DataFrame) -> pd.DataFrame:
    """Every line of ``metrics.jsonl`` of the runs below some folders, or of the rows of a frame from ``load``.

    Columns are directory, method, seed, step, forwards and one per logged name, in the order of the files. A line holds
    training values or an evaluation, never both. ``attrs["left_out"]`` lists files and lines that could not be read;
    the torn last line of a killed run is dropped without a word.
    """
    frame = runs if isinstance(runs, pd.DataFrame) else load(runs)
    left_out: list[tuple[str, str]] = []
    lines: list[dict[str, Any]] = []
    for run in frame.to_dict("records"):
        known = {"directory": run["directory"], "method": run["method"], "seed": run.get("seed")}
        try:
            lines += [{**known, **line} for line in _lines(Path(run["directory"]) / "metrics.jsonl", left_out)]
        except OSError as error:
            left_out.append((run["directory"], f"metrics.jsonl: {error.strerror}"))
    found = pd.DataFrame(lines)
    first = ["directory", "method", "seed", "step", "forwards"]
    found = found.reindex(columns=[*first, *(name for name in found.columns if name not in first)])
    found.attrs["left_out"] = left_out
    return found


def _listed(folders: Folders) -> list[Path]:
    return [Path(folders)] if isinstance(folders, str | os.PathLike) else [Path(folder) for folder in folders]


def _directories(folder: Path) -> Iterator[Path]:
    """Run directories, also those that were stopped before they had a summary."""
    for path, inner, files in os.walk(folder):
        if "summary.json" in files or {"config.yaml", "metrics.jsonl"} <= set(files):
            inner.clear()  # checkpoints and wandb's files hold no runs
            yield Path(path)


def _row(path: Path) -> dict[str, Any]:
    """Raises ValueError if the file is not the summary of a run, OSError if it cannot be read."""
    if not path.is_file():
        raise ValueError("no summary.json; the run was stopped while it started")
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"summary.json is torn or not JSON ({error})") from None
    if not isinstance(row, dict) or not row.keys() >= _RECORD_KEYS:
        raise ValueError("summary.json is not of a zobench run")
    row |= {new: row[old] for old, new in _OLD_NAMES.items() if old in row and new not in row}
    versions = row.pop("versions", None)
    if isinstance(versions, dict):
        row |= {f"versions.{name}": version for name, version in versions.items()}
    return row


def _lines(path: Path, left_out: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    texts = path.read_bytes().splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            yield line
        elif number < len(texts):
            left_out.append((str(path.parent), f"metrics.jsonl, line {number}: not a JSON object"))
