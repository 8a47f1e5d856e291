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
RANDOM_MODELS = ("opt-125m-random", "llama-135m-random")
DTYPES = ("float32", "bfloat16", "float16")


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
        model: one of ``models()``.
        dtype: of the weights, one of ``DTYPES``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of torch; its own choice if None.
        shapes: of the batches, measured one after another.
        methods: each ``name`` or ``name:setting=value+setting=value``.
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
    official: str | None = None

    def __post_init__(self) -> None:
        known("--model", self.model, models())
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
            try:
                FrontDoor([conf_dir()]).check(overrides(method))
            except ConfigError as error:
                raise ConfigError(f"--methods {method}: {error}") from None
        if self.official is not None:
            checkout.check(Path(self.official))


def models() -> list[str]:
    """The names that ``--model`` takes: shapes with random weights, then the options of conf/model."""
    return [*RANDOM_MODELS, *FrontDoor([conf_dir()]).groups["model"]]


def overrides(method: str) -> list[str]:
    """A method with its settings as a command line of a run would say it.

    >>> overrides("loren:probes=10+rule=sgd")
    ['method=loren', 'method.probes=10', 'method/rule=sgd']

    Raises:
        ConfigError: for settings that are not of that form.
    """
    name, _, settings = method.partition(":")
    found = [f"method={name}"]
    for setting in settings.split("+") if settings else ():
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"{setting}: expected setting=value, as in loren:probes=10+rho=0.1")
        found.append(f"method/rule={value}" if key == "rule" else f"method.{key}={value}")
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
