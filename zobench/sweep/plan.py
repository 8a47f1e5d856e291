"""The plan of a sweep: from lines of overrides to cells, what each would run and where its record lies."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zobench.config.chosen import Chosen
from zobench.config.overrides import FrontDoor
from zobench.config.ranges import is_known
from zobench.config.settings import check_settings
from zobench.config.signature import GROUPS, differences, digest
from zobench.config.words import of_hydra
from zobench.errors import ConfigError, UserError
from zobench.models.own import check_chosen
from zobench.record.lookup import located, place
from zobench.sweep.compose import Family, Load, is_value

#: cells of a line of overrides; 5,000 take five seconds to plan
_MOST_CELLS = 50_000


@dataclass(frozen=True)
class PlannedCell(Chosen):
    """One run of a table.

    Attributes:
        overrides: what ``python -m zobench`` would be given.
        line: number of the grid's line that it comes from, from 0.
        signature: the run's name.
        settings: the resolved configuration, in plain values.
    """

    overrides: tuple[str, ...]
    line: int
    signature: str
    settings: dict[str, Any]

    @property
    def directory(self) -> Path:
        """Where the cell's record lies, or will lie."""
        return located(Path(self.settings["runs_dir"]) / self.settings["out"], self.settings)


class Planner:
    """Expands lines of overrides into cells, with Hydra's grammar and Hydra's composition.

    Args:
        load: Hydra's composition of a list of overrides, the node ``hydra`` included.
        folders: configuration folders, zobench's first.
        config_loader: for ``glob(...)`` in overrides.
    """

    def __init__(self, load: Load, folders: Sequence[Path], config_loader: Any = None):
        self._load, self._folders = load, list(folders)
        self._door = FrontDoor(folders)
        self._parser = OverridesParser.create(config_loader=config_loader)
        self._parsed = cache(self._parser.parse_override)
        self._composed = cache(lambda shared: load(list(shared)))

    def cells(self, lines: Sequence[Sequence[str]]) -> list[PlannedCell]:
        """The cells of all lines, each once, in the order of the lines.

        Raises:
            ConfigError: for a line that cannot be composed, or a setting that is out of range; names the line.
        """
        found: dict[Path, PlannedCell] = {}
        for number, line in enumerate(lines):
            try:
                own = list(self._expand(self._door.check(list(line)), number))
                self._check(own)
            except (UserError, HydraException, OmegaConfBaseException) as error:
                where = f"line {number + 1}, {' '.join(line)}:\n" if len(lines) > 1 else ""
                said = error if isinstance(error, UserError) else of_hydra(error)
                raise ConfigError(f"{where}{said}") from error
            for cell in own:
                _same_run(found.setdefault(cell.directory.resolve(), cell), cell)
        for directory, cell in found.items():
            for above in directory.parents:
                if above in found:
                    raise _shared(found[above], cell, f"{cell.directory} lies within {found[above].directory}")
        return list(found.values())

    def _expand(self, line: list[str], number: int) -> Iterator[PlannedCell]:
        overrides = {o.get_key_element(): o for o in self._parser.parse_overrides(line)}
        _check_size(overrides.values())
        single = {key for key, o in overrides.items() if key not in self._door.groups and is_value(o)}
        single -= {key for key in single if any(self._overlap(key, other) for other in overrides if other != key)}
        fixed = [o for key, o in overrides.items() if key not in single]
        rest = [o for key, o in overrides.items() if key in single]
        for shared in itertools.product(*map(_texts, fixed)):
            family = Family(self._load, shared, self._composed(shared))
            added = [f"{key}={value}" for key, value in family.presets.items() if key not in overrides]
            if added:
                yield from self._expand([*shared, *added, *(o.input_line or "" for o in rest)], number)
                continue
            for own in itertools.product(*map(_texts, rest)):
                values = {o.get_key_element(): o.value() for o in map(self._parsed, own)}
                settings = family.settings(values, own)
                yield PlannedCell((*shared, *own), number, digest(settings), settings)

    def _overlap(self, key: str, other: str) -> bool:
        """Whether two keys are of one node, as ``lens`` and ``lens.every``; a group and a key of its option are not."""
        shorter, longer = sorted((key.lstrip("+~"), other.lstrip("+~")), key=len)
        return shorter == longer or (longer.startswith(f"{shorter}.") and shorter not in self._door.groups)

    def _check(self, cells: list[PlannedCell]) -> None:
        """Types and ranges; of cells that differ in values seen before, the first.

        What a class of a user's own refuses, it says itself.
        """
        seen: set[str] = set()
        for cell in cells:
            if not seen.issuperset(cell.overrides):
                seen.update(cell.overrides)
                settings = OmegaConf.create(cell.settings)
                check_settings(settings, self._folders)
                check_chosen(cell.settings)
                if not all(is_known(cell.settings[group]) for group in GROUPS):
                    from zobench.run.build import check_parts

                    check_parts(settings)


