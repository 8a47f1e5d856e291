"""Pictures against forward passes: loss and dev curves, and the estimator lens."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zobench.errors import UserError
from zobench.report.choose import results, text, tuned
from zobench.report.load import curves

#: Okabe and Ito's colours without yellow, which is too light for a line; lines differ in dash and marker as well
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (4, 1, 1, 1)), (0, (2, 1)), (0, (7, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "grid.linewidth": 0.5, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "zobench",
}  # fmt: skip
_FORMATS = (".png", ".svg", ".pdf")
_DECADES = 1.5  # a logarithmic axis from this span on
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


def draw_curves(frame: pd.DataFrame, path: str | Path) -> list[Path]:
    """Training loss, dev loss and dev metric of each method at its chosen learning rate.

    Args:
        frame: from ``load``; as for ``comparison``, the runs must be comparable.
        path: .png, .svg or .pdf; without a suffix both .png and .svg are written.

    Returns:
        The files written.

    Raises:
        UserError: if runs are not comparable, or none is finished, or the suffix is unknown.
    """
    files = _files(path)
    lines, runs = _lines(frame)
    metric = runs["metric"].iloc[0]
    window = math.ceil(lines["forwards"].max() / _WINDOWS)
    zero = {name: runs[f"zero_shot/{name}"].mean() for name in ("dev/loss", f"dev/{metric}")}
    start = [{"row": run["row"], "directory": run["directory"], "forwards": 0}
             | {name: run[f"zero_shot/{name}"] for name in zero} for run in runs.to_dict("records")]  # fmt: skip
    lines = pd.concat([pd.DataFrame(start), lines])
    panels = {"train/loss": "training loss", "dev/loss": "dev loss", f"dev/{metric}": f"dev {metric}"}
    with rc_context(_STYLE):
        figure, axes = _panels(len(panels))
        for panel, (name, label) in zip(axes, panels.items(), strict=True):
            for i, row, found in _by_row(lines, name):
                points = _binned(found, name, window) if name == "train/loss" else found
                over = points.groupby("forwards")[name]
                _line(panel, i, row, over.mean(), over.min(), over.max())
            if name in zero:
                panel.axhline(zero[name], color="0.35", linestyle=":", linewidth=1.2, label="zero-shot")
            _finish(panel, label)
        told = (
            f"Mean of {_count(runs)}, band from lowest to highest. Training loss: means over {window} forward passes. "
        )
        told += f"Zero-shot: the untrained model.\n{_rates(runs)}"
        return _save(figure, told, files)


def draw_lens(frame: pd.DataFrame, path: str | Path) -> list[Path]:
    """How good each method's estimates are along its run: a panel for each quantity of the lens that was measured.

    Error bars are one standard error: of the mean over seeds, from the errors that the lens gives for each.
    Arguments, result and errors as ``draw_curves``.
    """
    files = _files(path)
    lines, runs = _lines(frame)
    panels = {name: label for name, label in _LENS.items() if name in lines and lines[name].notna().any()}
    if not panels:
        raise UserError("no run has lens measurements (lens/cosine and others in metrics.jsonl)")
    with rc_context(_STYLE):
        figure, axes = _panels(len(panels))
        for panel, (name, label) in zip(axes, panels.items(), strict=True):
            for i, row, found in _by_row(lines, name):
                over = found.groupby("forwards")
                if name in _SCALED and "lens/gain_stderr" in found:
                    found = found[found["lens/gain"].abs() > 2 * found["lens/gain_stderr"]]
                    over = found.groupby("forwards")
                error = "lens/bias_floor" if name == "lens/bias" else f"{name}_stderr"
                _line(panel, i, row, over[name].mean(), error=_error(found, error))
            if name in _ONE:
                panel.axhline(1.0, color="0.35", linestyle=":", linewidth=1.2, label=_ONE[name])
            _finish(panel, label)
        told = (
            f"Mean of {_count(runs)}; bars are one standard error of it (bias: what one standard error of its square "
            "comes to; within it bias cannot be told from 0).\nBias and variance only where the gain is two standard "
            f"errors from 0. {_rates(runs)}"
        )
        return _save(figure, told, files)


def _lines(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = tuned(results(frame))
    runs = runs[runs["trains"].ne(False)]
    if runs.empty:
        raise UserError("no run that trains is finished: there is nothing to draw")
    return runs[["directory", "row"]].merge(curves(runs), on="directory"), runs


def _by_row(lines: pd.DataFrame, name: str) -> Iterable[tuple[int, str, pd.DataFrame]]:
    """(number, row, lines) of each row that has values; the number gives it the same style in every panel."""
    for i, row in enumerate(lines["row"].unique()):
        found = lines[lines["row"].eq(row)]
        if name in found and found[name].notna().any():
            yield i, row, found[found[name].notna()]


def _binned(found: pd.DataFrame, name: str, window: int) -> pd.DataFrame:
    """Each run's values averaged over windows of forward passes, placed at their mean forward pass."""
    bins = (found["forwards"] - 1) // window
    means = found.groupby(["directory", bins.rename("bin")])[[name, "forwards"]].mean().reset_index()
    return means.assign(forwards=means.groupby("bin")["forwards"].transform("mean"))


