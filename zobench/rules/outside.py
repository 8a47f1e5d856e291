"""Runs of a submission whose method is code of others, of which nothing runs: what they are, by what they say alone.

Their names cannot be told from the rules, as only the code knows what a step costs. Such runs are ``consistent`` at
most.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from zobench.rules import choices, settings
from zobench.rules.files import TRIALS, Entry, Rules, Workload
from zobench.rules.records import Held, Records, Run
from zobench.rules.runs import Runs
from zobench.sweep.trials import words_of


def held(records: Records, rules: Rules, names: set[str]) -> Iterator[Held]:
    """The runs of entries on the workloads of the rules.

    Args:
        records: read by the rules without the entries.
        rules: with them.
        names: of the entries.
    """
    entries = [rules.entries[name] for name in names]
    shared = Runs(rules)
    for workload in rules.workloads.values():
        chosen = shared.choices(workload)
        for entry in entries:
            found = Held(workload, entry, kept=records.choice(workload, entry))
            for stage, runs in records.stages.items():
                own = [run for run in runs.values() if _is_of(run.row, workload, chosen, entry, entries)]
                _put(found, stage, [run for run in own if _within(run.row, rules, stage, workload)], rules)
            if any(found.scored.values()):
                yield found


def _put(found: Held, stage: str, runs: list[Run], rules: Rules) -> None:
    for run in sorted(runs, key=lambda run: str(run.place)):
        found.words[str(run.place)] = _words(run.row, found, rules)
    if stage == TRIALS:
        tried = settings.trials(found.entry, found.workload, rules.searched)
        found.trials = [next((run for run in runs if _sets(run.row, own)), None) for own in tried]
        found.chosen = choices.best(tried, [None if run is None else run.row for run in found.trials])
    else:
        found.scored[stage] = {run.row["seed"]: run for run in runs}


def _is_of(
    row: Mapping[str, Any], workload: Workload, chosen: Mapping[str, str], entry: Entry, known: list[Entry]
) -> bool:
    """Whether a row is of an entry: of two that fit, the one that sets more."""
    model = row.get("model")
    of_model = model == chosen["model"] or (chosen["model"] == "local" and "@" in str(model))
    size = words_of(workload.words.split()).get("batch_size")
    if not of_model or any(row.get(key) != chosen[key] for key in ("task", "tuning")) or str(row["batch_size"]) != size:
        return False
    fits = [each for each in known if _fits(row, each)]
    return bool(fits) and max(fits, key=lambda each: len(each.words.split())) is entry


def _fits(row: Mapping[str, Any], entry: Entry) -> bool:
    words = words_of(entry.words.split())
    option = words.pop("method")
    return row["method"] == option and _sets(row, words)


def _sets(row: Mapping[str, Any], words: Mapping[str, str]) -> bool:
    return all(_same(row.get(key), value) for key, value in words.items())


def _same(value: Any, word: str) -> bool:
    try:
        return float(value) == float(word)
    except (TypeError, ValueError):
        return str(value).lower() == word.lower()


def _within(row: Mapping[str, Any], rules: Rules, stage: str, workload: Workload) -> bool:
    """Whether a run took no more forward passes than the rules give, where they count these."""
    budget = 1 if stage == TRIALS else rules.rulesets[stage].budget
    passes = (row.get("forwards") or 0) + 2 * (row.get("backwards") or 0)
    return isinstance(budget, str) or passes <= budget * workload.forwards


def _searched(row: Mapping[str, Any], entry: Entry) -> dict[str, str]:
    return {key: f"{row.get(key)}" for key in entry.space}


def _words(row: Mapping[str, Any], found: Held, rules: Rules) -> dict[str, str]:
    """The overrides that make a run, as far as its entry and its row tell them."""
    fixed = " ".join([rules.words, rules.training, found.workload.words, found.entry.words])
    budget = {"forwards": str(settings.budget(found.entry, found.workload)["forwards"])}
    if row.get("forwards") and row["forwards"] > found.workload.forwards:
        budget = {"forwards": str(row["forwards"])}
    evaluated = {"eval_every": str(row["eval_every"])} if row.get("eval_every") else {}
    return words_of(fixed.split()) | _searched(row, found.entry) | budget | settings.seeds(row["seed"]) | evaluated
