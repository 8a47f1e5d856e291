"""Evaluate runs with lm-evaluation-harness, and set its score and ours beside each other, row by row.

python scripts/lm_eval_beside.py --lm-eval VENV/bin/lm_eval RUN [RUN ...] [--adapter]; lm-eval wants an environment of
its own, pip install 'lm-eval[hf]'. Each run is exported with its task, the command of the export's README is run, and a
line of the table of docs/protocols.md is printed. It ends with 1 where a score, a choice or an answer differs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from zobench import export
from zobench.record import predictions, summaries

_COLUMNS = ("task", "model", "tuning", "rows", "metric", "zobench", "lm-eval", "rows that differ", "log-probabilities")


def main() -> int:
    """Print the table; 0 where all agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--lm-eval", required=True, type=Path, help="the command lm_eval of another environment")
    parser.add_argument("--adapter", action="store_true", help="export the adapters alone, not merged")
    options = parser.parse_args()
    print("| " + " | ".join(_COLUMNS) + " |\n|" + "---|" * len(_COLUMNS), flush=True)
    agree = True
    for run in options.runs:
        with TemporaryDirectory() as there:
            folder = Path(there) / "exported"
            with redirect_stdout(sys.stderr):
                if export.main([str(run), str(folder), "--lm-eval", *(["--adapter"] * options.adapter)]):
                    return 1
            harness = _evaluated(folder, options.lm_eval.resolve())
        line, same = _compared(run, *harness, adapter=options.adapter)
        print("| " + " | ".join(line) + " |", flush=True)
        agree &= same
    return 0 if agree else 1


def _evaluated(folder: Path, lm_eval: Path) -> tuple[dict[str, float], list[dict]]:
    """The harness's results, and what it says of each row."""
    readme = (folder / "lm-eval" / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```bash\n(.*?)^```", readme, re.S | re.M)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    env.pop("PYTHONPATH", None)
    ended = subprocess.run(
        ["bash", "-c", command.replace("lm_eval", str(lm_eval), 1)],
        cwd=folder, env=env, capture_output=True, text=True,
    )  # fmt: skip
    if ended.returncode:
        sys.exit(ended.stderr[-2000:])
    (results,) = (folder / "lm-eval" / "results").rglob("results_*.json")
    (samples,) = (folder / "lm-eval" / "results").rglob("samples_*.jsonl")
    (values,) = json.loads(results.read_text(encoding="utf-8"))["results"].values()
    lines = samples.read_text(encoding="utf-8").split("\n")
    return values, [json.loads(line) for line in lines if line]


def _compared(run: Path, values: dict[str, float], rows: list[dict], *, adapter: bool) -> tuple[list[str], bool]:
    """A line of the table, and whether all agrees."""
    row = summaries.read(run)
    ours = {each["index"]: each for each in predictions.read(run, "test")}
    assert sorted(ours) == sorted(each["doc"]["index"] for each in rows)
    differ, furthest = 0, 0.0
    for each in rows:
        doc, mine = each["doc"], ours[each["doc"]["index"]]
        if "answers" in doc:
            text = each["filtered_resps"][0].partition("\n")[0].strip()
            differ += text != mine["prediction"] or abs(each[row["metric"]] - mine["score"]) > 1e-12
            continue
        sums = [float(value) for value, _ in each["filtered_resps"]]
        before = sums.pop() if len(sums) > len(doc["lengths"]) else 0.0
        scores = [(value - before) / length for value, length in zip(sums, doc["lengths"], strict=True)]
        differ += scores.index(max(scores)) != int(mine["prediction"])
        furthest = max([furthest, *(abs(a - b) for a, b in zip(scores, mine["scores"], strict=True))])
    theirs = values[f"{row['metric']},none"]
    tuning = f"{row['tuning']}{', the adapter' if adapter else ''}"
    apart = "-" if "answers" in rows[0]["doc"] else f"{furthest:.0e}"
    numbers = [f"{row['test_metric']:.4f}", f"{theirs:.4f}", str(differ), apart]
    line = [row["task"], row["model"], tuning, str(len(rows)), row["metric"], *numbers]
    return line, differ == 0 and abs(theirs - row["test_metric"]) < 1e-9


if __name__ == "__main__":
    sys.exit(main())
