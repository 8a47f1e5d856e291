"""Checkpoints: how far a run has come, and now and then the weights. JSON and safetensors, written atomically.

``state.json`` is small: the step, and what the runner remembers. The weights and the method's state at that step follow
from the base model and the trajectory. A snapshot holds them, and shortens the way: the newest is enough.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zobench.atomic import remove, replacing, write_atomically
from zobench.zo.method import StateDict
from zobench.zo.slot import Slot


@dataclass(frozen=True)
class Snapshot:
    """Trainable weights by name, and the method's state, after a step."""

    weights: dict[str, Tensor]
    method: StateDict


def save(folder: Path, step: int, run: Mapping[str, Any]) -> None:
    """Write ``folder/state.json``; the trajectory must be on disk by then.

    Args:
        folder: the run's ``checkpoint`` folder.
        step: the last step that was taken.
        run: what the runner must remember, JSON-able.

    Raises:
        CannotWrite: if that fails; the checkpoint before stays.
    """
    write_atomically(folder / "state.json", json.dumps({"step": step, **run}))


def load(folder: Path) -> dict[str, Any] | None:
    """Read what was saved last, ``step`` among it; None if there is no checkpoint."""
    path = folder / "state.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def save_snapshot(folder: Path, slots: list[Slot], method: StateDict) -> None:
    """Write weights and the method's state as ``folder/step-N``. Raises CannotWrite if that fails."""
    from safetensors.torch import save_file

    with replacing(folder / f"step-{int(method['t']):08d}") as scratch:
        scratch.mkdir(exist_ok=True)
        save_file(weights_of(slots), scratch / "weights.safetensors")
        tensors = {k: v.detach().cpu().contiguous() for k, v in method.items() if isinstance(v, Tensor)}
        save_file(tensors, scratch / "method.safetensors")
        scalars = {k: v for k, v in method.items() if not isinstance(v, Tensor)}
        (scratch / "method.json").write_text(json.dumps(scalars), encoding="utf-8")


def load_snapshot(folder: Path, upto: int) -> Snapshot | None:
    """Read the newest snapshot of a step up to ``upto``; None if there is none."""
    from safetensors.torch import load_file

    snapshots = _snapshots(folder, upto)
    if not snapshots:
        return None
    path = snapshots[-1]
    scalars = json.loads((path / "method.json").read_text(encoding="utf-8"))
    return Snapshot(load_file(path / "weights.safetensors"), scalars | load_file(path / "method.safetensors"))


def best_path(folder: Path, step: int) -> Path:
    """Name the file of the best weights, those of the dev evaluation after ``step``."""
    return folder / f"best-{step:08d}.safetensors"


def save_best(folder: Path, slots: list[Slot], step: int) -> None:
    """Keep the trainable weights of the best dev evaluation so far. Raises CannotWrite if that fails."""
    from safetensors.torch import save_file

    with replacing(best_path(folder, step)) as scratch:
        save_file(weights_of(slots), scratch)


def load_best(folder: Path, step: int) -> dict[str, Tensor]:
    """Read the weights that ``save_best`` kept after a step, by name."""
    from safetensors.torch import load_file

    return load_file(best_path(folder, step))


def prune(folder: Path, step: int, best: int | None) -> None:
    """Remove what a run saved at ``step`` does not need: older snapshots, half-written files, former best weights."""
    former = set(folder.glob("best-*.safetensors")) - {best_path(folder, best)} if best is not None else set()
    for old in (*_snapshots(folder, step)[:-1], *folder.glob(".*"), *former):
        remove(old)


def _snapshots(folder: Path, upto: int) -> list[Path]:
    """The snapshots of steps up to ``upto``, oldest first."""
    return sorted(path for path in folder.glob("step-*") if int(path.name.removeprefix("step-")) <= upto)


def finish(folder: Path, *, keep_weights: bool) -> None:
    """Clear the checkpoints of a finished run, but for the best weights if they are to be kept."""
    for path in (*folder.glob("step-*"), folder / "state.json") if keep_weights else (folder,):
        remove(path)


def weights_of(slots: list[Slot]) -> dict[str, Tensor]:
    """The trainable weights by name, on the CPU."""
    return {slot.name: slot.param.detach().cpu().contiguous() for slot in slots}


@torch.no_grad()
def restore(slots: list[Slot], weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the slots by name."""
    for slot in slots:
        slot.param.copy_(weights[slot.name])


def checksum(slots: list[Slot]) -> str:
    """16 hex digits of the SHA-256 over names and bytes of the trainable weights, in the order of their names."""
    return _checksum({slot.name: slot.param for slot in slots})


def checksums(model: nn.Module, slots: list[Slot]) -> tuple[str, str]:
    """``checksum`` of the trainable weights, and the same over all parameters of their model, frozen ones included.

    Where all of them train, the two are one, and the weights are hashed once.
    """
    trained = {id(slot.param) for slot in slots}
    own = checksum(slots)
    whole = all(id(param) in trained for param in model.parameters())
    return own, own if whole else _checksum(dict(model.named_parameters()))


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
