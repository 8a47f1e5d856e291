"""``summary.json``: the row of a run, read by whoever needs it in the same way. Standard library only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zobench.config import renamed
from zobench.record import digests
from zobench.record.archive import Place
from zobench.record.columns import ROW
from zobench.record.reading import Unreadable, json_object, shown

NAME = "summary.json"
#: states of runs that hold a result; the others hold none, or none yet
RESULTS = ("finished", "diverged")
_EVERY = ("state", "method", "task", "model")
#: state -> what a run in it cannot lack
_NEEDED = {"finished": ("seed", "steps", "forwards", "metric", "dev_metric", "test_metric"), "diverged": ("seed",)}


def read(directory: Place) -> dict[str, Any]:
    """Read the row of a run.

    Args:
        directory: of the run, in a folder or a zip.

    Raises:
        Missing: if there is none.
        Unreadable: if the file is damaged, is not of a run, holds a value that its column cannot have, or was changed.
    """
    row = json_object(directory / NAME)
    if wrong := problem(row):
        raise Unreadable(directory / NAME, wrong)
    return renamed.row(digests.opened(row, directory / NAME))


def problem(row: Mapping[str, Any]) -> str | None:
    """What keeps a summary from being the row of a run, in one line; None if nothing does."""
    if lacking := [name for name in _EVERY if not isinstance(row.get(name), str)]:
        return f"not of a zobench run: it lacks {', '.join(lacking)}"
    if wrong := ROW.misfit(row):
        return wrong
    if lacking := [name for name in _NEEDED.get(row["state"], ()) if row.get(name) is None]:
        return f"a {row['state']} run without {', '.join(lacking)}"
    for split in ("dev", "test") if row["state"] == "finished" else ():
        result, measured = row[f"{split}_metric"], row.get(f"{split}/{row['metric']}")
        if measured not in (None, result):
            return f"{split}_metric={shown(result)}, but {split}/{row['metric']}={shown(measured)}; expected one value"
    return None


def as_row(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row of columns of a summary: its versions become ``versions.torch`` and so on.

    Runs of versions that minimised losses alone have the objective ``loss``.

    >>> as_row({"state": "finished", "versions": {"torch": "2.13"}})
    {'objective': 'loss', 'state': 'finished', 'versions.torch': '2.13'}
    """
    row = {"objective": "loss", **summary}
    return row | {f"versions.{name}": version for name, version in (row.pop("versions", None) or {}).items()}


def goes_on(directory: Path) -> bool:
    """Whether a run whose summary cannot be read would go on when it is asked for again."""
    return not _has_result(directory / NAME)


def _has_result(path: Path) -> bool:
    """Whether a summary that breaks the schema says all the same that its run has a result."""
    try:
        return json_object(path).get("state") in [*RESULTS]
    except Unreadable:
        return False
