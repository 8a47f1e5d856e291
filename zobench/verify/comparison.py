"""The runs that are verified, and what the rules of a comparison say of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zobench.errors import ConfigError, UserError, first_line
from zobench.record import summaries
from zobench.record.archive import Place, locate
from zobench.record.reading import Unreadable
from zobench.record.runs import find
from zobench.rules.check import broken
from zobench.rules.files import TRIALS, Rules
from zobench.rules.records import Records


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
    address: str, rules: Rules, folders: Sequence[Path], workloads: Collection[str], entries: Collection[str]
) -> Comparison:
    """Find the runs at an address, and check the rules where it has the stages of a comparison.

    Args:
        folders: of options that add entries.
        workloads, entries: names of those that are asked for; empty for all.

    Raises:
        UserError: if there is no run.
    """
    top = locate(address)
    if not top.is_dir():
        raise UserError(f"{address}: no such folder or zip of runs")
    found = find(top)
    comparison = Comparison(
        places=sorted(found.runs, key=str), lines=[f"{place}: {why}" for place, why in found.left_out]
    )
    if any((top / stage).is_dir() for stage in (TRIALS, *rules.rulesets)):
        _by_rules(comparison, Records(rules, [address], folders), workloads, entries)
    elif workloads or entries:
        raise ConfigError(f"{address}: --workload and --only are of comparisons; it has no folder such as {TRIALS}")
    if not comparison.places:
        raise UserError(f"{address}: no run there")
    return comparison


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
    except Exception as error:  # a stranger's entry or choice may break anything
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        comparison.lines.append(f"the rules cannot be checked: {said}")
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
