"""Peak memory of steps and of inference on the same batch, each in a process of its own.

A process first does the same work with a tiny model, so that libraries and compiled code are there; what it holds then
is subtracted. On a CPU the peak is the process's high-water mark (on Linux from after loading), on a GPU the
allocator's.

A peak is split into the weights, the state that the method declares, the activations, and what is transient. The
activations are what two trimmed forward passes hold beside the weights, and the same number in each row. Transient is
what remains: a step's temporaries, what larger forward passes hold beyond the trimmed ones, and what the allocator
adds. It may be slightly negative, since each row is another process and its peak varies by a few MiB.
"""

import contextlib
import ctypes
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from zobench.bench import models, subjects
from zobench.bench.models import Tuned
from zobench.bench.spec import Shape, Spec
from zobench.bench.timing import measure as once
from zobench.errors import UserError, is_out_of_memory
from zobench.system.devices import pick_device
from zobench.system.memory import PeakMemory

_STEPS = 2
_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def rows(spec: Spec, shape: Shape) -> list[dict[str, Any]]:
    """Rows of the table of peak memory, one for each subject, in bytes; the first is two trimmed forward passes.

    Args:
        spec: what is asked for.
        shape: of the batch.

    Raises:
        UserError: if a process is killed, or what it measures cannot be built.
    """
    return split([apart(spec, shape, name) for name in subjects.names(spec)])


def apart(spec: Spec, shape: Shape, name: str) -> dict[str, Any]:
    """Peak memory of one subject, measured in a process of its own; takes and gives what ``measure`` does.

    Raises:
        UserError: if the process is killed, or what it measures cannot be built.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, spec, shape, name).result()
        except BrokenProcessPool as error:
            reason = "its process was killed, for want of memory perhaps"
            raise UserError(f"{name}: {reason}; try a smaller --shape or --model") from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f"{name}: memory was used up; try a smaller --shape or --model") from error


def split(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measured rows with what follows from the first of them, inference: activations, transient bytes, ratios.

    >>> inference = {"peak_bytes": 150, "weights_bytes": 100, "method_state_bytes": 0}
    >>> step = {"peak_bytes": 180, "weights_bytes": 100, "method_state_bytes": 10}
    >>> row = split([inference, step])[1]
    >>> row["activations_bytes"], row["transient_bytes"], row["ratio"]
    (50, 20, 1.2)

    Args:
        measured: rows of ``measure``.
    """
    inference = measured[0]["peak_bytes"]
    activations = inference - measured[0]["weights_bytes"] - measured[0]["method_state_bytes"]
    found = []
    for row in measured:
        peak, state = row["peak_bytes"], row["method_state_bytes"]
        found.append(
            {
                **row,
                "activations_bytes": activations,
                "transient_bytes": peak - row["weights_bytes"] - state - activations,
                "ratio": peak / inference,
                "over_declared": peak / (inference + state),
            }
        )
    return found


def measure(spec: Spec, shape: Shape, name: str) -> dict[str, Any]:
    """Peak memory of one subject, in bytes; meant to be called in a fresh process.

    Args:
        spec: what is asked for.
        shape: of the batch.
        name: of the subject, one of ``subjects.names``.
    """
    if spec.threads:
        torch.set_num_threads(spec.threads)
    _give_back()
    device = pick_device(spec.device)
    # Inference loads all of the noise engine too: compiled code must not count as the step's.
    for other in ("mezo", "mezo:mode=exact", name):
        _work(spec, other, models.load("tiny-llama", spec.dtype, device, _in_few_layers(spec.tuning)), Shape(2, 8))
    peak = PeakMemory(device)
    tuned = models.load(spec.model, spec.dtype, device, spec.tuning)
    weights = sum(p.numel() * p.element_size() for p in tuned.model.parameters())
    peak.begin()
    state = _work(spec, name, tuned, shape)
    return {
        "name": name,
        "peak_bytes": peak.bytes,
        "weights_bytes": weights,
        "method_state_bytes": state,
        "process_before_bytes": peak.before,
    }


def _in_few_layers(tuning: str) -> str:
    """The same tuning for a model of two layers, whose modules may have other names.

    >>> _in_few_layers("last_layers:layers=20-29+only=fc1"), _in_few_layers("lora:targets=[c_attn]")
    ('last_layers:layers=1', 'lora')
    """
    name = tuning.partition(":")[0]
    return f"{name}:layers=1" if name == "last_layers" else name


def _work(spec: Spec, name: str, tuned: Tuned, shape: Shape) -> int:
    """Do the subject's work and return the bytes of its state."""
    subject = subjects.make(spec, name, tuned, shape)
    for _ in range(_STEPS):
        once(subject, next(tuned.model.parameters()).device)
    return subject.state_bytes()


def _give_back() -> None:
    """Have malloc return large blocks as they are freed; by its own rule glibc keeps more the longer a process runs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)
