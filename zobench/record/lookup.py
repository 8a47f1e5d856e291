"""Where a run's record lies, and whether the folders that its command names are those it was made of."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from zobench.config.signature import SCHEMA, digest
from zobench.record import configs, summaries
from zobench.record.cache import Cache
from zobench.record.reading import Unreadable
from zobench.record.summaries import RESULTS

_KEPT = 2000


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
    return bool(moved_folders(directory, row, settings)), row.get("state") not in RESULTS


def stored_settings(directory: Path) -> dict[str, Any]:
    """The configuration that a run was started with, or an empty one where it cannot be read."""
    try:
        return configs.read(directory)
    except Unreadable:
        return {}


def moved_folders(directory: Path, row: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """The groups, of ``data`` and ``model``, whose folder may hold something else than when a run was made.

    That is another folder, or one with files that are newer than the run's summary, unless they were compared before
    (``remember_same``).

    Args:
        directory: of the run.
        row: its summary.
        settings: the configuration that is asked for now.
    """
    moved = set()
    for group in ("data", "model"):
        now = place(settings[group].get("dir"))
        then = row[f"{group}.dir"] if f"{group}.dir" in row else _stored_place(directory, group)
        if then != now or _newer(directory, group, settings):
            moved.add(group)
    return set() if moved and Cache("same", keep=_KEPT).load(*_facts(directory, settings)) else moved


def remember_same(directory: Path, settings: Mapping[str, Any]) -> None:
    """Note that a run was made of what the folders of a configuration hold now."""
    Cache("same", keep=_KEPT).store(True, *_facts(directory, settings))


def place(folder: str | None) -> str | None:
    """A folder of a configuration as an absolute path; None and ``mini``, which ships with zobench, as they are."""
    return folder if folder in (None, "mini") else str(Path(folder).expanduser().resolve())


def _stored_place(directory: Path, group: str) -> str | None:
    """As the run was told it; a relative path may have meant any folder."""
    folder = (stored_settings(directory).get(group) or {}).get("dir")
    return folder if folder in (None, "mini") or Path(folder).expanduser().is_absolute() else f"relative: {folder}"


def _files(group: str, settings: Mapping[str, Any]) -> Iterator[Path]:
    """What of a group's folder a run reads."""
    folder = place(settings[group].get("dir"))
    if folder not in (None, "mini"):
        inside = Path(folder) / settings["choices"]["task"] if group == "data" else Path(folder)
        yield from sorted(path for path in inside.glob("*") if path.is_file())


def _newer(directory: Path, group: str, settings: Mapping[str, Any]) -> bool:
    try:
        made = (directory / "summary.json").stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > made for path in _files(group, settings))
    except OSError:
        return False


def _facts(directory: Path, settings: Mapping[str, Any]) -> list[Any]:
    """All that the answer depends on whether a run was made of these folders' content."""
    folders = [place(settings[group].get("dir")) for group in ("data", "model")]
    files = [path for group in ("data", "model") for path in _files(group, settings)]
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [str(directory.resolve()), (directory / "summary.json").stat().st_mtime_ns, folders, stats]


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
