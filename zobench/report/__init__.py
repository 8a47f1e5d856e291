"""Tables and pictures from run directories.

``load``, ``curves`` and ``predictions`` give pandas DataFrames, ``tables``, ``comparison`` and ``grid`` tables,
``draw_*`` pictures, ``page`` a report in HTML; ``published`` gives the papers' numbers, ``beside`` sets ours beside
them, ``verdicts`` judges their claims. ``python -m zobench.report runs`` does the same from a terminal. Needs the extra
``report``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zobench.errors import MissingExtra

if TYPE_CHECKING:
    from zobench.report.frames.runs import curves, load, predictions
    from zobench.report.html_page import page
    from zobench.report.mirror import to_wandb
    from zobench.report.papers.beside import beside
    from zobench.report.papers.claims import registry
    from zobench.report.papers.claims_sheet import claims_sheet
    from zobench.report.papers.published import published
    from zobench.report.papers.verdicts import verdicts
    from zobench.report.pictures.comparison import draw_heatmap, draw_pareto, draw_times
    from zobench.report.pictures.curves import draw_curves, draw_lens
    from zobench.report.typeset.details import comparison, grid
    from zobench.report.typeset.headline import tables
    from zobench.report.typeset.table import Table
    from zobench.report.typeset.write import write

__all__ = [
    "Table", "beside", "claims_sheet", "comparison", "curves", "draw_curves", "draw_heatmap", "draw_lens",
    "draw_pareto", "draw_times", "grid", "load", "page", "predictions", "published", "registry", "tables",
    "to_wandb", "verdicts", "write",
]  # fmt: skip
_HOMES = {
    "frames.runs": ("load", "curves", "predictions"),
    "typeset.headline": ("tables",),
    "typeset.details": ("comparison", "grid"),
    "typeset.table": ("Table",),
    "typeset.write": ("write",),
    "pictures.curves": ("draw_curves", "draw_lens"),
    "pictures.comparison": ("draw_heatmap", "draw_pareto", "draw_times"),
    "html_page": ("page",),
    "mirror": ("to_wandb",),
    "papers.claims": ("registry",),
    "papers.beside": ("beside",),
    "papers.verdicts": ("verdicts",),
    "papers.published": ("published",),
    "papers.claims_sheet": ("claims_sheet",),
}


def __getattr__(name: str) -> Any:
    # Nothing waits for pandas, scipy or matplotlib before it needs them.
    for home, names in _HOMES.items():
        if name in names:
            try:
                return getattr(import_module(f"zobench.report.{home}"), name)
            except ModuleNotFoundError as error:
                raise MissingExtra("report", error) from error
    raise AttributeError(f"module 'zobench.report' has no attribute {name!r}")
