"""The shelf: activations of frozen layers on disk, so that the runs of a sweep compute them once.

A file is named by a hash of all that its numbers depend on, and holds the very bits that computing again would give.
It carries a digest of its name and content; where that does not fit, the file is removed and computed again.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zobench.atomic import replacing
from zobench.objective.cuts import Tail


class Shelf:
    """A folder of activations; the longest unused are dropped when it grows past its limit.

    Args:
        folder: made when something is first kept.
        limit_bytes: largest size of the folder.
        worth_seconds: what took no longer to compute is not kept.

    Attributes:
        complaints: a line for each file that was damaged.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = 4 * 2**30, worth_seconds: float = 5.0):
        self.folder, self.limit_bytes, self.worth_seconds = folder, limit_bytes, worth_seconds
        self.complaints: list[str] = []

    def name(self, model: Any, frozen: bytes, cut: str, batch_rows: int, tails: Sequence[Tail]) -> str:
        """The name of a file: a hash of frozen weights, requests in order, and what decides how sums are rounded.

        Args:
            frozen: of ``digest_of_frozen``.
            cut: names the kind of cut.
            batch_rows: sequences per forward pass when the activations are computed.
            tails: the requests, one for each tensor of the file.
        """
        import transformers

        device = next(model.parameters()).device.type
        facts = {
            "versions": [torch.__version__, transformers.__version__],
            "machine": [device, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
            "model": [model.config.to_json_string(), model.config._attn_implementation, cut, batch_rows],
            "tails": tails,
        }
        return hashlib.sha256(frozen + json.dumps(facts).encode()).hexdigest()[:32]

    def has(self, name: str) -> bool:
        """Whether there is a file of a name."""
        return self._path(name).exists()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def load(self, name: str, requests: int) -> list[Tensor] | None:
        """The tensors of a file, one for each request; None if there is no such file, or it was damaged.

        Args:
            name: of the file, by ``name``.
            requests: how many tensors it must hold.
        """
        path = self._path(name)
        try:
            if not path.exists():
                return None
            entries = _read(path, name)
            if len(entries) != requests:
                raise ValueError(f"{len(entries)} entries, not {requests}")
            os.utime(path)
            return entries
        except Exception as error:  # whatever a damaged file brings about: computing again is always right
            self.complaints.append(f"{path}: damaged ({str(error).splitlines()[0][:120]}); computed again")
            if path.is_file():
                with contextlib.suppress(OSError):
                    path.unlink()
            return None

    def store(self, name: str, entries: Sequence[Tensor]) -> None:
        """Keep tensors, one for each request. A full disk only means that the next run computes again.

        Args:
            entries: 2-D, positions × features, alike in dtype and features.
        """
        from safetensors.torch import save_file

        tensors = {"entries": torch.cat(list(entries)).cpu(), "lengths": torch.tensor([len(x) for x in entries])}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"{name}.safetensors") as scratch:
                save_file(tensors, scratch, metadata={"digest": _digest(name, tensors)})
            self._prune()

    def _prune(self) -> None:
        """Delete the longest unused files until the folder is within its limit."""
        files = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        used = 0
        for path in files:
            used += path.stat().st_size
            if used > self.limit_bytes:
                path.unlink(missing_ok=True)


def digest_of_frozen(model: Any) -> bytes:
    """The SHA-256 of all weights that do not train, with their names; half a second for half a gigabyte."""
    digest = hashlib.sha256()
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            digest.update(f"{name} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.digest()


def _read(path: Path, name: str) -> list[Tensor]:
    """The tensors of a file. Raises whatever a damaged one brings about."""
    from safetensors import safe_open

    if not path.is_file():  # a pipe would never end
        raise ValueError("not a file")
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        digest = (file.metadata() or {}).get("digest")
    if digest != _digest(name, tensors):
        raise ValueError("its content is not that of its digest")
    return list(tensors["entries"].split(tensors["lengths"].tolist()))


def _digest(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The CRC-32 of a file's name, and of names, dtypes, shapes and bytes of its tensors.

    It is against damage, which it notices four times as fast as a SHA-256; it takes about as long as reading the file.
    """
    crc = zlib.crc32(name.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        crc = zlib.crc32(f"{key} {tensor.dtype} {[*tensor.shape]} ".encode(), crc)
        crc = zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