def _error(found: pd.DataFrame, name: str) -> pd.Series | None:
    if name not in found:
        return None
    errors = found[name].pow(2).groupby(found["forwards"])
    return errors.sum(min_count=1).pow(0.5) / errors.count()


def _panels(n: int) -> tuple[Figure, Sequence[Axes]]:
    columns = min(n, 3)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(max(2.9 * columns, 4.5), 2.5 * rows + 0.6), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[n:]:
        spare.remove()
    return figure, axes[:n]


def _line(
    panel: Axes,
    i: int,
    label: str,
    mean: pd.Series,
    low: pd.Series | None = None,
    high: pd.Series | None = None,
    error: pd.Series | None = None,
) -> None:
    colour, n = _COLOURS[i % len(_COLOURS)], len(mean)
    # A few markers a line, at other places for each line.
    every = max(1, n // 6)
    style: dict[str, Any] = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 3.5, "markevery": (i % every, every)}
    style |= {"color": colour, "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.3, "label": label}
    panel.errorbar(mean.index, mean, yerr=error, elinewidth=0.8, capsize=2, **style)
    if low is not None and high is not None:
        panel.fill_between(mean.index, low, high, color=colour, alpha=0.12, linewidth=0)


def _finish(panel: Axes, label: str) -> None:
    drawn = [line for line in panel.get_lines() if line.get_linestyle() != "None"]  # not the caps of error bars
    values = pd.concat([pd.Series(dtype=float), *(pd.Series(line.get_ydata(), dtype=float) for line in drawn)])
    if values.min() > 0 and math.log10(values.max() / values.min()) > _DECADES:
        panel.set_yscale("log")
    else:
        panel.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    panel.set_xlabel("forward passes")
    panel.set_ylabel(label)


def _count(runs: pd.DataFrame) -> str:
    counts = sorted(set(runs.groupby("row").size()))
    return f"{' to '.join(map(str, (counts[0], counts[-1])[: len(counts)]))} run{'s' * (counts[-1] > 1)}"


def _rates(runs: pd.DataFrame) -> str:
    rates = runs.dropna(subset=["method.lr"]).drop_duplicates("row")
    shown = (f"{row} {text(rate)}" for row, rate in zip(rates["row"], rates["method.lr"], strict=True))
    return f"Learning rates: {', '.join(shown)}."


def _files(path: str | Path) -> list[Path]:
    path = Path(path)
    if not path.suffix:
        return [path.with_suffix(".png"), path.with_suffix(".svg")]
    if path.suffix not in _FORMATS:
        raise UserError(f"{path}: pictures are written as {', '.join(_FORMATS)}")
    return [path]


def _save(figure: Figure, caption: str, files: list[Path]) -> list[Path]:
    entries = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=4, handlelength=3.2)
    characters = int(figure.get_figwidth() * 17)
    wrapped = "\n".join(textwrap.fill(line, characters) for line in caption.splitlines())
    figure.supxlabel(wrapped, fontsize=7, color="0.35")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if file.suffix == ".svg" else None
        figure.savefig(file, dpi=200, metadata=metadata)
    return files
