"""A model of one's own by its label, which takes the place of the option's name: in rows, tables, folders and names.

``model=local`` is called after the folder and what is in it, ``my-qwen2@1f3a9c02``, and ``model=hub`` after repository
and revision, ``Qwen--Qwen2-0.5B@91d2aff3``. Two models of one folder's name have two labels; a folder that was moved
keeps its own.
"""

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.cache import Cache, sha256
from zobench.errors import show

LOCAL, HUB = "local", "hub"
#: the files of a folder that decide what a model computes: weights, settings, tokenizer
_READ = (
    "*.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken",
)  # fmt: skip
_DIGITS = 8
_LONGEST = 60
_COMMIT = re.compile(r"[0-9a-f]{40}")
_KEPT = 2000
#: bytes that take seconds to read
_LARGE = 2 * 10**9


def model_label(option: str, *, _root_: DictConfig) -> str:
    """The label of the chosen model, as ``${model_label:OPTION}`` in a configuration.

    An option that names its model is its own label, and so is one whose folder or id is missing or wrong, which is said
    where settings are checked.
    """
    return label_of(option, {key: OmegaConf.select(_root_, f"model.{key}") for key in ("dir", "id", "revision")})


def label_of(option: str, node: Mapping[str, Any]) -> str:
    """The label of a model with an option's settings.

    >>> label_of("hub", {"id": "Qwen/Qwen3-0.6B", "revision": "c1899de289a04d12100db370d81485cdf75e47ca"})
    'Qwen--Qwen3-0.6B@c1899de2'
    >>> label_of("hub", {"id": "Qwen/Qwen3-0.6B", "revision": "main"}), label_of("smollm2", {})
    ('Qwen--Qwen3-0.6B@main', 'smollm2')
    """
    if option == HUB and isinstance(node.get("id"), str):
        revision = str(node.get("revision") or "main")
        short = revision[:_DIGITS] if _COMMIT.fullmatch(revision) else revision
        return f"{'--'.join(map(_plain, node['id'].split('/')))}@{_plain(short)}"
    if option == LOCAL and isinstance(node.get("dir"), str) and "\0" not in node["dir"]:
        folder = Path(node["dir"]).expanduser()
        if digest := folder_digest(folder):
            return f"{_plain(_name(folder.resolve()))}@{digest}"
    return option


def option_of(group: str, choice: str, node: Mapping[str, Any]) -> str:
    """The option that was chosen, where its label stands in its place.

    >>> option_of("model", "my-qwen2@1f3a9c02", {"dir": "my-qwen2"}), option_of("model", "gpt2@main", {"id": "gpt2"})
    ('local', 'hub')

    Args:
        node: the option's settings.
    """
    if group != "model" or "@" not in choice:
        return choice
    return LOCAL if node.get("id") is None else HUB


def folder_digest(folder: Path) -> str | None:
    """8 hexadecimal digits over the content of a model's files: weights, settings, tokenizer; None without weights.

    Each file is read once, at one to two gigabytes a second, and known again by its inode, size and times.
    """
    try:
        files = sorted({path for pattern in _READ for path in folder.glob(pattern) if path.is_file()})
        if not any(path.suffix == ".safetensors" for path in files):
            return None
        digests = _digests(files)
    except OSError:
        return None
    lines = [f"{path.name} {digest}" for path, digest in zip(files, digests, strict=True)]
    return sha256("\n".join(lines).encode())[:_DIGITS]


def look(path: Path) -> list[Any]:
    """What tells at a glance whether a file was touched: its place, inode, size and times; nothing for a dead link."""
    try:
        found = path.stat()
    except OSError:
        return [path.name, None]
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return [path.name, os.path.realpath(path), found.st_ino, found.st_size, *times]


def _digests(files: list[Path]) -> list[str]:
    known, cache = [], Cache("files", keep=_KEPT)
    for path in files:
        known.append(cache.load(look(path)))
    unknown = [path for path, digest in zip(files, known, strict=True) if digest is None]
    size = sum(path.stat().st_size for path in unknown)
    if size > _LARGE:
        show(f"{files[0].parent}: reading {size / 1e9:.0f} GB once, for the checksum in the model's name", sys.stderr)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for path, digest in zip(unknown, pool.map(_digest, unknown), strict=True):
            known[files.index(path)] = digest
    return known


def _digest(path: Path) -> str:
    """The hash of a file, which is kept unless the file changed meanwhile."""
    before = look(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if look(path) == before:
        Cache("files", keep=_KEPT).store(digest, before)
    return digest


def _name(folder: Path) -> str:
    """A folder's name; that of the repository where it is a snapshot in the hub's cache."""
    repository = folder.parent.parent.name
    return repository.rpartition("--")[2] if repository.startswith("models--") else folder.name


def _plain(name: str) -> str:
    """A name without signs that mean something in folders, commands or tables.

    >>> _plain("my model (v2)"), _plain("..")
    ('my-model-v2', 'model')
    """
    return re.sub(r"[^\w.+]+", "-", name).strip("-.")[:_LONGEST] or "model"
