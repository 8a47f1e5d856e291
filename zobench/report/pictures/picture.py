"""Pictures that are readable in grey and by the colour-blind, and how they are saved."""

import io
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import offset_copy

from zobench.report.pictures.colours import Style, styles
from zobench.report.pictures.files import picture_files
from zobench.report.pictures.marks import as_classes, mark, mark_legend, unlisted
from zobench.report.pictures.names import spread_names

GREY, PALE = "0.35", "0.8"
_STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "grid.linewidth": 0.5, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "zobench",
    "axes.axisbelow": True, "hatch.linewidth": 0.6, "text.parse_math": False,  # a name may hold any sign
}  # fmt: skip
_ALONE, _SMALL = (4.2, 3.1), (3.4, 2.0)  # inches of a panel that stands alone, at least; of one among many
_KEY_WIDTH = 5.0  # inches of a legend that stands alone, at most
_ENTRY = 0.19  # inches that a line of a legend takes
_DECADES = 1.5  # a logarithmic axis from this span on


@dataclass(frozen=True)
class Picture:
    """Panels that stand together.

    Args:
        panels: each draws on the axes that it is given.
        caption: printed below.
        alt: what a reader who cannot see it is told.
        columns: panels side by side, at most.
        size: width and height of a panel in inches.
        shared: the axis that is told once: x by the lowest panels, all of which may be small, y by those at the left.
    """

    panels: Sequence[Callable[[Axes], None]]
    caption: str
    alt: str
    columns: int = 3
    size: tuple[float, float] = (2.9, 2.5)
    shared: Literal["", "x", "y"] = ""

    def save(self, path: str | Path) -> list[Path]:
        """Write all panels into one figure: to one file, or both .png and .svg where the path has no suffix.

        Returns:
            The files.

        Raises:
            ConfigError: if the suffix is unknown.
        """
        files = picture_files(path)
        with rc_context(_STYLE):
            figure = self.figure()
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(file, dpi=200, metadata={"Date": None} if file.suffix == ".svg" else None)
        return files

    def figure(self) -> Figure:
        """Draw all panels into one figure, with the legend above and the caption below."""
        columns = min(len(self.panels), self.columns)
        rows = math.ceil(len(self.panels) / columns)
        width, height = self.size
        with rc_context(_STYLE):
            figure = Figure(figsize=(max(width * columns, 4.5), height * rows + 0.6), layout="constrained")
            axes = list(figure.subplots(rows, columns, squeeze=False).flat)
            for spare in axes[len(self.panels) :]:
                spare.remove()
            for draw, panel in zip(self.panels, axes, strict=False):
                draw(panel)
            for i, panel in enumerate(axes[: len(self.panels)]):
                if self.shared == "x" and i + columns < len(self.panels):
                    panel.set_xlabel("")
                    panel.tick_params(labelbottom=False)
                if self.shared == "y" and i % columns:
                    panel.tick_params(labelleft=False)
            if entries := _entries(figure):
                columns = _columns(entries, figure.get_figwidth())
                figure.set_figheight(figure.get_figheight() + _ENTRY * max(0, math.ceil(len(entries) / columns) - 2))
                _legend(figure, entries, columns, "outside upper center")
            characters = int(figure.get_figwidth() * 17)
            wrapped = "\n".join(textwrap.fill(line, characters) for line in self.caption.splitlines())
            figure.supxlabel(wrapped, fontsize=7, color=GREY)
            spread_names(figure)
        return figure

    def svgs(self, name: str) -> tuple[str, list[str]]:
        """Write each panel as an SVG element to stand in a page.

        Args:
            name: keeps the ids of several pictures apart.

        Returns:
            The legend, empty if there is none, and the panels.
        """
        svgs: list[str] = []
        entries: dict[str, Any] = {}
        with rc_context(_STYLE | {"font.size": 9}):
            for i, draw in enumerate(self.panels):
                least = _SMALL if self.shared == "x" else _ALONE
                width, height = map(max, self.size, least)
                figure = Figure(figsize=(width, height), layout="constrained")
                draw(figure.subplots())
                spread_names(figure)
                mark(figure)
                entries |= _entries(figure)
                svgs.append(_svg(figure, f"{name}-{i}"))
            return _key(entries, f"{name}-key") if entries else "", svgs


