"""What zobench writes in a run's directory, by name; nothing else there is ever removed."""

import re
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zobench.atomic import sync
from zobench.errors import ConfigError
from zobench.record import archive, lock, trajectory
from zobench.record.lookup import stored_settings

#: a summary that could not be read is kept under this name
DAMAGED = "summary.json.damaged"
#: is there while a run is being overwritten
MARKER = ".overwriting"
_Tree = Mapping[str, Any]
_ANY: _Tree = {"*": None}  # whatever there is, at any depth
_CHECKPOINT: _Tree = {
    "state.json": None, "best-*.safetensors": None, "best-*.json": None,
    "step-*": {"*.safetensors": None, "*.json": None},
}  # fmt: skip
_WANDB: _Tree = {
    "offline-run-*": _ANY, "run-*": _ANY, "latest-run": None, "debug*.log": None, "settings": None,
    "wandb-resume.json": None,
}  # fmt: skip
#: patterns of names: None for a file, else what is in the folder
_TREE: _Tree = {
    **dict.fromkeys((*archive.FILES, DAMAGED, MARKER, lock.NAME)), "checkpoint": _CHECKPOINT, "wandb": _WANDB,
    "tensorboard": {"events.out.tfevents.*": None},
}  # fmt: skip
#: ``atomic.replacing`` writes under such names, and what file systems and desktops leave is nobody's
_SCRATCH, _NOBODYS = re.compile(r"\.(.+)\.\d+"), re.compile(r"\.nfs[0-9a-f]+|\.DS_Store")


def is_run(summary: Mapping[str, Any]) -> bool:
    """Whether the content of a ``summary.json`` is that of a run, of whatever version.

    >>> is_run({"state": "finished", "config_hash": "0123abcd"}), is_run({"my": 1}), is_run({})
    (True, False, False)
    """
    return "state" in summary and any(key in summary for key in ("config_hash", "directory", "restarts"))


def claim(directory: Path, summary: Mapping[str, Any], runs_dir: Path) -> None:
    """Make sure that a run may write in a directory: one that holds a run of zobench, or nothing.

    Args:
        directory: of the run.
        summary: the content of its ``summary.json``; empty where that is not there or cannot be read.
        runs_dir: the folder of all runs.

    Raises:
        ConfigError: if the directory holds what is not a run's, or lies within another run's.
    """
    for above in directory.parents:
        if above in (runs_dir, *runs_dir.parents):
            break
        if (above / "summary.json").is_file() or _has_config(above):
            raise ConfigError(f"{directory} lies within {above}, which holds a run; give this one another out=DIR")
    if is_run(summary) or _has_config(directory) or (directory / "checkpoint/state.json").is_file():
        return
    for entry in sorted(directory.iterdir()):
        torn = entry.name == "summary.json" and not summary  # a crash of the machine may have left it alone
        folder = entry.is_dir() and _match(entry.name, _TREE)[0]
        if entry.name == lock.NAME or _NOBODYS.fullmatch(entry.name) or torn or folder:
            continue
        raise ConfigError(
            f"{directory} holds {entry.name}, and no run of zobench; a run needs a directory of its own: give another "
            "out=DIR"
        )


def clear(directory: Path, *, keep: tuple[str, ...] = ()) -> list[str]:
    """Remove what zobench writes in a run's directory.

    Args:
        keep: names in the directory that stay.

    Returns:
        The paths, within the directory, of what zobench did not write; they are still there.
    """
    return _clear(directory, _TREE, (lock.NAME, *keep))


def clear_checkpoints(folder: Path, *, keep_weights: bool) -> None:
    """Clear the checkpoints of a finished run, but for the best weights if they are to be kept.

    Args:
        folder: the run's ``checkpoint`` folder.
    """
    if not folder.is_dir():
        return
    best = tuple(path.name for path in folder.glob("best-*")) if keep_weights else ()
    _clear(folder, _CHECKPOINT, ("state.json", *best))
    (folder / "state.json").unlink(missing_ok=True)  # the last: until then ``clear_rest`` knows that something is left
    if not best and not folder.is_symlink():
        _remove_if_empty(folder)


def clear_rest(directory: Path, row: Mapping[str, Any], *, keep_weights: bool = False) -> None:
    """Clear the checkpoints of a finished run that was killed before it could.

    The best weights stay where the run was to keep them, or where no trajectory gives them again.

    Args:
        row: its summary.
        keep_weights: let them stay in any case.
    """
    folder = directory / "checkpoint"
    if row.get("state") == "finished" and (folder / "state.json").is_file():
        losses = directory / trajectory.NAME
        lost = row.get("steps") and not (losses.is_file() and losses.stat().st_size)
        keep = keep_weights or stored_settings(directory).get("keep_weights") or row.get("backwards") or lost
        with suppress(OSError):  # the result is there; another process may be first
            clear_checkpoints(folder, keep_weights=bool(keep))


def _clear(folder: Path, tree: _Tree, keep: tuple[str, ...], within: str = "") -> list[str]:
    others: list[str] = []
    # The checkpoint's state first: without it no later start goes on from what is left of a cut clearing.
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name not in ("checkpoint", "state.json")):
        if entry.name in keep or _NOBODYS.fullmatch(entry.name):
            continue
        name, (known, inner) = f"{within}{entry.name}", _match(entry.name, tree)
        if tree is _ANY and entry.is_dir() and not entry.is_symlink():
            inner = _ANY
        if known and inner is None and (entry.is_symlink() or not entry.is_dir()):
            entry.unlink(missing_ok=True)
        elif known and inner is not None and entry.is_dir():  # a link to a folder elsewhere stays, empty
            others += _clear(entry, inner, (), f"{name}/")
            if not entry.is_symlink():
                _remove_if_empty(entry)
        else:
            others.append(name)
    sync(folder)
    return others


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # something has come meanwhile
        return


def _match(name: str, tree: _Tree) -> tuple[bool, _Tree | None]:
    """Whether a tree knows a name, also as one that is being written; and what it says of the folder of that name."""
    scratch = _SCRATCH.fullmatch(name)
    for plain in (name, scratch[1]) if scratch else (name,):
        for pattern, inner in tree.items():
            if fnmatch(plain, pattern):
                return True, inner
    return False, None


def _has_config(directory: Path) -> bool:
    """Whether a directory has the configuration of a run."""
    return isinstance(stored_settings(directory).get("choices"), dict)