def _same_run(first: PlannedCell, second: PlannedCell) -> None:
    """Raises ConfigError if cells of one directory are not one run, or differ in what its name does not hold."""
    if first is not second and (others := differences(first.settings, second.settings)):
        raise _shared(first, second, f"they differ in {', '.join(others[:3])}")
    for key in ("data.dir", "model.dir", "device"):
        values = [cell.get(key) for cell in (first, second)]
        same = values[0] == values[1] or (key != "device" and place(values[0]) == place(values[1]))
        if not same and "auto" not in values:
            raise ConfigError(
                f"{key}={values[0]} and {key}={values[1]}: two cells of the sweep would share {first.directory}, for a "
                f"run's name holds no {'device' if key == 'device' else 'paths'}; run them with a runs_dir of each"
            )


def _check_size(overrides: Iterable[Override]) -> None:
    """Raises ConfigError for more cells than anyone can want, before they are counted out one by one."""
    cells = 1
    for override in overrides:
        values = override.value()
        if isinstance(values, ChoiceSweep):
            cells *= len(values.list)
        elif isinstance(values, RangeSweep):
            assert values.start is not None
            assert values.stop is not None
            if not values.step:
                raise ConfigError(f"{override.input_line}: a range in steps of 0 has no end")
            cells *= max(0, math.ceil((values.stop - values.start) / values.step))
        if cells > _MOST_CELLS:
            raise ConfigError(
                f"{override.input_line}: a sweep of {cells:,} cells or more, expected at most {_MOST_CELLS:,}; split it"
            )


def _shared(first: PlannedCell, second: PlannedCell, why: str) -> ConfigError:
    own = [" ".join(w for w in a.overrides if w not in b.overrides) for a, b in ((first, second), (second, first))]
    return ConfigError(
        f"two cells of the sweep would share {first.directory}: {own[0]} and {own[1]}; {why}; leave out= away, or put "
        "${signature:} into it"
    )


def _texts(override: Override) -> list[str]:
    """An override's values one by one, each as an override."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a table takes lists and ranges; an interval is for search=METHOD")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def select(cells: Sequence[PlannedCell], conditions: Sequence[str]) -> list[PlannedCell]:
    """The cells that meet all conditions.

    Args:
        cells: to choose from.
        conditions: each a group or a setting with its values, such as ``method=mezo,loren`` or ``seed=0``.

    Raises:
        ConfigError: for a condition that is malformed, or that no cell meets.
    """
    kept, parser = list(cells), OverridesParser.create()
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        values = {str(cell.get(f"choices.{key}") or cell.get(key)) for cell in kept}
        if not equals or values == {"None"}:
            raise ConfigError(f"{condition}: expected KEY=VALUE[,VALUE] of a group or a setting, such as method=mezo")
        accepted = {str(parser.parse_override(f"x={word}").value()) for word in wanted.split(",")}
        kept = [cell for cell in kept if str(cell.get(f"choices.{key}") or cell.get(key)) in accepted]
        if not kept:
            raise ConfigError(f"{condition}: no cell left; {key} is one of {', '.join(sorted(values))}")
    return kept
