"""Trials: a grid's line with ``search=METHOD`` stands for settings drawn from the method's search space.

A line ``search=mezo,loren`` of a grid, or ``search=*`` for all spaces that no other line names, takes two words more:
``search.trials=N``, how many settings are drawn, and ``search.rates=F``, a factor on the learning rates.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException

from zobench.config.options import TUNED, load_yaml
from zobench.errors import ConfigError, did_you_mean

SPACES, TRIALS, RATES, LR = "search", "search.trials", "search.rates", "method.lr"
#: powers of 1/x with x⁴ = x + 1: multiples of the three, less their integer parts, fill a cube evenly
_STEPS = [1.2207440846057596**-power for power in (1, 2, 3)]
Words = dict[str, str]


def spaces(folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Method → setting → where it is searched, in Hydra's grammar, of the files in ``search/`` of some folders."""
    files = [path for folder in folders for path in sorted((folder / SPACES).glob("*.yaml"))]
    return {path.stem: load_yaml(path).get("hydra", {}).get("sweeper", {}).get("params", {}) for path in files}


def tuned(space: Mapping[str, str], method: str, tuning: str, folders: Sequence[Path]) -> dict[str, str]:
    """A method's search space for a tuning: it lies around the tuning's defaults as it does around the method's own.

    Learning rates and perturbation scales are as many times as large as ``defaults/<tuning>/<method>.yaml`` has them.

    Args:
        space: setting → where it is searched, in Hydra's grammar.
        folders: folders of options, zobench's first.
    """
    own, changed = (_first(folders, path) for path in (f"method/{method}", f"{TUNED}/{tuning}/{method}"))
    found = dict(space)
    for key in ("lr", "eps"):
        if key in changed and key in own and (name := f"method.{key}") in space:
            found[name] = _times(str(space[name]), changed[key] / own[key])
    return found


def _times(text: str, factor: float) -> str:
    """An interval or a choice with its numbers multiplied."""
    return re.sub(r"\d[\d.]*(e[+-]?\d+)?", lambda number: f"{float(number[0]) * factor:.6g}", text)


def _first(folders: Sequence[Path], option: str) -> dict[str, Any]:
    """What the first file of an option has, of those in some folders; nothing where there is none."""
    return next((load_yaml(path) for folder in folders if (path := folder / f"{option}.yaml").is_file()), {})


def expand(lines: Sequence[Sequence[str]], folders: Sequence[Path]) -> list[list[str]]:
    """Lines of overrides with the trials of each that asks for some in its place; what a line sets is not drawn.

    Args:
        lines: of a grid, in full.
        folders: folders of options, zobench's first.

    Raises:
        ConfigError: for a space that there is not, or a number of trials or a factor that is none.
    """
    known, asked = spaces(folders), [words_of(line) for line in lines]
    named = {name for words in asked for name in words.get(SPACES, "").split(",")}
    found: list[list[str]] = []
    for words in asked:
        rest = [f"{key}={value}" for key, value in words.items() if key not in (SPACES, TRIALS, RATES)]
        if SPACES not in words:
            found.append(rest)
            continue
        trials, rates = int(_number(words, TRIALS)), _number(words, RATES, "1")
        for name in _names(words[SPACES], known, named):
            for trial in range(trials):
                space = tuned(known[name], name, words.get("tuning", ""), folders)
                drawn = {key: value for key, value in draw(space, trial, rates).items() if key not in words}
                found.append([f"method={name}", *(f"{key}={value}" for key, value in drawn.items()), *rest])
    return found


def draw(space: dict[str, str], trial: int, rates: float = 1.0) -> dict[str, str]:
    """The settings of one trial: the first is the middle of the space, the next ones fill it evenly.

    They are an additive recurrence, the same for all methods: each method's learning rates lie at the same places of
    its interval, so that none has the luckier draw, and the first trials stay where they are when more are asked for.

    >>> space = {"method.lr": "tag(log, interval(1e-8, 1e-6))", "method.eps": "choice(1e-4, 1e-3, 1e-2)"}
    >>> draw(space, 0), draw(space, 1, rates=100)
    ({'method.lr': '1e-07', 'method.eps': '0.001'}, {'method.lr': '4.35e-06', 'method.eps': '0.0001'})

    Args:
        space: setting → interval or choice, in Hydra's grammar; three at most.
        trial: number of the trial, from 0.
        rates: a factor on ``method.lr``.
    """
    places = [(0.5 + trial * step) % 1 for step in _STEPS]
    return {
        key: _at(key, str(text), place, rates if key == LR else 1.0)
        for (key, text), place in zip(space.items(), places, strict=False)
    }


def _at(key: str, text: str, place: float, factor: float) -> str:
    """The value of a setting at a place from 0 to 1 of where it is searched."""
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException as error:
        raise ConfigError(f"{key}={text}: {error}") from None
    around = override.value()
    if isinstance(around, IntervalSweep) and around.start is not None and around.end is not None:
        low, high = around.start, around.end
        if not (0 < low < high if "log" in around.tags else low < high):
            raise ConfigError(f"{key}={text}: expected a lower end below the upper one, and above 0 on a log scale")
        value = low * (high / low) ** place if "log" in around.tags else low + (high - low) * place
        return f"{value * factor:.3g}"
    if not override.is_discrete_sweep():
        raise ConfigError(f"{key}={text}: expected an interval or a choice, such as tag(log, interval(1e-8, 1e-5))")
    values = list(override.sweep_string_iterator())
    return values[int(place * len(values))]


def words_of(line: Sequence[str]) -> Words:
    """A line's overrides by key; of two with one key the last, as in Hydra."""
    return {key: value for key, _, value in (word.partition("=") for word in line)}


def _names(text: str, known: Sequence[str] | dict[str, dict[str, str]], named: set[str]) -> Iterator[str]:
    for name in text.split(","):
        if name == "*":
            yield from (other for other in known if other not in named)
        elif name in known:
            yield name
        else:
            raise ConfigError(f"search={name}: no such search space{did_you_mean(name, known)}")


def _number(words: Words, key: str, otherwise: str = "") -> float:
    """A positive number of a line's words, whole where it counts trials."""
    text = words.get(key, otherwise)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9 or (key == TRIALS and value % 1):
        told = f"{key}={text}" if text else f"search={words[SPACES]} without {key}"
        raise ConfigError(f"{told}: expected a positive {'integer' if key == TRIALS else 'number'}, such as {key}=5")
    return value
