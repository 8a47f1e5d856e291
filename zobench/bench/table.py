"""Measurements as Markdown tables."""

from collections.abc import Callable, Sequence
from typing import Any

from zobench.bench.spec import label
from zobench.system.markdown import pipe_table

Row = dict[str, Any]
Cell = Callable[[Row], str]


#: what the columns of ``timing`` are
LEGEND = """\
ratio: of a step to as many trimmed forwards as it makes (fwd), median and quartiles; s: seconds of a step;
out %, out ms: its time outside forwards, in all and per forward; ns: per trained weight and pass of a walk;
offsets: how losses at offsets from the weights are evaluated"""


def timing(rows: Sequence[Row]) -> str:
    """Tabulate times: ratios to as many trimmed forwards, their quartiles, and what they are made of.

    Args:
        rows: from ``timing.rows``, one a method; with the official code's times, if they were measured, and with the
            ratio ``before`` a change of the code, if that is to be beside.
    """
    hidden = set() if "official_over_this" in rows[0] else set(_BESIDE_OFFICIAL)
    hidden |= set() if any("before" in row for row in rows) else {"before"}
    columns = {header: cell for header, cell in _TIMES.items() if header not in hidden}
    return pipe_table([[*columns], *([cell(row) for cell in columns.values()] for row in rows)])


def memory(rows: Sequence[Row]) -> str:
    """Tabulate peak memory in MiB, and what it is made of.

    Args:
        rows: from ``memory.rows``, one a method.
    """
    return pipe_table([[*_PEAKS], *([cell(row) for cell in _PEAKS.values()] for row in rows)])


def _short(number: float) -> str:
    """Three digits, without an exponent where there are more before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _mib(part: str) -> Cell:
    return lambda row: f"{row[part] / 2**20:.1f}"


_TIMES: dict[str, Cell] = {
    "": lambda row: label(row["name"]),
    "fed": lambda row: row["fed"],
    "before": lambda row: f"{row['before']:.2f}" if "before" in row else "-",
    "ratio": lambda row: f"{row['ratio_to_as_many_forwards']['median']:.2f}",
    "quartiles": lambda row: "{q1:.2f}–{q3:.2f}".format(**row["ratio_to_as_many_forwards"]),
    "fwd": lambda row: str(row["forwards"]),
    "to two forwards": lambda row: f"{row['ratio']['median']:.2f}",
    "plain step / this": lambda row: f"{row['plain_over_this']['median']:.2f}",
    "official step / this": lambda row: f"{row['official_over_this']['median']:.2f}",
    "s": lambda row: _short(row["seconds"]["median"]),
    "out %": lambda row: f"{100 * row['outside_share']:.0f}",
    "out ms": lambda row: _short(row["outside_ms_per_forward"]),
    "ns": lambda row: "-" if row["ns_per_weight_pass"] is None else f"{row['ns_per_weight_pass']:.2f}",
    "offsets": lambda row: row["evaluation"] or "-",
}
#: columns that say something only beside the official step
_BESIDE_OFFICIAL = {"fed", "to two forwards", "plain step / this", "official step / this"}
_PEAKS: dict[str, Cell] = {
    "": lambda row: label(row["name"]),
    "ratio": lambda row: f"{row['ratio']:.3f}",
    "over inference + state": lambda row: f"{row['over_declared']:.3f}",
    "peak, MiB": _mib("peak_bytes"),
    "weights": _mib("weights_bytes"),
    "method state": _mib("method_state_bytes"),
    "activations": _mib("activations_bytes"),
    "transient": _mib("transient_bytes"),
}
