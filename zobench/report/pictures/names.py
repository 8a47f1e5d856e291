"""Names that stand beside their points, moved apart where they would cover one another."""

import textwrap
from itertools import product
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

from zobench.report.pictures.marks import unlisted

#: left, lower, right and upper edge of each box, in pixels
Boxes = NDArray[np.float64]
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
    text = textwrap.fill(name, _WIDEST)
    panel.annotate(text, (x, y), xytext=(_DISTANCES[0], 0), textcoords="offset points", fontsize=7,
                   annotation_clip=False, arrowprops=leader, label=unlisted(name)).set_in_layout(False)  # fmt: skip


def names_of(panel: Axes) -> list[Annotation]:
    """List the names of a panel's points."""
    return [text for text in panel.texts if isinstance(text, Annotation)]


def spread_names(figure: Figure) -> None:
    """Give each name the nearest place beside its point where it covers no other name, no marker and no bar."""
    if not any(map(names_of, figure.axes)):
        return
    figure.draw_without_rendering()
    mark = _MARK * figure.dpi / 72
    for panel in figure.axes:
        names = names_of(panel)
        points = [panel.transData.transform(name.xy) for name in names]
        taken = np.array([[*(point - mark), *(point + mark)] for point in points]).reshape(-1, 4)
        bars, inside = _bars(panel), np.array([panel.get_window_extent().extents])
        places = [(distance, side) for distance in _DISTANCES for side in _SIDES]
        for name, point in sorted(zip(names, points, strict=True), key=lambda pair: tuple(pair[1])):
            parts = [_parts(name, point, figure.dpi / 72, *place) for place in places]
            costs = [place[0] + _cost(boxes, taken, bars, inside) for place, boxes in zip(places, parts, strict=True)]
            best = costs.index(min(costs))
            _move(name, *places[best])
            taken = np.concatenate([taken, parts[best]])
            if name.arrow_patch is not None:
                name.arrow_patch.set_visible(places[best][0] > _DISTANCES[0])  # none is needed next to the point


def _cost(parts: Boxes, taken: Boxes, bars: Boxes, inside: Boxes) -> float:
    """How much a name and its line cover of others and of error bars, or have outside the panel."""
    text = parts[:1]
    outside = _common(text, text) - _common(text, inside)
    return _WRONG * (_common(parts, taken) + outside) + _BARS * _common(text, bars)


def _move(name: Annotation, distance: int, side: tuple[int, int]) -> None:
    """Put a name on one side of its point."""
    right, up = side
    name.set_position((right * distance, up * distance))
    name.set_horizontalalignment(_ACROSS[right])
    name.set_verticalalignment(_ALONG[up])


def _parts(name: Annotation, point: Boxes, scale: float, distance: int, side: tuple[int, int]) -> Boxes:
    """The box of a name's text, then boxes along the line to its point, the marker apart."""
    _move(name, distance, side)
    line = point + np.linspace(0, 1, distance // 3)[:, None] * scale * distance * np.array(side)
    line = line[np.abs(line - point).max(axis=1) > 2 * _MARK]
    return np.concatenate([[Text.get_window_extent(name).padded(1).extents], np.hstack([line - 1, line + 1])])


def _bars(panel: Axes) -> Boxes:
    lines = [lines for lines in panel.collections if isinstance(lines, LineCollection)]
    ends = [panel.transData.transform(segment) for bars in lines for segment in bars.get_segments() if len(segment)]
    return np.array([[*(end.min(axis=0) - 1), *(end.max(axis=0) + 1)] for end in ends]).reshape(-1, 4)


def _common(boxes: Boxes, others: Boxes) -> float:
    """The area that boxes share with others, added up."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return float(np.clip(high - low, 0, None).prod(axis=-1).sum())
