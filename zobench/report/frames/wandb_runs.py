"""Runs as wandb holds them: its offline files, and projects on its server."""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zobench.errors import UserError
from zobench.system.network import why_offline

SCHEME = "wandb://"
_BLOCK, _HEADER, _ENDS = 32768, 7, (1, 4)  # LevelDB's log: blocks of parts (checksum, length, kind), kinds that end


def file_summary(path: Path) -> dict[str, Any]:
    """The summary that a run sent to an offline file; of a killed run what it had sent until then."""
    found: dict[str, Any] = {}
    for record in _records(path):
        if record.HasField("summary"):
            found |= _values(record.summary.update)
    return found


def file_lines(path: Path) -> list[dict[str, Any]]:
    """The logged lines of an offline file, in their order."""
    return [_values(record.history.item) for record in _records(path) if record.HasField("history")]


def project(address: str) -> dict[str, dict[str, Any]]:
    """Address of each run of ``wandb://entity/project`` -> its summary.

    Raises:
        UserError: without a key or network, or if there is no such project.
    """
    path = address.removeprefix(SCHEME).strip("/")
    if path.count("/") != 1:
        raise UserError(f"{address}: expected wandb://ENTITY/PROJECT")
    runs = _asked(address, lambda api: list(api.runs(path)))
    return {f"{SCHEME}{path}/{run.id}": _plain(dict(run.summary)) for run in runs}


def project_lines(address: str) -> list[dict[str, Any]]:
    """The logged lines of one run of a project. Raises as ``project``."""
    path = address.removeprefix(SCHEME)
    return [_plain(line) for line in _asked(address, lambda api: list(api.run(path).scan_history()))]


def _asked(address: str, question: Any) -> Any:
    if reason := why_offline():
        raise UserError(
            f"{address}: {reason}; run `wandb login` where there is a network, or give run directories or wandb's "
            "offline directories instead"
        )
    import wandb

    try:
        return question(wandb.Api())
    except (ValueError, wandb.Error) as error:
        raise UserError(f"{address}: wandb says: {str(error).splitlines()[0]}") from None


def _records(path: Path) -> Iterator[Any]:
    """The protobuf records of an offline file; the torn tail of a killed run is dropped.

    Raises:
        ValueError: if it is not wandb's file.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    data, at, joined = path.read_bytes(), _HEADER, b""
    if data[:4] != b":W&B":
        raise ValueError("not a file of wandb's")
    while True:
        left = _BLOCK - at % _BLOCK
        at += left if left < _HEADER else 0
        if at + _HEADER > len(data):
            return
        _, size, kind = struct.unpack_from("<IHB", data, at)
        joined += data[at + _HEADER : at + _HEADER + size]
        at += _HEADER + size
        if at > len(data):
            return
        if kind in _ENDS:
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            try:
                record.ParseFromString(joined)
            except DecodeError:
                raise ValueError("wandb's file is damaged") from None
            yield record
            joined = b""


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Keys of several levels (wandb's tables and plots) are none of ours."""
    found = {}
    for item in items:
        levels = list(item.nested_key) or [item.key]
        if len(levels) == 1:
            found[levels[0]] = json.loads(item.value_json)
    return _plain(found)


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Without what wandb adds of its own."""
    return {key: value for key, value in found.items() if not key.startswith("_")}
