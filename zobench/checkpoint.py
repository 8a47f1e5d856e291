"""Checkpoints: safetensors and JSON, written to a scratch folder and renamed, so that a run is never left with half."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from zobench.errors import UserError
from zobench.zo.method import StateDict
from zobench.zo.slot import Slot


class CheckpointError(UserError):
    """A checkpoint cannot be written: a full disk, a quota, a folder without permission."""

    def __init__(self, path: Path, error: Exception):
        super().__init__(
            f"checkpoint {path} cannot be written: {error}; make room there, then the same command goes on from the "
            "checkpoint before"
        )


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on: trainable weights by name, method state, and the runner's own values."""

    weights: dict[str, Tensor]
    method: StateDict
    run: dict[str, Any]


def save(folder: Path, slots: list[Slot], method: StateDict, run: Mapping[str, Any]) -> None:
    """Write ``folder/step-N`` and remove older steps. Raises OSError if the disk is full; older steps then stay."""
    from safetensors.torch import save_file

    target = folder / f"step-{int(method['t']):08d}"
    scratch = folder / f".{target.name}.{os.getpid()}"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        save_file(weights_of(slots), scratch / "weights.safetensors")
        tensors = {k: v.detach().cpu().contiguous() for k, v in method.items() if isinstance(v, Tensor)}
        save_file(tensors, scratch / "method.safetensors")
        scalars = {k: v for k, v in method.items() if not isinstance(v, Tensor)}
        text = json.dumps({"method": scalars, "run": run})
        (scratch / "state.json").write_text(text, encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(scratch, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in (*folder.glob("step-*"), *folder.glob(".step-*")):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint, or None."""
    from safetensors.torch import load_file

    found = sorted(folder.glob("step-*/state.json"))
    if not found:
        return None
    path = found[-1].parent
    state = json.loads(found[-1].read_text(encoding="utf-8"))
    method = {**state["method"], **load_file(path / "method.safetensors")}
    return Checkpoint(load_file(path / "weights.safetensors"), method, state["run"])


def save_best(folder: Path, slots: list[Slot], step: int) -> None:
    """Keep the trainable weights of the best dev evaluation as ``folder/best-N.safetensors``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"best-{step:08d}.safetensors"
    scratch = folder / f".{target.name}.{os.getpid()}"
    try:
        save_file(weights_of(slots), scratch)
        os.replace(scratch, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(target, error) from error
    finally:
        scratch.unlink(missing_ok=True)


def prune_best(folder: Path, keep: int) -> None:
    """Remove the weights of best evaluations other than that of step ``keep``."""
    for old in folder.glob("best-*.safetensors"):
        if old.name != f"best-{keep:08d}.safetensors":
            old.unlink(missing_ok=True)


def finish(folder: Path, *, keep_weights: bool) -> None:
    """Of a finished run only the best weights are kept, or nothing."""
    for old in folder.glob("step-*"):
        shutil.rmtree(old, ignore_errors=True)
    if not keep_weights:
        shutil.rmtree(folder, ignore_errors=True)


def load_best(folder: Path, step: int) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / f"best-{step:08d}.safetensors")


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
