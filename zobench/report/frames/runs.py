"""Records as DataFrames: one row a run, one a logged step, or one a test example."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.record import archive, metrics, summaries
from zobench.record import predictions as stored
from zobench.record.columns import LINES
from zobench.record.reading import Missing, Unreadable, shown
from zobench.record.runs import find
from zobench.report.frames import wandb_project

#: what identifies a repetition of the same settings
SEEDS = ("seed", "data_seed", "noise_seed", "order_seed", "init_seed")
#: one row of a frame, by the names of its columns
Row = dict[str, Any]
Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
LeftOut = list[tuple[str, str]]
_ROUNDING = 1e-6


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
        for name, read in _found(folder, left_out):
            try:
                rows[name] = {**summaries.as_row(read()), "directory": name}
            except Missing:
                left_out[name] = f"no {summaries.NAME}; the run was stopped while it started"
            except (Unreadable, ValueError) as error:
                left_out[name] = said(error)
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
        except (ValueError, UserError) as error:
            left_out.append((run["directory"], said(error)))
    return _tidy(pd.DataFrame(lines), ["directory", "method", "seed", "step", "forwards"], left_out)


def predictions(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Read the final predictions of runs: one row per run and example of a split.

    Columns are directory, method, seed, index (of the example in its data file), gold, prediction, scores, score (1 for
    a right answer, else 0; for generated answers F1). ``attrs["left_out"]`` lists runs without them.

    Args:
        frame: from ``load``.
        split: ``test`` or ``dev``.
    """
    left_out: LeftOut = []
    lines: list[Row] = []
    results = frame.reindex(columns=[f"{split}_metric"])[f"{split}_metric"]
    for run, result in zip(_named(frame), results, strict=True):
        try:
            examples = stored.read(archive.locate(run["directory"]), split)
        except UserError as error:
            left_out.append((run["directory"], said(error)))
            continue
        mean = math.fsum(example["score"] for example in examples) / max(1, len(examples))
        if not pd.isna(result) and abs(mean - result) > _ROUNDING:
            reason = f"its {split} examples score {mean:.6g}, but summary.json says {split}_metric={result:.6g}"
            left_out.append((run["directory"], f"{stored.NAME}: {reason}"))
            continue
        lines += [{**run, **example} for example in examples]
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


def said(error: Exception) -> str:
    """Why something is left out, where its directory is told beside."""
    return error.said if isinstance(error, Unreadable) else (str(error).splitlines() or [type(error).__name__])[0]


def _found(folder: str, left_out: dict[str, str]) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The address of each run of a folder, zip or project, and how to read its summary."""
    if folder.startswith(wandb_project.SCHEME):
        for name, summary in wandb_project.summaries(folder).items():
            yield name, partial(_checked, summary)
        return
    place = archive.locate(folder)
    if not place.is_dir():
        raise UserError(
            f"{folder}: no such folder; give one that holds run directories, such as runs, or a zip of them"
        )
    found = find(place)
    left_out |= dict(found.left_out)
    for directory in found.runs:
        yield str(directory), partial(summaries.read, directory)


def _checked(summary: Row) -> Row:
    """Raises ValueError if what wandb gave is not the row of a run."""
    if wrong := summaries.problem(summary):
        raise ValueError(wrong)
    return summary


def _lines(directory: str, left_out: LeftOut) -> list[Row]:
    if directory.startswith(wandb_project.SCHEME):
        logged = [line for line in wandb_project.lines(directory) if line.get("step") is not None]
        misfits = [(line, LINES.misfit(line)) for line in logged]
        left_out += [(directory, f"step {shown(line['step'])}: {wrong}") for line, wrong in misfits if wrong]
        return [line for line, wrong in misfits if not wrong]
    lines, wrong = metrics.read(archive.locate(directory))
    left_out += [(directory, error.said) for error in wrong]
    return lines
