"""Processes that work on the cells of one sweep: when the sweep is told to stop, they stop first, in good order.

The sweep and its workers share a file: a worker holds a shared lock on it while it has a cell, and begins no other once
a signal's name is written there.
"""

import fcntl
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

from zobench.system.signals import SIGNALS

_VARIABLE = "ZOBENCH_SWEEP"
_PATIENCE_S = 90.0


@contextmanager
def at_work() -> Iterator[None]:
    """A context around the work on one cell.

    Raises:
        KeyboardInterrupt: if the sweep that this process works for was told to stop.
    """
    _, _, path = os.environ.get(_VARIABLE, "").partition(":")
    try:
        shared = open(path, encoding="utf-8")  # noqa: SIM115  # absent where no sweep waits
    except OSError:
        yield
        return
    with shared:
        fcntl.flock(shared, fcntl.LOCK_SH)
        if told := shared.read():
            raise KeyboardInterrupt(told)
        yield


def is_worker() -> bool:
    """Whether a sweep started this process, as joblib does: what ends a cell here must not end the sweep."""
    pid, _, _ = os.environ.get(_VARIABLE, "").partition(":")
    return pid == str(os.getppid())


def is_sweep() -> bool:
    """Whether this process is itself the command that does a sweep's cells, one after the other."""
    pid, _, _ = os.environ.get(_VARIABLE, "").partition(":")
    return pid == str(os.getpid())


@contextmanager
def stopped_first() -> Iterator[None]:
    """A context for the process of a command: on a signal, tell the workers, wait for them, then stop.

    Raises:
        KeyboardInterrupt: with the signal's name, after SIGINT, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2. A second signal
            does not wait.
    """
    with tempfile.NamedTemporaryFile("w", prefix="zobench-", encoding="utf-8") as shared:
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = f"{os.getpid()}:{shared.name}"
        asked: list[str] = []

        def handle(number: int, frame: FrameType | None) -> None:
            asked.append(signal.Signals(number).name)
            if len(asked) == 1:
                _stop_workers(asked[0], shared)
            raise KeyboardInterrupt(asked[0])

        previous: dict[int, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before


def _stop_workers(name: str, shared: IO[str]) -> None:
    shared.write(name)
    shared.flush()
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_S
    while workers and time.monotonic() < deadline:
        try:
            fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            time.sleep(0.05)
