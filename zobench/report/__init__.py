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
    from zobench.report.claims import registry
    from zobench.report.differences import beside
    from zobench.report.files import write
    from zobench.report.headline import tables
    from zobench.report.html import page
    from zobench.report.judge import verdicts
    from zobench.report.literature import published
    from zobench.report.maps import draw_heatmap, draw_pareto, draw_times
    from zobench.report.markup import Table
    from zobench.report.mirror import to_wandb
    from zobench.report.pictures import draw_curves, draw_lens
    from zobench.report.records import curves, load, predictions
    from zobench.report.sheet import claims_sheet
    from zobench.report.table import comparison, grid

__all__ = [
    "Table", "beside", "claims_sheet", "comparison", "curves", "draw_curves", "draw_heatmap", "draw_lens",
    "draw_pareto", "draw_times", "grid", "load", "page", "predictions", "published", "registry", "tables",
    "to_wandb", "verdicts", "write",
]  # fmt: skip
_HOMES = {
    "records": ("load", "curves", "predictions"),
    "headline": ("tables",),
    "table": ("comparison", "grid"),
    "markup": ("Table",),
    "pictures": ("draw_curves", "draw_lens"),
    "maps": ("draw_heatmap", "draw_pareto", "draw_times"),
    "html": ("page",),
    "files": ("write",),
    "mirror": ("to_wandb",),
    "claims": ("registry",),
    "differences": ("beside",),
    "judge": ("verdicts",),
    "literature": ("published",),
    "sheet": ("claims_sheet",),
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
