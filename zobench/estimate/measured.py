"""A cell measured by what it does: its start, a few of its steps and a few batches of its evaluations.

It is built as its run would be, with a record in a folder that is thrown away.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from zobench.estimate.cost import MEASURED, Cost, Part
from zobench.estimate.rates import evaluations
from zobench.objective import Encoded
from zobench.record.directory import open_record
from zobench.record.recorder import Recorder
from zobench.run import provenance
from zobench.run.budget import spending
from zobench.run.build import build
from zobench.run.evaluate import batches_of, results_of
from zobench.run.parts import Parts
from zobench.run.row import begin_counting, spent
from zobench.run.train import Trainer
from zobench.system.console import Console
from zobench.system.costs import Clocks
from zobench.zo import Team

#: seconds that are spent on steps and on evaluations, once one of each kind is done
STEP_SECONDS, EVALUATE_SECONDS = 8.0, 6.0
#: of each kind of step, and of the batches of each split, at the most
MOST_STEPS, MOST_BATCHES = 30, 8
_CHUNK = 32


def measured(cfg: DictConfig) -> Cost:
    """What a cell takes, by doing a little of it.

    Args:
        cfg: a configuration that was checked and resolved.

    Raises:
        UserError, Unsuited, Diverged: as its run would.
    """
    with tempfile.TemporaryDirectory(prefix="zobench-estimate-") as folder:
        own = cfg.copy()
        own.runs_dir, own.out = folder, "run"
        directory, team = Path(folder, "run"), Team()
        record = open_record(team, directory, own, lambda line: None)
        try:
            return _Measurement(own, directory, record).cost()
        finally:
            record.close()


class _Timed:
    """Wall and CPU seconds since it was made, without those that are put aside."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    def leave_out(self, seconds: tuple[float, float]) -> None:
        self._wall += seconds[0]
        self._cpu += seconds[1]


