"""The lock of a run's directory: one process writes there, and only as long as the directory is the one it opened."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from zobench.atomic import regular, writing
from zobench.errors import DataError, RunBusy, RunLost

NAME = ".lock"
#: seconds for which a start waits: whoever only asks whether a run is at work holds the lock for a moment
PATIENCE_S = 1.0
_EVERY_S = 0.003
#: seconds until another machine sees a new folder of a shared disk, at the most
_SHARED_S = 5.0


def wait_for(directory: Path) -> None:
    """Make sure that the record which a process of a team has opened is there for this process too.

    Raises:
        DataError: if it is not, after the seconds that shared disks may take to show it.
    """
    deadline = time.monotonic() + _SHARED_S
    while not (directory / NAME).exists():
        if time.monotonic() > deadline:
            raise DataError(
                f"{directory} of process 0 is not there for this one; give all the same runs_dir= and out=, on a disk "
                "that they share"
            )
        time.sleep(_EVERY_S)


class Lock:
    """An exclusive lock on a run's directory, which is made if it is not there.

    It belongs to the file that was locked, whatever happens to its name: ``check`` finds out where the directory was
    removed, moved or replaced.

    Example:
        >>> import shutil, tempfile
        >>> lock = Lock(Path(tempfile.mkdtemp()) / "run")
        >>> lock.check()
        >>> shutil.rmtree(lock.directory)
        >>> lock.check()
        Traceback (most recent call last):
        zobench.errors.RunLost: ...run was removed, moved or replaced while the run was at work; it stopped ...

    Raises:
        RunBusy: if another process is writing there.
        CannotWrite: if there can be no lock, as on a disk that is read-only.
        OSError: if the directory cannot be made.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        #: the directory and its parents that were not there before, innermost first
        self.made = [path for path in (directory, *directory.parents) if not path.exists()]
        deadline = time.monotonic() + PATIENCE_S
        while not self._taken():
            if time.monotonic() > deadline:
                raise RunBusy(f"{directory} is being written by another process; wait for it or stop it")
            time.sleep(_EVERY_S)

    def _taken(self) -> bool:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # another start let go of a parent just then
            self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / NAME
        with writing(path):
            # No truncation: the directory of a finished run stays untouched.
            self._file = regular(path, "a")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                return False
        if not self._holds():  # removed between the two
            self._file.close()
            return False
        return True

    def _holds(self) -> bool:
        """Whether the lock's file is still the one of its name."""
        mine = os.fstat(self._file.fileno())
        try:
            there = os.stat(self.directory / NAME)
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def check(self) -> None:
        """Raises RunLost if the directory is no longer the one that was locked; before anything is written there."""
        if not self._holds():
            raise RunLost(self.directory)

    def release(self) -> None:
        """Let another process have the directory."""
        with contextlib.suppress(OSError):
            self._file.close()
