"""Checkpoints: how far a run has come, and now and then the weights. JSON and safetensors, written atomically.

``state.json`` is small: the step, and what the runner remembers. The weights and the method's state at that step follow
from the base model and the trajectory. A snapshot holds them, and shortens the way: the newest is enough.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zobench.atomic import remove, replacing, write_atomically
from zobench.errors import DataError
from zobench.record import contents, digests, reading, tensors
from zobench.record.archive import LIMIT
from zobench.record.reading import Missing, Unreadable
from zobench.zo.method import StateDict
from zobench.zo.slot import Slot

_DIGEST = ', "digest": '


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_clocks(value: Any) -> bool:
    if not isinstance(value, dict) or not all(isinstance(value.get(name), dict) for name in ("wall", "cpu")):
        return False
    return all(type(x) in (int, float) for x in (value.get("total"), *value["wall"].values(), *value["cpu"].values()))


#: what every state.json holds; the last two are missing in those of earlier versions
_STATE: dict[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "progress": lambda value: isinstance(value, dict),
    "clocks": _is_clocks,
    "device": _is_text,
    "rows_hash": _is_text,
    "base_checksum": _is_text,
    "model_checksum": lambda value: value is None or _is_text(value),
    "shards": lambda value: value is None or _is_count(value),
    "peak": lambda value: value is None or _is_count(value),
}


@dataclass(frozen=True)
class Snapshot:
    """Trainable weights by name, and the method's state, after a step."""

    weights: dict[str, Tensor]
    method: StateDict


def save(folder: Path, step: int, run: Mapping[str, Any]) -> None:
    """Write ``folder/state.json``, with a digest of its text; all that it speaks of must be on disk by then.

    Args:
        folder: the run's ``checkpoint`` folder.
        step: the last step that was taken.
        run: what the runner must remember, JSON-able.

    Raises:
        CannotWrite: if that fails; the checkpoint before stays.
    """
    write_atomically(folder / "state.json", _sealed(json.dumps({**run, "step": step})))


def load(folder: Path) -> dict[str, Any] | None:
    """Read what was saved last, ``step`` among it; None if there is no checkpoint.

    Raises:
        DataError: if the file is damaged.
    """
    path = folder / "state.json"
    try:
        text = reading.text(path, LIMIT)
        content = json.loads(text)
    except Missing:
        return None
    except Unreadable as error:
        raise DataError(f"{path.parent / error.said}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not the state of a run")
    digest = content.pop("digest", None)
    if digest is not None and text != _sealed(text.rpartition(_DIGEST)[0] + "}"):
        raise DataError(f"{path}: changed since it was written")
    expected = _STATE if digest is None else _STATE.keys() & content.keys()
    if wrong := [name for name in expected if not _STATE[name](content.get(name))]:
        raise DataError(f"{path}: damaged ({wrong[0]} is {str(content.get(wrong[0]))[:40]})")
    if digest is None and (strange := content.keys() - _STATE.keys()):
        raise DataError(f"{path}: damaged ({min(strange)} in a state without a digest)")
    return content


def save_snapshot(folder: Path, slots: list[Slot], method: StateDict) -> dict[str, Any]:
    """Write weights and the method's state as ``folder/step-N``. Raises CannotWrite if that fails.

    Returns:
        Its step and checksums, for ``load_snapshot``.
    """
    step = int(method["t"])
    with replacing(folder / f"step-{step:08d}", durable=True) as scratch:
        scratch.mkdir(exist_ok=True)
        weights = tensors.save(scratch / "weights.safetensors", weights_of(slots))
        state = {k: v.detach().cpu().contiguous() for k, v in method.items() if isinstance(v, Tensor)}
        scalars = {k: v for k, v in method.items() if not isinstance(v, Tensor)}
        return {
            "step": step,
            "weights": weights,
            "method": tensors.save(scratch / "method.safetensors", state, **scalars),
        }


def load_snapshot(
    folder: Path, upto: int, mark: Mapping[str, Any] | None = None, say: Callable[[str], None] = lambda text: None
) -> Snapshot | None:
    """Read the newest snapshot of a step up to ``upto`` that is whole; None if there is none.

    Args:
        upto: the number of a step.
        mark: what ``save_snapshot`` gave for the last one.
        say: is told of those that are damaged.
    """
    for path in reversed(_snapshots(folder, upto)):
        known = mark if mark and mark["step"] == _step_of(path) else {}
        try:
            weights, _ = tensors.load(path / "weights.safetensors", known.get("weights"))
            state, scalars = tensors.load(path / "method.safetensors", known.get("method"))
            return Snapshot(weights, (scalars or _former_scalars(path)) | state)
        except DataError as error:
            say(str(error))
    return None


