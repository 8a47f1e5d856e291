"""A sweep's records as one zip."""

import os
from pathlib import Path, PurePath

import pandas as pd

from zobench.errors import ConfigError, UserError
from zobench.record import archive, packing
from zobench.record.archive import Place
from zobench.report.frames import wandb_project
from zobench.report.frames.runs import Folders, LeftOut, listed


def zip_file(path: str | os.PathLike[str]) -> Path:
    """Check that a path ends in .zip, by which a zip of records is known, and return it. Raises ConfigError if not."""
    if Path(path).suffix != ".zip":
        raise ConfigError(f"{path}: records are packed as .zip")
    return Path(path)


def pack(frame: pd.DataFrame, folders: Folders, path: str | os.PathLike[str], left_out: LeftOut | None = None) -> Path:
    """Write the records of runs into one zip, which ``load`` and ``python -m zobench.replay`` read like a folder.

    Weights, checkpoints and wandb's files stay out. Equal records make equal zips.

    Args:
        frame: the runs, from ``load``.
        folders: what they were loaded from; a run's path inside the zip is its path below its folder.
        path: a file that ends in .zip; an older one is replaced.
        left_out: is told (directory, reason) of each run that is not packed, as a file of its record cannot be read.

    Raises:
        ConfigError: if the path does not end in .zip.
        UserError: if two runs would have one path, or a run is wandb's; if the zip cannot be written.
    """
    runs: dict[str, Place] = {}
    for directory in frame["directory"]:
        if directory.startswith(wandb_project.SCHEME):
            raise UserError(f"{directory}: wandb has no record files to pack; give run directories")
        name = _inside(directory, folders)
        if name in runs:
            raise UserError(f"{runs[name]} and {directory} would both be {name} in the zip; pack them apart")
        runs[name] = archive.locate(directory)
    unreadable = packing.pack(runs, zip_file(path))
    if left_out is not None:
        left_out += unreadable
    return Path(path)


def _inside(directory: str, folders: Folders) -> str:
    run = PurePath(directory)
    below = [run.relative_to(folder) for folder in listed(folders) if run.is_relative_to(folder)]
    inside = below[0].as_posix() if below else "."
    return run.name if inside == "." else inside
