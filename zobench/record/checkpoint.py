"""Checkpoints: how far a run has come, and now and then the weights. JSON and safetensors, written atomically.

``state.json`` is small: the step, and what the runner remembers. The weights and the method's state at that step follow
from the base model and the trajectory. A snapshot holds them, and shortens the way: the newest is enough.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from zobench.record.atomic import write_atomically, writing
from zobench.zo.method import StateDict
from zobench.zo.slot import Slot


@dataclass(frozen=True)
class Snapshot:
    """Trainable weights by name, and the method's state."""

    weights: dict[str, Tensor]
    method: StateDict


def save(folder: Path, step: int, run: Mapping[str, Any]) -> None:
    """Write ``folder/state.json``; the trajectory must be on disk by then.

    Raises:
        CannotWrite: if it cannot be written; the one before stays.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "state.json", json.dumps({"step": step, **run}))


def load(folder: Path) -> dict[str, Any] | None:
    """What was saved last, ``step`` among it, or None."""
    path = folder / "state.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def save_snapshot(folder: Path, slots: list[Slot], method: StateDict) -> None:
    """Write ``folder/step-N``. Raises CannotWrite if that fails."""
    from safetensors.torch import save_file

    target = folder / f"step-{int(method['t']):08d}"
    scratch = folder / f".{target.name}.{os.getpid()}"
    try:
        with _writing(target):
            scratch.mkdir(parents=True, exist_ok=True)
            save_file(weights_of(slots), scratch / "weights.safetensors")
            tensors = {k: v.detach().cpu().contiguous() for k, v in method.items() if isinstance(v, Tensor)}
            save_file(tensors, scratch / "method.safetensors")
            scalars = {k: v for k, v in method.items() if not isinstance(v, Tensor)}
            (scratch / "method.json").write_text(json.dumps(scalars), encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load_snapshot(folder: Path, upto: int) -> Snapshot | None:
    """The newest snapshot of a step up to ``upto``, or None."""
    from safetensors.torch import load_file

    found = _snapshots(folder, upto)
    if not found:
        return None
    path = found[-1]
    scalars = json.loads((path / "method.json").read_text(encoding="utf-8"))
    return Snapshot(load_file(path / "weights.safetensors"), scalars | load_file(path / "method.safetensors"))


def save_best(folder: Path, slots: list[Slot], step: int) -> None:
    """Keep the trainable weights of the best dev evaluation as ``folder/best-N.safetensors``."""
    from safetensors.torch import save_file

    target = folder / f"best-{step:08d}.safetensors"
    scratch = folder / f".{target.name}.{os.getpid()}"
    try:
        with _writing(target):
            folder.mkdir(parents=True, exist_ok=True)
            save_file(weights_of(slots), scratch)
            os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def load_best(folder: Path, step: int) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / f"best-{step:08d}.safetensors")


def prune(folder: Path, step: int, best: int | None) -> None:
    """Remove what a run saved at ``step`` does not need: older snapshots, broken ones, former best weights."""
    for old in (*_snapshots(folder, step)[:-1], *folder.glob(".step-*")):
        shutil.rmtree(old, ignore_errors=True)
    for old in folder.glob("best-*.safetensors") if best is not None else ():
        if old.name != f"best-{best:08d}.safetensors":
            old.unlink(missing_ok=True)


def _snapshots(folder: Path, upto: int) -> list[Path]:
    """Those of steps up to ``upto``, oldest first."""
    return sorted(path for path in folder.glob("step-*") if int(path.name.removeprefix("step-")) <= upto)


def finish(folder: Path, *, keep_weights: bool) -> None:
    """Of a finished run only the best weights are kept, or nothing."""
    if not keep_weights:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for old in folder.glob("step-*"):
        shutil.rmtree(old, ignore_errors=True)
    (folder / "state.json").unlink(missing_ok=True)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """The same for files of safetensors, whose errors are of a kind of their own."""
    with writing(target):
        try:
            yield
        except SafetensorError as error:
            raise OSError(str(error)) from error


def weights_of(slots: list[Slot]) -> dict[str, Tensor]:
    return {slot.name: slot.param.detach().cpu().contiguous() for slot in slots}


@torch.no_grad()
def restore(slots: list[Slot], weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the slots by name."""
    for slot in slots:
        slot.param.copy_(weights[slot.name])


def checksum(slots: list[Slot]) -> str:
    """16 hex digits of the SHA-256 over names and bytes of the trainable weights."""
    import hashlib

    digest = hashlib.sha256()
    for slot in sorted(slots, key=lambda s: s.name):
        digest.update(slot.name.encode())
        digest.update(slot.param.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
