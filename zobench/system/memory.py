"""Peak memory of a run: what it took beyond what its process held before, in all its starts."""

import contextlib
import ctypes
import gc
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from zobench.system.imports import keep_what_is_left

_STATUS, _CLEAR, _MAPS = (Path("/proc/self") / name for name in ("status", "clear_refs", "smaps"))
#: mappings that are the program's and not a run's: its libraries, whose pages come in as their code is first run
_PROGRAM = re.compile(r"\.so(\.[\w.]+)?$|/bin/[^/]+$|/locale-archive$|\.pyd?$")


class Memory:
    """The memory of a device, in bytes, as far as a run can be charged with it."""

    #: how it is measured, for the record
    how: str

    def held(self) -> int:
        """What is held now."""
        raise NotImplementedError

    def high(self) -> int:
        """The most that was held since ``reset``."""
        raise NotImplementedError

    def reset(self) -> None:
        """Let the high water mark be what is held now."""
        raise NotImplementedError


class CudaMemory(Memory):
    """Tensors on all GPUs of this process, as torch's allocator counts them."""

    how = "torch.cuda.max_memory_allocated over the GPUs of this process, training and evaluations, beyond what it held"

    def held(self) -> int:
        return sum(torch.cuda.memory_allocated(each) for each in range(torch.cuda.device_count()))

    def high(self) -> int:
        return sum(torch.cuda.max_memory_allocated(each) for each in range(torch.cuda.device_count()))

    def reset(self) -> None:
        for each in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(each)


class LinuxMemory(Memory):
    """Resident pages of this process without those of its libraries."""

    how = "VmHWM of the process in training and evaluations, without its libraries and what it held before the run"

    def __init__(self) -> None:
        self._files: int | None = None  # resident pages of files, when the libraries among them were counted
        self._libraries = 0

    def held(self) -> int:
        return self._without_libraries("VmRSS")

    def high(self) -> int:
        return self._without_libraries("VmHWM")

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")

    def _without_libraries(self, size: str) -> int:
        """One of the sizes of the process; its libraries are counted anew when pages of files have come or gone."""
        status = _status()
        files = status.get("RssFile")  # since Linux 4.5
        if files is None or files != self._files:
            self._files, self._libraries = files, self._program()
        return status[size] - self._libraries

    @staticmethod
    def _program() -> int:
        total, counts = 0, False
        for line in _MAPS.read_text(errors="replace").splitlines():
            name, _, rest = line.partition(" ")
            if not name.endswith(":"):  # the head of a mapping, with its path in the end
                counts = bool(_PROGRAM.search(line))
            elif counts and name == "Rss:":
                total += int(rest.split()[0]) * 1024
        return total


class AnyMemory(Memory):
    """The largest size that the process ever had; it cannot be reset."""

    how = "ru_maxrss of the process since it began, libraries and earlier runs included"

    def held(self) -> int:
        return 0

    def high(self) -> int:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024

    def reset(self) -> None:
        pass


class PeakMemory:
    """The peak memory of one run, from ``begin`` on.

    Args:
        device: what runs it. What the process holds now is not the run's, and what it had freed is given back first.

    Attributes:
        earlier: the peak of the run's starts before this one, in bytes.
        before: what the process held before the run, in bytes.

    Example:
        >>> peak = PeakMemory(torch.device("cpu"))
        >>> peak.begin()
        >>> with peak.uncounted():
        ...     held = torch.ones(1 << 24)
        >>> peak.bytes > 0.9 * held.nbytes  # it is there now; the system counts pages in batches
        True
    """

    def __init__(self, device: torch.device):
        self.earlier = self._seen = 0
        self._paused = False
        self._device, self._memory = device, _memory_of(device)
        _give_back(device)
        keep_what_is_left()
        self.before = self._memory.held()
        self._memory.reset()

    def begin(self, own: int | None = None) -> None:
        """Count from now on: what was held in the meantime and is gone is not counted.

        Args:
            own: bytes that the run holds by now, its weights first; all else that is held, such as libraries that were
                loaded with them, is then not the run's either. None: all that came since the start is.
        """
        _give_back(self._device)
        if own is not None:
            self.before = self._memory.held() - own
        self._seen = 0
        self._memory.reset()

    @property
    def bytes(self) -> int:
        """The peak so far, earlier starts included."""
        return max(self.earlier, self._seen if self._paused else self._highest())

    def _highest(self) -> int:
        return max(self._seen, self._memory.high() - self.before)

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Work of the record, not of the run: checksums, checkpoints."""
        self._seen, self._paused = self._highest(), True
        try:
            yield
        finally:
            self._paused = False
            self._memory.reset()

    def row(self, weights: int, state: int, cache: int) -> dict[str, Any]:
        """The columns of peak memory and its parts, in GiB, from sizes in bytes.

        Args:
            weights: size of the model's weights.
            state: size of the method's state.
            cache: size of cached activations and draws.
        """
        gib, peak = 2**30, self.bytes
        return {
            "peak_gib": peak / gib,
            "weights_gib": weights / gib,
            "method_state_gib": state / gib,
            "cache_gib": cache / gib,
            "rest_gib": (peak - weights - state - cache) / gib,
            "memory_measured_by": self._memory.how,
        }


def _memory_of(device: torch.device) -> Memory:
    if device.type == "cuda":
        return CudaMemory()
    return LinuxMemory() if all(path.exists() for path in (_STATUS, _CLEAR, _MAPS)) else AnyMemory()


def _give_back(device: torch.device) -> None:
    """Give back what is free: a model is in a cycle, which lives until the collector comes; glibc keeps the rest."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _status() -> dict[str, int]:
    """The sizes in ``/proc/self/status``, in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1] == "kB"}
