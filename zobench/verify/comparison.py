"""The runs that are verified, and what the rules of a comparison say of each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zobench.errors import ConfigError, UserError, told
from zobench.record import summaries
from zobench.record.archive import Place, locate
from zobench.record.reading import Unreadable
from zobench.record.runs import find
from zobench.rules import outside
from zobench.rules.check import broken, of_entries
from zobench.rules.files import TRIALS, Rules, load
from zobench.rules.records import Records
from zobench.verify import submission

#: said where an entry or a choice broke the check: a stranger's may break anything
_UNCHECKED = "the rules cannot be checked"


@dataclass
class Comparison:
    """Runs below a folder, in a zip, or of the stages of a comparison.

    Attributes:
        places: of the runs.
        asked: places of those that the rules ask for; None without stages, where no rule was checked.
        broken: place → the rules that its run breaks.
        lines: rules that entries break, and what cannot be searched.
    """

    places: list[Place] = field(default_factory=list)
    asked: set[str] | None = None
    broken: dict[str, list[str]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def read(
    addresses: Sequence[str],
    rules: Rules,
    folders: Sequence[Path],
    workloads: Collection[str],
    entries: Collection[str],
) -> Comparison:
    """Find the runs at some addresses, and check the rules where these have the stages of a comparison.

    Args:
        addresses: folders and zips; what they hold is one comparison.
        folders: of options that add entries.
        workloads, entries: names of those that are asked for; empty for all.

    Raises:
        UserError: if there is no run.
    """
    tops, comparison = [locate(address) for address in addresses], Comparison()
    for address, top in zip(addresses, tops, strict=True):
        if not top.is_dir():
            raise UserError(f"{address}: no such folder or zip of runs")
        found = find(top)
        if not (found.runs or found.left_out):
            raise UserError(f"{address}: no run there")
        comparison.places += sorted(found.runs, key=str)
        comparison.lines += [f"{place}: {why}" for place, why in found.left_out]
    if any((top / stage).is_dir() for top in tops for stage in (TRIALS, *rules.rulesets)):
        _by_rules(comparison, Records(rules, addresses, folders), workloads, entries)
    elif workloads or entries:
        raise ConfigError(
            f"{', '.join(addresses)}: --workload and --only are of comparisons; it has no folder such as {TRIALS}"
        )
    if not comparison.places:
        raise UserError(f"{', '.join(addresses)}: no run there")
    return comparison


def of_others(address: str, found: submission.Submission, version: str, own: Sequence[Path]) -> list[str]:
    """The rules that a submission breaks whose method is code of others, of which nothing runs; a line each.

    Trials, choices and seeds are counted by what rows say of themselves.

    Args:
        own: folders of options with entries and workloads beside the rules' own.
    """
    try:
        return [*_of_others(address, found, version, own)]
    except Exception as error:
        return [f"{_UNCHECKED}: {told(error)}"]


def _of_others(address: str, found: submission.Submission, version: str, own_folders: Sequence[Path]) -> Iterator[str]:
    rules = load(version, [*own_folders, *filter(None, [found.options])])
    records, names = Records(load(version, own_folders), [address], own_folders), submission.names(found, rules)
    held = list(outside.held(records, rules, names))
    yield from of_entries(rules, held)
    if not held:
        yield f"{found.content['entry']}: no scored run of it on a workload of {version}"
    own = {str(run.place) for each in held for run in each.runs()}
    theirs = {str(run.place): each.entry.name for each in records.held for run in each.runs()}
    if others := sorted({name for place, name in theirs.items() if place not in own}):
        yield f"runs of {', '.join(others)}: the submission is of {found.content['entry']}; remove them"
    for stage, runs in records.stages.items():
        for run in runs.values():
            if str(run.place) not in own | theirs.keys():
                yield f"{run.place}: {stage}: no trial of the declared space, and no scored run of the chosen setting"


def check_one_model(places: Sequence[Place]) -> None:
    """Raises ConfigError where runs have several models from folders: one ``model.dir`` cannot be those of all."""
    models = set()
    for place in places:
        try:
            row = summaries.read(place)
        except Unreadable:  # its verdict says so
            continue
        if row.get("model.dir"):
            models.add(row["model"])
    if len(models) > 1:
        raise ConfigError(
            f"model.dir: the runs have several models, {', '.join(sorted(models))}; give one's runs, or --workload"
        )


def _by_rules(comparison: Comparison, records: Records, workloads: Collection[str], entries: Collection[str]) -> None:
    try:
        held = [
            each
            for each in records.held
            if (not workloads or each.workload.name in workloads) and (not entries or each.entry.name in entries)
        ]
        lines = broken(records)
    except Exception as error:
        comparison.lines.append(f"{_UNCHECKED}: {told(error)}")
        return
    comparison.asked = {str(run.place) for each in held for run in each.runs()}
    if workloads or entries:
        comparison.places = [place for place in comparison.places if str(place) in comparison.asked]
    names = {str(place) for place in comparison.places}
    whose = tuple(f"{each.workload.name}, {each.entry.name}{end}" for each in held for end in (":", ","))
    for line in lines:
        place = next((name for name in names if line.startswith(f"{name}: ")), None)
        if place is not None:
            comparison.broken.setdefault(place, []).append(line.removeprefix(f"{place}: "))
        elif line.startswith(whose) or not (workloads or entries):
            comparison.lines.append(line)