def line(
    panel: Axes,
    style: Style,
    place: float,
    label: str,
    x: pd.Series,
    mean: pd.Series,
    low: pd.Series | None = None,
    high: pd.Series | None = None,
    error: pd.Series | None = None,
    labelled: bool = True,
) -> None:
    """Draw a row's line, with error bars, or with a band from ``low`` to ``high``.

    Args:
        place: 0 to 1, other for each line: where between two markers its first one stands.
        labelled: whether the legend names it.
    """
    every = max(1, len(mean) // 6)  # a few markers a line
    drawn: dict[str, Any] = {"marker": style.marker, "markersize": 3.5, "markevery": (int(place * every), every)}
    drawn |= {"color": style.colour, "linestyle": style.dash, "linewidth": 1.3, "zorder": 3}
    drawn |= {"label": label if labelled else unlisted(label)}
    drawn |= {} if style.filled else {"markerfacecolor": "white"}
    panel.errorbar(x, mean, yerr=error, elinewidth=0.8, capsize=2, **drawn)
    if low is not None and high is not None:
        panel.fill_between(x, low, high, color=style.colour, alpha=0.12, linewidth=0, label=unlisted(label))


def finish(panel: Axes, x: str, y: str) -> None:
    """Label the axes of a panel, and make the upright one logarithmic where its values span decades."""
    drawn = [line for line in panel.get_lines() if line.get_linestyle() != "None"]  # not the caps of error bars
    values = pd.concat([pd.Series(dtype=float), *(pd.Series(line.get_ydata(), dtype=float) for line in drawn)])
    if values.min() > 0 and math.log10(values.max() / values.min()) > _DECADES:
        panel.set_yscale("log")
        plain(panel.yaxis)
    else:
        panel.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    panel.set_xlabel(x)
    panel.set_ylabel(y)


def plain(axis: Axis) -> None:
    """Label the decades of a logarithmic axis without mathematical signs."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: "")


def mark_rows(panel: Axes, rows: Sequence[str], known: Mapping[str, Style] | None = None) -> None:
    """Put each row's marker, in its method's colour, between its name on the upright axis and the axis.

    Args:
        rows: their names, from the lowest place on.
        known: their styles, where these do not follow from the names.
    """
    known = styles(rows) if known is None else known
    place = offset_copy(panel.get_yaxis_transform(), panel.get_figure(root=True), x=-7, units="points")
    for height, row in enumerate(rows):
        style = known[row]
        panel.plot([0], [height], marker=style.marker, color=style.colour, markersize=4.5, linestyle="", clip_on=False,
                   markerfacecolor=style.colour if style.filled else "white", transform=place, scalex=False,
                   scaley=False)  # fmt: skip
    panel.tick_params(axis="y", pad=12, length=0)


def ink_on(colour: tuple[float, ...]) -> str:
    """The colour of text that is easier to read on a colour: black or white, by their contrasts in WCAG 2.1.

    >>> ink_on((1.0, 0.9, 0.2)), ink_on((0.0, 0.1, 0.3))
    ('black', 'white')
    """
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def _entries(figure: Figure) -> dict[str, Any]:
    """Collect label -> handle of a legend: reference lines after the rows, whose lines and bars are containers."""
    entries = {
        str(label): handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return dict(sorted(entries.items(), key=lambda entry: not isinstance(entry[1], Container)))


def _legend(
    figure: Figure, entries: dict[str, Any], columns: int, place: Literal["center", "outside upper center"]
) -> Legend:
    return figure.legend(list(entries.values()), list(entries), loc=place, ncols=columns, handlelength=3.2)


def _columns(entries: dict[str, Any], width: float) -> int:
    """As many columns of a legend as fit, or fewer where that leaves no line shorter than another."""
    lines = math.ceil(len(entries) / max(1, int(width / _entry_width(entries))))
    return math.ceil(len(entries) / lines)


def _entry_width(entries: dict[str, Any]) -> float:
    """Inches that an entry of a legend takes, at most."""
    return 0.7 + 0.075 * max(map(len, entries))


def _key(entries: dict[str, Any], name: str) -> str:
    """Draw a legend by itself, with as many columns as fit a panel's width."""
    columns = _columns(entries, _KEY_WIDTH)
    figure = Figure(figsize=(columns * _entry_width(entries), 0.1 + _ENTRY * math.ceil(len(entries) / columns)))
    mark_legend(_legend(figure, entries, columns, "center"))
    return _svg(figure, name)


def _svg(figure: Figure, name: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return _embedded(text.getvalue(), name, figure.get_figwidth())


def _embedded(svg: str, name: str, width: float) -> str:
    """Cut out the element, scale it to its place, and make its ids unique in a page of many."""
    svg = as_classes(svg[svg.index("<svg") :])
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    size = f'aria-hidden="true" style="max-width: {width:.1f}in"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', size, svg, count=1)
