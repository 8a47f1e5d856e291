"""Time, as ratios: all subjects in turn in each repeat, so that a disturbance meets them alike."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zobench.bench.subjects import OFFICIAL, PLAIN_STEP, Subject
from zobench.errors import UserError
from zobench.zo.closure import BatchLoss, Closure, knows_batch

#: a sample takes as many steps as make so many seconds, since a single short one is mostly noise; and so many at most
SECONDS, STEPS = 0.2, 10


@dataclass(frozen=True)
class Sample:
    """One measurement of a subject, as numbers of one step.

    Attributes:
        seconds: of wall time, forward passes and all.
        cpu_seconds: of all threads together.
        forward_seconds: of wall time, within forward passes.
        forwards: number of forward passes.
        steps: over which these are the means.
    """

    seconds: float
    cpu_seconds: float
    forward_seconds: float
    forwards: float
    steps: int = 1


class _Metered:
    """A loss that counts and times its calls."""

    def __init__(self, loss: Closure, device: torch.device):
        self._loss, self._device = loss, device
        self.seconds, self.forwards = 0.0, 0

    def __call__(self) -> Tensor:
        return self._timed(self._loss, 1)

    def _timed(self, evaluate: Closure, forwards: int) -> Tensor:
        _wait(self._device)
        start = time.perf_counter()
        value = torch.as_tensor(evaluate())
        # Reading the value waits for the device.
        if not bool(value.detach().isfinite().all()):
            raise UserError("a loss is not finite, and timings of such numbers mean nothing; try --dtype float32")
        self.seconds += time.perf_counter() - start
        self.forwards += forwards
        return value


class _MeteredBatch(_Metered):
    """A loss whose batch can be repeated in one forward pass; each copy counts as one."""

    def __init__(self, loss: BatchLoss, device: torch.device):
        super().__init__(loss, device)
        self._batch = loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)  # what it says of its batch

    def losses(self, copies: int = 1, examples: bool = False) -> Tensor:
        return self._timed(lambda: self._batch.losses(copies, examples), copies)

    def each(self, within: Callable[[int], AbstractContextManager[object]]) -> Tensor:
        return self._timed(lambda: self._batch.each(within), 1)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(subject: Subject, device: torch.device, steps: int = 1) -> Sample:
    """Do a subject's work and time it.

    Args:
        subject: what to do.
        device: where its model lies; a GPU is waited for.
        steps: how often to do it.

    Raises:
        UserError: if a loss is not finite.
    """
    loss = _MeteredBatch(subject.loss, device) if knows_batch(subject.loss) else _Metered(subject.loss, device)
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        subject.work(loss)
    _wait(device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(wall / steps, cpu / steps, loss.seconds / steps, loss.forwards / steps, steps)


def interleave(
    subjects: Sequence[Subject], model: Any, repeats: int, progress: Callable[[], None] = lambda: None
) -> dict[str, list[Sample]]:
    """Time all subjects in turn, again and again; after a round that is not counted, since the first call compiles.

    The weights that train are put back after each measurement, so that all start from the same ones. Each round starts
    with another subject.

    Args:
        subjects: what to time.
        model: the model of all of them.
        repeats: rounds that are counted.
        progress: called after each measurement.

    Returns:
        Subject's name → its samples, one for each round.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    device = params[0].device
    pristine = [param.detach().clone() for param in params]
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    steps = dict.fromkeys(samples, 1)
    for turn in range(repeats + 1):
        first = turn % len(subjects)
        for subject in [*subjects[first:], *subjects[:first]]:
            sample = measure(subject, device, steps[subject.name])
            steps[subject.name] = min(STEPS, math.ceil(SECONDS / sample.seconds))
            if turn > 0:
                samples[subject.name].append(sample)
            with torch.no_grad():
                for param, old in zip(params, pristine, strict=True):
                    param.copy_(old)
            progress()
    return samples


def rows(subjects: Sequence[Subject], samples: dict[str, list[Sample]], weights: int) -> list[dict[str, Any]]:
    """Rows of the table of times; ratios are made within each repeat, then summarised.

    Args:
        subjects: those that were measured; the first is what the others are compared with.
        samples: of each subject, by name.
        weights: number of those that train.
    """
    floor = samples[subjects[0].name]
    baselines = {"plain_over_this": PLAIN_STEP, "official_over_this": OFFICIAL}
    others = {key: samples[name] for key, name in baselines.items() if name in samples}
    found = []
    for i, subject in enumerate(subjects):
        own = samples[subject.name]
        seconds = summary([s.seconds for s in own])
        pairs = list(zip(own, floor, strict=True))
        forwards = round(statistics.median(s.forwards for s in own))
        passes = subject.passes(forwards)
        outside = summary([s.seconds - s.forward_seconds for s in own])
        # What is compared with itself shows how steady the machine was.
        itself = summary([s.seconds / seconds["median"] for s in own])
        found.append(
            {
                "name": subject.name,
                "fed": subject.fed,
                "ratio": summary([s.seconds / f.seconds for s, f in pairs]) if i else itself,
                "forwards": forwards,
                "ratio_to_as_many_forwards": (
                    summary([s.seconds / f.seconds * f.forwards / s.forwards for s, f in pairs]) if i else itself
                ),
                **{
                    key: summary([b.seconds / s.seconds for s, b in zip(own, other, strict=True)])
                    for key, other in others.items()
                },
                "seconds": seconds,
                "cpu_seconds": summary([s.cpu_seconds for s in own]),
                "outside_seconds": outside,
                "outside_share": statistics.median(1 - s.forward_seconds / s.seconds for s in own),
                "outside_ms_per_forward": outside["median"] / forwards * 1e3,
                "steps": [s.steps for s in own],
                "evaluation": subject.evaluation(),
                "passes": passes,
                "ns_per_weight_pass": outside["median"] / weights / passes * 1e9 if passes else None,
            }
        )
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles of some values.

    >>> summary([1.0, 2.0, 3.0, 4.0, 5.0])
    {'median': 3.0, 'q1': 2.0, 'q3': 4.0}
    """
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": middle, "q1": low, "q3": high}
