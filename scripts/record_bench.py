"""Write the tables of docs/performance.md anew from files of ``python -m zobench.bench --json``.

    python -m zobench.bench --threads 2 --repeats 7 --json fp32.json
    python -m zobench.bench --threads 2 --repeats 7 --dtype bfloat16 --json bf16.json
    python scripts/record_bench.py fp32.json bf16.json --before old.json

The page gets a table for each measured shape. ``--before`` names files of an earlier version of zobench, measured on
the same machine: a table of the same model, dtype, tuning, shape, device and threads gets their ratios as a column.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from zobench.bench import table  # noqa: E402
from zobench.errors import ConfigError  # noqa: E402
from zobench.system.markdown import between_marks  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
START, END = "<!-- measured, by scripts/record_bench.py -->\n", "<!-- end of what was measured -->\n"
#: what is the same: model, dtype, tuning, shape, device, threads
Key = tuple[str, str, str, str, str, int]


def measured(files: Sequence[Path]) -> Iterator[tuple[Key, dict[str, Any], dict[str, Any]]]:
    """What was measured, what the file says of it all, and its result."""
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        asked = found["asked"]
        for result in found["results"]:
            if "time" not in result:
                raise SystemExit(f"record_bench: {file} has no times; expected a bench without --memory")
            what = (asked["model"], asked["dtype"], asked.get("tuning", "full"), result["shape"])
            yield (*what, found["environment"]["device_name"], found["environment"]["threads"]), found, result


def tables(files: Sequence[Path], before: Sequence[Path] = ()) -> list[str]:
    """Each measured shape as a table with a line ahead that names model, machine and versions."""
    old = {
        key: {row["name"]: row["ratio_to_as_many_forwards"]["median"] for row in result["time"]}
        for key, _, result in measured(before)
    }
    texts = []
    for key, found, result in measured(files):
        model, dtype, tuning, shape, device, threads = key
        ratios = old.get(key, {})
        rows = [row | ({"before": ratios[row["name"]]} if row["name"] in ratios else {}) for row in result["time"]]
        trained = "all weights" if tuning == "full" else f"`{tuning}`"
        what = f"**{model}, {dtype}, {shape} (batch x tokens), {trained}.**"
        where = f"{device}, {threads} threads, torch {found['environment']['versions']['torch']}"
        texts.append(f"{what} {where}; {found['asked']['repeats']} repeats.\n\n{table.timing(rows)}\n")
    return texts


def write(page: Path, text: str) -> None:
    """Put a text between a page's marks."""
    try:
        page.write_text(between_marks(page.read_text(encoding="utf-8"), (START, END), text, page), encoding="utf-8")
    except ConfigError:
        raise SystemExit(f"record_bench: {page} lacks the marks between which the tables go") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--before", nargs="+", type=Path, default=[])
    asked = parser.parse_args()
    found = tables(asked.files, asked.before)
    legend = table.LEGEND + ("; before: the ratio of an earlier version" if asked.before else "")
    write(PAGE, "\n".join([*found, f"{legend}.\n"]))
