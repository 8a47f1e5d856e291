"""One self-contained page about a sweep, which loads nothing: tables, pictures, runs, settings."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from zobench.errors import UserError
from zobench.record import archive, environments
from zobench.record.reading import Missing, Unreadable
from zobench.record.summaries import RESULTS
from zobench.report.compare.board import COLUMNS, REFERENCE, ROWS, Board, make_board
from zobench.report.compare.comparable import parts, text
from zobench.report.compare.identity import DATA, MODEL
from zobench.report.compare.slices import Slice
from zobench.report.frames.runs import SEEDS, LeftOut, Row, curves
from zobench.report.pictures.comparison import heatmap_picture, pareto_picture, times_picture
from zobench.report.pictures.curves import ACROSS, curves_picture, lens_picture
from zobench.report.pictures.picture import Picture
from zobench.report.typeset.headline import of_board
from zobench.report.typeset.html import render
from zobench.report.typeset.table import Table, number

_IDENTITY = (
    "method", "variant", "model", "task", "tuning", "protocol", "selection", "data", "experiment", *SEEDS,
    "batch_size", "micro_batch_size", "dtype", "device", "steps", "forwards", "eval_every", *MODEL, *DATA, "git_commit",
)  # fmt: skip


def page(
    frame: pd.DataFrame,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
    reference: str = REFERENCE,
    allow_mixed: bool = False,
) -> str:
    """Write the page about a sweep in HTML: tables, pictures, runs in every state, settings, environment.

    Args:
        frame: from ``load``.
        rows, columns: keys of the records that rows and columns of the headline table are made of.
        reference: the row, or method, against which the others are set.
        allow_mixed: let runs differ that should agree; rows and a note then tell what of, and nothing is tested.

    Raises:
        Mixed: if the runs are not comparable.
        ConfigError: if no run has one of the keys, or there is no such reference.
        UserError: if no run is finished.
    """
    return page_of(make_board(frame, [*rows, *columns], reference, allow_mixed), rows, columns)


def page_of(board: Board, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Write the page about the runs of a board with these rows and columns."""
    frame = board.loaded
    title = " · ".join(_values(frame, name) for name in ("task", "model"))
    tables = of_board(board, rows, columns)
    several = len({slice_.title for slice_ in board.slices}) > 1
    overall = [_figure("map", lambda: heatmap_picture(board, rows, columns))] if several else []
    sections = [
        {"title": slice_.title, "figures": _figures(f"s{i}", board, slice_)} for i, slice_ in enumerate(board.slices)
    ]
    differ, shared = _settings(frame)
    environment, unreadable = _environment(frame)
    facts = {
        "Left out": [*_left_out(frame), *unreadable],
        "Settings that differ": differ,
        "Settings of all runs": shared,
        "Environment": environment,
    }
    return render(
        title=title, tables=tables, overall=overall, sections=sections, counts=_counts(frame), runs=_runs(frame),
        facts=facts,
    )  # fmt: skip


def _figures(name: str, board: Board, slice_: Slice) -> list[Row]:
    makers: dict[str, Callable[[], Picture]] = {
        "Against forward passes": lambda: curves_picture(slice_),
        "Accuracy, time and memory": lambda: pareto_picture(board, slice_),
        "Where the time went": lambda: times_picture(slice_),
        "How good the estimates are": lambda: lens_picture(slice_),
    }
    if slice_.best["row"].nunique() <= ACROSS:  # else each row has panels of its own, of which one set is enough
        further = {"Against steps": "step", "Against training seconds": "seconds"}
        makers |= {title: partial(curves_picture, slice_, (x,)) for title, x in further.items()}
    figures = [_figure(f"{name}f{i}", make, title) for i, (title, make) in enumerate(makers.items())]
    return [figure for figure in figures if figure["svgs"]]


def _figure(name: str, make: Callable[[], Picture], title: str = "") -> Row:
    """Collect what the template shows of a picture; nothing where the runs have no data for it."""
    try:
        picture = make()
    except UserError:
        return {"title": title, "key": "", "svgs": [], "caption": "", "alt": ""}
    key, svgs = picture.svgs(name)
    return {"title": title, "key": key, "svgs": svgs, "caption": picture.caption, "alt": picture.alt}


def _values(frame: pd.DataFrame, name: str) -> str:
    return ", ".join(_listed(frame, name))


def _listed(frame: pd.DataFrame, name: str) -> list[str]:
    return [part[name] for part, _ in parts(frame, [name])]


def _counts(frame: pd.DataFrame) -> str:
    states = [f"{n} {state}" for state, n in frame["state"].value_counts().items()]
    return f"{len(frame)} runs: {', '.join(states)}"


def _runs(frame: pd.DataFrame) -> Table:
    """List every run: those without a result first, then by their settings."""
    order = [name for name in ("task", "model", "method", "method.lr", "seed") if name in frame]
    rows = frame.assign(done=frame["state"].isin(RESULTS)).sort_values(["done", *order], key=_sortable)
    shown = ("method", "task", "model", "method.lr", "seed", "state")
    columns: dict[str, Callable[[Row], str]] = {name: partial(_said, name=name) for name in shown}
    columns |= {
        "steps": lambda r: number(r.get("steps"), ",.0f"),
        "test metric": lambda r: number(r.get("test_metric"), ".3f"),
        "reason": lambda r: text(r.get("reason")).replace("null", ""),
        "record": lambda r: r["directory"],
    }
    return Table(rows, columns, [], keys=2)


def _said(run: Row, name: str) -> str:
    return text(run.get(name))


def _sortable(column: pd.Series) -> pd.Series:
    return column.map(text) if column.dtype == object else column


def _settings(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split settings into those that differ between the runs and those that they share, with their values.

    A setting that no run has is in neither.
    """
    names = [*_IDENTITY, *sorted(name for name in frame.columns if name.startswith(("method.", "tuning.")))]
    values = {name: [value for value in _listed(frame, name) if value != "null"] for name in names if name in frame}
    differ = [(name, ", ".join(seen)) for name, seen in values.items() if len(seen) > 1]
    return differ, [(name, seen[0]) for name, seen in values.items() if len(seen) == 1]


def _environment(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], LeftOut]:
    """Collect what the records say of the machines, with all values that occur; and what cannot be read of it."""
    seen: dict[str, dict[str, None]] = {}
    left_out: LeftOut = []
    for directory in frame["directory"]:
        try:
            stored = environments.read(archive.locate(directory))
        except Missing:  # a run that ended before it knew, an old record, or one of wandb's
            continue
        except Unreadable as error:
            left_out.append((directory, error.said))
            continue
        versions = stored.pop("versions", None) or {}
        for name, value in (stored | versions).items():
            seen.setdefault(name, {})[text(value)] = None
    return [(name, ", ".join(values)) for name, values in seen.items()], left_out


def _left_out(frame: pd.DataFrame) -> LeftOut:
    """List what could not be read, of summaries and of curves."""
    return [*frame.attrs.get("left_out", ()), *curves(frame).attrs["left_out"]]
