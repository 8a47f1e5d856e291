"""What a benchmark is asked to measure, and whether that exists; answered before torch is imported."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zobench.bench import checkout
from zobench.config.folders import conf_dir
from zobench.config.overrides import FrontDoor
from zobench.errors import ConfigError, did_you_mean

#: shapes of published models with random weights: no download, the same cost
RANDOM_MODELS = ("opt-125m-random", "llama-135m-random", "opt-1.3b-random", "opt-13b-random")
DTYPES = ("float32", "bfloat16", "float16")
#: the word that stands for all methods, and the rows that it gives them: variants that cost something else have their
#: own, and what else conf/method holds follows
ALL = "all"
ROWS = (
    "mezo", "mezo:distribution=rademacher", "mezo:distribution=low_rank", "mezo:mode=exact", "kerzoo", "curvzo", "pgap",
    "ldsd", "loren",
)  # fmt: skip
_FIRST_ORDER, _NO_STEPS = "adamw", "zeroshot"
#: how a method can be made to evaluate offsets, behind an @; without one it decides as in a run
WAYS = ("walk", "side", "stacked")
#: what is between two settings; a + in a folder's name is not
_BETWEEN = re.compile(r"\+(?=[\w.]+=)")


class Shape(NamedTuple):
    """The size of a batch: sequences, and tokens in each.

    >>> str(Shape(16, 64))
    '16x64'
    """

    batch: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.tokens}"


@dataclass(frozen=True)
class Spec:
    """What one benchmark is asked to measure; checked when it is made.

    Args:
        model: one of ``models()``, in the form of ``methods`` where an option has settings: ``local:dir=DIR``.
        dtype: of the weights, one of ``DTYPES``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of torch; its own choice if None.
        shapes: of the batches, measured one after another.
        methods: each ``name`` or ``name:setting=value+setting=value``, and ``@`` with a way of ``WAYS`` behind it.
        tuning: what trains, in the same form; its activations are cached where a run would cache them.
        official: a checkout of the 2023 MeZO code, to compare with its step; None for no such comparison.

    Raises:
        ConfigError: for what does not exist, with the nearest that does.
    """

    model: str
    dtype: str
    device: str
    threads: int | None
    shapes: tuple[Shape, ...]
    methods: tuple[str, ...]
    tuning: str = "full"
    official: str | None = None

    def __post_init__(self) -> None:
        known("--model", name := self.model.partition(":")[0], models())
        if name in RANDOM_MODELS and name != self.model:
            raise ConfigError(f"--model {self.model}: a shape with random weights has no settings; expected {name}")
        known("--dtype", self.dtype, DTYPES)
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"--device {self.device}: expected auto, cpu, cuda or cuda:N")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads {self.threads}: must be at least 1")
        if "" in self.methods:
            raise ConfigError("--methods: a name is empty; expected names with commas, such as mezo,loren")
        if repeated := {x for x in self.methods if self.methods.count(x) > 1}:
            raise ConfigError(f"--methods: {', '.join(sorted(repeated))} is there twice")
        for method in self.methods:
            if "@" in method:
                known(f"--methods {method}: @", way_of(method), WAYS)
        asked = [("methods", "method", method) for method in self.methods]
        asked += [("model", "model", self.model)] * (self.model not in RANDOM_MODELS)
        for option, group, text in [*asked, ("tuning", "tuning", self.tuning)]:
            try:
                FrontDoor([conf_dir()]).check(overrides(text, group))
            except ConfigError as error:
                raise ConfigError(f"--{option} {text}: {error}") from None
        if self.official is not None:
            if self.tuning != "full":
                raise ConfigError(
                    f"--official with --tuning {self.tuning}: that code trains all weights; leave it at full"
                )
            checkout.check(Path(self.official))


def models() -> list[str]:
    """The names that ``--model`` takes: shapes with random weights, then the options of conf/model."""
    return [*RANDOM_MODELS, *FrontDoor([conf_dir()]).groups["model"]]


def parse_methods(text: str) -> tuple[str, ...]:
    """Methods from their text, with commas; ``all`` stands for those of ``all_methods``.

    >>> parse_methods("mezo, loren:probes=2")
    ('mezo', 'loren:probes=2')
    """
    parts = [part.strip() for part in text.split(",")]
    return tuple(method for part in parts for method in (all_methods() if part == ALL else [part]))


def all_methods() -> list[str]:
    """A row for each option of conf/method that takes steps, and for variants that cost something else."""
    known = {row.partition(":")[0] for row in ROWS} | {_FIRST_ORDER, _NO_STEPS}
    return [*ROWS, *(name for name in FrontDoor([conf_dir()]).groups["method"] if name not in known), _FIRST_ORDER]


def overrides(text: str, group: str = "method") -> list[str]:
    """An option with its settings as a command line of a run would say it.

    >>> overrides("loren:probes=10+rule=sgd")
    ['method=loren', 'method.probes=10', 'method/rule=sgd']
    >>> overrides("last_layers:only=mlp", "tuning")
    ['tuning=last_layers', 'tuning.only=mlp']

    Args:
        text: ``name`` or ``name:setting=value+setting=value``.
        group: of options.

    Raises:
        ConfigError: for settings that are not of that form.
    """
    name, *settings = _parts(text.partition("@")[0] if group == "method" else text)
    found = [f"{group}={name[0]}"]
    for key, value in settings:
        found.append(f"method/rule={value}" if (group, key) == ("method", "rule") else f"{group}.{key}={value}")
    return found


def label(text: str) -> str:
    """A method as a table shows it: settings that are words without their keys.

    >>> label("mezo:distribution=low_rank+rank=8"), label("pgap@walk")
    ('mezo, low_rank, rank 8', 'pgap, walk')
    """
    name, *settings = _parts(text.partition("@")[0])
    words = [
        value if value[0].isalpha() and value not in ("true", "false", "null") else f"{key} {value}"
        for key, value in settings
    ]
    return ", ".join([name[0], *words, *filter(None, [way_of(text)])])


def way_of(text: str) -> str:
    """The way of evaluating offsets that a method is made to take; empty where it decides itself.

    >>> way_of("pgap:rank=8@walk"), way_of("pgap:rank=8")
    ('walk', '')
    """
    return text.partition("@")[2]


def _parts(text: str) -> list[tuple[str, str]]:
    """The name, with an empty value, then keys and values of the settings."""
    name, _, settings = text.partition(":")
    found = [(name, "")]
    for setting in _BETWEEN.split(settings) if settings else ():
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"{setting}: expected setting=value, as in loren:probes=10+rho=0.1")
        found.append((key, value))
    return found


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """Shapes from their text, with commas.

    >>> parse_shapes("16x64,8x256")[1].tokens
    256

    Raises:
        ConfigError: if that is not what the text is.
    """
    return tuple(_shape(part) for part in text.split(","))


def _shape(text: str) -> Shape:
    numbers = text.strip().lower().split("x")
    if len(numbers) != 2 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise ConfigError(f"--shape {text}: expected batch x tokens, such as 16x64 or 16x64,8x256")
    return Shape(int(numbers[0]), int(numbers[1]))


def known(option: str, given: str, choices: Sequence[str]) -> None:
    """Make sure that an option was given one of its choices.

    Raises:
        ConfigError: if it was not, with the nearest choice.
    """
    if given not in choices:
        hint = did_you_mean(given, choices)
        raise ConfigError(f"{option} {given}: no such choice{hint}\nit is one of: {', '.join(choices)}")
