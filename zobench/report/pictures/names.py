"""Names that stand beside their points, moved apart where they would cover one another."""

import textwrap
from itertools import product
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

_NAME = "_name of a point"  # the label of an artist; no legend shows those with a leading line
_WIDEST = 26  # characters of a line
_DISTANCES = (6, 13, 21, 30, 42)  # points from a point to its name
_SIDES = tuple((right, up) for right, up in product((1, 0, -1), (0, 1, -1)) if right or up)
_MARK = 4  # points from a marker's centre to its edge
_WRONG, _BARS = (
    10.0,
    0.2,
)  # how many points further away it is worth not to cover a pixel: of a name or marker, of a bar
_ACROSS: dict[int, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
_ALONG: dict[int, Literal["bottom", "center", "top"]] = {1: "bottom", 0: "center", -1: "top"}


def name_point(panel: Axes, x: float, y: float, name: str) -> None:
    """Write a name beside a point; ``spread_names`` finds its place once the panels have theirs."""
    leader = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.35", "shrinkA": 0, "shrinkB": _MARK + 1}
    name = textwrap.fill(name, _WIDEST)
    panel.annotate(name, (x, y), xytext=(_DISTANCES[0], 0), textcoords="offset points", fontsize=7, label=_NAME,
                   annotation_clip=False, arrowprops=leader).set_in_layout(False)  # fmt: skip


def names_of(panel: Axes) -> list[Annotation]:
    """List the names of a panel's points."""
    return [text for text in panel.texts if isinstance(text, Annotation) and text.get_label() == _NAME]


def spread_names(figure: Figure) -> None:
    """Give each name the nearest place beside its point where it covers no other name, no marker and no bar."""
    if not any(map(names_of, figure.axes)):
        return
    figure.draw_without_rendering()
    point = figure.dpi / 72
    for panel in figure.axes:
        names = names_of(panel)
        inside = panel.get_window_extent()
        centres = [panel.transData.transform(name.xy) for name in names]
        taken = [Bbox([centre - _MARK * point, centre + _MARK * point]) for centre in centres]
        bars = _bars(panel)
        for name, _ in sorted(zip(names, centres, strict=True), key=lambda pair: tuple(pair[1])):
            places = [(distance, side) for distance in _DISTANCES for side in _SIDES]
            costs = [distance + _cost(_parts(panel, name, distance, side), taken, bars, inside)
                     for distance, side in places]  # fmt: skip
            best = places[costs.index(min(costs))]
            taken += _parts(panel, name, *best)
            if name.arrow_patch is not None:
                name.arrow_patch.set_visible(best[0] > _DISTANCES[0])  # none is needed where the name is next to it


def _cost(parts: list[Bbox], taken: list[Bbox], bars: list[Bbox], inside: Bbox) -> float:
    """How much a name and its line cover of others and of error bars, or have outside the panel."""
    outside = _area(parts[0]) - _common(parts[0], inside)
    covered = sum(_common(part, other) for part in parts for other in taken) + outside
    return _WRONG * covered + _BARS * sum(_common(parts[0], bar) for bar in bars)


def _moved(name: Annotation, distance: int, side: tuple[int, int]) -> Bbox:
    """Put a name on one side of its point, and give the box of its text."""
    right, up = side
    name.set_position((right * distance, up * distance))
    name.set_horizontalalignment(_ACROSS[right])
    name.set_verticalalignment(_ALONG[up])
    return Text.get_window_extent(name).padded(1)


def _parts(panel: Axes, name: Annotation, distance: int, side: tuple[int, int]) -> list[Bbox]:
    """The box of a name's text, and boxes along the line to its point, the marker apart."""
    box, point = _moved(name, distance, side), panel.transData.transform(name.xy)
    way = panel.get_figure(root=True).dpi / 72 * distance * np.array(side)  # type: ignore[union-attr]
    line = [point + share * way for share in np.linspace(0, 1, distance // 3)]
    return [box, *(Bbox([at - 1, at + 1]) for at in line if np.abs(at - point).max() > 2 * _MARK)]


def _bars(panel: Axes) -> list[Bbox]:
    lines = [lines for lines in panel.collections if isinstance(lines, LineCollection)]
    ends = [panel.transData.transform(segment) for bars in lines for segment in bars.get_segments()]
    return [Bbox([segment.min(axis=0) - 1, segment.max(axis=0) + 1]) for segment in ends if len(segment)]


def _area(box: Bbox) -> float:
    return float(box.width * box.height)


def _common(box: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(box, other)
    return _area(shared) if shared else 0.0
