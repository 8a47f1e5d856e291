"""Stopping: at once where nothing is lost, after the step where the weights are being moved."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

#: all that ask a run to stop; the last two are warnings of schedulers (``requeue``)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """A context in which the signals that ask to stop raise ``KeyboardInterrupt``, except within ``deferred``.

    There they set ``requested`` to the signal's name, which the loop looks at; so they do once one was raised. A
    second SIGINT raises at once.

    Args:
        patient: defer always; for one of several processes, which must stop after the same step.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested: str | None = None
        self._patient = self._deferred = patient
        self._raised = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Work that must not be cut: a step, a checkpoint."""
        before = self._deferred
        try:
            self._deferred = True
            yield
        finally:
            self._deferred = before

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Work within ``deferred`` that may be cut; whoever opens it catches the ``KeyboardInterrupt`` around it."""
        before = self._deferred
        try:
            self._deferred = self._patient
            if self.requested and not self._deferred:
                self._raise()
            yield
        finally:
            self._deferred = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, signal.Signals(number).name
        if not (self._deferred or self._raised) or (again and number == signal.SIGINT):
            self._raise()
        os.write(2, b"\nzobench: stopping after this step; Ctrl-C again stops at once\n")

    def _raise(self) -> None:
        self._raised = True
        raise KeyboardInterrupt(self.requested)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
