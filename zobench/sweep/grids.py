"""Grids: tables of runs as YAML files, each a union of products with a line for every product."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zobench.config.folders import conf_dir
from zobench.config.options import describe, load_yaml
from zobench.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Grid:
    """A table of runs: lines of overrides, commas and all, as they stand behind ``--multirun``.

    >>> grid = Grid("mine", "My table", ("steps=3",), (("method=mezo", "seed=0,1"), ("method=loren",)))
    >>> grid.arguments(["seed=5"])
    [['steps=3', 'method=mezo', 'seed=0,1', 'seed=5'], ['steps=3', 'method=loren', 'seed=5']]

    Attributes:
        name: the file's, without its ending.
        description: the file's first comment line.
        common: overrides of every line; a line's own win.
        lines: each a product of cells.
    """

    name: str
    description: str
    common: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def arguments(self, extra: Sequence[str] = (), folders: Sequence[Path] = ()) -> list[list[str]]:
        """Each line in full, with ``extra`` overrides that win over all others; a search as its trials.

        Args:
            extra: overrides.
            folders: folders of options beside zobench's, for their search spaces.

        Raises:
            ConfigError: for a search that there is not.
        """
        lines = [[*self.common, *line, *extra] for line in self.lines]
        if any(word.partition("=")[0] == "search" for line in lines for word in line):
            from zobench.sweep.trials import expand

            return expand(lines, list(dict.fromkeys([conf_dir(), *folders])))
        return lines


def named(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Name → file of the grids that ship with zobench, and of those in ``sweep/`` of other folders of options."""
    found = [path for folder in (conf_dir(), *folders) for path in sorted((folder / "sweep").glob("*.yaml"))]
    return {path.stem: path for path in found}


def find(name: str, folders: Sequence[Path] = ()) -> Grid:
    """Read a grid by its name, or by the path of a YAML file.

    Args:
        name: a grid's name or a path.
        folders: folders of options beside zobench's.

    Raises:
        ConfigError: if there is none, or the file is not a grid.
    """
    known = named(folders)
    path = known.get(name, Path(name))
    if not path.is_file():
        hint = did_you_mean(name, known)
        raise ConfigError(
            f"{name}: no such grid{hint}\na grid is one of {', '.join(known)}, or the path of a YAML file like "
            f"{conf_dir() / 'sweep' / 'smoke.yaml'}"
        )
    return _read(path)


def _read(path: Path) -> Grid:
    content = load_yaml(path)
    if not content.get("lines"):
        raise ConfigError(f"{path}: a grid needs lines, such as\nlines:\n  - method=mezo,loren seed=0,1,2")
    for key in content:
        if key not in ("common", "lines"):
            raise ConfigError(f"{path}: {key}: no such key of a grid; it has common and lines")
    lines = content["lines"]
    if not isinstance(lines, list):
        raise ConfigError(f"{path}: lines: expected a list, each entry with - in front")
    common = _words(path, content.get("common") or "")
    return Grid(path.stem, describe(path), common, tuple(_words(path, line) for line in lines))


def _words(path: Path, line: object) -> tuple[str, ...]:
    if not isinstance(line, str):
        raise ConfigError(f"{path}: {line}: expected text such as method=mezo seed=0,1,2")
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise ConfigError(f"{path}: {line}: {error}") from None
