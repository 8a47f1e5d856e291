"""What a run costs in time, and the environment it was measured in; its memory is ``memory``'s."""

import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "accelerate", "huggingface_hub", "hydra-core", "omegaconf",
    "numpy", "pyarrow", "wandb",
)  # fmt: skip


class Clocks:
    """Wall and CPU seconds by purpose: train, forward (a part of train), evaluate, dev (a part of it), cache, lens.

    ``dev`` is of the dev evaluations between two steps, and tells what all methods do alike.

    >>> clocks = Clocks()
    >>> with clocks("evaluate"):
    ...     pass
    >>> clocks.wall["evaluate"] < 1
    True
    """

    def __init__(self) -> None:
        self._before, self._started = 0.0, time.perf_counter()
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.times: dict[str, int] = {}

    @contextmanager
    def __call__(self, purpose: str) -> Iterator[None]:
        """A context whose seconds are added to those of a purpose."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[purpose] = self.wall.get(purpose, 0.0) + time.perf_counter() - wall
            self.cpu[purpose] = self.cpu.get(purpose, 0.0) + time.process_time() - cpu
            self.times[purpose] = self.times.get(purpose, 0) + 1

    @property
    def total(self) -> float:
        """Wall seconds of the run so far, earlier starts up to their last checkpoint included."""
        return self._before + time.perf_counter() - self._started

    @property
    def outside(self) -> float:
        """Wall seconds of training outside forward passes: what it takes to replay."""
        return self.wall.get("train", 0.0) - self.wall.get("forward", 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far, for a checkpoint."""
        return {"wall": self.wall, "cpu": self.cpu, "times": self.times, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the seconds of a checkpoint; those of this start before it still count in the total."""
        self.wall, self.cpu, self.times = (dict(state[name]) for name in ("wall", "cpu", "times"))
        self._before += state["total"]

    def row(self, device: torch.device, processes: int) -> dict[str, float | None]:
        """The columns of a row, in seconds and hours.

        Args:
            device: GPU hours are 0 where it is none.
            processes: hours count training only, in all of them alike.
        """
        train, forward = self.wall.get("train", 0.0), self.wall.get("forward", 0.0)
        evaluated = self.times.get("dev", 0)
        return {
            "wall_seconds": self.total,
            "train_seconds": train,
            "forward_seconds": forward,
            "outside_seconds": self.outside,
            "evaluate_seconds": self.wall.get("evaluate", 0.0),
            "cache_seconds": self.wall.get("cache", 0.0),
            "lens_seconds": self.wall.get("lens", 0.0),
            "gpu_hours": processes * train / 3600 if device.type == "cuda" else 0.0,
            "cpu_hours": processes * self.cpu.get("train", 0.0) / 3600,
            "dev_cpu_seconds": processes * self.cpu["dev"] / evaluated if evaluated else None,
        }


def environment(device: torch.device) -> dict[str, Any]:
    """The contents of ``environment.json``: versions, git commit, machine, device and threads."""
    return {
        "zobench": version_of("zobench"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "versions": {name: version_of(name) for name in _PACKAGES},
    }


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the checkout this package lies in; None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