class _Measurement:
    def __init__(self, cfg: DictConfig, directory: Path, record: Recorder):
        start = _Timed()
        console = Console(quiet=True)
        parts = self.parts = build(cfg, console, Team())
        self.trainer = Trainer(parts, directory, record, Clocks(), provenance.of(cfg), console.say)
        record.begin({"state": "running"})
        self.cfg, self.start = cfg, start.seconds
        self.spending = spending(cfg.steps, cfg.forwards, parts.method)
        self.layers = _FrozenLayers(parts)
        parts.method.oracle.further = self._further
        self._aside = 0.0, 0.0
        self.steps = self.batches = 0

    def cost(self) -> Cost:
        parts, total = self.parts, self.spending.steps
        begin_counting(parts)
        examples = parts.dev, parts.test
        often = evaluations(total, parts.settings.eval_every)
        names = ("dev evaluations", "test evaluations")
        each = [self._evaluation(part, times) for part, times in zip(examples, often, strict=True)]
        found = [Part(name, times, *one) for name, times, one in zip(names, often, each, strict=True)]
        if total:
            found = [*self._of_steps(), *found, *self._of_checkpoints()]
        memory = self._memory()
        frozen = self.layers.part()
        said = f"{self.steps} steps and {self.batches} batches of evaluations, on {self._device()}"
        return Cost(
            self.spending,
            (Part("start", 1, *self.start), *frozen, *found),
            sum(memory.values()),
            parts.device.type == "cuda",
            MEASURED,
            said,
            memory=memory,
        )

    def _device(self) -> str:
        threads = torch.get_num_threads()
        if self.parts.device.type == "cuda":
            return torch.cuda.get_device_name(self.parts.device)
        return f"the CPU with {threads} thread{'s' * (threads != 1)}"

    def _evaluation(self, examples: Sequence[Encoded], times: float) -> tuple[float, float]:
        """Seconds of one of ``times`` evaluations of a split, the last of which is for the record.

        They come from some of its batches, evenly spread over their lengths.
        """
        batches = batches_of(examples, self.parts.settings.eval_batch_size)
        self._run([examples[i] for i in batches[-1]])  # the longest, for the memory; the first use of the code apart
        often = min(len(batches), MOST_BATCHES)
        chosen = [batches[(2 * i + 1) * len(batches) // (2 * often)] for i in range(often)]
        # The middle one first: it stands for all if there is time for no more.
        chosen.sort(key=lambda batch: abs(batches.index(batch) - len(batches) / 2))
        taken: list[tuple[int, tuple[float, float]]] = []
        begun = time.perf_counter()
        for batch in chosen:
            taken.append((len(batch), self._mean([examples[i] for i in batch], times)))
            if time.perf_counter() - begun > EVALUATE_SECONDS:
                break
        self.batches += len(taken)
        share = len(examples) / sum(n for n, _ in taken)
        return share * sum(wall for _, (wall, _) in taken), share * sum(cpu for _, (_, cpu) in taken)

    def _mean(self, batch: Sequence[Encoded], times: float) -> tuple[float, float]:
        """Seconds of a batch in the mean over evaluations, of which one is for the record."""
        wall, cpu = self._run(batch)
        if times > 1:
            others = self._run(batch, recorded=False)
            wall, cpu = ((last + (times - 1) * other) / times for last, other in zip((wall, cpu), others, strict=True))
        return wall, cpu

    def _run(self, batch: Sequence[Encoded], *, recorded: bool = True) -> tuple[float, float]:
        self.layers.hold(batch)
        with torch.inference_mode():
            timed = _Timed()
            results_of(self.parts.objective, batch, recorded=recorded)
            return timed.seconds

    def _of_steps(self) -> list[Part]:
        """A part for each kind of step: those alike in forward passes, and in whether something is renewed."""
        method, cfg = self.parts.method, self.cfg.method
        period = int(cfg.get("interval") or cfg.get("refresh") or 1)
        kinds = Counter[tuple[int, bool]]()
        places: dict[tuple[int, bool], list[int]] = {}
        for step in range(self.spending.steps):
            kind = method.forwards_at(step), step % period == 0
            kinds[kind] += 1
            if kinds[kind] <= MOST_STEPS:
                places.setdefault(kind, []).append(step)
        first = self._first_step()
        taken: dict[tuple[int, bool], list[tuple[float, float]]] = {kind: [] for kind in kinds}
        begun = time.perf_counter()
        for kind, step in _in_turn(places):
            late = time.perf_counter() - begun > STEP_SECONDS
            if not (late and taken[kind]):
                taken[kind].append(self._step(step))
                self.steps += 1
        each = {kind: tuple(sum(found) / len(found) for found in zip(*taken[kind], strict=True)) for kind in kinds}
        usual = next(iter(each.values()))
        self.start = tuple(s + max(0.0, f - u) for s, f, u in zip(self.start, first, usual, strict=True))
        several = len(kinds) > 1
        parts = [
            Part("steps" + f" of {kind[0]} forward passes{', renewing' * kind[1]}" * several, kinds[kind], *each[kind])
            for kind in kinds
        ]
        every = self.parts.settings.lens_every
        return parts + ([Part("lens", -(-self.spending.steps // every), *self._look())] if every else [])

    def _first_step(self) -> tuple[float, float]:
        """A step that is not counted: it compiles what the others use, and has the longest example, for the memory."""
        parts, method = self.parts, self.parts.method
        longest = max(parts.train, key=lambda example: max(len(row.ids) for row in example.rows))
        batch = [longest, *self.trainer.batches.of(0)[1:]]
        self.layers.hold(batch)
        timed = _Timed()
        method.step(self.trainer.batches.closure(batch))
        return timed.seconds

    def _step(self, step: int) -> tuple[float, float]:
        """Seconds of one of the run's steps, whichever was taken before."""
        self.parts.method.t = step
        self.layers.hold(self.trainer.batches.of(step))
        self._aside, timed = (0.0, 0.0), _Timed()
        self.trainer.step()
        timed.leave_out(self._aside)
        return timed.seconds

    def _further(self, first: int, count: int) -> Any:
        """Further batches of a step, with the layers below them run off the clock, as in a run they are cached."""
        timed = _Timed()
        self.layers.hold(self.trainer.batches.further_examples(first, count))
        wall, cpu = timed.seconds
        self._aside = self._aside[0] + wall, self._aside[1] + cpu
        return self.trainer.batches.further(first, count)

    def _look(self) -> tuple[float, float]:
        self.parts.method.t = 0
        timed = _Timed()
        self.trainer.run_lens_if_due()
        return timed.seconds

    def _of_checkpoints(self) -> list[Part]:
        """What is written at a dev evaluation, and read again in the end."""
        trainer, progress = self.trainer, self.trainer.progress
        progress.best_step = self.parts.method.t
        saving = _Timed()
        trainer.checkpoints.save(progress)
        progress.best_checksum = trainer.checkpoints.save_best()
        saved = saving.seconds
        loading = _Timed()
        trainer.checkpoints.restore_best(progress)
        on_the_way = evaluations(self.spending.steps, self.parts.settings.eval_every)[0] - 2
        return [Part("checkpoints", on_the_way, *saved), Part("best weights", 1, *loading.seconds)]

    def _memory(self) -> dict[str, float]:
        """Peak memory by parts, in GiB, with the cache as it will be."""
        row = spent(self.parts, self.trainer.progress, self.trainer.clocks)
        names = {
            "weights": "weights_gib",
            "method state": "method_state_gib",
            "cached": "cache_gib",
            "rest": "rest_gib",
        }
        memory = {name: max(0.0, row[column]) for name, column in names.items()}
        return memory | {"cached": memory["cached"] + (self.layers.bytes_left / 2**30)}


class _FrozenLayers:
    """The layers below the first that trains, run ahead for the examples that are measured, and priced by that.

    Args:
        parts: of the run.
    """

    def __init__(self, parts: Parts):
        self._objective, self._prefix, self._held = parts.objective, parts.objective.prefix, set[Any]()
        self._wall = self._cpu = 0.0
        self._tokens = self._all = 0
        self._whole: tuple[float, float] | None = None
        if self._prefix is None:
            return
        asked = [self._objective.tails(examples) for examples in parts.cached]
        self._all = sum(len(tail.ids) for tails in asked for tail in tails)
        if all(map(self._prefix.is_kept, asked)):
            timed = _Timed()
            for examples in parts.cached:
                self._objective.prepare(examples)
            self._whole = timed.seconds

    def hold(self, examples: Sequence[Encoded]) -> None:
        """Have these examples' activations in the cache, as a run has them."""
        if self._prefix is None or self._whole is not None:
            return
        tails = [tail for tail in self._objective.tails(examples) if tail not in self._held]
        self._held |= set(tails)
        for start in range(0, len(tails), _CHUNK):
            timed, chunk = _Timed(), tails[start : start + _CHUNK]
            self._prefix.hold(chunk)
            wall, cpu = timed.seconds
            self._wall, self._cpu = self._wall + wall, self._cpu + cpu
            self._tokens += sum(len(tail.ids) for tail in chunk)

    @property
    def bytes_left(self) -> float:
        """Bytes that the cache will have beyond those that it has, its limit apart."""
        held = self._prefix.bytes if self._prefix and self._whole is None else 0
        return held * (self._all / self._tokens - 1) if self._tokens else 0.0

    def part(self) -> list[Part]:
        """What filling the cache takes."""
        if self._whole is not None:
            return [Part("frozen layers, from disk", 1, *self._whole)]
        if not self._tokens:
            return []
        share = self._all / self._tokens
        return [Part("frozen layers", 1, share * self._wall, share * self._cpu)]


def _in_turn(places: dict[tuple[int, bool], list[int]]) -> list[tuple[tuple[int, bool], int]]:
    """The steps of all kinds, one of each in turn.

    >>> _in_turn({(2, True): [0], (2, False): [1, 2]})
    [((2, True), 0), ((2, False), 1), ((2, False), 2)]
    """
    longest = max(map(len, places.values()))
    return [(kind, steps[i]) for i in range(longest) for kind, steps in places.items() if i < len(steps)]
