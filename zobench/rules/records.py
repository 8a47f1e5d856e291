"""Records below ``RUNS/<stage>/`` as what they are by the rules: trials and scored runs of an entry on a workload.

A run is known by its name, which holds all that can change its result: what the rules ask for has that name or is not
there. Nothing of a record runs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from zobench.config.signature import digest
from zobench.errors import UserError
from zobench.record import summaries
from zobench.record.archive import Place, locate
from zobench.record.reading import Unreadable
from zobench.record.runs import find
from zobench.rules import choices, settings
from zobench.rules.choices import Row
from zobench.rules.files import SECONDS, TRIALS, Entry, Rules, Ruleset, Workload
from zobench.rules.runs import NoRun, Runs
from zobench.rules.settings import Words


@dataclass(eq=False)
class Run:
    """A record that was found, with what it says of itself.

    Attributes:
        place: its directory, in a folder or a zip.
        row: the content of its summary.
        asked: the settings that the rules ask for under its name; None where they ask for none.
    """

    place: Place
    row: Row
    asked: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether it has a result that can be scored."""
        return bool(self.row["state"] == "finished")


@dataclass
class Held:
    """The runs of an entry on a workload.

    Attributes:
        trials: a run for each, None where there is none.
        scored: ruleset → seed → run.
        chosen: the trial with the lowest dev loss, as ``choices.best`` gives it; None without a finished one.
        kept: the choice that was written down, where one was.
        steps: the steps at equal seconds that were written down, with the seconds that they were computed from.
        words: place of a run → the overrides that make it, but for inputs and folder.
    """

    workload: Workload
    entry: Entry
    trials: list[Run | None] = field(default_factory=list)
    scored: dict[str, dict[int, Run]] = field(default_factory=dict)
    chosen: Row | None = None
    kept: Row | None = None
    words: dict[str, Words] = field(default_factory=dict)
    steps: Row | None = None

    @property
    def hopeless(self) -> bool:
        """Whether every trial diverged, so that there is no setting to score."""
        return bool(self.trials) and all(run is not None and run.row["state"] == "diverged" for run in self.trials)

    def runs(self) -> Iterator[Run]:
        """All that there are."""
        yield from (run for run in self.trials if run is not None)
        for of_seeds in self.scored.values():
            yield from of_seeds.values()


