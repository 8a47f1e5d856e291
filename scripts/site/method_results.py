"""What was proven, measured and published of a method, as parts of its page."""

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path

from prose import markdown, table
from repository import ROOT

DOCS = ROOT / "docs"
PUBLISHED = ROOT / "zobench" / "report" / "papers" / "published"
#: pages with a table of all methods → what it is about
TABLES = {"methods-table.md": "Costs and estimates", "first-run.md": "A first run of all methods"}
#: columns of a comparison's scores.csv → how a page calls them
SCORES = {
    "stage": "ruleset", "workload": "workload", "entry": "entry", "test_metric": "test metric", "delta": "less MeZO's",
}  # fmt: skip


def proven(title: str, module: str) -> str:
    """The part of docs/methods.md whose heading names the method, or else the test of its module."""
    parts = _parts((DOCS / "methods.md").read_text(encoding="utf-8"))
    test = f"/test_{module.rpartition('.')[2]}.py`"
    named = [head for head in parts if title in re.split(r", | and ", head.partition(" (`")[0])]
    for head in named or [head for head in parts if test in head]:
        tests = head.partition(" (")[2].rstrip(")")
        said = f"By {tests}; all methods: [what is proven](../docs/methods.md)."
        return f"## What is proven\n\n{said}\n\n{_from_docs(parts[head])}"
    return ""


def measured(method: str, docs: Path = DOCS) -> str:
    """The method's lines of the pages with a table of all, and of a comparison's scores where docs/ has them."""
    parts = []
    for page, about in TABLES.items():
        if line := _line(docs / page, method):
            parts.append(f"### {about}\n\nFrom [{page}](../docs/{page}), which says how.\n\n{_upright(line)}")
    parts += [_scores(path, docs, method) for path in sorted(docs.rglob("scores.csv"))]
    text = "\n\n".join(filter(None, parts))
    return f"## What was measured\n\n{text}" if text else ""


def published(method: str) -> str:
    """How many numbers of which papers the registry has of the method, and what sets runs beside them."""
    rows = [row for path in sorted(PUBLISHED.glob("*.csv")) for row in _rows(path) if row["method"] == method]
    if not rows:
        return ""
    papers = Counter(row["paper"] for row in rows)
    lines = [[markdown(_source(paper)), str(count)] for paper, count in papers.most_common()]
    numbers = table(("source", "numbers"), *lines)
    command = f"python -m zobench.report runs/ --where method={method} --beside"
    said = "Set your runs beside them ([published](../docs/published.md)):"
    return f"## Published numbers\n\n{numbers}\n\n{said}\n\n```bash\n{command}\n```"


def _parts(text: str) -> dict[str, str]:
    """Heading of the second rank → what stands below it."""
    heads_and_texts = re.split(r"^## (.+)\n", text, flags=re.M)[1:]
    return {head: body.strip() for head, body in zip(heads_and_texts[::2], heads_and_texts[1::2], strict=True)}


def _from_docs(text: str) -> str:
    """A text of docs/ with its links to other files as they are from a generated page."""
    return re.sub(r"\]\((?!https?://|#|\.\./)", "](../docs/", text)


@cache
def _table(path: Path) -> list[dict[str, str]]:
    """The lines of the page's first table with a column ``method``."""
    rows = [_cells(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    start = next((at for at, row in enumerate(rows) if row[0] == "method"), len(rows))
    return [dict(zip(rows[start], row, strict=True)) for row in rows[start + 2 :] if len(row) == len(rows[start])]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _line(path: Path, method: str) -> dict[str, str] | None:
    return next((row for row in _table(path) if row["method"] == method), None)


def _upright(line: dict[str, str]) -> str:
    """A line of a table as a table of its own, a column a line."""
    return table(("measured", "value"), *((key, value) for key, value in line.items() if key != "method" and value))


@cache
def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _scores(path: Path, docs: Path, method: str) -> str:
    """The entries of the method in a comparison, its ablations included."""
    rows = [row for row in _rows(path) if method in (row["entry"], row["of"])]
    lines = [[_number(row[column]) for column in SCORES] for row in rows]
    folder = f"../docs/{path.parent.relative_to(docs).as_posix()}"
    said = f"From [the comparison]({folder}/comparison.md); all digits: [{path.name}]({folder}/{path.name})."
    return f"### In the comparison\n\n{said}\n\n{table(list(SCORES.values()), *lines)}" if rows else ""


def _number(cell: str) -> str:
    try:
        return f"{float(cell):.3f}"
    except ValueError:
        return cell or "-"


def _source(paper: str) -> str:
    """A paper as the registry names it, by number or address, so that it becomes a link."""
    return f"arXiv:{paper}" if re.fullmatch(r"\d{4}\.\d{4,5}", paper) else f"[{paper}](https://{paper})"
