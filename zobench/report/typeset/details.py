"""The detailed table, one line per row and slice, and the grid behind its learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from zobench.record.lookup import FILES
from zobench.report.compare.board import CALIBRATED, REFERENCE, Board, make_board, means, with_train_losses
from zobench.report.compare.comparable import text
from zobench.report.compare.memory import SHARED
from zobench.report.compare.slices import Slice, slices
from zobench.report.frames.runs import Row, curves
from zobench.report.typeset.table import Bold, Table, number, spread

#: when the best result is printed bold
BOLD = (
    "bold: best, by a test over seeds and test examples (p below 0.05) against every other row, with three or more "
    "shared seeds; over seeds alone where predictions are not stored"
)
_GRID = ("train/loss", "dev_metric", "dev/loss", "test_metric", "test/loss")


def comparison(
    frame: pd.DataFrame, axes: Sequence[str] = ("method",), reference: str = REFERENCE, allow_mixed: bool = False
) -> Table:
    """Compare methods on one task, with all that is known of their results and costs.

    One row a method, at its learning rate of best mean dev value, mean over seeds. A method that occurs with several
    settings has a row for each. Hours are those of training: the process's own on a CPU, whatever else the machine
    does, and those of the clock on a GPU. Memory is the highest of the runs. Unfinished and failed runs are left out,
    and a note says so.

    Args:
        frame: from ``load``.
        axes: further keys by which rows are split, such as task; within each the methods are compared.
        reference: the row, or method, against which the others are set.
        allow_mixed: let runs differ that should agree; rows and a note then tell what of, and nothing is tested.

    Raises:
        Mixed: if task, model, protocol, data, selection rule, budget or tuning differ; the message names them.
        ConfigError: if no run has one of the axes.
        UserError: if no run is finished.
    """
    board = make_board(frame, axes, reference, allow_mixed)
    shown = details(board)
    return replace(shown, notes=[*([] if board.mixed() else [BOLD]), *shown.notes, *board.power()])


def details(board: Board, title: str = "") -> Table:
    """Make the detailed table of a board: one line per row and slice."""
    metrics = board.frame["metric"].unique()
    metric = metrics[0] if len(metrics) == 1 else "metric"
    hours = "CPU" if board.on_cpu else "GPU"
    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda r: r["row"],
        **{axis: lambda r, axis=axis: r[axis] for axis in board.within},  # type: ignore[misc]
        "learning rate": _rate,
        "runs": runs_of,
        f"test {metric}": lambda r: Bold(spread(r, "test_metric")) if r["supported"] else spread(r, "test_metric"),
        "std. error (test rows)": lambda r: number(r["test_metric_stderr"], ".3f"),
        f"Δ to {board.reference}": delta,
        "AUC": lambda r: spread(r, "test/auc"),
        "test loss": lambda r: spread(r, "test/loss"),
        "train loss": lambda r: spread(r, "train/loss"),
        "forward passes": _passes,
        f"{hours}-hours": lambda r: number(r[f"{hours.lower()}_hours"], ".3g"),
        "steps to reach": lambda r: _reached(r, "steps"),
        "passes to reach": lambda r: _reached(r, "forwards"),
        "peak MiB": _peak,
        "state bytes": lambda r: number(r["state_bytes"], ",.0f"),
    }
    if not board.frame["delta"].notna().any():
        for name in (f"Δ to {board.reference}", "steps to reach", "passes to reach"):
            columns.pop(name)
    facts = [fact for slice_ in board.slices for fact in _facts(slice_)]
    notes = [*board.mixed(), *board.said(), *_against(board), *board.tried(), *facts]
    notes += [
        *board.unpaired(),
        *_measured_how(board),
        *_peaks(board),
        *(warning for slice_ in board.slices for warning in _warnings(slice_)),
    ]
    return Table(board.frame, columns, [*notes, *board.left_out()], title, keys=1 + len(board.within))


def grid(frame: pd.DataFrame, allow_mixed: bool = False) -> Table:
    """Tabulate every learning rate of every method on one task, and mark the one that was chosen.

    Losses and metrics are means over seeds, with the number of runs in brackets where it is not one for all; the
    training loss is over the last tenth of the forward passes. The dev value that a rate was chosen by is over the
    seeds that all rates of its row have.

    Args:
        frame: from ``load``.
        allow_mixed: let runs differ that should agree; rows and a note then tell what of.

    Raises:
        Mixed: if the runs differ in task, model, protocol, data, selection rule, budget or tuning.
        UserError: if no run is finished or diverged.
    """
    (slice_,) = slices(frame, allow_mixed=allow_mixed)
    by = "dev/loss" if slice_.runs["selection"].iloc[0] == "lowest dev loss" else "dev_metric"
    runs, rows = with_train_losses(slice_.runs, curves(slice_.runs)), []
    for cell in slice_.tried.to_dict("records"):
        rate = runs["method.lr"].isna() if pd.isna(cell["method.lr"]) else runs["method.lr"].eq(cell["method.lr"])
        of_rate = runs[runs["row"].eq(cell["row"]) & rate & runs["state"].eq("finished")]
        counts = {name: cell[name] for name in ("row", "method.lr", "runs", "diverged", "chosen", "shared_runs")}
        rows.append(counts | means(of_rate, _GRID) | {"chosen_by": cell[by]})
    uneven = len({row["runs"] for row in rows if row["runs"]}) > 1

    def of_runs(row: Row, name: str) -> str:
        shown = spread(row, name)
        return f"{shown} ({row['runs']})" if uneven and shown not in ("-", "diverged") else shown

    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda r: r["row"],
        "learning rate": lambda r: Bold(_lr(r)) if r["chosen"] and pd.notna(r["method.lr"]) else _lr(r),
        "runs": runs_of,
        "train loss": lambda r: of_runs(r, "train/loss"),
        f"dev {slice_.metric}": lambda r: of_runs(r, "dev_metric"),
        "dev loss": lambda r: of_runs(r, "dev/loss"),
        f"test {slice_.metric}": lambda r: of_runs(r, "test_metric"),
        "test loss": lambda r: of_runs(r, "test/loss"),
        "chosen by": lambda r: number(r["chosen_by"], ".3f") + (f" ({r['shared_runs']})" if r["shared_runs"] else ""),
    }
    if not uneven:
        columns.pop("chosen by")
    board = Board(frame, [slice_], ("method",), REFERENCE)
    notes = [*board.mixed(), *board.said(), "bold learning rate: chosen for the comparison"]
    if uneven:
        title = "dev loss" if by == "dev/loss" else f"dev {slice_.metric}"
        notes.append(
            "(n): mean over n runs. One run and a mean of several cannot be compared as they stand; rates were chosen "
            f'by what all rates of a row have: "chosen by" is the {title} over the seeds that they share'
        )
    notes += [*board.tried(), *_facts(slice_), *_measured_how(board)]
    return Table(pd.DataFrame(rows), columns, [*notes, *board.left_out()], keys=2)


def delta(row: Row) -> str:
    """Write the mean difference over shared seeds and its 95 % interval: ``+0.012 [-0.003, +0.027]``."""
    interval = "" if pd.isna(row["delta_low"]) else f" [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
    return number(row["delta"], "+.3f") + interval + ("§" if row["delta_unseen"] else "")


def unseen(board: Board) -> list[str]:
    """Explain the mark of differences whose spread over seeds could not be seen; empty where there is none."""
    rows = board.frame[board.frame["delta_unseen"]]
    if rows.empty:
        return []
    how = "the interval takes one test row for it" if rows["delta_low"].notna().all() else "nothing is tested"
    return [f"§ no spread seen: the differences of the seeds are within one test row of another; {how}"]


def runs_of(row: Row) -> str:
    """Write the number of finished runs, and of those that diverged: ``3, 1 diverged``."""
    return f"{row['runs']}" + (f", {row['diverged']} diverged" if row["diverged"] else "")


def _rate(row: Row) -> str:
    tried = f" (of {row['rates_tried']})" if row["rates_tried"] > 1 else ""
    return _lr(row) + tried


def _lr(row: Row) -> str:
    return "-" if pd.isna(row["method.lr"]) else text(row["method.lr"])


def _passes(row: Row) -> str:
    backwards = f" + {row['backwards']:,.0f} backward" if row["backwards"] > 0 else ""
    return number(row["forwards"], ",.0f") + backwards


def _reached(row: Row, name: str) -> str:
    if not row["reached_of"]:
        return "-"
    got, of = row["reached_runs"], row["reached_of"]
    return number(row[f"reached_{name}"], ",.0f") + (f" ({got} of {of})" if got < of else "")


def _against(board: Board) -> list[str]:
    if not board.frame["delta"].notna().any():
        return []
    return [
        f"Δ to {board.reference}: mean over shared seeds with its 95 % interval, over seeds and test examples",
        *unseen(board),
        f"to reach: until the last dev value of {board.reference}'s run with the same seeds, read at dev evaluations; "
        "in brackets how many runs got there. A value below the untrained model's, with or without a threshold from "
        "dev, is nothing to reach",
    ]


def _facts(slice_: Slice) -> list[str]:
    runs, one = slice_.runs, slice_.runs.iloc[0].to_dict()
    known = [
        f"{title} {runs[name].mean():.3f}"
        for title, name in (
            ("zero-shot", f"zero_shot/test/{slice_.metric}"),
            (CALIBRATED, f"zero_shot/test/{slice_.metric}_calibrated"),
            *([("majority class", "zero_shot/test/majority")] if slice_.metric == "accuracy" else []),
        )
        if name in runs and runs[name].notna().any()
    ]
    facts = [] if slice_.mixed else [
        f"{one['task']}, {one['model']}, tuning {one['tuning']}, protocol {one['protocol']}, data {_data(one)}"
    ]  # fmt: skip
    return facts + ([f"{one['task']}: test {slice_.metric} without training: {'; '.join(known)}"] if known else [])


def _data(one: Row) -> str:
    """Where rows come from; of files that the task names, with their names."""
    if one["data"] != FILES or pd.isna(one["data.dir"]):
        return str(one["data"])
    return f"{FILES} {', '.join(Path(path).name for path in str(one['data.dir']).split(', '))}"


def _peak(row: Row) -> str:
    shared = not row["peak_of_the_run_alone"] and not pd.isna(row["peak_mib"])
    return number(row["peak_mib"], ".0f") + "¶" * shared


def _peaks(board: Board) -> list[str]:
    shared = board.frame["peak_mib"].notna() & ~board.frame["peak_of_the_run_alone"].astype(bool)
    return [f"¶ {SHARED}: differences are not the methods'"] * bool(shared.any())


def _measured_how(board: Board) -> list[str]:
    runs = pd.concat([slice_.runs for slice_ in board.slices])
    selection = " / ".join(runs["selection"].dropna().unique())
    notes = [
        "train loss: mean over the last tenth of the forward passes",
        f"mean ± sample standard deviation over seeds; learning rates by mean dev values ({selection})",
    ]
    if len(devices := sorted(set(runs["device"].dropna()))) > 1:
        notes.append(f"hours and memory from several devices: {', '.join(devices)}")
    return notes


def _warnings(slice_: Slice) -> list[str]:
    """Warn of rates at the edge of their grid, and of rows of fewer runs than others."""
    warnings, tried = [], slice_.tried
    where = ", ".join(slice_.key.values())
    for name, rates in tried.groupby("row", sort=False):
        chosen = rates.loc[rates["chosen"], "method.lr"]
        usable = rates.loc[rates["runs"].gt(0), "method.lr"]
        edge = len(rates) > 1 and len(chosen) and chosen.iloc[0] in (usable.min(), rates["method.lr"].max())
        said = f"{name}, {where}" if where else name
        warnings += [f"{said}: the chosen learning rate is at the edge of those tried"] if edge else []
    runs = tried.loc[tried["chosen"] & tried["method.lr"].notna()].set_index("row")["runs"]
    uneven = ", ".join(f"{name} {n}" for name, n in runs.items())
    if runs.nunique() > 1:
        warnings.append(f"numbers of runs differ{f' ({where})' * bool(where)}: {uneven}")
    return warnings
