"""Measure every family of tests/helpers/families.py and write the table of docs/models.md anew; about a minute.

python scripts/record_models.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import matrix  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
START = "<!-- scripts/record_models.py writes from here to the end -->\n"


def table() -> str:
    """The table, with the versions it was measured with."""
    import torch
    import transformers

    columns = ["family", "attention", "padding", *matrix.COLUMNS]
    head = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}, fp32 on a CPU."
    return "\n".join([versions, "", *head, *matrix.lines(), ""])


if __name__ == "__main__":
    words = PAGE.read_text(encoding="utf-8").partition(START)[0]
    PAGE.write_text(f"{words}{START}\n{table()}", encoding="utf-8")
