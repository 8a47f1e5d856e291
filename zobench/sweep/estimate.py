"""What a cell will cost: from finished runs like it, else by a rule of thumb from the model's size."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from zobench.config.options import describe
from zobench.config.schema import DEFAULT_FORWARDS
from zobench.record import summaries
from zobench.sweep.plan import PlannedCell

#: mean length of an example, prompt and answer
TOKENS = {"sst2": 25, "rte": 100, "cb": 95, "wsc": 55, "multirc": 475, "squad": 250}
OTHER_TOKENS = 150
#: floating-point operations per second that a forward pass reaches: about 40 % of an A100's, and two CPU cores'
GPU_16BIT, GPU_FLOAT32, CPU = 125e12, 8e12, 0.1e12
#: what a forward pass takes at least, however small the model
LEAST_SECONDS = 5e-3
#: in automatic choice of the device, models of this size and above are taken to run on a GPU
ON_GPU = 1e9
ASSUMPTIONS = (
    f"rough (~): forward passes of 2 x parameters x tokens operations at {GPU_16BIT / 1e12:g} TFLOP/s on a GPU in 16 "
    f"bits, {GPU_FLOAT32 / 1e12:g} in float32, {CPU / 1e12:g} on a CPU, and {1000 * LEAST_SECONDS:g} ms at "
    "least; an example of "
    + ", ".join(f"{tokens} tokens in {task}" for task, tokens in TOKENS.items())
    + "; device=auto is a GPU from 1B parameters; memory is the weights, 15 % and 1 GiB, for AdamW three times the "
    "trainable weights more. Noise and evaluations are left out."
)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?) ?([kMB])\b|-(\d+(?:\.\d+)?)([mb])\b")
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
#: settings that decide what a forward pass costs, the least important last
_LIKE = ("model", "tuning", "dtype", "batch_size", "task", "method")


@dataclass(frozen=True)
class Cost:
    """Of one cell.

    Attributes:
        seconds: of wall time; None if there is no rule for it.
        gib: peak memory; None if the model's size is not known.
        rough: by rule of thumb, not from runs.
    """

    seconds: float | None
    gib: float | None
    gpu: bool
    rough: bool


class Costs:
    """Estimates from the finished runs below some folders.

    Args:
        models: configuration folders, for the sizes of models.
    """

    def __init__(self, folders: Iterable[Path], models: Iterable[Path]):
        self._models = list(models)
        self._size = cache(self._size_of)
        self._known: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in _finished(folders):
            key = tuple(row.get(name) for name in _LIKE)
            for length in (len(_LIKE), len(_LIKE) - 1):
                self._known.setdefault(key[:length], []).append(row)
        self._of = cache(self._from_runs)

    def of(self, cell: PlannedCell) -> Cost:
        """From runs of the same settings, else of any method, else by rule of thumb."""
        key = tuple(cell.choice(n) if n in ("model", "tuning", "task", "method") else cell.get(n) for n in _LIKE)
        for length in (len(_LIKE), len(_LIKE) - 1):
            if key[:length] in self._known and _trains(cell):
                per_forward, gib, gpu = self._of(key[:length])
                return Cost(per_forward * forwards(cell), gib, gpu, rough=False)
        return self._rough(cell)

    def _from_runs(self, key: tuple[Any, ...]) -> tuple[float, float | None, bool]:
        """Median seconds per forward pass, the largest peak memory, and whether they ran on a GPU."""
        rows = self._known[key]
        gpu = str(rows[-1]["device"]).startswith("cuda")
        peaks = [row["peak_gib"] for row in rows if row.get("peak_gib")]
        return median(row["wall_seconds"] / row["forwards"] for row in rows), max(peaks, default=None), gpu

    def _rough(self, cell: PlannedCell) -> Cost:
        size = self._size(cell.choice("model"))
        device, dtype = str(cell.get("device")), str(cell.get("dtype"))
        gpu = device.startswith("cuda") or (device == "auto" and (size or 0) >= ON_GPU)
        if size is None:
            return Cost(None, None, gpu, rough=True)
        speed = (GPU_16BIT if _BYTES[dtype] == 2 else GPU_FLOAT32) if gpu else CPU
        tokens = TOKENS.get(cell.choice("task"), OTHER_TOKENS) * cell.get("batch_size")
        first_order = _trains(cell) and not _zeroth_order(cell)
        each = max(LEAST_SECONDS, 2 * size * tokens * (3 if first_order else 1) / speed)
        # Where frozen layers are computed once, what is left of a forward pass is not known from the size.
        seconds = forwards(cell) * each if cell.get("tuning.layers") is None else None
        weights = size * _BYTES[dtype] / 2**30
        trained = weights if cell.choice("tuning") == "full" else 0.0
        return Cost(seconds, 1.15 * weights + 1 + (3 * trained if first_order else 0), gpu, rough=True)

    def _size_of(self, model: str) -> float | None:
        """Parameters, as the model's name or the first line of its file says."""
        files = [folder / "model" / f"{model}.yaml" for folder in self._models]
        for text in (model, *(describe(file) for file in files if file.is_file())):
            if match := _SIZE.search(text):
                number, unit = match[1] or match[3], match[2] or match[4]
                return float(number) * _UNITS[unit.lower()]
        return None


def budget(cell: PlannedCell) -> dict[str, int | None]:
    """The two ways in which a run's end is set; it ends at whichever is reached first."""
    steps, forwards = cell.get("steps"), cell.get("forwards")
    if steps is None and forwards is None:
        forwards = DEFAULT_FORWARDS
    return {"steps": steps, "forwards": forwards}


def forwards(cell: PlannedCell) -> float:
    """Forward passes of a cell's budget; a zeroth-order step counts as one for each probe, at least two."""
    if not _trains(cell):
        return 0
    limits = budget(cell)
    per_step = max(2, cell.get("method.probes") or 0) if _zeroth_order(cell) else 1
    found = (limits["forwards"], None if limits["steps"] is None else limits["steps"] * per_step)
    return min(limit for limit in found if limit is not None)


def _trains(cell: PlannedCell) -> bool:
    """Methods that train have a learning rate. Their classes would say so too, but importing them takes seconds."""
    return cell.get("method.lr") is not None


def _zeroth_order(cell: PlannedCell) -> bool:
    """Methods that evaluate at offsets say in which mode."""
    return cell.get("method.mode") is not None


def _finished(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for directory in summaries.directories(folder):
            try:
                row = summaries.read(directory / "summary.json")
            except (OSError, ValueError):
                continue
            if row["state"] == "finished" and row.get("forwards") and row.get("wall_seconds"):
                yield row
