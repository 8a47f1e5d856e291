"""What is whose in an SVG picture, so that a page can hide what belongs to a method.

matplotlib writes an artist's ``gid`` as an id and knows no classes. So ``mark`` gives all artists of a method the same
``gid`` before they are written, and ``as_classes`` makes a class of it after.
"""

import re

from matplotlib.artist import Artist
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from zobench.report.pictures.colours import class_of

_UNLISTED = "_of "  # a legend leaves out what has a label that begins with an underscore


def unlisted(row: str) -> str:
    """The label of what is drawn of a row, or of a panel of its own, that no legend names."""
    return _UNLISTED + row


def mark(figure: Figure) -> None:
    """Mark what is drawn of each row: lines with error bars, and all that is labelled as ``unlisted``."""
    for panel in figure.axes:
        bars = [drawn for drawn in panel.containers if isinstance(drawn, ErrorbarContainer)]
        named: list[tuple[str, list[Artist]]] = [(str(drawn.get_label()), drawn.get_children()) for drawn in bars]
        for artist in [panel, *panel.collections, *panel.lines, *panel.texts]:
            if (label := str(artist.get_label())).startswith(_UNLISTED):
                leader = getattr(artist, "arrow_patch", None)  # of a name that stands away from its point
                named.append((label, [artist, *filter(None, [leader])]))
        for label, artists in named:
            _mark(artists, label.removeprefix(_UNLISTED))


def mark_legend(legend: Legend) -> None:
    """Mark the entries of a legend, each a sign and its text."""
    entry: list[Artist] = []
    for artist in legend.findobj(include_self=False):
        entry.append(artist)
        if isinstance(artist, Text):
            _mark(entry, artist.get_text())
            entry = []


def as_classes(svg: str) -> str:
    """Turn the marks of an SVG into classes."""
    return re.sub(r'\bid="(of-[0-9a-f]*)"', r'class="\1"', svg)


def _mark(artists: list[Artist], row: str) -> None:
    for artist in artists:
        artist.set_gid(class_of(row))
