"""The hours and the memory of a cell: from finished runs like it, else by a rule of thumb from its model and task."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from zobench.errors import ConfigError
from zobench.models.own import stored_parameters
from zobench.record import summaries
from zobench.record.reading import Unreadable
from zobench.record.runs import find
from zobench.run.budget import Spending
from zobench.sweep.plan import PlannedCell
from zobench.sweep.prices import Prices
from zobench.sweep.rates import Rates, evaluations, rates
from zobench.tasks.base import TYPICAL_TOKENS, one_set

#: floating-point operations per second that a forward pass reaches: about 40 % of an A100's, and two CPU cores'
GPU_16BIT, GPU_FLOAT32, CPU = 125e12, 8e12, 0.1e12
#: what a forward pass takes at least, however small the model
LEAST_SECONDS = 5e-3
#: in automatic choice of the device, models of this size and above are taken to run on a GPU
ON_GPU = 1e9
ASSUMPTIONS = (
    f"rough (~): forward passes of 2 x parameters x tokens operations at {GPU_16BIT / 1e12:g} TFLOP/s on a GPU in 16 "
    f"bits, {GPU_FLOAT32 / 1e12:g} in float32, {CPU / 1e12:g} on a CPU, and {1000 * LEAST_SECONDS:g} ms at least; a "
    "backward pass as two of them; examples as long as their task's key tokens says; device=auto is a GPU from 1B "
    "parameters; memory is the weights, 15 % and 1 GiB, for AdamW three times the trainable weights more. Noise and "
    "evaluations are left out."
)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: settings that decide what a forward pass costs, the least important last
_LIKE = ("model", "tuning", "dtype", "batch_size", "task", "method")


@dataclass(frozen=True)
class Cost:
    """What one cell takes.

    Attributes:
        spending: steps, forward and backward passes, exactly; None if its run would refuse its settings.
        seconds: of wall time; None if there is no rule for it.
        gib: peak memory; None if the model's size is not known.
        gpu: whether it is expected to run on a GPU.
        rough: seconds are a guess: by rule of thumb, memory too; or from short runs.
        refusal: what its run would say to its settings.
        short: the guess is from runs too short to say what a step takes; the memory is theirs.
    """

    spending: Spending | None
    seconds: float | None
    gib: float | None
    gpu: bool
    rough: bool
    refusal: str = ""
    short: bool = False


class Costs:
    """Exact prices of cells, and estimates of hours and memory from the finished runs below some folders.

    Args:
        folders: where runs are looked for, at any depth.
    """

    def __init__(self, folders: Iterable[Path]):
        self._prices, self._folders = Prices(), list(folders)
        self._of = cache(self._from_runs)

    @cached_property
    def _known(self) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        """The rows of finished runs by what they have in common; read once something is left to be estimated."""
        known: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in _finished(self._folders):
            key = tuple(row.get(name) for name in _LIKE)
            for length in (len(_LIKE), len(_LIKE) - 1):
                known.setdefault(key[:length], []).append(row)
        return known

    def of(self, cell: PlannedCell) -> Cost:
        """What a cell costs: as runs of the same settings did, else as those of any method, else by rule of thumb."""
        try:
            spending = self._prices.of(cell)
        except Exception as error:  # the class may be anybody's, and raise anything
            why = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            return Cost(None, None, None, gpu=_on_gpu(cell), rough=True, refusal=why)
        key = tuple(cell.choice(n) if n in ("model", "tuning", "task", "method") else cell.get(n) for n in _LIKE)
        for length in (len(_LIKE), len(_LIKE) - 1):
            if key[:length] in self._known:
                known = self._of(key[:length])
                if spending.forwards and known.forward is None:  # they only evaluated
                    continue
                short = bool(spending.forwards) and not known.steady
                return Cost(spending, _seconds(cell, spending, known), known.gib, known.gpu, rough=short, short=short)
        return _rough(cell, spending)

    def _from_runs(self, key: tuple[Any, ...]) -> Rates:
        return rates(self._known[key])


def _seconds(cell: PlannedCell, spending: Spending, known: Rates) -> float:
    """What a cell takes at the rates of runs like it: its steps, its evaluations, and the start."""
    named, name = cell.get("task.splits") or {}, cell.get("data.splits") or cell.choice("protocol")
    splits = named if one_set(named) else named.get(name) or {}
    asked = [splits.get(name) for name in ("dev", "test")]  # a share is of a file that is not read here
    sizes = [size if isinstance(size, int) else then for size, then in zip(asked, known.sizes, strict=True)]
    often = evaluations(spending.steps, cell.get("eval_every"))
    examples = sum(size * times for size, times in zip(sizes, often, strict=True))
    return known.before + (known.forward or 0.0) * spending.forwards + (known.example or 0.0) * examples


def _rough(cell: PlannedCell, spending: Spending) -> Cost:
    size, gpu = _parameters(cell), _on_gpu(cell)
    if size is None:
        return Cost(spending, None, None, gpu, rough=True)
    width = _BYTES[str(cell.get("dtype"))]
    speed = (GPU_16BIT if width == 2 else GPU_FLOAT32) if gpu else CPU
    tokens = (cell.get("task.tokens") or TYPICAL_TOKENS) * cell.get("batch_size")
    passes = spending.forwards + 2 * spending.backwards
    # Where frozen layers are computed once, what is left of a forward pass is not known from the size.
    seconds = passes * max(LEAST_SECONDS, 2 * size * tokens / speed) if cell.get("tuning.layers") is None else None
    weights = size * width / 2**30
    trained = 3 * weights if cell.choice("tuning") == "full" and spending.backwards else 0.0
    return Cost(spending, seconds, 1.15 * weights + 1 + trained, gpu, rough=True)


def _on_gpu(cell: PlannedCell) -> bool:
    device = str(cell.get("device"))
    return device.startswith("cuda") or (device == "auto" and (_parameters(cell) or 0) >= ON_GPU)


def _parameters(cell: PlannedCell) -> int | None:
    """The size of a cell's model: by its option, or by the files of its folder."""
    said, folder = cell.get("model.parameters"), cell.get("model.dir")
    return stored_parameters(Path(folder).expanduser()) if said is None and folder else said


def _finished(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for directory in find(folder).runs if folder.is_dir() else ():
            try:
                row = summaries.read(directory)
            except Unreadable:
                continue
            if row["state"] == "finished" and row.get("wall_seconds"):
                yield row
