"""Finished runs that a plan finds under their names, although their data, prompts or model may be other ones by now."""

import json
from functools import cache
from typing import Any

from zobench.errors import UserError
from zobench.record.inputs import changed, digests, in_words, known_model, other_score, remember_same
from zobench.sweep.plan import PlannedCell
from zobench.sweep.state import State

#: columns that a run of the same name can hold otherwise only where two settings have one name
_NAMED = ("seed", "data_seed", "noise_seed", "order_seed", "init_seed", "batch_size", "micro_batch_size", "dtype")


def compared(cell: PlannedCell, state: State) -> State:
    """The state of a cell whose run has a result: compared by content with what the cell asks for.

    Rows are compared here. A model takes long to load: where no run has done so yet, the cell waits for its own.
    """
    row, settings = state.row, cell.settings
    others = [name for name in _NAMED if name in row and row[name] != settings.get(name)]
    if others:
        name, directory = others[0], cell.directory
        reason = f"{directory} holds another run ({name}={row[name]}, now {settings.get(name)}); give this one its own"
        return State("failed", row | {"reason": reason})
    kinds = changed(cell.directory, row, settings)
    why = other_score(row, settings)
    if not kinds and not why:
        return state
    if why := why or _other_rows(cell, row, kinds) or _other_model(cell, row, kinds):
        return State("failed", row | {"reason": f"{why}; give it another runs_dir, or overwrite=true"})
    if "model" in kinds and _known_model(cell, row) is None:
        return State("waiting", row | {"reason": "model.dir may hold another model; the run compares it"})
    remember_same(cell.directory, settings)
    return state


def _other_rows(cell: PlannedCell, row: dict[str, Any], kinds: set[str]) -> str | None:
    if not kinds & {"data", "prompts"} or not row.get("rows_hash"):
        return None
    try:
        same = _rows_hash(json.dumps(_of_rows(cell))) == row["rows_hash"]
    except UserError as error:  # of prompts alone that is no reason: the data may be on another machine
        return str(error).splitlines()[0] if "data" in kinds else None
    asked = f"data.dir={cell.get('data.dir')}" if "data" in kinds else f"task={cell.choice('task')}"
    return None if same else f"{asked} has other {in_words(kinds)} than the run was made of"


def _known_model(cell: PlannedCell, row: dict[str, Any]) -> dict[str, Any] | None:
    """What is known of the model in the cell's folder, in the columns that the run's row has."""
    return known_model(cell.settings, digests(cell.settings)["inputs.model"]) if "tokenizer_hash" in row else None


def _other_model(cell: PlannedCell, row: dict[str, Any], kinds: set[str]) -> str | None:
    known = (_known_model(cell, row) if "model" in kinds else None) or {}
    others = [name for name, value in known.items() if row.get(name) not in (None, value)]
    return f"model.dir={cell.get('model.dir')}: {others[0]} is another than that of the run" if others else None


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
