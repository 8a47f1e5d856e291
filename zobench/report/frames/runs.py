"""Records as DataFrames: one row a run, one a logged step, or one a test example."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.record import summaries
from zobench.report.frames import wandb_runs

#: what identifies a repetition of the same settings
SEEDS = ("seed", "data_seed", "noise_seed", "order_seed", "init_seed")
Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
LeftOut = list[tuple[str, str]]


def load(folders: Folders) -> pd.DataFrame:
    """The summary of every run below one or more folders, sorted by directory.

    Runs in any state are rows; ``state`` and ``reason`` tell which. ``directory`` is where the record lies now, not
    where it was written. ``frame.attrs["left_out"]`` lists ``(directory, reason)`` of what could not be a row.

    Args:
        folders: of run directories, or of wandb's offline directories without them; or ``wandb://ENTITY/PROJECT``.

    Raises:
        UserError: if a folder does not exist, or a project cannot be reached.
    """
    rows: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for folder in _listed(folders):
        for name, read in _found(folder):
            try:
                rows[name] = {**read(), "directory": name}
            except (OSError, ValueError) as error:
                left_out[name] = str(error)
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
    left_out: LeftOut = []
    lines: list[dict[str, Any]] = []
    for run in frame.to_dict("records"):
        try:
            lines += [{**_who(run), **line} for line in _lines(run["directory"], left_out)]
        except (OSError, ValueError) as error:
            left_out.append((run["directory"], f"metrics.jsonl: {_said(error)}"))
    return _tidy(lines, ["directory", "method", "seed", "step", "forwards"], left_out)


def predictions(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """The final predictions of the rows of a frame from ``load``: one row per run and example of the split.

    Columns are directory, method, seed, index (of the example in its data file), gold, prediction, scores, score (1 for
    a right answer, else 0; for generated answers F1). ``attrs["left_out"]`` lists runs without them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    left_out: LeftOut = []
    lines: list[dict[str, Any]] = []
    for run in frame.to_dict("records"):
        try:
            rows = pq.read_table(Path(run["directory"]) / "predictions.parquet").to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            left_out.append((run["directory"], f"predictions.parquet: {_said(error)}"))
            continue
        lines += [{**_who(run), **row} for row in rows if row.pop("split", None) == split]
    return _tidy(lines, ["directory", "method", "seed", "index", "score"], left_out)


def _who(run: dict[str, Any]) -> dict[str, Any]:
    return {"directory": run["directory"], "method": run["method"], "seed": run.get("seed")}


def _tidy(lines: list[dict[str, Any]], first: list[str], left_out: LeftOut) -> pd.DataFrame:
    found = pd.DataFrame(lines)
    found = found.reindex(columns=[*first, *(name for name in found.columns if name not in first)])
    found.attrs["left_out"] = left_out
    return found


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _listed(folders: Folders) -> list[str]:
    return [str(folders)] if isinstance(folders, str | os.PathLike) else [str(folder) for folder in folders]


def _found(folder: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name of each run of a folder or project, and how to read its summary."""
    if folder.startswith(wandb_runs.SCHEME):
        for name, summary in wandb_runs.project(folder).items():
            yield name, partial(summaries.as_row, dict(summary))
        return
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; give one that holds run directories, such as runs")
    for path, files, is_run in summaries.walk(Path(folder)):
        if is_run:
            yield str(path), partial(summaries.read, path / "summary.json")
            continue
        for name in sorted(file for file in files if file.endswith(".wandb")):
            yield str(path / name), partial(_mirrored, path / name)


def _mirrored(file: Path) -> dict[str, Any]:
    return summaries.as_row(wandb_runs.file_summary(file))


def _lines(directory: str, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    if directory.startswith(wandb_runs.SCHEME):
        yield from wandb_runs.project_lines(directory)
    elif directory.endswith(".wandb"):
        yield from wandb_runs.file_lines(Path(directory))
    else:
        yield from _logged(Path(directory), left_out)


def _logged(directory: Path, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    texts = (directory / "metrics.jsonl").read_bytes().splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            yield line
        elif number < len(texts):
            left_out.append((str(directory), f"metrics.jsonl, line {number}: not a JSON object"))
