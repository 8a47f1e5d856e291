"""Pictures of a whole table: accuracy against memory and time, where the time went, and methods by tasks."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from zobench.errors import UserError
from zobench.report.compare.board import COLUMNS, ROWS, Board, label, make_board
from zobench.report.compare.front import Front, supported_front
from zobench.report.compare.memory import SHARED
from zobench.report.compare.slices import Slice, slices
from zobench.report.compare.units import unit_of
from zobench.report.pictures.colours import styles
from zobench.report.pictures.curves import mixed
from zobench.report.pictures.files import picture_files
from zobench.report.pictures.marks import unlisted
from zobench.report.pictures.names import name_point
from zobench.report.pictures.picture import GREY, Picture, finish, ink_on, mark_rows

#: part of a run's time -> its hatch, which tells it in grey as the colour does
_PARTS = {
    "forward_seconds": ("forward passes", ""),
    "outside_seconds": ("outside them", "////"),
    "evaluate_seconds": ("evaluation", "...."),
    "cache_seconds": ("cache", "xxxx"),
    "lens_seconds": ("lens", "----"),
}
_PART_SHADES = ("0.3", "0.55", "0.7", "0.8", "0.87")  # a colour is a method's
#: the label of the lines of a Pareto front, which no legend shows
JOINED = "_front"


def draw_pareto(frame: pd.DataFrame, path: str | Path, allow_mixed: bool = False) -> list[Path]:
    """Draw the test metric of each method against its training hours and its memory, with the Pareto fronts.

    A front holds the cheapest row, and those that are better than every cheaper one by the tests that make a result
    bold. Memory is the peak where each was measured for its run alone, else what weights and method state hold.

    Args:
        frame: from ``load``; comparable runs of one task.
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.
        allow_mixed: let runs differ that should agree; the names of rows and the caption then tell what of.

    Returns:
        The files written.

    Raises:
        ConfigError: if the suffix is unknown.
        UserError: if runs are not comparable, none is finished, or neither hours nor memory are on record.
    """
    picture_files(path)
    return pareto_picture(make_board(frame, allow_mixed=allow_mixed)).save(path)


def draw_times(frame: pd.DataFrame, path: str | Path, allow_mixed: bool = False) -> list[Path]:
    """Draw where the seconds of each method's runs went: forward passes, outside them, evaluation, cache, lens.

    Args:
        frame: from ``load``; comparable runs of one task.
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.
        allow_mixed: let runs differ that should agree; the names of rows and the caption then tell what of.

    Returns:
        The files written.

    Raises:
        ConfigError: if the suffix is unknown.
        UserError: if runs are not comparable, none is finished, or no seconds are on record.
    """
    picture_files(path)
    (slice_,) = slices(frame, allow_mixed=allow_mixed)
    return times_picture(slice_).save(path)


def draw_heatmap(
    frame: pd.DataFrame, path: str | Path, rows: Sequence[str] = ROWS, columns: Sequence[str] = COLUMNS,
    allow_mixed: bool = False,
) -> list[Path]:  # fmt: skip
    """Draw the headline table of ``tables`` as a heat map of the test metric.

    Args:
        frame: from ``load``.
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.
        rows, columns: keys of the records that rows and columns are made of.
        allow_mixed: let runs differ that should agree; the names of rows then tell what of.

    Returns:
        The files written.

    Raises:
        ConfigError: if the suffix, or a key, is unknown.
        UserError: if runs are not comparable, or none is finished.
    """
    picture_files(path)
    return heatmap_picture(make_board(frame, [*rows, *columns], allow_mixed=allow_mixed), rows, columns).save(path)


def pareto_picture(board: Board, slice_: Slice | None = None) -> Picture:
    """Make the picture of ``draw_pareto`` from one slice of a board, by default its first.

    Raises:
        UserError: if no finished run has its training hours or peak memory on record.
    """
    slice_ = slice_ or board.slices[0]
    points = board.frame
    for name, value in slice_.key.items():
        points = points[points[name].eq(value)]
    points = points[points["runs"].gt(0) & points["trains"]].reset_index(drop=True)
    kind = "cpu" if board.on_cpu else "gpu"
    seconds, unit = unit_of(float(points[f"{kind}_hours"].max() * 3600))
    scale = 3600 / seconds
    points = points.assign(time=points[f"{kind}_hours"] * scale, time_std=points[f"{kind}_hours_std"] * scale)
    memory = ("peak_mib", "peak memory (MiB)")
    if not points["peak_of_the_run_alone"].all() and points["held_mib"].notna().any():
        memory = ("held_mib", "weights and method state (MiB)")
    axes = {"time": f"training time ({kind.upper()}, {unit})"} | dict([memory])
    known = {x: text for x, text in axes.items() if points[x].notna().any()}
    if not known:
        raise UserError(f"{slice_.title}: no finished run has its training hours or peak memory on record")
    panels = [
        partial(_front, points=points, front=supported_front(board, slice_, points, x), x=x, label=text,
                metric=slice_.metric)
        for x, text in known.items()
    ]  # fmt: skip
    told = (
        "Bars: standard deviation over seeds. Ringed: better than all that is cheaper, by the test over seeds "
        "and test rows, and no row of equal cost is better. Lines join ringed rows whose costs differ by more than "
        "their spread over seeds" + (" (peaks: by 16 MiB)" if board.on_cpu and memory[0] == "peak_mib" else "") + "."
    )
    if memory[0] == "held_mib":
        told += f" Peak memory is not drawn: it is {SHARED}."
    told += mixed(slice_)
    shown = ", ".join(f"{p['row']} {p['test_metric']:.3f}" for p in points.to_dict("records"))
    alt = f"{slice_.title}: test {slice_.metric} against {' and '.join(known.values())}: {shown}"
    side = 3.2 + 0.05 * len(points)  # inches; names need room
    return Picture(panels, told, alt, columns=2, size=(side, 0.85 * side))


def times_picture(slice_: Slice) -> Picture:
    """Make the picture of ``draw_times``. Raises UserError if no finished run has its seconds on record."""
    runs = slice_.best.reindex(columns=[*slice_.best.columns.union(_PARTS)])
    means = runs.groupby("row", sort=False)[list(_PARTS)].mean().fillna(0.0)
    if not means.to_numpy().any():
        raise UserError(f"{slice_.title}: no finished run has its seconds on record")
    size, unit = unit_of(float(means.sum(axis=1).max()))
    shown = "; ".join(f"{row} {_told(parts / size)}" for row, parts in means.iterrows())
    height = 0.9 + 0.28 * len(means)
    told = "Wall-clock time of a run, mean over seeds. Outside them: noise, updates, and what surrounds a forward pass."
    told += mixed(slice_)
    panels = [partial(_bars, means=means / size, unit=unit)]
    return Picture(panels, told, f"{slice_.title}: time of a run by purpose, in {unit}: {shown}", size=(5.6, height))


def heatmap_picture(board: Board, rows: Sequence[str] = ROWS, columns: Sequence[str] = COLUMNS) -> Picture:
    """Make the picture of ``draw_heatmap`` from a board with these rows and columns."""
    lines = board.frame.assign(
        **{"row label": board.frame.apply(label, axis=1, keys=rows),
           "column label": board.frame.apply(label, axis=1, keys=columns)}
    )  # fmt: skip
    heads = {name: _head(name, of) for name, of in lines.groupby("column label", sort=False)}
    lines["column label"] = lines["column label"].map(heads)
    of_rows = lines.drop_duplicates("row label").set_index("row label")["row"]
    grids = {name: lines.pivot(index="row label", columns="column label", values=name).reindex(of_rows.index)[
        [*heads.values()]] for name in ("test_metric", "runs")}  # fmt: skip
    size = (1.0 + 0.075 * max(map(len, of_rows.index)) + 0.95 * len(heads), 0.9 + 0.3 * len(of_rows))
    cells = lines.dropna(subset=["test_metric"]).to_dict("records")
    shown = "; ".join(f"{cell['row label']}, {' '.join(cell['column label'].split())} {cell['test_metric']:.3f}"
                      for cell in cells)  # fmt: skip
    told = (
        "Test metric, mean over seeds. Lighter is higher, from the lowest to the highest of each column alone: colours "
        "of two columns say nothing of each other. ±: standard deviation over seeds, pooled over the rows; it may be "
        "luck if rows differ by no more. Empty: no run."
    )
    if cells and len({cell["runs"] for cell in cells}) > 1:
        told += " (n): of n runs."
    told += "\n" + "\n".join(board.mixed()) if board.mixed() else ""
    panel = partial(_cells, values=grids["test_metric"], counts=grids["runs"], rows=list(of_rows))
    return Picture([panel], told, f"Test metric of methods by tasks: {shown}", size=size)


def _head(name: str, lines: pd.DataFrame) -> str:
    """The head of a column: its name, its metric, and how much that varies over seeds."""
    spread = math.sqrt(lines["test_metric_std"].pow(2).mean())
    metrics = lines["metric"].unique()
    said = [name, *([metrics[0]] if len(metrics) == 1 else []), *([f"± {spread:.3f}"] if spread == spread else [])]
    return "\n".join(said)


def _told(parts: "pd.Series[float]") -> str:
    return ", ".join(f"{_PARTS[str(name)][0]} {value:.3g}" for name, value in parts.items() if value)


def _front(panel: Axes, *, points: pd.DataFrame, front: Front, x: str, label: str, metric: str) -> None:
    known = styles(points["row"])
    for point in points[points[x].notna()].to_dict("records"):
        style = known[point["row"]]
        panel.errorbar(
            point[x], point["test_metric"], yerr=point["test_metric_std"], xerr=point.get(f"{x}_std"), capsize=2,
            elinewidth=0.8, marker=style.marker, color=style.colour, markersize=5, linestyle="",
            markerfacecolor=style.colour if style.filled else "white", label=unlisted(point["row"]),
        )  # fmt: skip
        name_point(panel, point[x], point["test_metric"], point["row"])
    ringed, joined = front
    for row in ringed:
        panel.scatter(row[x], row["test_metric"], s=100, facecolors="none", edgecolors=GREY, zorder=0,
                      label=unlisted(row["row"]))  # fmt: skip
    for row, dearer in joined:
        panel.plot([row[x], dearer[x]], [row["test_metric"], dearer["test_metric"]], color=GREY, linestyle=":",
                   linewidth=1.2, zorder=0, label=JOINED)  # fmt: skip
    finish(panel, label, f"test {metric}")
    panel.margins(0.18)


def _bars(panel: Axes, *, means: pd.DataFrame, unit: str) -> None:
    left = pd.Series(0.0, index=means.index)
    for (name, (part, hatch)), shade in zip(_PARTS.items(), _PART_SHADES, strict=True):
        if means[name].gt(0).any():
            panel.barh(means.index, means[name], left=left, label=part, color=shade, hatch=hatch, edgecolor="white",
                       height=0.7, linewidth=0.4)  # fmt: skip
            left = left + means[name]
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.set_xlabel(f"wall-clock time ({unit})")
    mark_rows(panel, list(means.index))


def _cells(panel: Axes, *, values: pd.DataFrame, counts: pd.DataFrame, rows: Sequence[str]) -> None:
    numbers, runs = values.to_numpy(float), counts.to_numpy(float)
    shades = (values - values.min()) / (values.max() - values.min()).where(lambda span: span > 0)
    shades = shades.mask(values.notna() & shades.isna(), 0.5).to_numpy(float)  # a column of one value
    uneven = len({*runs[~np.isnan(numbers)]}) > 1
    image = panel.imshow(shades, cmap="cividis", aspect="auto", vmin=0.0, vmax=1.0)
    panel.set_xticks(range(values.shape[1]), values.columns)
    panel.set_yticks(range(values.shape[0]), values.index)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for i, j in np.argwhere(~np.isnan(numbers)):
        told = f"{numbers[i, j]:.3f}" + (f" ({runs[i, j]:.0f})" if uneven else "")
        panel.text(j, i, told, ha="center", va="center", color=ink_on(image.cmap(shades[i, j])))
    mark_rows(panel, rows)
