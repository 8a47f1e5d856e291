"""Results as text: Markdown tables that read well in a terminal."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def timing(rows: Sequence[Row]) -> str:
    """Ratios to two trimmed forwards, their quartiles, and what they are made of."""
    header = [
        "", "ratio", "quartiles", "forwards", "ratio to as many", "plain step / this", "seconds", "passes",
        "ns per weight and pass",
    ]  # fmt: skip
    return _markdown([header, *map(_timed, rows)])


def _timed(row: Row) -> list[str]:
    ns = row["ns_per_weight_pass"]
    return [
        row["name"],
        f"{row['ratio']['median']:.3f}",
        f"{row['ratio']['q1']:.3f} – {row['ratio']['q3']:.3f}",
        str(row["forwards"]),
        f"{row['ratio_to_as_many_forwards']['median']:.3f}",
        f"{row['plain_over_this']['median']:.2f}",
        f"{row['seconds']['median']:.4g}",
        str(row["passes"] or "-"),
        "-" if ns is None else f"{ns:.2f}",
    ]


def memory(rows: Sequence[Row]) -> str:
    """Peaks in MiB, and what they are made of."""
    header = ["", "ratio", "peak, MiB", "weights", "method state", "rest"]
    parts = ("peak_bytes", "weights_bytes", "method_state_bytes", "rest_bytes")
    cells = [[row["name"], f"{row['ratio']:.3f}", *(f"{row[part] / 2**20:.1f}" for part in parts)] for row in rows]
    return _markdown([header, *cells])


def _markdown(cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    lines = [[pad(cell, n) for pad, cell, n in zip(pads, row, widths, strict=True)] for row in cells]
    lines.insert(1, ["-" * widths[0], *("-" * (n - 1) + ":" for n in widths[1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
