"""What was chosen, a file an entry and workload, written once: ``RUNS/choices/<workload>/<entry>.json``.

The trial that a tuned entry is scored with, and in ``<entry>.seconds.json`` its steps at equal seconds.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from zobench.atomic import replacing, writing
from zobench.record import summaries
from zobench.record.archive import Place
from zobench.record.reading import Unreadable, json_object
from zobench.rules.settings import Words

FOLDER = "choices"
_CLOCKS = ("seconds", "seconds_per_step")
Row = dict[str, Any]


def row_of(directory: Path) -> Row | None:
    """The row of a run; None where there is none."""
    try:
        return summaries.read(directory)
    except Unreadable:
        return None


def best(trials: Sequence[Words], rows: Sequence[Row | None]) -> Row | None:
    """The trial with the lowest dev loss at the weights that its run selects; None where no trial finished.

    >>> rows = [{"state": "finished", "dev/loss": 0.6}, {"state": "finished", "dev/loss": 0.5}]
    >>> best([{"method.lr": "1"}, {"method.lr": "2"}], rows)
    {'settings': {'method.lr': '2'}, 'trial': 1, 'dev_loss': 0.5, 'finished': 2}
    """
    finished = {number: row for number, row in enumerate(rows) if row and row["state"] == "finished"}
    known = {number: row.get("dev/loss") for number, row in finished.items()}
    losses = {number: loss for number, loss in known.items() if loss is not None and math.isfinite(loss)}
    if not losses:
        return None
    number = min(losses, key=lambda each: (losses[each], each))
    return {"settings": trials[number], "trial": number, "dev_loss": losses[number], "finished": len(losses)}


def seconds(row: Row) -> float:
    """CPU seconds of training; evaluations are left out."""
    return 3600 * float(row["cpu_hours"])


def slowness(rows: Sequence[Row], reference: Sequence[Row]) -> float:
    """How much longer what all runs of a workload do alike, a dev evaluation, took the rows than the reference's rows.

    Machines differ, and so does one at different hours. 1 where records do not tell.

    >>> slowness([{"dev_cpu_seconds": 0.5}], [{"dev_cpu_seconds": 0.25}]), slowness([{}], [{"dev_cpu_seconds": 0.2}])
    (2.0, 1.0)
    """
    own, other = ([float(row.get("dev_cpu_seconds") or 0) for row in of] for of in (rows, reference))
    return median(own) / median(other) if all([*own, *other]) else 1.0


def at_equal_seconds(own: Sequence[Row], reference: Sequence[Row]) -> Row:
    """The steps that take the reference's CPU seconds of training, by the medians of finished runs.

    Seconds are those of the reference's machine.

    >>> slow, fast = {"cpu_hours": 2.0, "steps": 100}, {"cpu_hours": 0.5, "steps": 50}
    >>> at_equal_seconds([slow], [fast])["steps"]
    25
    """
    available, each = median(map(seconds, reference)), median(seconds(row) / row["steps"] for row in own)
    each /= slowness(own, reference)
    found = {"seconds": available, "seconds_per_step": each}
    return {"steps": steps(found), **found}


def steps(choice: Row) -> int:
    """The steps that fit into the ``seconds`` of a choice; one at least.

    >>> steps({"seconds": 5.0, "seconds_per_step": 0.1})
    50
    """
    return max(1, round(choice["seconds"] / choice["seconds_per_step"]))


def name(entry: str, kind: str = "") -> str:
    """The file of a choice; ``kind`` is ``seconds`` for the steps at equal seconds."""
    return f"{entry}{'.' * bool(kind)}{kind}.json"


def read(runs: Place, workload: str, entry: str, kind: str = "") -> Row | None:
    """What was chosen; None where nothing was yet.

    Raises:
        Unreadable: if the file is damaged.
    """
    at = runs / FOLDER / workload / name(entry, kind)
    if not at.is_file():
        return None
    choice = json_object(at)
    found = choice.get("steps") if kind else choice.get("settings")
    if kind and not (isinstance(found, int) and found > 0 and all(_positive(choice.get(key)) for key in _CLOCKS)):
        raise Unreadable(at, f"expected steps, a positive integer, with {' and '.join(_CLOCKS)}, positive numbers")
    if not kind and not (isinstance(found, dict) and all(isinstance(text, str) for text in found.values())):
        raise Unreadable(at, "expected settings, a mapping of texts")
    return choice


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def keep(choice: Row, runs: Path, workload: str, entry: str, kind: str = "") -> Row:
    """Write a choice where there is none, and give the one that is there.

    Raises:
        CannotWrite: if that fails.
    """
    at = runs / FOLDER / workload / name(entry, kind)
    with writing(at):
        at.parent.mkdir(parents=True, exist_ok=True)
    with replacing(at, unless_there=True) as scratch:
        scratch.write_text(json.dumps(choice, indent=1) + "\n", encoding="utf-8")
    return read(runs, workload, entry, kind) or choice
