"""The dry run: a table of what would run, with steps and passes exactly, hours and memory as they are likely to be."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from zobench.estimate.cost import LAW, Cost
from zobench.estimate.costs import Costs
from zobench.estimate.law import ASSUMPTIONS
from zobench.estimate.rates import SHORT
from zobench.estimate.tell import source
from zobench.sweep.launch import to_run
from zobench.sweep.overview import Overview
from zobench.sweep.plan import PlannedCell
from zobench.sweep.titles import varied

_IN_TABLE = ("model", "method", "task")


def show(overview: Overview, costs: Costs, console: Console, *, retry_failed: bool) -> None:
    """Print the table of a dry run, its totals and, where a number is by rule of thumb, the rule.

    Args:
        overview: the cells and their states.
        costs: what cells cost.
        console: where to print.
        retry_failed: whether failed cells are among those that would run.
    """
    left = {cell.directory for cell in to_run(overview, retry_failed=retry_failed)}
    table = Table("model", "method", "tasks", "settings")
    for title in ("cells", "to run", "steps", "forwards", "hours", "GiB a cell", "from"):
        table.add_column(title, justify="right")
    everything: list[Cost] = []
    differing = varied(overview.cells) - set(_IN_TABLE)
    for cells in _groups(overview.cells):
        wanted = [cell for cell in cells if cell.directory in left]
        found = [costs.of(cell) for cell in wanted]
        everything += found
        tasks = ",".join(dict.fromkeys(cell.choice("task") for cell in cells))
        names = cells[0].choice("model"), cells[0].choice("method"), tasks
        counts = str(len(cells)), str(len(wanted))
        estimated = _hours(found), _gib(found), _sources(found)
        table.add_row(*names, _settings(cells, differing), *counts, *_passes(found), *estimated)
    if console.is_terminal:
        console.print(table)
    else:
        _plain(table, console)
    lines = [f"{overview.line()}; {len(left):,} would run", *_totals(everything), *overview.failures()]
    if any(cost.source == LAW and cost.gib is not None for cost in everything):
        lines.append(ASSUMPTIONS)
    if any(cost.short for cost in everything):
        lines.append(SHORT)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _groups(cells: Iterable[PlannedCell]) -> list[list[PlannedCell]]:
    """Cells by the line of the grid, the model and the method that they share, in the order of the grid."""
    found: dict[tuple[object, ...], list[PlannedCell]] = {}
    for cell in cells:
        found.setdefault((cell.line, cell.choice("model"), cell.choice("method")), []).append(cell)
    return list(found.values())


def _settings(cells: Sequence[PlannedCell], differing: set[str]) -> str:
    """What varies within some cells, as in ``method.lr=1e-7,1e-6 seed=0,1,2``."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for override in cell.overrides:
            key, _, value = override.partition("=")
            if key in differing:
                found.setdefault(key, {})[value] = None
    return " ".join(f"{key}={','.join(values)}" for key, values in found.items())


def _passes(costs: Sequence[Cost]) -> tuple[str, str]:
    """Steps and forward passes of a cell, from the fewest to the most, and backward passes where there are any."""
    spent = [cost.spending for cost in costs if cost.spending is not None]
    if not spent:
        return ("?", "?") if costs else ("", "")
    backwards = [spending.backwards for spending in spent]
    more = f" + {_range(backwards)} backward" if any(backwards) else ""
    return _range([spending.steps for spending in spent]), _range([spending.forwards for spending in spent]) + more


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _totals(costs: Sequence[Cost]) -> list[str]:
    spent = [cost.spending for cost in costs if cost.spending is not None]
    backwards = sum(spending.backwards for spending in spent)
    lines = [f"{sum(spending.forwards for spending in spent):,} forward passes"] if spent else []
    lines = [line + (f" and {backwards:,} backward passes" if backwards else "") for line in lines]
    for gpu, name in ((True, "GPU"), (False, "CPU")):
        own = [cost for cost in costs if cost.gpu == gpu]
        peaks = [cost.gib for cost in own if cost.gib is not None]
        memory = f"; up to {max(peaks):.1f} GiB a cell, {sum(peaks):,.0f} GiB all at once" if peaks else ""
        if own:
            lines.append(f"{len(own):,} cells on a {name}: {_hours(own)} {name}-hours{memory}")
    refusals = Counter(cost.refusal for cost in costs if cost.refusal)
    lines += [f"{count:,} cells would be refused when they run: {why}" for why, count in refusals.items()]
    unknown = sum(cost.seconds is None for cost in costs) - refusals.total()
    if unknown:
        lines.append(f"no hours for {unknown:,} cells before one like them has run: their model's size is not known")
    return lines


def _hours(costs: Sequence[Cost]) -> str:
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    if not known:
        return "?" if costs else ""
    hours = sum(known) / 3600
    return _mark(costs) + (f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}")


def _gib(costs: Sequence[Cost]) -> str:
    known = [cost.gib for cost in costs if cost.gib is not None]
    mark = _mark([cost for cost in costs if not cost.short])
    return f"{mark}{max(known):.1f}" if known else ("?" if costs else "")


def _sources(costs: Sequence[Cost]) -> str:
    """Where the numbers of some cells come from."""
    return ", ".join(dict.fromkeys(source(cost) for cost in costs if not cost.refusal))


def _mark(costs: Sequence[Cost]) -> str:
    return "~" if any(cost.rough for cost in costs) else ""


def _plain(table: Table, console: Console) -> None:
    """Print a table with its columns padded and nothing cut, as a log wants it."""
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        line = "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), markup=False, soft_wrap=True)
