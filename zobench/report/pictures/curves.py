"""Pictures along a run: loss and dev curves, and the estimator lens."""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from zobench.errors import ConfigError, UserError, did_you_mean
from zobench.report.compare.board import CALIBRATED
from zobench.report.compare.comparable import text
from zobench.report.compare.slices import Slice, slices
from zobench.report.pictures.colours import Style, styles
from zobench.report.pictures.files import picture_files
from zobench.report.pictures.marks import unlisted
from zobench.report.pictures.picture import GREY, PALE, Picture, finish, line, mark_rows, plain

#: what curves may be drawn against
AGAINST = {"forwards": "forward passes", "step": "steps", "seconds": "training seconds"}
Track = tuple[float, Style, str, pd.DataFrame]
#: rows whose lines can still be told apart in one panel; where there are more, each has panels of its own
ACROSS = 6
_LARGE = 1e4  # values from here on are told with their power of ten
_DECADES = 30.0  # a panel whose values span a larger factor is logarithmic
_TITLE = 36  # characters of a line of a panel's title
_WINDOWS = 40  # points of a smoothed training loss
_LENS = {
    "lens/efficiency": "efficiency per forward pass",
    "lens/cosine": "cosine with the gradient",
    "lens/gain": "gain along the gradient",
    "lens/bias": "bias across the gradient",
    "lens/variance_per_forward": "relative variance × forward passes",
    "lens/gradient_norm": "norm of the gradient",
}
#: panels with a line at 1, and what it means
_SCALED = ("lens/bias", "lens/variance_per_forward")  # relative to the gain, and so meaningless where that may be 0
_ONE = {"lens/efficiency": "1: expected of MeZO, unbiased", "lens/gain": "1: expected of MeZO, unbiased"}


def draw_curves(
    frame: pd.DataFrame, path: str | Path, against: Sequence[str] = ("forwards",), allow_mixed: bool = False
) -> list[Path]:
    """Draw training loss, dev loss and dev metric of each method at its chosen learning rate.

    Args:
        frame: from ``load``; as for ``comparison``, the runs must be comparable.
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.
        against: forwards, step or seconds (of training); a row of panels for each.
        allow_mixed: let runs differ that should agree; the names of rows and the caption then tell what of.

    Returns:
        The files written.

    Raises:
        ConfigError: if the suffix, or a name in ``against``, is unknown.
        UserError: if runs are not comparable, or none is finished.
    """
    picture_files(path)
    (slice_,) = slices(frame, allow_mixed=allow_mixed)
    return curves_picture(slice_, against).save(path)


def draw_lens(frame: pd.DataFrame, path: str | Path, allow_mixed: bool = False) -> list[Path]:
    """Draw how good each method's estimates are along its runs: a panel for each quantity that the lens measured.

    Error bars are one standard error: of the mean over seeds, from the errors that the lens gives for each. More than
    six rows stand side by side instead of across each other: a line of the panel for each, with all looks on it, and
    their mean with its standard error.

    Args:
        frame: from ``load``; comparable runs of one task.
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.
        allow_mixed: let runs differ that should agree; the names of rows and the caption then tell what of.

    Returns:
        The files written.

    Raises:
        ConfigError: if the suffix is unknown.
        UserError: if runs are not comparable, none is finished, or none has lens measurements.
    """
    picture_files(path)
    (slice_,) = slices(frame, allow_mixed=allow_mixed)
    return lens_picture(slice_).save(path)


def curves_picture(slice_: Slice, against: Sequence[str] = ("forwards",)) -> Picture:
    """Make the picture of ``draw_curves`` from a slice.

    Raises:
        ConfigError: if a name in ``against`` is unknown.
        UserError: if no run that trains is finished, or no metrics.jsonl can be read.
    """
    for name in against:
        if name not in AGAINST:
            said = did_you_mean(name, AGAINST, otherwise=f"; expected {', '.join(AGAINST)}")
            raise ConfigError(f"against={name}: curves are not drawn against that{said}")
    runs, metric = _trained(slice_), slice_.metric
    lines = _with_seconds(_of(runs, slice_))
    if lines.empty:
        raise UserError(f"{slice_.title}: no metrics.jsonl of these runs can be read: there are no curves to draw")
    window = math.ceil(lines["forwards"].max() / _WINDOWS)
    names = [name for name in ("dev/loss", f"dev/{metric}") if f"zero_shot/{name}" in runs]
    zero = {name: {"zero-shot": runs[f"zero_shot/{name}"].mean()} for name in names}
    fair = f"zero_shot/dev/{metric}_calibrated"
    if zero.get(f"dev/{metric}") and fair in runs and runs[fair].notna().any():
        zero[f"dev/{metric}"] |= {CALIBRATED: runs[fair].mean()}
    start = [{"row": run["row"], "directory": run["directory"], "forwards": 0, "step": 0, "seconds": 0.0}
             | {name: run[f"zero_shot/{name}"] for name in zero} for run in runs.to_dict("records")]  # fmt: skip
    lines = pd.concat([pd.DataFrame(start), lines])
    titles = {"train/loss": "training loss", "dev/loss": "dev loss", f"dev/{metric}": f"dev {metric}"}
    rows = list(runs["row"].unique())
    apart = len(rows) > ACROSS
    tracks = {(x, name): _tracks(lines, name, x, window) for x in against for name in titles}
    panels: list[Callable[[Axes], None]] = [
        partial(_curve, tracks=tracks[x, name], label=label, x=x, zero=zero.get(name, {}), only=row)
        for x in against for row in (rows if apart else [""]) for name, label in titles.items()
    ]  # fmt: skip
    told = f"Mean of {_count(runs)}, band from lowest to highest. Training loss: means over {window} forward passes. "
    told += f"Zero-shot: the untrained model, as it comes, and with the threshold from dev.\n{_rates(runs)}"
    told = "One row in its colour, all others in grey; axes agree down a column. " * apart + told + mixed(slice_)
    against_what = _and(AGAINST[x] for x in against)
    alt = f"{slice_.title}: training loss, dev loss and dev {metric} of {', '.join(rows)} against {against_what}"
    return Picture(panels, told, alt, size=(2.9, 1.45), shared="x") if apart else Picture(panels, told, alt)


