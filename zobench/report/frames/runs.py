"""Records as DataFrames: one row a run, one a logged step, or one a test example."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.record import archive, summaries
from zobench.report.frames import wandb_project

#: what identifies a repetition of the same settings
SEEDS = ("seed", "data_seed", "noise_seed", "order_seed", "init_seed")
#: one row of a frame, by the names of its columns
Row = dict[str, Any]
Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
LeftOut = list[tuple[str, str]]


def load(folders: Folders) -> pd.DataFrame:
    """Read the summary of every run below one or more folders: one row a run, sorted by directory.

    Runs in any state are rows; ``state`` and ``reason`` tell which. ``directory`` is where the record lies now, not
    where it was written. ``frame.attrs["left_out"]`` lists ``(directory, reason)`` of what could not be a row.

    Args:
        folders: folders with run directories at any depth, zips of them (``FILE.zip`` or a path inside,
            ``FILE.zip/sst2``), or projects of wandb (``wandb://ENTITY/PROJECT``).

    Raises:
        UserError: if a folder does not exist, a zip cannot be read, or a project cannot be reached.
    """
    rows: dict[str, Row] = {}
    left_out: dict[str, str] = {}
    for folder in listed(folders):
        for name, read in _found(folder):
            try:
                rows[name] = {**read(), "directory": name}
            except (OSError, ValueError) as error:
                left_out[name] = str(error)
    frame = pd.DataFrame([rows[key] for key in sorted(rows)])
    frame.attrs["left_out"] = sorted(left_out.items())
    return frame


def curves(runs: Folders | pd.DataFrame) -> pd.DataFrame:
    """Read every line of ``metrics.jsonl``: one row a logged step or evaluation, in the order of the files.

    Columns are directory, method, seed, step, forwards and one per logged name. A line holds training values or an
    evaluation, never both. ``attrs["left_out"]`` lists files and lines that could not be read; the torn last line of a
    killed run is dropped without a word.

    Args:
        runs: a frame from ``load``, or folders as it takes them.
    """
    frame = runs if isinstance(runs, pd.DataFrame) else load(runs)
    left_out: LeftOut = []
    lines: list[Row] = []
    for run in _named(frame):
        try:
            lines += [{**run, **line} for line in _lines(run["directory"], left_out)]
        except (OSError, ValueError, UserError) as error:
            left_out.append((run["directory"], f"metrics.jsonl: {_said(error)}"))
    return _tidy(pd.DataFrame(lines), ["directory", "method", "seed", "step", "forwards"], left_out)


def predictions(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Read the final predictions of runs: one row per run and example of a split.

    Columns are directory, method, seed, index (of the example in its data file), gold, prediction, scores, score (1 for
    a right answer, else 0; for generated answers F1). ``attrs["left_out"]`` lists runs without them.

    Args:
        frame: from ``load``.
        split: ``test`` or ``dev``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    left_out: LeftOut = []
    lines: list[Row] = []
    for run in _named(frame):
        try:
            content = (archive.locate(run["directory"]) / "predictions.parquet").read_bytes()
            rows = pq.read_table(pa.BufferReader(content)).to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            left_out.append((run["directory"], f"predictions.parquet: {_said(error)}"))
            continue
        lines += [{**run, **row} for row in rows if row.pop("split", None) == split]
    return _tidy(pd.DataFrame(lines), ["directory", "method", "seed", "index", "score"], left_out)


def listed(folders: Folders) -> list[str]:
    """One or more folders as a list of texts."""
    return [str(folders)] if isinstance(folders, str | os.PathLike) else [str(folder) for folder in folders]


def _named(frame: pd.DataFrame) -> list[Row]:
    """What tells the lines of one run from those of others, for each row of a frame from ``load``."""
    return frame.reindex(columns=["directory", "method", "seed"]).to_dict("records")


def _tidy(frame: pd.DataFrame, first: list[str], left_out: LeftOut) -> pd.DataFrame:
    """Put some columns first, whether they are there or not."""
    frame = frame.reindex(columns=[*first, *(name for name in frame.columns if name not in first)])
    frame.attrs["left_out"] = left_out
    return frame


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _found(folder: str) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The address of each run of a folder, zip or project, and how to read its summary."""
    if folder.startswith(wandb_project.SCHEME):
        for name, summary in wandb_project.summaries(folder).items():
            yield name, partial(summaries.as_row, summary)
        return
    place = archive.locate(folder)
    if not place.is_dir():
        raise UserError(
            f"{folder}: no such folder; give one that holds run directories, such as runs, or a zip of them"
        )
    for directory in summaries.directories(place):
        yield str(directory), partial(summaries.read, directory / "summary.json")


def _lines(directory: str, left_out: LeftOut) -> Iterator[Row]:
    if directory.startswith(wandb_project.SCHEME):
        yield from wandb_project.lines(directory)
        return
    texts = (archive.locate(directory) / "metrics.jsonl").read_bytes().splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            yield line
        elif number < len(texts):
            left_out.append((directory, f"metrics.jsonl, line {number}: not a JSON object"))
