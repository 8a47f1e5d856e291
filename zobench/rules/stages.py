"""The runs of a comparison, stage by stage: trials, what they chose, the same at equal seconds, and settings that ship.

Each stage is a grid of ``zobench.sweep``, written to ``RUNS/grids/`` and run below ``RUNS/<stage>/``.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from zobench.atomic import write_atomically
from zobench.config.cache import sha256
from zobench.config.chosen import Cell
from zobench.errors import ConfigError, UserError, show
from zobench.estimate.prices import Prices
from zobench.rules import choices, settings
from zobench.rules.files import SECONDS, Entry, Rules, Ruleset, Workload
from zobench.rules.settings import Words
from zobench.sweep.plan import PlannedCell, Planner, planning

TRIALS = "trials"


@dataclass
class Comparison:
    """What is asked of a comparison, and where its runs lie.

    Attributes:
        inputs: overrides that the user gives: where data and models lie, and the device.
        folders: of options of one's own.
        processes: how many share the cells of a stage.
        seeds: of scored runs; None for the ruleset's.
    """

    rules: Rules
    runs: Path
    inputs: Sequence[str] = ()
    folders: Sequence[Path] = ()
    processes: int = 1
    seeds: Sequence[int] | None = None
    dry: bool = False
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._cell = cache(lambda line: self._planner.cells([line])[0])
        self._value = OverridesParser.create().parse_override

    def __enter__(self) -> "Comparison":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def _planner(self) -> Planner:
        return self._open.enter_context(planning(self.folders))

    @cached_property
    def _prices(self) -> Prices:
        return Prices()

    def run(self, workload: Workload, rulesets: Sequence[Ruleset], entries: Sequence[Entry]) -> None:
        """Run what is left of a workload.

        Raises:
            UserError: if a sweep was stopped, or a stage lacks the runs that it builds on.
        """
        names = {ruleset.name: ruleset for ruleset in rulesets}
        for ruleset in rulesets:
            if ruleset.settings == "searched":
                self._stage(workload, TRIALS, self.trials(workload, ruleset, entries))
            if ruleset.settings != "chosen":
                self._stage(workload, ruleset.name, self.scored(workload, ruleset, entries))
        if SECONDS in names:
            self._stage(workload, SECONDS, self.at_seconds(workload, names[SECONDS], entries))

    def trials(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry]) -> list[Words]:
        """The runs that try settings."""
        return [
            self._run(entry, workload, tried, self._budget(entry, workload, ruleset), ruleset.trial_seed)
            for entry in entries
            for tried in settings.trials(entry, workload, ruleset)
        ]

    def scored(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry]) -> list[Words]:
        """The scored runs of entries at a budget of forward passes; entries with trials left to run have none."""
        lines = []
        for entry in entries:
            own = self._settings(entry, workload, ruleset)
            budget = self._budget(entry, workload, ruleset)
            for seed in self.seeds or ruleset.seeds if own is not None else ():
                lines.append(self._run(entry, workload, own or {}, budget, seed))
        return lines

    def at_seconds(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry]) -> list[Words]:
        """The scored runs of the other entries at the reference's seconds; the reference's are those of ``tuned``.

        Raises:
            ConfigError: if the reference has no scored run yet.
        """
        tuned = next(each for each in self.rules.rulesets.values() if each.settings == "searched")
        reference = self.rules.entries[self.rules.reference]
        lines = []
        for entry in entries:
            own = self._settings(entry, workload, tuned)
            if entry is reference or not entry.trains or own is None:
                continue
            found = choices.read(self.runs, workload.name, entry.name, SECONDS)
            if found is None:
                rows = [self._rows(self.scored(workload, tuned, [each]), tuned.name) for each in (entry, reference)]
                if not rows[1] and not self.dry:
                    raise ConfigError(
                        f"{workload.name}: {reference.name} has no scored run below {self.runs / tuned.name}, whose "
                        f"seconds the others get; run --ruleset {tuned.name} with it first"
                    )
                if not all(rows):
                    continue
                found = choices.at_equal_seconds(*rows)
                if not self.dry:
                    found = choices.keep(found, self.runs, workload.name, entry.name, SECONDS)
            budget = {"forwards": "null", "steps": str(found["steps"])}
            lines += [self._run(entry, workload, own, budget, seed) for seed in self.seeds or ruleset.seeds]
        return lines

    def _settings(self, entry: Entry, workload: Workload, ruleset: Ruleset) -> Words | None:
        """What a scored run's method is set to; None while trials are left to run, or where none finished."""
        if ruleset.settings == "none" or not entry.trains:
            return {}
        if ruleset.settings == "shipped":
            return settings.shipped(entry, workload)
        found = choices.read(self.runs, workload.name, entry.name)
        if found is None:
            cells = self._cells(self.trials(workload, ruleset, [entry]), TRIALS)
            rows = [choices.row_of(cell.directory) for cell in cells]
            if any(row is None or row["state"] in ("running", "interrupted") for row in rows):
                return None
            found = choices.best(settings.trials(entry, workload, ruleset), rows)
            if found is not None and not self.dry:
                found = choices.keep(found, self.runs, workload.name, entry.name)
        return None if found is None else {str(key): str(value) for key, value in found["settings"].items()}

    def _rows(self, lines: Sequence[Words], stage: str) -> list[choices.Row]:
        rows = [choices.row_of(cell.directory) for cell in self._cells(lines, stage)]
        return [row for row in rows if row is not None and row["state"] == "finished"]

    def _cells(self, lines: Iterable[Words], stage: str) -> list[PlannedCell]:
        """Each line's cell, which tells where its record lies."""
        common = (*self.inputs, f"runs_dir={self.runs / stage}")
        return [self._cell((*_listed(words), *common)) for words in lines]

    def _run(self, entry: Entry, workload: Workload, own: Words, budget: Words, seed: int) -> Words:
        """The words of a run, with the steps between its dev evaluations."""
        words = settings.run(self.rules, entry, workload, own, budget) | settings.seeds(seed)
        if entry.trains:
            words["eval_every"] = str(-(-self._steps(entry, workload, own | budget) // self.rules.evaluations))
        return words

    def _steps(self, entry: Entry, workload: Workload, own: Words) -> int:
        """The steps of a run: an entry is composed once, and its own settings and budget are put in."""
        base = settings.run(self.rules, entry, workload, {}, {})
        cell = Cell(deepcopy(self._cell((*_listed(base), *self.inputs)).settings))
        for key, text in own.items():
            *above, last = key.split(".")
            node = cell.settings
            for name in above:
                node = node[name]
            node[last] = self._value(f"{key}={text}").value()
        return self._prices.of(cell).steps

    def _budget(self, entry: Entry, workload: Workload, ruleset: Ruleset) -> Words:
        return settings.budget(entry, workload, float(ruleset.budget))

    def _stage(self, workload: Workload, stage: str, lines: Sequence[Words]) -> None:
        """Write a stage's grid, and run what is left of it by several processes."""
        if not lines:
            show(f"{workload.name}, {stage}: nothing to run yet")
            return
        content = {"lines": [shlex.join(_listed(words)) for words in lines]}
        text = f"# {workload.name}, {stage}: {len(lines)} runs\n{yaml.safe_dump(content, width=10_000)}"
        with TemporaryDirectory() as scratch:
            grid = Path(scratch, f"{workload.name}-{stage}.yaml")
            if not self.dry:
                grid = self.runs / "grids" / f"{workload.name}-{stage}-{sha256(text.encode())[:8]}.yaml"
                grid.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(grid, text)
            self._sweep(grid, stage)

    def _sweep(self, grid: Path, stage: str) -> None:
        command = [sys.executable, "-m", "zobench.sweep", str(grid), *self.inputs, f"runs_dir={self.runs / stage}"]
        command += [word for folder in self.folders for word in ("--config-dir", str(folder))]
        command += ["--dry-run"] if self.dry else []
        started = [subprocess.Popen(command) for _ in range(1 if self.dry else self.processes)]
        try:
            codes = [process.wait() for process in started]
        except KeyboardInterrupt:
            for process in started:
                process.wait()
            raise
        if set(codes) - {0, 1}:  # 1: cells failed, which the sweep has told
            raise UserError(f"{grid}: the sweep ended with code {max(codes, key=abs)}; the same command goes on")


def _listed(words: Words) -> list[str]:
    return [f"{key}={value}" for key, value in words.items()]