def lens_picture(slice_: Slice) -> Picture:
    """Make the picture of ``draw_lens`` from a slice. Raises UserError if no run has lens measurements."""
    runs = _trained(slice_)
    lines = _of(runs, slice_)
    panels = {name: label for name, label in _LENS.items() if name in lines and lines[name].notna().any()}
    if not panels:
        raise UserError("no run has lens measurements (lens/cosine and others in metrics.jsonl)")
    side_by_side = runs["row"].nunique() > ACROSS
    told = (
        "Dots: looks along the run, pale at its start. Bars: their mean, and its standard error over the looks."
        if side_by_side
        else f"Mean of {_count(runs)}; bars are one standard error of it (bias: what one standard error of its square "
        "comes to; within it bias cannot be told from 0)."
    )
    told += f"\nBias and variance only where the gain is two standard errors from 0. {_rates(runs)}{mixed(slice_)}"
    alt = f"{slice_.title}: {_and(panels.values())} of {', '.join(runs['row'].unique())} along their runs"
    draw = _looks if side_by_side else _look
    size = (2.9, 0.8 + 0.2 * runs["row"].nunique()) if side_by_side else (2.9, 2.5)
    rows = list(runs["row"].unique())
    made = [partial(draw, lines=lines, name=name, label=label, rows=rows) for name, label in panels.items()]
    return Picture(made, told, alt, columns=2 if side_by_side else 3, size=(4.0, size[1]) if side_by_side else size,
                   shared="y" if side_by_side else "")  # fmt: skip


def mixed(slice_: Slice) -> str:
    """The end of a caption: what the runs of a picture differ in though they should agree; empty where they agree."""
    return f"\nMIXED, not a comparison: the runs differ in {'; '.join(slice_.mixed)}." if slice_.mixed else ""


def _tracks(lines: pd.DataFrame, name: str, x: str, window: int) -> list[Track]:
    """What is drawn of a quantity, for each row: (share of the rows before it, style, name, mean and range)."""
    tracks = []
    for place, style, row, logged in _by_row(lines, name):
        over = (_binned(logged, name, window) if name == "train/loss" else logged).groupby("forwards")
        values = over[name].agg(["mean", "min", "max"])
        tracks.append((place, style, row, values.assign(x=values.index if x == "forwards" else over[x].mean())))
    return tracks


def _curve(panel: Axes, *, tracks: Sequence[Track], label: str, x: str, zero: dict[str, float], only: str) -> None:
    """Draw a line for each row; those of others than ``only``, where one is named, in grey."""
    for place, style, row, over in tracks:
        if only in ("", row):
            line(panel, style, place, row, over["x"], over["mean"], over["min"], over["max"], labelled=not only)
        else:
            panel.plot(over["x"], over["mean"], color=PALE, linewidth=0.8, zorder=1, label=unlisted(row))
            ends = [(over["x"].iloc[0], over["min"].min()), (over["x"].iloc[0], over["max"].max())]
            panel.update_datalim(ends)  # as wide as where it is in front
    for (title, value), dash in zip(zero.items(), (":", "-."), strict=False):
        panel.axhline(value, color=GREY, linestyle=dash, linewidth=1.2, label=title)
    if only:
        panel.set_label(unlisted(only))
        panel.set_title(textwrap.fill(only, _TITLE), fontsize=8, loc="left")
    panel.autoscale_view()
    finish(panel, AGAINST[x], label)


