"""Whose lines are whose in an SVG picture, so that a page can hide those of a method."""

import re

from matplotlib.artist import Artist
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from zobench.report.pictures.colours import class_of


def mark(figure: Figure) -> None:
    """Mark what is drawn of each row, lines, bars and bands, with the class of its method, as the id in an SVG."""
    for axes in figure.axes:
        rows = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
        bands = {band_of(str(row.get_label())): str(row.get_label()) for row in rows}
        for row in rows:
            _mark(row.get_children(), str(row.get_label()))
        for artist in axes.collections:
            if (label := str(artist.get_label())) in bands:
                _mark([artist], bands[label])


def mark_legend(legend: Legend) -> None:
    """Mark the entries of a legend, each a sign and its text, as ``mark`` does."""
    entry: list[Artist] = []
    for artist in legend.findobj(include_self=False):
        entry.append(artist)
        if isinstance(artist, Text):
            _mark(entry, artist.get_text())
            entry = []


def band_of(row: str) -> str:
    """The label of a row's band: one that begins with an underscore has no entry in a legend."""
    return f"_band of {row}"


def as_classes(svg: str) -> str:
    """Turn the marks of an SVG from ids, of which each may occur but once, into classes."""
    return re.sub(r'\bid="(of-[0-9a-f]*)"', r'class="\1"', svg)


def _mark(artists: list[Artist], row: str) -> None:
    for artist in artists:
        artist.set_gid(class_of(row))
