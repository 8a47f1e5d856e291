"""A comparison as zips, one for each workload: all of its records, and what was chosen from them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from zobench.errors import UserError
from zobench.record import packing
from zobench.record.archive import Place, below
from zobench.rules import choices
from zobench.rules.files import SECONDS
from zobench.rules.records import Records


def pack(records: Records, out: Path) -> Iterator[Path]:
    """Write ``<workload>.zip`` for each workload, which the other commands read like the folder of all stages.

    Weights, checkpoints, locks and runs that no rule asks for stay out. Equal records make equal zips.

    Args:
        records: of the comparison.
        out: a folder; made if need be.

    Yields:
        The zips, as they are written.

    Raises:
        UserError: if a file of a record cannot be read, or a zip cannot be written.
    """
    runs: dict[str, dict[str, Place]] = defaultdict(dict)
    chosen: dict[str, dict[str, bytes]] = defaultdict(dict)
    for held in records.held:
        name, entry = held.workload.name, held.entry.name
        for top in records.tops:
            places = (run.place for run in held.runs())
            runs[name] |= {below(each, top): each for each in places if str(each).startswith(f"{top}/")}
            files = (f"{choices.FOLDER}/{name}/{choices.name(entry, kind)}" for kind in ("", SECONDS))
            chosen[name] |= {file: (top / file).read_bytes() for file in files if (top / file).is_file()}
    for name in runs:
        file = out / f"{name}.zip"
        if left_out := packing.pack(runs[name], file, chosen[name]):
            raise UserError(f"{left_out[0][0]}: {left_out[0][1]}; mend or remove it")
        yield file
