"""The comparison as a run of wandb: the same tables, numbers and curves, grouped by sweep."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.report.compare.board import REFERENCE, Board, board
from zobench.report.compare.comparable import parts
from zobench.report.pictures.curves import AGAINST, means_by_row
from zobench.report.typeset.headline import COLUMNS, ROWS, of_board
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
    """Send tables and curves to wandb, offline unless ``WANDB_MODE=online``.

    ``WANDB_PROJECT`` and ``WANDB_ENTITY`` name the place; the key is wandb's own affair.

    Args:
        frame: from ``load``. Rows, columns, reference and allow_mixed as for ``tables``, which see for errors.
        group: of the sweep; by default its experiment, or its tasks and models.
        directory: where wandb keeps its files.

    Returns:
        The folder of the offline run, to be sent with ``wandb sync``, or the address of the online one.

    Raises:
        UserError: if online was asked for and there is no key or network.
    """
    found = board(frame, [*rows, *columns], reference, allow_mixed)
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
        dir=str(directory),
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
    )
    names = ("headline", "deltas", "details") if found.frame["delta"].notna().any() else ("headline", "details")
    shown = zip(names, of_board(found, rows, columns), strict=True)
    logged: dict[str, Any] = {name: _table(table.cells()[1:], table.cells()[0]) for name, table in shown}
    numbers = found.frame.astype(object).where(found.frame.notna(), None)
    logged["numbers"] = _table(numbers.values.tolist(), [str(name) for name in numbers.columns])
    run.log(logged | _plots(found))
    run.finish()
    return str(Path(run.dir).parent) if mode == "offline" else str(run.url)


def _group(frame: pd.DataFrame) -> str:
    keys = ["experiment"] if "experiment" in frame and frame["experiment"].notna().any() else ["task", "model"]
    return "/".join("+".join(part[key] for part, _ in parts(frame, [key]) if part[key] != "null") for key in keys)


def _table(rows: list[list[Any]], header: list[Any]) -> Any:
    import wandb

    return wandb.Table(columns=header, data=rows, allow_mixed_types=True)


def _plots(found: Board) -> dict[str, Any]:
    """Mean curves of each slice against forward passes."""
    import wandb

    plots = {}
    for slice_ in found.slices:
        for name in ("train/loss", "dev/loss", f"dev/{slice_.metric}"):
            curves = means_by_row(slice_, name)
            if curves:
                xs, ys = [list(mean.index) for mean in curves.values()], [mean.tolist() for mean in curves.values()]
                title = f"{slice_.title}, {name.replace('/', ' ')}"
                plots[f"curves/{title}"] = wandb.plot.line_series(xs, ys, list(curves), title, AGAINST["forwards"])
    return plots
