"""A comparison as zips, one for each stage of each workload: its records, and what was chosen from them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from zobench.errors import UserError
from zobench.record import packing
from zobench.record.archive import Place, below
from zobench.rules import choices
from zobench.rules.files import SECONDS, TRIALS
from zobench.rules.records import Records


def pack(records: Records, out: Path) -> Iterator[Path]:
    """Write ``<workload>.<stage>.zip``; all of them together are read like the folder of all stages.

    A stage that is run later adds a file and leaves the others as they are. Weights, checkpoints, locks and runs that
    no rule asks for stay out. Equal records make equal zips.

    Args:
        records: of the comparison.
        out: a folder; made if need be.

    Yields:
        The zips, as they are written.

    Raises:
        UserError: if a file of a record cannot be read, or a zip cannot be written.
    """
    runs: dict[tuple[str, str], dict[str, Place]] = defaultdict(dict)
    chosen: dict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)
    for held in records.held:
        name, entry = held.workload.name, held.entry.name
        for top in records.tops:
            for run in held.runs():
                if str(run.place).startswith(f"{top}/"):
                    path = below(run.place, top)
                    runs[name, path.partition("/")[0]][path] = run.place
            for stage, kind in ((TRIALS, ""), (SECONDS, SECONDS)):
                choice = f"{choices.FOLDER}/{name}/{choices.name(entry, kind)}"
                if (top / choice).is_file():
                    chosen[name, stage][choice] = (top / choice).read_bytes()
    for (name, stage), places in runs.items():
        file = out / f"{name}.{stage}.zip"
        if left_out := packing.pack(places, file, chosen[name, stage]):
            raise UserError(f"{left_out[0][0]}: {left_out[0][1]}; mend or remove it")
        yield file
