"""What constructors do with settings: ``resolve`` the switches of a variant, ``take`` a part's, go on ``without`` some.

A variant is a set of defaults: the switches that tell what a paper says from what its released code does. A method
lists them in a frozen dataclass, with the paper's values as its defaults, and gives one of these for each variant as
its class attribute ``variants``. ``parts`` names the classes of which a method makes its parts, a perturbation for
instance, and whose keyword-only arguments are settings of the method. Configuration files know both.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor

from zobench.zo import NamedParameters
from zobench.zo.checks import one_of

Table = TypeVar("Table", bound=Any)


def resolve(variants: Mapping[str, Table], variant: str, settings: dict[str, Any]) -> Table:
    """Take the switches out of a method's settings: each has the value given there, else (None) that of the variant.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Switches:
    ...     root: Literal["principal", "reflected"] = "principal"
    ...     decay: float = 0.0
    >>> variants = {"paper": Switches(), "official": Switches(root="reflected", decay=0.01)}
    >>> settings = {"lr": 1e-3, "root": None, "decay": 0.5}
    >>> resolve(variants, "official", settings)
    Switches(root='reflected', decay=0.5)
    >>> settings
    {'lr': 0.001}

    Args:
        variants: a frozen dataclass of switches for each variant.
        variant: the chosen one.
        settings: what the constructor collected; without the switches afterwards.

    Raises:
        ValueError: for a variant that is not there, or a word that its switch does not know.
    """
    one_of(variants, variant=variant)
    hints = get_type_hints(type(variants[variant]))
    given = {name: value for name in hints if (value := settings.pop(name, None)) is not None}
    for name in given:
        if get_origin(hints[name]) is Literal:
            one_of(get_args(hints[name]), **{name: given[name]})
    return replace(variants[variant], **given)


def take(part: Callable[..., Any], settings: dict[str, Any], switches: Any = None) -> dict[str, Any]:
    """Take the settings of a part out of a method's: the keyword-only arguments of the part's class.

    >>> def noise(*, sigma: float = 1.0, shared: bool = False): ...
    >>> settings = {"lr": 1e-3, "sigma": 2.0}
    >>> take(noise, settings)
    {'sigma': 2.0}
    >>> settings
    {'lr': 0.001}

    Args:
        part: the class.
        settings: what the constructor collected; without the part's settings afterwards.
        switches: the resolved ones, of which the part gets those that it knows.
    """
    known = [p.name for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY]
    switched = {name: getattr(switches, name) for name in known if hasattr(switches, name)}
    return switched | {name: settings.pop(name) for name in known if name in settings}


def without(part: str, named_parameters: NamedParameters) -> list[tuple[str, Tensor]]:
    """The parameters whose names lack a part; all of them for an empty one."""
    return [(name, tensor) for name, tensor in named_parameters if not part or part not in name]
