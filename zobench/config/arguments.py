"""Arguments of the commands on a run, checked before anything heavy is imported. Standard library only."""

import re
import tempfile
from pathlib import Path

from zobench.config.schema import Device
from zobench.errors import ConfigError


def check_step(step: str) -> None:
    """Raises ConfigError unless it is best, last or a number of steps."""
    if not re.fullmatch(r"best|last|[0-9]{1,15}", step):
        raise ConfigError(f"step={step[:40]}: expected best, last or a number")


def check_device(device: str | None) -> None:
    """Raises ConfigError unless it is None, or names a device as the setting ``device`` does."""
    if device is not None and not Device().accepts(device):
        raise ConfigError(f"device={device[:40]}: expected {Device().expected('device', device)}")


def check_new_file(path: Path, *, force: bool) -> None:
    """Raises ConfigError if a file cannot be written there, or, without ``force``, if there is one."""
    if path.is_dir() or (path.exists() and not (force and path.is_file())):
        todo = "give the name of a file" if path.is_dir() else "--force overwrites a file"
        raise ConfigError(f"{path}: is there already; {todo}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {path.parent}: {error.strerror}") from error