def _former_scalars(path: Path) -> dict[str, Any]:
    """The numbers of a method's state, which earlier versions kept in a file of their own."""
    file = path / "method.json"
    try:
        scalars = reading.json_object(file)
    except Unreadable as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    if not all(isinstance(scalars.get(k), int) for k in ("t", "forwards", "backwards")):
        raise DataError(f"{file}: not a method's state")
    return scalars


def best_path(folder: Path, step: int) -> Path:
    """Name the file of the best weights, those of the dev evaluation after ``step``."""
    return folder / f"best-{step:08d}.safetensors"


def save_best(folder: Path, slots: list[Slot], step: int) -> str:
    """Keep the trainable weights of the best dev evaluation so far; their checksum.

    Raises:
        CannotWrite: if that fails.
    """
    with replacing(best_path(folder, step), durable=True) as scratch:
        return tensors.save(scratch, weights_of(slots))


def load_best(folder: Path, step: int, expected: str | None = None, *, check: bool = True) -> dict[str, Tensor]:
    """Read the weights that ``save_best`` kept after a step, by name.

    Args:
        expected: what ``save_best`` gave, where that is known.
        check: off to take weights whose checksum does not fit.

    Raises:
        DataError: if the file is not there, damaged, or another one.
    """
    return tensors.load(best_path(folder, step), expected, check=check)[0]


def prune(folder: Path, step: int, best: int | None) -> None:
    """Remove what a run saved at ``step`` does not need: older snapshots, half-written files, former best weights."""
    former = set(folder.glob("best-*.safetensors")) - {best_path(folder, best)} if best is not None else set()
    for old in (*_snapshots(folder, step)[:-1], *folder.glob(".*"), *former):
        remove(old)


def _snapshots(folder: Path, upto: int) -> list[Path]:
    """The snapshots of steps up to ``upto``, oldest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-[0-9]{8,15}", path.name)]
    return sorted((path for path in found if _step_of(path) <= upto), key=_step_of)


def _step_of(snapshot: Path) -> int:
    return int(snapshot.name.removeprefix("step-"))


def finish(folder: Path, *, keep_weights: bool) -> None:
    """Clear the checkpoints of a finished run, but for the best weights if they are to be kept."""
    contents.clear_checkpoints(folder, keep_weights=keep_weights)


def weights_of(slots: list[Slot]) -> dict[str, Tensor]:
    """The trainable weights by name, on the CPU."""
    return {slot.name: slot.param.detach().cpu().contiguous() for slot in slots}


@torch.no_grad()
def restore(slots: list[Slot], weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the slots by name.

    Raises:
        DataError: if they are not those of the slots by names, shapes and dtypes; then no weight is changed.
    """
    if names := {slot.name for slot in slots} ^ weights.keys():
        raise DataError(f"weights of other tensors than those that train here: {', '.join(sorted(names)[:3])}")
    for slot in slots:
        held, here = weights[slot.name], slot.param
        if (held.shape, held.dtype) != (here.shape, here.dtype):
            raise DataError(
                f"weights of another kind: {slot.name} is {held.dtype} {[*held.shape]}, "
                f"here it is {here.dtype} {[*here.shape]}"
            )
    for slot in slots:
        slot.param.copy_(weights[slot.name])


def checksum(slots: list[Slot]) -> str:
    """16 hex digits of the SHA-256 over names and bytes of the trainable weights, in the order of their names."""
    return tensors.checksum({slot.name: slot.param for slot in slots})


def checksums(as_loaded: Mapping[str, Tensor], slots: list[Slot]) -> tuple[str, str]:
    """``checksum`` of the trainable weights, and the same over a whole model as it was loaded, frozen part included.

    Where all of it trains, and nothing else, the two are one, and the weights are hashed once.

    Args:
        as_loaded: the model's parameters by name, without what a tuning added.
        slots: what trains.
    """
    own = checksum(slots)
    whole = {slot.name: id(slot.param) for slot in slots} == {name: id(each) for name, each in as_loaded.items()}
    return own, own if whole else tensors.checksum(as_loaded)


def _sealed(text: str) -> str:
    """The text of a JSON object, with its digest as the last value."""
    return f'{text[:-1]}{_DIGEST}"{digests.of(text.encode())}"}}'
