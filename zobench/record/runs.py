"""Run directories below a folder, or in a zip. Standard library only."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zobench.record.archive import Place

#: what a run keeps of its own in folders: no runs are in them
_ITS_OWN = frozenset(("checkpoint", "wandb", "tensorboard"))


@dataclass
class Found:
    """What a search came upon.

    Attributes:
        runs: directories of runs, also of those that were stopped before they had a summary.
        left_out: (place, reason) of what could not be searched, and of records that hold other runs.
    """

    runs: list[Place] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def find(folder: Place) -> Found:
    """Find run directories at any depth. Links are followed, each folder is visited once, and nothing is passed over.

    A record in which other runs lie is none: a stray ``summary.json`` must not hide the runs below it, nor be one.
    """
    found = Found()
    holders: dict[Place, Place] = {}
    for place, names, above in _walk(folder, found.left_out):
        if _is_run(names):
            if above is not None:
                holders.setdefault(above, place)
            found.runs.append(place)
    for holder, held in holders.items():
        found.runs.remove(holder)
        reason = f"it holds another run, {held}, which no record does; move one of them away"
        found.left_out.append((str(holder), reason))
    return found


def _is_run(names: set[str]) -> bool:
    return "summary.json" in names or {"config.yaml", "metrics.jsonl"} <= names


def _walk(top: Place, left_out: list[tuple[str, str]]) -> Iterator[tuple[Place, set[str], Place | None]]:
    """Every folder, with the names in it and the nearest run above; what links lead to comes last."""
    folders: list[tuple[Place, Place | None]] = [(top, None)]
    links: list[tuple[Place, Place | None]] = []
    seen: set[tuple[int, int]] = set()
    while folders or links:
        place, above = folders.pop() if folders else links.pop()
        try:
            if isinstance(place, Path):
                at = place.stat()
                if (at.st_dev, at.st_ino) in seen:
                    continue
                seen.add((at.st_dev, at.st_ino))
                names, inner, linked = _entries(place)
            else:
                inner, files = place.listed()
                names, linked = {*inner, *files}, []
        except OSError as error:
            left_out.append((str(place), f"cannot be searched: {error.strerror or error}"))
            continue
        yield place, names, above
        is_run = _is_run(names)
        skipped = _ITS_OWN if is_run else frozenset[str]()
        for kind, into in ((inner, folders), (linked, links)):
            into += [(place / name, place if is_run else above) for name in kind if name not in skipped]


def _entries(folder: Path) -> tuple[set[str], list[str], list[str]]:
    """All names in a folder, those of the folders in it, and those of links that may lead to folders."""
    with os.scandir(folder) as entries:
        found = list(entries)
    inner = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
    linked = [entry.name for entry in found if entry.is_symlink() and not _leads_to_file(entry)]
    return {entry.name for entry in found}, inner, linked


def _leads_to_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file() or (os.path.exists(entry) and not entry.is_dir())
    except OSError:  # a link to itself
        return False
