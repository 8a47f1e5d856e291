"""Where a run's record lies: under its name, or under the name that an earlier version of zobench gave it."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from zobench.config.signature import SCHEMA, digest

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def located(directory: Path) -> Path:
    """The directory of a run whose name says ``directory``; a sibling's, where that holds the run under an old name.

    Runs were named differently before; their stored configurations say what they would be called today.
    """
    if directory.exists() or not directory.parent.is_dir():
        return directory
    return _renamed(directory.parent, directory.parent.stat().st_mtime_ns).get(directory.name, directory)


def stored_settings(directory: Path) -> dict[str, Any]:
    """The configuration that a run was started with, or an empty one where it cannot be read."""
    try:
        settings = yaml.load((directory / "config.yaml").read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return settings if isinstance(settings, dict) else {}


def moved_folders(directory: Path, row: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """The groups, of ``data`` and ``model``, whose folder was another one when a run was made.

    Args:
        directory: of the run.
        row: its summary; where that is silent, the stored configuration tells.
        settings: the configuration that is asked for now.
    """
    moved = set()
    for group in ("data", "model"):
        if f"{group}.dir" in row:
            then = row[f"{group}.dir"]
        elif stored := stored_settings(directory):
            then = stored[group].get("dir")
        else:
            continue
        if _place(then) != _place(settings[group].get("dir")):
            moved.add(group)
    return moved


def _place(folder: str | None) -> str | None:
    return None if folder is None else str(Path(folder).expanduser().resolve())


@lru_cache(maxsize=1024)
def _renamed(folder: Path, changed: int) -> dict[str, Path]:
    """Today's name → directory, of the runs in a folder that were named otherwise."""
    names = {}
    for directory in sorted(path for path in folder.iterdir() if (path / "config.yaml").is_file()):
        if not _is_named_today(directory):
            try:
                names[digest(stored_settings(directory))] = directory
            except (KeyError, TypeError, AttributeError):  # not a configuration of a run
                continue
    return names


def _is_named_today(directory: Path) -> bool:
    try:
        row = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        return row["schema"] == SCHEMA and row["config_hash"] == directory.name
    except (OSError, ValueError, KeyError, TypeError):
        return False
