"""Pictures of a comparison: differences to the reference, performance profiles, ranks."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from zobench.report.pictures.colours import Style, styles
from zobench.report.pictures.picture import GREY, PALE, Picture, mark_rows
from zobench.report.workloads.comparison import CEILING, ENDS, REFERENCE, STAGES
from zobench.report.workloads.profiles import LARGEST, areas, ratios
from zobench.report.workloads.scores import ALL, beats, below

_LINE = 0.17  # inches of an entry's line
_FAINT = 0.6  # how white what cannot be told from the reference is
_TITLE = 26  # characters of a line of a panel's title
_FEW = 8  # workloads, below which a share of them is told to be a count
_TICKS = (1.0, 2.0, 4.0, 8.0)


def entry_styles(entries: Sequence[str], of: Mapping[str, str]) -> dict[str, Style]:
    """Give each entry its method's colour; an ablation has an open marker.

    Args:
        entries: their names.
        of: an ablation -> the entry that it is an ablation of.
    """
    names = {entry: f"{of[entry]} ({entry})" if entry in of else entry for entry in entries}
    known = styles(names.values())
    return {entry: known[name] for entry, name in names.items()}


def forest_picture(found: pd.DataFrame, overall: pd.DataFrame, stage: str, of: Mapping[str, str]) -> Picture:
    """Draw each entry's difference to the reference with its interval: over all workloads, then on each.

    Args:
        found: of ``scores``.
        overall: of ``together``.
        stage: of ``STAGES``.
        of: an ablation -> its method.
    """
    return _forest_picture(_panels(found, overall, stage), f"; {STAGES[stage]}", of)


def headline_picture(found: pd.DataFrame, overall: pd.DataFrame, of: Mapping[str, str]) -> Picture:
    """Draw each entry's difference to the reference over all workloads, at each stage.

    Args:
        found: of ``scores``.
        overall: of ``together``.
        of: an ablation -> its method.
    """
    lines = overall if found["workload"].nunique() > 1 else found
    panels = {STAGES[str(stage)]: of_stage for stage, of_stage in lines.groupby("stage", sort=False)}
    told = "" if found["workload"].nunique() == 1 else ", mean of all workloads"
    return _forest_picture(panels, told, of)


def _forest_picture(panels: Mapping[str, pd.DataFrame], told: str, of: Mapping[str, str]) -> Picture:
    ends = {name: _ceiling(lines) for name, lines in panels.items()}
    panels = {name: lines[~lines["entry"].isin([*ENDS, REFERENCE])] for name, lines in panels.items()}
    order = _order(panels, "delta")
    drawn = [partial(_forest, lines=lines, order=order, title=name, ceiling=ends[name],
                     known=entry_styles(order, of)) for name, lines in panels.items()]  # fmt: skip
    caption = (
        f"Test metric less that of {REFERENCE}, in points, with 95 % intervals for other seeds, draws of training rows "
        f"and test rows{told}. Strong: apart from {REFERENCE} beyond doubt, allowing for all entries. "
        f"Dashed: {CEILING}. Open markers: ablations."
    )
    first = next(iter(panels.values())).dropna(subset=["delta"]).sort_values("delta", ascending=False, kind="stable")
    shown = "; ".join(f"{line['entry']} {100 * line['delta']:+.1f}" for line in first.to_dict("records"))
    size = (2.3, 0.6 + _LINE * len(order))
    return Picture(drawn, caption, f"Differences to {REFERENCE}{told}: {shown}", len(drawn), size, "y")


def profile_picture(costs: Mapping[str, pd.DataFrame], of: Mapping[str, str]) -> Picture:
    """Draw the performance profile of each entry, one below another: a panel for each cost.

    Args:
        costs: title -> a row a workload, a column an entry; infinity where the target was not reached.
        of: an ablation -> its method.
    """
    best = pd.concat([areas(each) for each in costs.values()], axis=1).mean(axis=1).sort_values(kind="stable")
    order, never = list(best[best > 0].index), sorted(best[best == 0].index)
    known = entry_styles(order, of)
    drawn = [partial(_profiles, costs=each, order=order, title=title, known=known) for title, each in costs.items()]
    counts = {len(each) for each in costs.values()}
    workloads = f"{max(counts)} workload{'s' * (max(counts) > 1)}"
    told = (
        f"Height: the share of {workloads} on which an entry reaches the target within a factor of the "
        "fastest entry's cost; from a flat line (on none) to the dotted line above (on all). "
    )
    told += f"With {workloads} a profile is a count, no estimate. " * (max(counts) < _FEW)
    told += f"Within {LARGEST:g} times nowhere: {', '.join(never)}." * bool(never)
    shown = "; ".join(f"{entry} {best[entry]:.2f}" for entry in reversed(order))
    size = (3.4, 0.6 + 1.35 * _LINE * len(order))
    return Picture(drawn, told, f"Performance profiles, mean height: {shown}", len(drawn), size, "y")


def ranks_picture(found: pd.DataFrame, overall: pd.DataFrame, stage: str, of: Mapping[str, str]) -> Picture:
    """Draw the rank of each entry with its interval: over all workloads, then on each.

    Args:
        found: of ``scores``.
        overall: of ``together``.
        stage: of ``STAGES``.
        of: an ablation -> its method.
    """
    panels = {name: lines[lines["rank"].notna()] for name, lines in _panels(found, overall, stage).items()}
    order = _order(panels, "rank")[::-1]
    drawn = [partial(_ranks, lines=each, order=order, title=name, known=entry_styles(order, of))
             for name, each in panels.items()]  # fmt: skip
    told = (
        f"Ranks by test metric with intervals that are right together, 19 times in 20; {STAGES[stage]}. 1 is the best."
    )
    shown = "; ".join(f"{line['entry']} {line['rank']:.3g}" for line in next(iter(panels.values())).to_dict("records"))
    return Picture(drawn, told, f"Ranks, {STAGES[stage]}: {shown}", len(drawn), (2.3, 0.6 + _LINE * len(order)), "y")


def _panels(found: pd.DataFrame, overall: pd.DataFrame, stage: str) -> dict[str, pd.DataFrame]:
    """The lines of each panel: all workloads, where there are several, then each."""
    lines = pd.concat([overall, found])
    panels = {str(name): of for name, of in lines[lines["stage"].eq(stage)].groupby("workload", sort=False)}
    return panels if len(panels) > 2 else {name: of for name, of in panels.items() if name != ALL}


def _order(panels: Mapping[str, pd.DataFrame], name: str) -> list[str]:
    """The entries of all panels, the lowest mean value first; those without any before them."""
    values = pd.concat([lines.set_index("entry")[name] for lines in panels.values()], axis=1)
    first = values.iloc[:, 0]
    return list(first.fillna(values.mean(axis=1)).sort_values(na_position="first", kind="stable").index)


def _ceiling(lines: pd.DataFrame) -> float:
    own = lines.loc[lines["entry"].eq(CEILING), "delta"]
    return float(100 * own.iloc[0]) if len(own) else math.nan


def _forest(
    panel: Axes, *, lines: pd.DataFrame, order: Sequence[str], title: str, ceiling: float, known: Mapping[str, Style]
) -> None:
    for line in lines[lines["delta"].notna()].to_dict("records"):
        mean, style = 100 * line["delta"], known[line["entry"]]
        colour = style.colour if beats(line) or below(line) else _faint(style.colour)
        sides = [[mean - 100 * line["delta_low"]], [100 * line["delta_high"] - mean]]
        panel.errorbar(
            mean, order.index(line["entry"]), xerr=np.nan_to_num(sides), color=colour, marker=style.marker,
            markersize=4, elinewidth=1.2, linestyle="", markerfacecolor=colour if style.filled else "white",
        )  # fmt: skip
    for entry in lines.loc[lines["diverged"].gt(0) & lines["entry"].isin(order), "entry"]:
        panel.text(0.02, order.index(entry), "diverged", transform=panel.get_yaxis_transform(), va="center", fontsize=6,
                   color=GREY)  # fmt: skip
    panel.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    if not math.isnan(ceiling):
        panel.axvline(ceiling, color=GREY, linewidth=0.8, linestyle="--", zorder=1)
    panel.set_xlabel(f"points above {REFERENCE}")
    _rows(panel, order, title, known)


def _ranks(panel: Axes, *, lines: pd.DataFrame, order: Sequence[str], title: str, known: Mapping[str, Style]) -> None:
    for line in lines.to_dict("records"):
        style = known[line["entry"]]
        sides = [[line["rank"] - line["rank_low"]], [line["rank_high"] - line["rank"]]]
        panel.errorbar(
            line["rank"], order.index(line["entry"]), xerr=np.maximum(sides, 0.0), color=style.colour,
            marker=style.marker, markersize=4, elinewidth=1.2, linestyle="",
            markerfacecolor=style.colour if style.filled else "white",
        )  # fmt: skip
    panel.set_xlabel("rank")
    _rows(panel, order, title, known)


def _profiles(
    panel: Axes, *, costs: pd.DataFrame, order: Sequence[str], title: str, known: Mapping[str, Style]
) -> None:
    own = ratios(costs)
    for height, entry in enumerate(order):
        style = known[entry]
        panel.axhline(height + 0.8, color=PALE, linewidth=0.5, linestyle=":", zorder=0)
        if entry not in own:
            continue
        steps = [1.0, *sorted(own[entry][own[entry] < LARGEST]), LARGEST]
        shares = [float(own[entry].le(step * (1 + 1e-9)).mean()) for step in steps]
        tops = [height + 0.8 * share for share in shares]
        panel.fill_between(steps, height, tops, step="post", color=style.colour, alpha=0.35, linewidth=0)
        panel.step(steps, tops, where="post", color=style.colour, linewidth=1.2)
    panel.set_xscale("log", base=2)
    panel.set_xlim(1, LARGEST)
    panel.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    panel.set_xlabel("factor over the fastest")
    _rows(panel, order, title, known)


def _rows(panel: Axes, order: Sequence[str], title: str, known: Mapping[str, Style]) -> None:
    """Name the lines of a panel; the leftmost alone shows the names."""
    panel.set_title(textwrap.fill(title, _TITLE), fontsize=8)
    panel.set_yticks(range(len(order)), order)
    panel.set_ylim(-0.7, len(order) - 0.1)
    place = panel.get_subplotspec()
    if place is None or place.is_first_col():
        mark_rows(panel, order, known)
    panel.tick_params(axis="y", length=0)


def _faint(colour: str) -> tuple[float, ...]:
    return tuple(1 - (1 - part) * (1 - _FAINT) for part in to_rgb(colour))
