"""The device of a process."""

import os
import re

import torch

from zobench.errors import ConfigError
from zobench.system.processes import launched

_NAMES = r"auto|cpu|cuda(:[0-9]{1,3})?"


def pick_device(name: str) -> torch.device:
    """The device that a setting means; each process of torchrun takes a GPU of its own.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: if the device is not there.
    """
    if not re.fullmatch(_NAMES, name):
        raise ConfigError(f"device={name[:40]}: expected auto, cpu, cuda or cuda:N")
    several = launched() > 1
    if several and name.startswith("cuda:"):
        raise ConfigError(f"device={name}: several processes would share that GPU; use device=cuda, one for each")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if several and name == "cuda" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        fewer = "start fewer processes, or " if several else ""
        raise ConfigError(f"device={device}: torch sees {torch.cuda.device_count()} GPUs here; {fewer}use device=cpu")
    return device
