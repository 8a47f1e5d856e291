"""The headline table: methods by tasks, or any other keys of the records."""

from collections.abc import Callable, Sequence

import pandas as pd

from zobench.report.compare.board import CALIBRATED, COLUMNS, REFERENCE, ROWS, Board, label, make_board
from zobench.report.compare.crossed import ENOUGH
from zobench.report.frames.runs import Row
from zobench.report.typeset.details import BOLD, delta, details, unseen
from zobench.report.typeset.table import Bold, Table, number, spread
from zobench.system.verdict import ABOVE, above

_BASES = {
    "zero_shot": "zero-shot", "zero_shot_calibrated": CALIBRATED, "majority": "majority class", "chance": "chance",
}  # fmt: skip


def tables(
    frame: pd.DataFrame,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
    reference: str = REFERENCE,
    allow_mixed: bool = False,
) -> list[Table]:
    """Compare methods by tasks, or by any other keys of the records.

    Args:
        frame: from ``load``.
        rows: keys of the records that rows are made of. ``method`` stands for the method with the settings in which it
            occurs; methods are compared where all other keys agree.
        columns: keys that columns are made of.
        reference: the row, or method, against which the others are set.
        allow_mixed: let runs differ that should agree; rows and a note then tell what of, and nothing is tested.

    Returns:
        The headline table, the differences to the reference (if it and others are there), and the detailed table.

    Raises:
        Mixed: if the runs differ in more than these keys, or in protocol, selection rule or forward budget.
        ConfigError: if no run has one of the keys.
        UserError: if no run is finished.
    """
    return of_board(make_board(frame, [*rows, *columns], reference, allow_mixed), rows, columns)


def of_board(board: Board, rows: Sequence[str] = ROWS, columns: Sequence[str] = COLUMNS) -> list[Table]:
    """Make the headline table, the differences and the detailed table of a board with these rows and columns."""
    metrics = ", ".join(sorted(board.frame["metric"].unique()))
    scores = Table(board.frame, {}, _notes(board), f"Test {metrics}, mean ± standard deviation over seeds (runs)")
    shown = [_pivot(scores, rows, columns, _score, _bases(board.frame, columns))]
    if board.frame["delta"].notna().any():
        notes = ["mean over shared seeds with its 95 % interval, over seeds and test examples; p in the CSV"]
        notes += [*unseen(board), *board.tried()]
        deltas = Table(board.frame, {}, notes, f"Test {metrics} less that of {board.reference}")
        shown.append(_pivot(deltas, rows, columns, delta, []))
    return [*shown, details(board, "Details and costs")]


def _pivot(
    table: Table, rows: Sequence[str], columns: Sequence[str], show: Callable[[Row], str], bases: list[Row]
) -> Table:
    lines = table.frame.to_dict("records")
    filled: dict[str, Row] = {}
    for line in lines:
        name = label(line, rows)
        of_one = {"row": line["row"]} if "method" in rows else {}
        filled.setdefault(name, {"": name} | of_one)[label(line, columns)] = show(line)
    headers = list(dict.fromkeys(label(line, columns) for line in lines))
    texts: dict[str, Callable[[Row], str]] = {", ".join(rows): lambda r: r[""]}
    texts |= {header: lambda r, header=header: r.get(header, "-") for header in headers}  # type: ignore[misc]
    return Table(table.frame, texts, table.notes, table.title, [*filled.values(), *bases])


def _score(line: Row) -> str:
    """Write a result, ``0.779 ± 0.015 (3)``, with its marks; bold if it is the best and the tests support that."""
    shown = spread(line, "test_metric")
    if shown in ("diverged", "-"):
        return shown
    few = "‡" if line["trains"] and line["runs"] < ENOUGH else ""
    shown = f"{shown} ({line['runs']}){few}" + ("†" if guesses(line) else "")
    return Bold(shown) if line["supported"] else shown


def guesses(line: Row) -> bool:
    """Tell if the result cannot be told from what is reached without training, or is below it."""
    names = _BASES if line["trains"] else ("majority", "chance")
    bases = [line[name] for name in names if not pd.isna(line[name])]
    error = 0.0 if pd.isna(line["test_metric_stderr"]) else max(line["test_metric_stderr"], line["test_resolution"])
    return bool(bases) and not above(line["test_metric"], error, bases)


def _bases(frame: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """Make rows of what is reached without learning, where each column has one value of it."""
    bases = []
    for name, title in _BASES.items():
        if name == "zero_shot" and not frame["trains"].all():  # it has a row of its own
            continue
        row: Row = {"": title}
        for header, lines in frame.groupby(frame.apply(label, axis=1, keys=columns)):
            values = lines[name].dropna().unique()
            if len(values) == 1:
                row[header] = number(values[0], ".3f")
        bases += [row] if len(row) > 1 else []
    return bases


def _notes(board: Board) -> list[str]:
    notes = [*(board.mixed() or [BOLD]), *board.said(), *board.tried()]
    passes = board.frame.loc[board.frame["forwards"].gt(0), "forwards"]
    budgets = [f"{value:,.0f}" for value in sorted({passes.min(), passes.max()})]
    notes += [f"forward passes: {' to '.join(budgets)}"] if len(passes) else []
    marks = {
        "†": f"not {ABOVE}",
        "‡": f"fewer than {ENOUGH} runs",
    }
    shown = "".join(_score(line) for line in board.frame.to_dict("records"))
    return [*notes, *(f"{mark} {said}" for mark, said in marks.items() if mark in shown), *board.power()]