class Records:
    """The records of a comparison.

    Args:
        tops: folders of all stages, or zips of them; what they hold is one comparison.
        folders: of options of one's own.

    Attributes:
        left_out: (place, reason) of what could not be read.

    Raises:
        UserError: if there is no such folder.
    """

    def __init__(self, rules: Rules, tops: Sequence[str | Path], folders: Sequence[Path] = ()):
        self.rules, self.tops = rules, [locate(top) for top in tops]
        for top in self.tops:
            if not top.is_dir():
                raise UserError(f"{top}: no such folder; give the one that zobench.rules run --runs wrote to")
        self.left_out: list[tuple[str, str]] = []
        self.stages = {stage: self._read([top / stage for top in self.tops]) for stage in (TRIALS, *rules.rulesets)}
        self._by_rules = Runs(rules, folders)

    def _read(self, folders: Sequence[Place]) -> dict[str, Run]:
        """Name → run, of those in some folders, of which some may not be there."""
        found: dict[str, Run] = {}
        searched = [find(folder) for folder in folders if folder.is_dir()]
        for place in (place for each in searched for place in each.runs):
            try:
                row = summaries.as_row(summaries.read(place))
                name = str(row.get("config_hash"))
                if name in found:
                    raise ValueError(f"the run of {found[name].place} again; remove one of them")
                found[name] = Run(place, row)
            except Unreadable as error:
                self.left_out.append((str(place), error.said))
            except ValueError as error:
                self.left_out.append((str(place), str(error)))
        self.left_out += [each for held in searched for each in held.left_out]
        return found

    @cached_property
    def held(self) -> list[Held]:
        """What there is of every entry on every workload; entries without a run of their own are left away."""
        methods = {run.row["method"] for runs in self.stages.values() for run in runs.values()}
        found = [
            self._held(workload, entry, model)
            for workload in self.rules.workloads.values()
            for model in self._models(workload)
            for entry in self.rules.entries.values()
            if settings.method(entry) in methods
        ]
        tried = Counter(id(run) for held in found for run in held.trials)  # an ablation may share trials
        return [each for each in found if any(each.scored.values()) or any(tried[id(t)] == 1 for t in each.trials if t)]

    def others(self) -> list[tuple[str, Run]]:
        """(stage, run) of what no rule asks for."""
        known = {id(run) for held in self.held for run in held.runs()}
        return [(stage, run) for stage, runs in self.stages.items() for run in runs.values() if id(run) not in known]

    def _models(self, workload: Workload) -> list[str]:
        """The labels of a workload's model among the runs."""
        chosen = self._by_rules.choices(workload)
        rows = [run.row for runs in self.stages.values() for run in runs.values()]
        models = {row["model"] for row in rows if row["task"] == chosen["task"] and row["tuning"] == chosen["tuning"]}
        return sorted(m for m in models if m == chosen["model"] or (chosen["model"] == "local" and "@" in m))

    def _held(self, workload: Workload, entry: Entry, model: str) -> Held:
        def run(stage: str, own: Words, budget: Words, seed: int) -> Run | None:
            try:
                words = self._by_rules.words(workload, entry, own, budget, seed)
            except NoRun:
                return None
            asked = self._by_rules.resolved(workload, entry, words, model)
            if found := self.stages[stage].get(digest(asked)):
                found.asked = asked
                held.words[str(found.place)] = words
            return found

        tuned, held = self.rules.searched, Held(workload, entry)
        tried, budget = settings.trials(entry, workload, tuned), settings.budget(entry, workload)
        held.trials = [run(TRIALS, own, budget, tuned.trial_seed) for own in tried]
        held.chosen = choices.best(tried, [None if each is None else each.row for each in held.trials])
        held.kept, held.steps = (self.choice(workload, entry, kind) for kind in ("", SECONDS))
        best = held.kept if held.kept and held.kept["settings"] in tried else held.chosen
        for ruleset in self.rules.rulesets.values():
            if ruleset.settings in ("searched", "chosen") and entry.trains:
                if best is None:
                    continue
                own = dict(best["settings"])
            else:
                own = settings.set_by(entry, workload, ruleset)
            for budget in self._budgets(entry, workload, ruleset):
                found = {seed: run(ruleset.name, own, budget, seed) for seed in self._seeds(ruleset)}
                held.scored.setdefault(ruleset.name, {}).update((s, each) for s, each in found.items() if each)
        return held

    def choice(self, workload: Workload, entry: Entry, kind: str = "") -> Row | None:
        """What was written down as chosen, as ``choices.read`` gives it."""
        found = (choices.read(top, workload.name, entry.name, kind) for top in self.tops)
        return next((each for each in found if each), None)

    def _budgets(self, entry: Entry, workload: Workload, ruleset: Ruleset) -> list[Words]:
        """A scored run's budget; at equal seconds the steps that were written down, else any that were taken."""
        if ruleset.settings != "chosen":
            return [settings.budget(entry, workload, float(ruleset.budget))]
        kept = self.choice(workload, entry, SECONDS)
        rows = [run.row for run in self.stages[ruleset.name].values()]
        own = {row["steps"] for row in rows if row["method"] == settings.method(entry) and row.get("steps")}
        return [{"forwards": "null", "steps": str(steps)} for steps in ([kept["steps"]] if kept else sorted(own))]

    def _seeds(self, ruleset: Ruleset) -> list[int]:
        found = {run.row["seed"] for run in self.stages[ruleset.name].values() if run.row.get("seed") is not None}
        return sorted(found | set(ruleset.seeds))
