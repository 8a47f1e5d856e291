"""The page about a sweep as a run of wandb, with its numbers as a table beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from zobench.errors import UserError
from zobench.report.compare.board import COLUMNS, REFERENCE, ROWS, make_board
from zobench.report.compare.comparable import parts
from zobench.report.html_page import page_of
from zobench.system.network import why_offline

_PROJECT = "zobench"


def to_wandb(
    frame: pd.DataFrame,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
    reference: str = REFERENCE,
    allow_mixed: bool = False,
    *,
    group: str | None = None,
    directory: str | Path = ".",
) -> str:
    """Send the page about a sweep to wandb, offline unless ``WANDB_MODE=online``.

    It becomes ``report`` of a run of type ``report``, and the numbers of its tables the table ``comparison``.
    ``WANDB_PROJECT`` and ``WANDB_ENTITY`` name the place; the key is wandb's own affair.

    Args:
        frame: from ``load``.
        rows, columns: keys of the records that rows and columns of the headline table are made of.
        reference: the row, or method, against which the others are set.
        allow_mixed: let runs differ that should agree.
        group: of the sweep; by default its experiment, or its tasks and models.
        directory: where wandb keeps its files.

    Returns:
        The folder of the offline run, to be sent with ``wandb sync``, or the address of the online one.

    Raises:
        Mixed: if the runs are not comparable.
        ConfigError: if no run has one of the keys, or there is no such reference.
        UserError: if no run is finished; if online was asked for and there is no key or network.
    """
    board = make_board(frame, [*rows, *columns], reference, allow_mixed)
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "online" and (reason := why_offline()):
        raise UserError(f"WANDB_MODE=online: {reason}; unset it, and send the offline run later with `wandb sync`")
    import wandb

    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        group=group or _group(frame),
        job_type="report",
        name="report",
        config={"rows": list(rows), "columns": list(columns), "reference": reference, "runs": len(frame)},
        dir=str(Path(directory).absolute()),  # its service may be at work in another folder
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
    )
    numbers = board.frame.astype(object).where(board.frame.notna(), None)
    run.log(
        {
            "report": wandb.Html(page_of(board, rows, columns), inject=False, data_is_not_path=True),
            "comparison": wandb.Table(dataframe=numbers, allow_mixed_types=True),
        }
    )
    run.finish()
    return str(Path(run.dir).parent) if mode == "offline" else str(run.url)


def _group(frame: pd.DataFrame) -> str:
    keys = ["experiment"] if "experiment" in frame and frame["experiment"].notna().any() else ["task", "model"]
    return "/".join("+".join(part[key] for part, _ in parts(frame, [key]) if part[key] != "null") for key in keys)
