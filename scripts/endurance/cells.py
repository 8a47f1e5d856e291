"""A sweep's cells as they lie on disk: who works on them, whether two are the same, whether one was touched later."""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

#: columns of a row that say what came out and not how long it took or where
_RESULT = ("state", "steps", "forwards", "examples_seen", "tokens_seen", "best_step", "best_forwards", "rows_hash")
_PREFIXES = ("weights_checksum", "best_weights_checksum", "dev", "test", "last/", "zero_shot/", "method", "seed")

Snapshot = dict[str, tuple[int, str]]


def directories(runs: Path) -> dict[str, Path]:
    """Name → run directory, e.g. ``rte/tiny-opt/mezo/1f9a2b3c``."""
    return {path.parent.relative_to(runs).as_posix(): path.parent for path in runs.glob("*/*/*/*/summary.json")}


def row(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def closed(runs: Path) -> dict[str, Path]:
    """The finished cells that no process holds any more."""
    return {name: path for name, path in directories(runs).items() if row(path)["state"] == "finished" and _free(path)}


def _free(directory: Path) -> bool:
    with (directory / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def workers(runs: Path) -> dict[int, Path]:
    """Process id → the run directory that it holds."""
    found = {}
    inside = os.fspath(runs.resolve()) + os.sep
    for process in Path("/proc").glob("[0-9]*"):
        try:
            targets = [os.readlink(entry) for entry in (process / "fd").iterdir()]
        except OSError:  # gone, or another user's
            continue
        for target in targets:
            if target.startswith(inside) and target.endswith("/.lock") and int(process.name) != os.getpid():
                found[int(process.name)] = Path(target).parent
    return found


def trained(runs: Path) -> bool:
    """Whether a cell that a process holds has made a step, now or in an earlier start."""
    logs = [directory / "metrics.jsonl" for directory in workers(runs).values()]
    return any(log.is_file() and log.stat().st_size for log in logs)


def result(directory: Path) -> dict[str, Any]:
    """All that must not depend on launcher or disturbance: the row's results, and metrics.jsonl without times."""
    kept = {k: v for k, v in row(directory).items() if k in _RESULT or k.startswith(_PREFIXES)}
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept["metrics"] = [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in lines]
    for path in directory.glob("trajectory.*"):
        kept[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return kept


def differences(ours: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """Names of the values that are not equal, bit for bit."""
    return [key for key in sorted({*ours, *reference}) if ours.get(key) != reference.get(key)]


def snapshot(directory: Path) -> Snapshot:
    """Modification time and SHA-256 of every file of a run, except the lock, which others may look at."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {
        path.relative_to(directory).as_posix(): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in files
    }
