"""Tables and pictures from run directories.

``load``, ``curves`` and ``predictions`` give pandas DataFrames, ``tables``, ``comparison`` and ``grid`` tables,
``draw_*`` pictures, ``page`` a report in HTML; ``published`` gives the papers' numbers, ``beside`` sets ours beside
them, ``verdicts`` judges their claims, ``cite`` is BibTeX of what the runs are made of. ``python -m zobench.report
runs`` does the same from a terminal. Needs the extra ``report``.
"""

import ast
import inspect
import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zobench.errors import MissingExtra

if TYPE_CHECKING:  # at run time each is imported when it is asked for: pandas, scipy and matplotlib take seconds
    from zobench.report.compare.memory import with_memory
    from zobench.report.frames.pack import pack
    from zobench.report.frames.runs import curves, load, predictions
    from zobench.report.html_page import page
    from zobench.report.papers.beside import beside
    from zobench.report.papers.cite import cite
    from zobench.report.papers.claims import registry
    from zobench.report.papers.claims_sheet import claims_sheet
    from zobench.report.papers.published import published
    from zobench.report.papers.verdicts import verdicts
    from zobench.report.pictures.comparison import draw_heatmap, draw_pareto, draw_times
    from zobench.report.pictures.curves import draw_curves, draw_lens
    from zobench.report.typeset.details import comparison, grid
    from zobench.report.typeset.headline import tables
    from zobench.report.typeset.table import Table
    from zobench.report.typeset.which import which
    from zobench.report.typeset.write import write
    from zobench.report.wandb_page import to_wandb

__all__ = [
    "Table", "beside", "cite", "claims_sheet", "comparison", "curves", "draw_curves", "draw_heatmap", "draw_lens",
    "draw_pareto", "draw_times", "grid", "load", "pack", "page", "predictions", "published", "registry", "tables",
    "to_wandb", "verdicts", "which", "with_memory", "write",
]  # fmt: skip


@cache
def _homes() -> dict[str, str]:
    """Read off the imports above which module each name is from."""
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(sys.modules[__name__])))
               if isinstance(node, ast.ImportFrom)]  # fmt: skip
    return {name.name: str(node.module) for node in imports for name in node.names if name.name in __all__}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zobench.report' has no attribute {name!r}")
    try:
        return getattr(import_module(_homes()[name]), name)
    except ModuleNotFoundError as error:
        raise MissingExtra("report", error) from error


def __dir__() -> list[str]:
    return __all__
