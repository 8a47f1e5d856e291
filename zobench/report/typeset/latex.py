"""Tables in LaTeX, with the rules of booktabs."""

import re
from collections.abc import Sequence

from zobench.errors import printable
from zobench.report.pictures.colours import colour_of
from zobench.report.typeset.table import Bold, Table

_WIDE = 7  # columns beyond which a table is scaled to the line
_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}", "Δ": r"$\Delta$", "ε": r"$\varepsilon$", "≤": r"$\leq$", "≥": r"$\geq$", "√": r"$\surd$",
    "[": "{[}", "]": "{]}", "§": r"\S{}", "¶": r"\P{}",
}  # fmt: skip
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")
_HEAD = "% needs \\usepackage[T1]{fontenc}, \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage{xcolor}\n"


def latex(tables: Sequence[Table]) -> str:
    """Write a ``table`` environment for each table, to be read with ``\\input``; the notes stand below it."""
    return _HEAD + "\n".join(map(_table, tables))


def escape(cell: str) -> str:
    """Escape text so that pdflatex prints it as it is; a character that it lacks is named by its code.

    >>> print(escape("p_value < 5 %"))
    p\\_value \\textless{} 5 \\%
    """
    return re.sub(r"[^ -~]|[\\&%$#_{}~^<>|\"\[\]]", _sign, _MINUS.sub("−", printable(" ".join(cell.split()))))


def _sign(match: re.Match[str]) -> str:
    sign = match[0]
    if sign in _SIGNS:
        return _SIGNS[sign]
    return sign if "À" <= sign <= "ÿ" else f"(U+{ord(sign):04X})"


def _cell(cell: str) -> str:
    return rf"\textbf{{{escape(cell)}}}" if isinstance(cell, Bold) else escape(cell)


def _table(table: Table) -> str:
    header, *rows = table.cells()
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", _line(header), r"\midrule"]
    marks = map(_mark, table.methods())
    lines += [*(mark + _line(row) for mark, row in zip(marks, rows, strict=True)), r"\bottomrule", r"\end{tabular}"]
    if len(header) > _WIDE:
        lines = [r"\resizebox{\linewidth}{!}{%", *lines[:-1], lines[-1] + "}"]
    notes = [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
    notes += [rf"{escape(note)}.\par" for note in table.notes] + [r"\end{minipage}"]
    caption = [rf"\caption{{{escape(table.title)}}}\smallskip"] if table.title else []
    return "\n".join([r"\begin{table}[ht]", r"\centering", *caption, *lines, *notes, r"\end{table}", ""])


def _mark(method: str) -> str:
    """A square in the colour that a method has in pictures; nothing where a row is of no method."""
    if not method:
        return ""
    return rf"\textcolor[HTML]{{{colour_of(method).lstrip('#')}}}{{\rule{{0.6em}}{{0.6em}}}} "


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"
