"""What the lens says of entries of a comparison, at the settings that they were scored with.

    python scripts/lens_of_comparison.py RUNS --workload sst2-tiny-opt --only mezo,agzo,hizoo --out OUT data.dir=DIR ...

Each entry's scored run of one seed is made again with the lens, which does not change it. The table has the lens's
efficiency, gain and cosine, means over looks along the run, beside the mean test metric of all scored seeds. A run
that is in OUT is not made again.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from zobench.errors import UserError, complain  # noqa: E402
from zobench.report import curves, load  # noqa: E402
from zobench.rules import load as load_rules  # noqa: E402
from zobench.rules.records import Held, Records  # noqa: E402
from zobench.system.markdown import pipe_table  # noqa: E402

MEASURES = ("efficiency", "gain", "cosine")


def looked_at(held: Held, asked: argparse.Namespace) -> Mapping[str, str | float]:
    """The line of an entry."""
    scored = held.scored.get(asked.ruleset, {})
    run = scored.get(asked.seed)
    if run is None:
        raise UserError(f"{held.entry.name}: no run of {asked.ruleset} with seed {asked.seed}")
    every = max(1, run.row["steps"] // asked.looks)
    every -= 1 - every % 2 if every > 1 else 0  # an even one would always meet a method with a period of two alike
    words = [f"{key}={value}" for key, value in held.words[str(run.place)].items()]
    words += [*asked.inputs, f"lens.every={every}", f"lens.draws={asked.draws}"]
    runs = asked.out / held.entry.name
    done = subprocess.run([sys.executable, "-m", "zobench", *words, f"runs_dir={runs}"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{held.entry.name}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    seen = curves(load(runs))
    seen = seen[seen["step"] > 0]
    line: dict[str, str | float] = {"entry": held.entry.name}
    line["test"] = mean(each.row["test_metric"] for each in scored.values())
    line["passes"] = run.row["forwards"] / run.row["steps"]
    for name in MEASURES:
        found = seen[f"lens/{name}"].dropna().tolist()
        line[name] = mean(found)
        line[f"{name}_error"] = stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return line


def cells(line: Mapping[str, str | float]) -> list[str]:
    """A line of the table."""
    measured = [f"{line[name]:.3g} ± {line[f'{name}_error']:.1g}" for name in MEASURES]
    return [str(line["entry"]), f"{line['test']:.3f}", f"{line['passes']:.1f}", *measured]


def main() -> int:
    """Make the runs that are lacking, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", metavar="RUNS")
    parser.add_argument("inputs", nargs="*", metavar="key=value", help="what the workload asks for")
    parser.add_argument("--workload", required=True)
    parser.add_argument("--only", required=True, metavar="ENTRY,..")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ruleset", default="tuned")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--looks", type=int, default=8)
    parser.add_argument("--draws", type=int, default=64)
    asked = parser.parse_intermixed_args()
    try:
        rules = load_rules("v1")
        names = [each.name for each in rules.chosen("entry", asked.only)]
        held = {
            each.entry.name: each for each in Records(rules, [asked.runs]).held if each.workload.name == asked.workload
        }
        lines = [looked_at(held[name], asked) for name in names if name in held]
    except UserError as error:
        return complain(error, "lens_of_comparison")
    lines.sort(key=lambda line: -float(line["test"]))
    print(pipe_table([["entry", "test metric", "passes a step", *MEASURES], *map(cells, lines)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
