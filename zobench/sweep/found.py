"""Finished runs that a plan finds under their names, although its folders of data or model are other ones."""

import json
from functools import cache
from typing import Any

from zobench.errors import UserError
from zobench.record.lookup import moved_folders
from zobench.sweep.plan import PlannedCell
from zobench.sweep.state import State


def compared(cell: PlannedCell, state: State) -> State:
    """The state of a cell whose run has a result: compared by content with what the cell's folders hold.

    Rows are compared here. A model takes long to load, so the run itself does that: until then the cell waits.
    """
    moved = moved_folders(cell.directory, state.row, cell.settings)
    if "model" in moved:
        return State("waiting", state.row | {"reason": "model.dir is another folder; its weights are to be compared"})
    if "data" in moved and state.row.get("rows_hash"):
        reason = f"data.dir={cell.get('data.dir')} holds other rows than the run was made of; give it another runs_dir"
        try:
            same = _rows_hash(json.dumps(_of_rows(cell))) == state.row["rows_hash"]
        except UserError as error:
            same, reason = False, str(error)
        if not same:
            return State("failed", state.row | {"reason": reason})
    return state


def _of_rows(cell: PlannedCell) -> dict[str, Any]:
    """The settings that decide which rows are drawn."""
    return {key: cell.settings[key] for key in ("task", "data", "protocol", "choices", "data_seed")}


@cache
def _rows_hash(settings: str) -> str:
    from omegaconf import OmegaConf

    from zobench.config import instantiate
    from zobench.run.build import load_splits

    node = json.loads(settings)
    return load_splits(OmegaConf.create(node), instantiate.build(node["protocol"], "protocol")).rows_hash
