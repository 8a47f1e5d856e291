"""Mirrors of the record: whatever goes wrong with one is told once, and never harms the run."""

from collections.abc import Callable

from zobench.record.recorder import Recorder

Say = Callable[[str], None]


class Mirror(Recorder):
    """A recorder that gives up, with one line of warning, when what it writes to fails.

    Attributes:
        name: what the warning begins with.
    """

    name: str

    def __init__(self, say: Say):
        self._say = say
        self._on = True

    def guard(self, call: Callable[[], None]) -> None:
        """Make a call unless an earlier one failed."""
        if not self._on:
            return
        try:
            call()
        except Exception as error:  # the mirror must never stop the run
            reason = str(error).splitlines()[0] if str(error) else ""
            self._say(f"{self.name}: {type(error).__name__}: {reason}; not used further")
            self._on = False
