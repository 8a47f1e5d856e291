"""The shelf: activations of frozen layers on disk, so that the runs of a sweep compute them once.

A file is named by a hash of all that its numbers depend on, and holds the very bits that computing again would give.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
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
    """

    def __init__(self, folder: Path, *, limit_bytes: int = 4 * 2**30, worth_seconds: float = 5.0):
        self.folder, self.limit_bytes, self.worth_seconds = folder, limit_bytes, worth_seconds

    def name(self, model: Any, cut: str, batch_rows: int, tails: Sequence[Tail]) -> str:
        """The name of a file: a hash of frozen weights, requests in order, and what decides how sums are rounded.

        Args:
            model: with its trainable parameters marked by ``requires_grad``.
            cut: names the kind of cut.
            batch_rows: sequences per forward pass when the activations are computed.
            tails: the requests, one for each tensor of the file.
        """
        import transformers

        param = next(model.parameters())
        facts = {
            "versions": [torch.__version__, transformers.__version__],
            "machine": [param.device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
            "model": [model.config.to_json_string(), model.config._attn_implementation, cut, batch_rows],
            "tails": tails,
        }
        digest = hashlib.sha256(json.dumps(facts).encode())
        for name, tensor in model.named_parameters():
            if not tensor.requires_grad:
                digest.update(f"{name} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    def load(self, name: str) -> list[Tensor] | None:
        """The tensors of a file, one for each request; None if there is no such file or it is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / f"{name}.safetensors"
        try:
            tensors = load_file(path)
            os.utime(path)
        except (OSError, SafetensorError):
            return None
        return list(tensors["entries"].split(tensors["lengths"].tolist()))

    def store(self, name: str, entries: Sequence[Tensor]) -> None:
        """Keep tensors, one for each request. A full disk only means that the next run computes again.

        Args:
            entries: 2-D, positions × features, alike in dtype and features.
        """
        from safetensors.torch import save_file

        lengths = torch.tensor([len(entry) for entry in entries])
        with contextlib.suppress(OSError):
            with replacing(self.folder / f"{name}.safetensors") as scratch:
                save_file({"entries": torch.cat(list(entries)).cpu(), "lengths": lengths}, scratch)
            self._prune()

    def _prune(self) -> None:
        """Delete the longest unused files until the folder is within its limit."""
        files = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        used = 0
        for path in files:
            used += path.stat().st_size
            if used > self.limit_bytes:
                path.unlink(missing_ok=True)
