"""Measurements as Markdown tables."""

from collections.abc import Callable, Sequence
from typing import Any

from zobench.system.markdown import pipe_table

Row = dict[str, Any]
Cell = Callable[[Row], str]


def timing(rows: Sequence[Row]) -> str:
    """Tabulate times: ratios to two trimmed forwards, their quartiles, and what they are made of.

    Args:
        rows: from ``timing.rows``, one a method; with the official code's times, if they were measured.
    """
    hidden = set() if "official_over_this" in rows[0] else _BESIDE_OFFICIAL
    columns = {header: cell for header, cell in _TIMES.items() if header not in hidden}
    return pipe_table([[*columns], *([cell(row) for cell in columns.values()] for row in rows)])


def memory(rows: Sequence[Row]) -> str:
    """Tabulate peak memory in MiB, and what it is made of.

    Args:
        rows: from ``memory.rows``, one a method.
    """
    return pipe_table([[*_PEAKS], *([cell(row) for cell in _PEAKS.values()] for row in rows)])


def _mib(part: str) -> Cell:
    return lambda row: f"{row[part] / 2**20:.1f}"


_TIMES: dict[str, Cell] = {
    "": lambda row: row["name"],
    "fed": lambda row: row["fed"],
    "ratio": lambda row: f"{row['ratio']['median']:.3f}",
    "quartiles": lambda row: f"{row['ratio']['q1']:.3f} – {row['ratio']['q3']:.3f}",
    "forwards": lambda row: str(row["forwards"]),
    "ratio to as many": lambda row: f"{row['ratio_to_as_many_forwards']['median']:.3f}",
    "plain step / this": lambda row: f"{row['plain_over_this']['median']:.2f}",
    "official step / this": lambda row: f"{row['official_over_this']['median']:.2f}",
    "seconds": lambda row: f"{row['seconds']['median']:.4g}",
    "outside per forward, ms": lambda row: f"{row['outside_ms_per_forward']:.3g}",
    "passes": lambda row: str(row["passes"] or "-"),
    "ns per weight and pass": lambda row: (
        "-" if row["ns_per_weight_pass"] is None else f"{row['ns_per_weight_pass']:.2f}"
    ),
}
#: columns that say something only beside the official step
_BESIDE_OFFICIAL = {"fed", "official step / this"}
_PEAKS: dict[str, Cell] = {
    "": lambda row: row["name"],
    "ratio": lambda row: f"{row['ratio']:.3f}",
    "over inference + state": lambda row: f"{row['over_declared']:.3f}",
    "peak, MiB": _mib("peak_bytes"),
    "weights": _mib("weights_bytes"),
    "method state": _mib("method_state_bytes"),
    "activations": _mib("activations_bytes"),
    "transient": _mib("transient_bytes"),
}
