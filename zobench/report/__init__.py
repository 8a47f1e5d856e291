"""Tables and pictures from run directories.

``load`` and ``curves`` give pandas DataFrames, ``comparison`` and ``grid`` tables, ``draw_curves`` and ``draw_lens``
pictures; ``python -m zobench.report runs`` does the same from a terminal. Needs the extra ``report``.
"""

from typing import TYPE_CHECKING, Any

from zobench.errors import MissingExtra

try:
    from zobench.report.load import curves, load
    from zobench.report.markup import Table
    from zobench.report.table import comparison, grid
except ModuleNotFoundError as error:
    raise MissingExtra("report", error) from error

if TYPE_CHECKING:
    from zobench.report.pictures import draw_curves, draw_lens

__all__ = ["Table", "comparison", "curves", "draw_curves", "draw_lens", "grid", "load"]


def __getattr__(name: str) -> Any:
    # Tables do not wait for matplotlib, nor need it.
    if name in ("draw_curves", "draw_lens"):
        try:
            from zobench.report import pictures
        except ModuleNotFoundError as error:
            raise MissingExtra("report", error) from error
        return getattr(pictures, name)
    raise AttributeError(f"module 'zobench.report' has no attribute {name!r}")
