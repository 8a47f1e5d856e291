"""Whether the records of a comparison keep the rules, a line for each that is broken; and what entries were given."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from zobench.config.signature import differences, digest
from zobench.errors import shown
from zobench.record import configs
from zobench.record.reading import Unreadable
from zobench.rules import choices
from zobench.rules.files import SECONDS, Rules, Ruleset
from zobench.rules.records import Held, Records, Run
from zobench.system.markdown import pipe_table

#: of the reference's CPU seconds of training, what a run at equal seconds may take: clocks of shared machines differ
LONGEST = 1.5


def broken(records: Records) -> list[str]:
    """The rules that are broken, a line each; empty if all are kept.

    Which run is which follows from its name, which holds every setting that can change its result, with budget, seed
    and draw of training rows: a run outside the declared space, or with another budget, is one that no rule asks for.
    """
    return [
        *(f"{place}: {reason}" for place, reason in records.left_out),
        *of_entries(records.rules, records.held),
        *_same_inputs(records),
        *(line for held in records.held for run in held.runs() for line in of_settings(run)),
        *(f"{run.place}: no rule asks for it: {_said(stage, run)}" for stage, run in records.others()),
    ]


def of_entries(rules: Rules, entries: Sequence[Held]) -> Iterator[str]:
    """The rules that entries break by the number of their trials and seeds, and by what was chosen; a line each."""
    for held in entries:
        yield from _of_entry(rules, held, entries)
    yield from _equal(rules, entries)


def _of_entry(rules: Rules, held: Held, entries: Sequence[Held]) -> Iterator[str]:
    where = f"{held.workload.name}, {held.entry.name}"
    tuned = rules.searched
    runs = [("trials", "trial", number, run) for number, run in enumerate(held.trials)]
    runs += [(name, "seed", seed, run) for name, of in held.scored.items() for seed, run in of.items()]
    for stage, kind, number, run in runs:
        if run is not None and run.row["state"] not in ("finished", "diverged"):
            reason = f": {run.row['reason']}" if run.row.get("reason") else ""
            yield f"{where}, {stage}: {kind} {number} is {run.row['state']}{reason}"
    missing = [str(number) for number, run in enumerate(held.trials) if run is None]
    if missing and held.scored.get(tuned.name):
        yield f"{where}: {tuned.name}, but of {tuned.trials} trials {', '.join(missing)} are missing"
    if held.kept and held.chosen and held.kept["settings"] != held.chosen["settings"]:
        best = held.chosen["trial"]
        yield f"{where}: scored with another setting than that of trial {best}, which has the lowest dev loss"
    if held.kept and not held.chosen and held.scored.get(tuned.name):
        yield f"{where}: scored with {_words(held.kept['settings'])}, but no trial finished that could have chosen it"
    if held.steps and held.steps["steps"] != choices.steps(held.steps):
        said = f"{held.steps['steps']} steps, where the seconds beside them pay for {choices.steps(held.steps)}"
        yield f"{where}, {SECONDS}: {choices.name(held.entry.name, SECONDS)} has {said}"
    reference = next((h for h in entries if h.workload is held.workload and h.entry.name == rules.reference), None)
    own, paid = _finished(held, SECONDS), [] if reference is None else _finished(reference, tuned.name)
    if own and paid:
        taken, available = (median(map(choices.seconds, rows)) for rows in (own, paid))
        taken /= choices.slowness(own, paid)
        if taken > LONGEST * available:
            yield f"{where}, {SECONDS}: {taken:.1f} CPU seconds of training, where the reference takes {available:.1f}"


def _finished(held: Held, stage: str) -> list[choices.Row]:
    return [run.row for run in held.scored.get(stage, {}).values() if run.finished]


def _equal(rules: Rules, entries: Sequence[Held]) -> Iterator[str]:
    """Every entry of a workload that can be scored by a ruleset is, with the same seeds."""
    for workload in dict.fromkeys(held.workload.name for held in entries):
        for ruleset in rules.rulesets.values():
            seeds = {
                held.entry.name: sorted(held.scored.get(ruleset.name, {}))
                for held in entries
                if held.workload.name == workload and (held.scored.get(ruleset.name) or _can(rules, held, ruleset))
            }
            if not any(seeds.values()):  # a ruleset that nobody has run
                continue
            wanted = sorted({*ruleset.seeds, *(seed for found in seeds.values() for seed in found)})
            for entry, own in seeds.items():
                if lacking := [str(seed) for seed in wanted if seed not in own]:
                    yield f"{workload}, {entry}, {ruleset.name}: seeds {', '.join(lacking)} are missing"


def _can(rules: Rules, held: Held, ruleset: Ruleset) -> bool:
    """Whether an entry has a score to give: not where every trial, or every run whose seconds count, diverged."""
    if ruleset.settings == "chosen":
        tuned = held.scored.get(rules.searched.name, {}).values()
        scored = [run for run in tuned if run.finished]
        return bool(scored) and held.entry.trains and held.entry.name != rules.reference
    return not (ruleset.settings == "searched" and held.hopeless)


def _words(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={text}" for key, text in settings.items())


def _same_inputs(records: Records) -> Iterator[str]:
    """All runs of a workload have one model, and those of one draw one set of rows."""
    seen: dict[tuple[str, str], tuple[str, Run]] = {}
    for held in records.held:
        for run in held.runs():
            facts = {"the model": run.row.get("model_checksum")}
            facts[f"the rows of data_seed={run.row.get('data_seed')}"] = run.row.get("rows_hash")
            for what, value in facts.items():
                first, other = seen.setdefault((held.workload.name, what), (str(value), run))
                if str(value) != first and "None" not in (str(value), first):
                    yield f"{run.place}: {held.workload.name}: {what} are not those of {other.place}"


def of_settings(run: Run) -> Iterator[str]:
    """A run's settings are those that it is named after, and all of them those of the run that is asked for.

    Somebody who tries some billions of settings finds other ones with the same eight digits.
    """
    try:
        own = configs.read(run.place)
        if digest(own) != run.row["config_hash"]:
            yield f"{run.place}: {configs.NAME} has other settings than those that the run is named after"
        elif changed := differences(run.asked or own, own):
            yield f"{run.place}: the rules ask for other settings under its name: {', '.join(changed[:3])}"
        elif run.asked and (own["data"]["dir"] == "mini") != (run.asked["data"]["dir"] == "mini"):
            yield f"{run.place}: data.dir={shown(own['data']['dir'])}: the rules ask for the rows of another place"
    except Unreadable as error:
        yield f"{run.place}: {error.said}"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        yield f"{run.place}: {configs.NAME}: not the configuration of a run ({type(error).__name__}: {error})"


def _said(stage: str, run: Run) -> str:
    keys = [key for key in sorted(run.row) if key in ("seed", "data_seed", "forwards", "method.lr", "method.variant")]
    return ", ".join([stage, str(run.row["task"]), str(run.row["method"]), *(f"{key}={run.row[key]}" for key in keys)])


def table(records: Records) -> str:
    """What every entry was given on every workload: trials, scored seeds, draws, forward passes and CPU hours."""
    header = ["workload", "entry", "trials", "CPU h of trials"]
    names = [name for name in records.rules.rulesets if any(held.scored.get(name) for held in records.held)]
    for name in names:
        header += [f"{name}: seeds", "draws", "forwards", "CPU h"]
    lines = []
    for held in records.held:
        tried = [run for run in held.trials if run is not None]
        line = [held.workload.name, held.entry.name]
        line += [f"{sum(run.finished for run in tried)} of {len(held.trials)}" if held.trials else "-", _hours(tried)]
        for name in names:
            runs = list(held.scored.get(name, {}).values())
            draws = {run.row.get("rows_hash") for run in runs}
            line += [str(len(runs)), str(len(draws)), _range(run.row.get("forwards") for run in runs), _hours(runs)]
        lines.append(line)
    return pipe_table([header, *lines])


def _hours(runs: list[Run]) -> str:
    return f"{sum(run.row.get('cpu_hours') or 0.0 for run in runs):.3f}"


def _range(values: "Iterator[int | None]") -> str:
    """
    >>> _range(iter([2000, 1998, 2000]))
    '1,998 to 2,000'
    """
    found = sorted({value for value in values if value is not None})
    return " to ".join(f"{value:,}" for value in dict.fromkeys((found[0], found[-1]))) if found else "-"
