"""One colour, dash and marker for each method, the same in pictures, pages and tables, whatever stands beside it.

The colours are Okabe and Ito's, which the colour-blind can tell apart, without yellow, which is too light for a line.
The first eight methods have one each. Beyond them colours come again with another dash and marker: no two methods that
are named here agree in all three. Those of any other method follow from a checksum of its name.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: a method that is added goes to the end, so that none changes its colour
METHODS = (
    "mezo", "loren", "ldsd", "kerzoo", "curvzo", "pgap", "adamw", "zeroshot", "agzo", "aim_zo", "bszo", "conmezo",
    "dizo", "forward_gradient", "fzoo", "grzo", "hizoo", "lozo", "lozo_m", "meazo", "mezo_adam", "mezo_greedy",
    "mezo_gv", "mezo_momentum", "mezo_svrg", "sparse_mezo", "subzero", "subzero_plus", "tezo", "tezo_adam", "tezo_m",
    "zo_mopi", "zo_muon", "zo_muon_sgd",
)  # fmt: skip
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (4, 1, 1, 1)), (0, (2, 1)), (0, (7, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Style:
    """How a row is drawn: in its method's colour; one with settings of its own has open markers, and another dash."""

    colour: str
    dash: Any
    marker: str
    filled: bool = True


def method_of(row: str) -> str:
    """The method that the name of a row begins with.

    >>> method_of("ldsd (lr_mu=0)"), method_of("mezo, lora")
    ('ldsd', 'mezo')
    """
    return re.split(r" \(|, ", row, maxsplit=1)[0]


def colour_of(method: str) -> str:
    """The colour of a method, or of a row of it.

    >>> colour_of("loren"), colour_of("loren (rank=2)")
    ('#D55E00', '#D55E00')
    """
    return COLOURS[_place(method_of(method)) % len(COLOURS)]


def class_of(row: str) -> str:
    """The class that all elements of a row's method have in a page, whatever signs its name is made of.

    >>> class_of("mezo"), class_of("mezo (eps=0.01)")
    ('of-6d657a6f', 'of-6d657a6f')
    """
    return f"of-{method_of(row).encode(errors='backslashreplace').hex()}"


def styles(rows: Iterable[str]) -> dict[str, Style]:
    """Give each row its style.

    >>> found = styles(["ldsd", "ldsd (lr_mu=0)"])
    >>> found["ldsd"].colour == found["ldsd (lr_mu=0)"].colour, found["ldsd (lr_mu=0)"].filled
    (True, False)

    Args:
        rows: their names, which begin with the method's.
    """
    found: dict[str, Style] = {}
    with_settings: dict[str, int] = {}
    for row in sorted(dict.fromkeys(rows), key=lambda row: (method_of(row), len(row), row)):
        method, n = method_of(row), 0
        if row != method:
            n = with_settings[method] = with_settings.get(method, 0) + 1
        place = _place(method)
        dash, marker = DASHES[(place + 2 * n) % len(DASHES)], MARKERS[(place + n) % len(MARKERS)]
        found[row] = Style(COLOURS[place % len(COLOURS)], dash, marker, filled=n == 0)
    return found


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else zlib.crc32(method.encode())
