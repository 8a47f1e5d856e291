"""Where a run's record lies, and whether what lies there is the run that is asked for."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from zobench.config.signature import SCHEMA, differences, digest
from zobench.errors import ConfigError
from zobench.record import configs, summaries
from zobench.record.reading import Unreadable, json_object
from zobench.record.summaries import RESULTS
from zobench.tasks.base import files_of

#: what a row says of rows that come from files which the task names
FILES = "files"


def located(directory: Path, settings: Mapping[str, Any]) -> Path:
    """The directory of a run whose name says ``directory``; a sibling's, where that holds the run under an old name.

    Runs were named differently before; their stored configurations say what they would be called today. Of several, one
    that was made of the folders of ``settings`` comes first, then one that has a result.

    Args:
        directory: where the run lies by its name.
        settings: the run's configuration.
    """
    if directory.exists() or not directory.parent.is_dir():
        return directory
    siblings = _renamed(directory.parent, directory.parent.stat().st_mtime_ns).get(directory.name, [])
    return min(siblings, key=lambda path: _rank(path, settings), default=directory)


def _rank(directory: Path, settings: Mapping[str, Any]) -> tuple[bool, bool]:
    row = _row(directory)
    others = any(then_place(directory, row, group) != place_of(settings, group) for group in ("data", "model"))
    return others, row.get("state") not in RESULTS


def stored_settings(directory: Path) -> dict[str, Any]:
    """The configuration that a run was started with, or an empty one where it cannot be read."""
    try:
        return configs.read(directory)
    except Unreadable:
        return {}


def check_name(directory: Path, previous: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on with what other settings have begun.

    A directory that ``out`` names may hold the run of other settings, and so may one of a run's own name, once in some
    billions: a name has eight digits.

    Args:
        directory: of the run.
        previous: its summary, empty where it has none.
        settings: the configuration that is asked for now, resolved.

    Raises:
        ConfigError: if the summary, the checkpoint or, where neither says, the stored configuration is of another run.
    """
    name, stored, saved = digest(settings), stored_settings(directory), _saved(directory)
    names = ((previous, "config_hash"), (saved, "signature"))
    then = {str(row[key]) for row, key in names if row.get("schema") == SCHEMA and row.get(key) is not None}
    try:
        of_stored = digest(stored) if stored else None
        changed = differences(stored, settings) if stored else []
    except (KeyError, TypeError, AttributeError, ValueError):  # not the configuration of a run
        of_stored, changed = None, []
    if not then and (previous or saved) and of_stored is not None:
        then = {of_stored}
    if then <= {name} and not (of_stored == name and changed):
        return
    said = ", ".join(changed[:3]) or f"named {', '.join(sorted(then))}, this is {name}"
    raise ConfigError(f"{directory} holds another run ({said}); give this one its own directory, or overwrite=true")


def _saved(directory: Path) -> dict[str, Any]:
    """What a run's checkpoint says of the run; empty where there is none that can be read."""
    try:
        return json_object(directory / "checkpoint" / "state.json")
    except Unreadable:
        return {}


def then_place(directory: Path, row: Mapping[str, Any], group: str) -> str | None:
    """Where the folder of ``data`` or ``model`` was when a run was made. A relative path may have meant any folder."""
    if f"{group}.dir" in row:
        return row[f"{group}.dir"]
    folder = (stored_settings(directory).get(group) or {}).get("dir")
    return folder if folder in (None, "mini") or Path(folder).expanduser().is_absolute() else f"relative: {folder}"


def place_of(settings: Mapping[str, Any], group: str) -> str | None:
    """Where a configuration has its ``data`` or ``model``: a folder, or the files of its task; None for the hub."""
    folder, own = settings[group].get("dir"), settings["task"].get("files") if group == "data" else None
    if folder is None and own:
        return ", ".join(str(place(path)) for path in files_of(own).values())
    return place(folder)


def origin_of(settings: Mapping[str, Any]) -> str:
    """Where rows come from: the chosen option of ``data``, or ``files`` where the task names files and no folder does.

    >>> task = {"files": "tickets.csv"}
    >>> origin_of({"task": task, "data": {"dir": None}, "choices": {"data": "hub"}})
    'files'
    """
    own = settings["data"].get("dir") is None and settings["task"].get("files")
    return FILES if own else str(settings["choices"]["data"])


def place(folder: str | None) -> str | None:
    """A folder of a configuration as an absolute path; None and ``mini``, which ships with zobench, as they are."""
    return folder if folder in (None, "mini") else str(Path(folder).expanduser().resolve())


@lru_cache(maxsize=1024)
def _renamed(folder: Path, changed: int) -> dict[str, list[Path]]:
    """Today's name → directories, of the runs in a folder that were named otherwise."""
    names: dict[str, list[Path]] = {}
    for directory in sorted(path for path in folder.iterdir() if (path / "config.yaml").is_file()):
        row = _row(directory)
        if row.get("schema") != SCHEMA or row.get("config_hash") != directory.name:
            try:
                names.setdefault(digest(stored_settings(directory)), []).append(directory)
            except (KeyError, TypeError, AttributeError):  # not a configuration of a run
                continue
    return names


def _row(directory: Path) -> dict[str, Any]:
    """The summary of a run; an empty one where it cannot be read."""
    try:
        return summaries.read(directory)
    except Unreadable:
        return {}
