"""Files of tensors that carry a checksum of what is in them, and are not read where it does not fit."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zobench.errors import DataError
from zobench.record import digests


def bytes_of(tensor: Tensor) -> Any:
    """The bytes of a tensor, for a hash."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits of the SHA-256 over names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()[:16]


def save(path: Path, tensors: Mapping[str, Tensor], **values: Any) -> str:
    """Write tensors and JSON values into a safetensors file, with a checksum of both; the checksum of the tensors."""
    from safetensors.torch import save_file

    own = checksum(tensors)
    text = json.dumps(values)
    save_file(dict(tensors), path, metadata={"checksum": own, "values": text, "seal": _seal(tensors, own, text)})
    return own


def load(path: Path, expected: str | None = None, *, check: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save`` wrote: tensors by name, and the values. Files of earlier versions have no checksums.

    Args:
        expected: the checksum of the tensors, where it is known from elsewhere.
        check: off to take tensors whose checksum does not fit.

    Raises:
        DataError: if the file is not there, damaged, or another one.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: not there")
    try:
        with safe_open(path, framework="pt") as file:
            stored = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
    if not check or (not stored and expected is None):
        return tensors, {}
    own = checksum(tensors)
    text = stored.get("values", "{}")
    if expected not in (None, own) or (stored and stored.get("seal") != _seal(tensors, own, text)):
        raise DataError(f"{path}: damaged (its content hashes to {own}, not to {expected or stored.get('checksum')})")
    return tensors, json.loads(text)


def _seal(tensors: Mapping[str, Tensor], own: str, text: str) -> str:
    """A hash of all that a file holds: also dtypes, shapes and values."""
    kinds = [[name, str(tensors[name].dtype), [*tensors[name].shape]] for name in sorted(tensors)]
    return digests.of(json.dumps([own, kinds, text]).encode())