def _look(panel: Axes, *, lines: pd.DataFrame, name: str, label: str, rows: Sequence[str]) -> None:
    for place, style, row, logged in _by_row(_told(lines, name), name):
        mean = logged.groupby("forwards")[name].mean()
        error = "lens/bias_floor" if name == "lens/bias" else f"{name}_stderr"
        line(panel, style, place, row, mean.index.to_series(), mean, error=_error(logged, error))
    if name in _ONE:
        panel.axhline(1.0, color=GREY, linestyle=":", linewidth=1.2, label=_ONE[name])
    finish(panel, AGAINST["forwards"], label)


def _looks(panel: Axes, *, lines: pd.DataFrame, name: str, label: str, rows: Sequence[str]) -> None:
    """Draw a line of the panel for each row, with all that its runs measured on it."""
    told = _told(lines, name)
    for _, style, row, logged in _by_row(told, name):
        height, end = rows.index(row), max(float(logged["forwards"].max()), 1.0)
        shades = [(*to_rgb(style.colour), 0.15 + 0.6 * at / end) for at in logged["forwards"]]
        panel.scatter(logged[name], [height] * len(logged), s=14, c=shades, linewidths=0)
        error = logged[name].sem() if len(logged) > 1 else 0.0
        panel.errorbar(logged[name].mean(), height, xerr=error, marker="|", markersize=9, elinewidth=2.2, capsize=0,
                       color=style.colour)  # fmt: skip
    if name in _ONE:
        panel.axvline(1.0, color=GREY, linestyle=":", linewidth=1.2, label=_ONE[name])
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    mark_rows(panel, rows)
    values = told[name].dropna()
    if len(values) and values.min() > 0 and values.max() / values.min() > _DECADES:
        panel.set_xscale("log")
        plain(panel.xaxis)
    else:
        panel.locator_params(axis="x", nbins=4)
        if len(values) and values.abs().max() >= _LARGE:
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    panel.set_xlabel(label)


def _told(lines: pd.DataFrame, name: str) -> pd.DataFrame:
    """What was measured of a quantity, without what is relative to a gain that may be 0."""
    if name in _SCALED and "lens/gain_stderr" in lines:
        return lines[lines["lens/gain"].abs() > 2 * lines["lens/gain_stderr"]]
    return lines


def _trained(slice_: Slice) -> pd.DataFrame:
    runs = slice_.best[slice_.best["trains"].ne(False)]
    if runs.empty:
        raise UserError("no run that trains is finished: there is nothing to draw")
    return runs


def _of(runs: pd.DataFrame, slice_: Slice) -> pd.DataFrame:
    return slice_.lines[slice_.lines["directory"].isin(runs["directory"])]


def _with_seconds(lines: pd.DataFrame) -> pd.DataFrame:
    """Add the seconds of training at each line; those of an evaluation lie between the training lines around it."""
    if "train_seconds" not in lines:
        return lines.assign(seconds=float("nan"))
    seconds_of_runs = []
    for _, run in lines.groupby("directory"):
        known = run[run["train_seconds"].notna()]
        seconds = np.interp(run["forwards"], [0, *known["forwards"]], [0.0, *known["train_seconds"]])
        seconds_of_runs.append(pd.Series(seconds, index=run.index))
    return lines.assign(seconds=pd.concat(seconds_of_runs))


def _by_row(lines: pd.DataFrame, name: str) -> Iterable[tuple[float, Style, str, pd.DataFrame]]:
    """Give (share of the rows before it, style, row, lines) of each row that has values."""
    rows = list(lines["row"].unique())
    known = styles(rows)
    for i, row in enumerate(rows):
        logged = lines[lines["row"].eq(row)]
        if name in logged and logged[name].notna().any():
            yield i / len(rows), known[row], row, logged[logged[name].notna()]


def _binned(logged: pd.DataFrame, name: str, window: int) -> pd.DataFrame:
    """Average each run's values over windows of forward passes, placed at their mean forward pass."""
    bins = (logged["forwards"] - 1) // window
    means = logged.groupby(["directory", bins.rename("bin")])[[name, *AGAINST]].mean().reset_index()
    return means.assign(forwards=means.groupby("bin")["forwards"].transform("mean"))


def _error(logged: pd.DataFrame, name: str) -> pd.Series | None:
    if name not in logged:
        return None
    errors = logged[name].pow(2).groupby(logged["forwards"])
    return errors.sum(min_count=1).pow(0.5) / errors.count()


def _count(runs: pd.DataFrame) -> str:
    counts = sorted(set(runs.groupby("row").size()))
    return f"{' to '.join(map(str, (counts[0], counts[-1])[: len(counts)]))} run{'s' * (counts[-1] > 1)}"


def _rates(runs: pd.DataFrame) -> str:
    rates = runs.dropna(subset=["method.lr"]).drop_duplicates("row")
    shown = (f"{row} {text(rate)}" for row, rate in zip(rates["row"], rates["method.lr"], strict=True))
    return f"Learning rates: {', '.join(shown)}."


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
