"""The runs of a comparison, stage by stage: trials, what they chose, the same at equal seconds, and settings that ship.

Each stage is a grid of ``zobench.sweep``, written to ``RUNS/grids/`` and run below ``RUNS/<stage>/``.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from zobench.atomic import write_atomically, writing
from zobench.config.cache import sha256
from zobench.config.words import quoted
from zobench.errors import ConfigError, UserError, show
from zobench.record import summaries
from zobench.rules import choices, settings
from zobench.rules.files import SECONDS, TRIALS, Entry, Rules, Ruleset, Workload
from zobench.rules.runs import Runs
from zobench.rules.settings import Words
from zobench.system.signals import StopRequest

#: a run that is asked for: whose, and its overrides but for inputs and folder
Asked = tuple[Entry, Words]


@dataclass
class Comparison:
    """What is asked of a comparison, and where its runs lie.

    Attributes:
        runs: the folder of all stages.
        inputs: overrides that the user gives: where data and models lie, and the device.
        folders: of options of one's own.
        processes: how many share the cells of a stage.
        seeds: of scored runs; None for the ruleset's.
        dry: show what would run, and write nothing.
        retry_failed: run failed cells again.
        failed: whether cells of a sweep failed, which it told.
    """

    rules: Rules
    runs: Path
    inputs: Sequence[str] = ()
    folders: Sequence[Path] = ()
    processes: int = 1
    seeds: Sequence[int] | None = None
    dry: bool = False
    retry_failed: bool = False
    failed: bool = False

    @cached_property
    def _by_rules(self) -> Runs:
        return Runs(self.rules, self.folders, self.inputs)

    def check(self, workload: Workload, entries: Iterable[Entry]) -> None:
        """Whether every entry has a run on a workload.

        Raises:
            ConfigError: if an option, a setting or the budget of one cannot be.
        """
        for entry in entries:
            own = [*settings.trials(entry, workload, self.rules.searched), settings.shipped(entry, workload)]
            for each in own:
                self._asked(entry, workload, each, settings.budget(entry, workload), self.rules.searched.trial_seed)

    def run(self, workload: Workload, rulesets: Sequence[Ruleset], entries: Sequence[Entry]) -> None:
        """Run what is left of a workload.

        Raises:
            UserError: if a sweep was stopped, or a stage lacks the runs that it builds on.
        """
        for ruleset in sorted(rulesets, key=lambda each: each.settings == "chosen"):
            if ruleset.settings == "searched":
                self._stage(workload, TRIALS, self.trials(workload, ruleset, entries))
            asked = self.at_seconds if ruleset.settings == "chosen" else self.scored
            lines = asked(workload, ruleset, entries)
            if left := self._left(workload, ruleset, entries, lines):
                show(f"{workload.name}, {ruleset.name}: nothing to run yet of {left}")
            if lines:
                self._stage(workload, ruleset.name, lines)

    def _left(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry], lines: Sequence[Asked]) -> str:
        """The entries without a run to ask for, and why: one that no trial suits is never scored."""
        without = {entry.name: entry for entry in entries if all(entry is not each for each, _ in lines)}
        if ruleset.settings == "chosen":
            without = {name: each for name, each in without.items() if each.trains and name != self.rules.reference}
        ended = [
            name
            for name, each in without.items()
            if all(map(_ended, self._rows(workload, TRIALS, self.trials(workload, self.rules.searched, [each]))))
            and self._settings(each, workload, self.rules.searched) is None
        ]
        waiting = [name for name in without if name not in ended]
        count = len(waiting) * len(self.seeds or ruleset.seeds)
        follow = f"{', '.join(waiting)}, whose {count} runs follow when those that they build on have a result"
        said = [follow] if waiting else []
        return "; ".join([*said, *([f"{', '.join(ended)}, of which every trial diverged"] if ended else [])])

    def trials(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry]) -> list[Asked]:
        """The runs that try settings."""
        return [
            self._asked(entry, workload, tried, settings.budget(entry, workload), ruleset.trial_seed)
            for entry in entries
            for tried in settings.trials(entry, workload, ruleset)
        ]

    def scored(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry]) -> list[Asked]:
        """The scored runs at a budget of forward passes, of entries without trials that are left to run."""
        lines = []
        for entry in entries:
            own = self._settings(entry, workload, ruleset)
            budget = settings.budget(entry, workload, float(ruleset.budget))
            for seed in self.seeds or ruleset.seeds if own is not None else ():
                lines.append(self._asked(entry, workload, own or {}, budget, seed))
        return lines

    def at_seconds(self, workload: Workload, ruleset: Ruleset, entries: Iterable[Entry]) -> list[Asked]:
        """The scored runs of the other entries at the reference's seconds; the reference's are those of ``tuned``.

        Raises:
            ConfigError: if the reference has no scored run yet.
        """
        tuned, reference = self.rules.searched, self.rules.entries[self.rules.reference]
        lines = []
        for entry in entries:
            own = self._settings(entry, workload, tuned)
            if entry is reference or not entry.trains or own is None:
                continue
            found = choices.read(self.runs, workload.name, entry.name, SECONDS)
            if found is None:
                rows = [self._finished(each, workload, tuned) for each in (entry, reference)]
                if not (rows[1] or self.dry or any(self._scored_rows(reference, workload, tuned))):
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
            for seed in self.seeds or ruleset.seeds:
                lines.append(self._asked(entry, workload, own, budget, seed))
        return lines

    def _settings(self, entry: Entry, workload: Workload, ruleset: Ruleset) -> Words | None:
        """What a scored run's method is set to; None while trials are left to run or failed, or where none finished."""
        if ruleset.settings != "searched" or not entry.trains:
            return settings.set_by(entry, workload, ruleset)
        found = choices.read(self.runs, workload.name, entry.name)
        if found is None:
            rows = self._rows(workload, TRIALS, self.trials(workload, ruleset, [entry]))
            if not all(map(_ended, rows)):
                return None
            found = choices.best(settings.trials(entry, workload, ruleset), rows)
            if found is not None and not self.dry:
                found = choices.keep(found, self.runs, workload.name, entry.name)
        return None if found is None else found["settings"]

    def _finished(self, entry: Entry, workload: Workload, ruleset: Ruleset) -> list[choices.Row]:
        """The finished scored runs; none while some are left to run or failed: what they took is not known."""
        rows = self._scored_rows(entry, workload, ruleset)
        return [row for row in rows if row and row["state"] == "finished"] if all(map(_ended, rows)) else []

    def _scored_rows(self, entry: Entry, workload: Workload, ruleset: Ruleset) -> list[choices.Row | None]:
        return self._rows(workload, ruleset.name, self.scored(workload, ruleset, [entry]))

    def _asked(self, entry: Entry, workload: Workload, own: Words, budget: Words, seed: int) -> Asked:
        return entry, self._by_rules.words(workload, entry, own, budget, seed)

    def _rows(self, workload: Workload, stage: str, lines: Iterable[Asked]) -> list[choices.Row | None]:
        """The row of each line's run; None where there is none."""
        chosen = self._by_rules.choices(workload)
        folder = self.runs / stage / chosen["task"] / chosen["model"]
        return [
            choices.row_of(folder / settings.method(entry) / self._by_rules.name(workload, entry, words))
            for entry, words in lines
        ]

    def _stage(self, workload: Workload, stage: str, lines: Sequence[Asked]) -> None:
        """Write a stage's grid, and run what is left of it by several processes."""
        if all(map(_ended, self._rows(workload, stage, lines))):
            show(f"{workload.name}, {stage}: {len(lines)} runs, all there")
            return
        content = {"lines": [shlex.join(f"{key}={value}" for key, value in words.items()) for _, words in lines]}
        text = f"# {workload.name}, {stage}: {len(lines)} runs\n{yaml.safe_dump(content, width=10_000)}"
        with TemporaryDirectory() as scratch:
            grid = Path(scratch, f"{workload.name}-{stage}.yaml")
            if not self.dry:
                grid = self.runs / "grids" / f"{workload.name}-{stage}-{sha256(text.encode())[:8]}.yaml"
                with writing(grid):
                    grid.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(grid, text)
            self._sweep(grid, stage)

    def _sweep(self, grid: Path, stage: str) -> None:
        command = [
            sys.executable,
            "-m",
            "zobench.sweep",
            str(grid),
            *self.inputs,
            f"runs_dir={quoted(str(self.runs / stage))}",
        ]
        command += [word for folder in self.folders for word in ("--config-dir", str(folder))]
        command += ["--dry-run"] * self.dry + ["--retry-failed"] * self.retry_failed
        with StopRequest() as stop:
            started = [subprocess.Popen(command) for _ in range(1 if self.dry else self.processes)]
            try:
                codes = [process.wait() for process in started]
            except KeyboardInterrupt:
                for process in started:
                    if stop.requested != "SIGINT":  # which a terminal sends to all
                        process.terminate()
                for process in started:
                    process.wait()
                raise
        self.failed |= 1 in codes
        if set(codes) - {0, 1}:
            raise UserError(f"{grid}: the sweep ended with code {max(codes, key=abs)}; the same command goes on")


def _ended(row: choices.Row | None) -> bool:
    """Whether a run has a result."""
    return row is not None and row["state"] in summaries.RESULTS
