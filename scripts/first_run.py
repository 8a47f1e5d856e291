"""The first run of all methods: which beat MeZO at equal forward passes, and which at equal seconds.

    python scripts/first_run.py --data DIR --model FOLDER --out FOLDER          # FOLDER of scripts/pretrain_tiny.py
    python scripts/first_run.py ... --processes 2 --only method=mezo,loren

Three sweeps, each of which goes on where it was stopped:

1. the grid ``first``: as many settings of every method's search space for each, drawn alike, seed 0;
2. ``chosen.yaml``: the setting with the lowest dev loss, with seeds 0, 1 and 2, at equal forward passes;
3. ``seconds.yaml``: the other methods again, with as many steps as take MeZO's CPU seconds of training, to the end of
   their schedule. A method's seconds per forward pass are the mean over all of its runs before, refreshes and updates
   included; evaluations are left out.

The two grids are written beside the runs; a line that is there stays, so that methods can be added. ``first-run.md``
and ``first-run.csv`` have the table. A method beats MeZO where its mean test accuracy is higher; ``surely``, if paired
tests over seeds and over test examples both say so (p below 0.05).
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zobench.report import load, predictions
from zobench.report.compare.stats import ALPHA, over_examples, paired, resolution_of
from zobench.sweep import grids
from zobench.sweep.trials import words_of
from zobench.system.markdown import pipe_table

REFERENCE, SEEDS = "mezo", "seed=0,1,2"
Words = dict[str, str]


def text(words: Words) -> str:
    return " ".join(f"{key}={value}" for key, value in words.items())


def runs_of(frame: pd.DataFrame, words: Words) -> pd.DataFrame:
    """The finished runs of a line: of its method, with its settings and its budget, one a seed."""
    kept = frame["method"].eq(words["method"])
    for key, value in words.items():
        if key.startswith("method."):
            kept &= frame[key].map(lambda found, value=value: _same(found, value)) if key in frame else False
    return frame[kept].sort_values("seed")


def _same(found: Any, value: str) -> bool:
    try:
        return abs(float(found) - float(value)) <= 1e-9 * abs(float(value))
    except (TypeError, ValueError):
        return str(found) == value


def finished(runs: Path) -> pd.DataFrame:
    frame = load(runs)
    frame = frame[frame["state"].eq("finished")].copy()
    frame["cost"] = frame["cpu_hours"] * 3600 / frame["forwards"]
    return frame


def chosen(trials: Sequence[Words], frame: pd.DataFrame) -> dict[str, Words]:
    """Method → its trial with the lowest dev loss, at the weights that the run selects; without its seed."""
    found: dict[str, tuple[float, Words]] = {}
    for words in trials:
        losses = runs_of(frame, words).query("seed == 0")["dev/loss"]
        if len(losses):
            best = found.get(words["method"])
            if best is None or losses.iloc[0] < best[0]:
                found[words["method"]] = losses.iloc[0], {k: v for k, v in words.items() if k != "seed"}
    return {method: words for method, (_, words) in found.items()}


def at_equal_seconds(best: dict[str, Words], frame: pd.DataFrame) -> dict[str, Words]:
    """The chosen settings of the other methods, in as many steps as take the reference's seconds of training."""
    costs = frame.groupby("method")["cost"].mean()
    seconds = runs_of(frame, best[REFERENCE])["forwards"].iloc[0] * costs[REFERENCE]
    found = {}
    for method, words in best.items():
        if method != REFERENCE:
            own = runs_of(frame, words).iloc[0]
            steps = seconds / (costs[method] * own["forwards"] / own["steps"])
            found[method] = words | {"forwards": "null", "steps": str(max(1, round(steps)))}
    return found


def write(path: Path, said: str, lines: dict[str, Words]) -> dict[str, Words]:
    """Add the lines of methods that a grid does not have yet, and give all."""
    held = grids.find(str(path)).lines if path.is_file() else ()
    there = {words["method"]: words for words in map(words_of, held)}
    lines = {method: there.get(method, words) for method, words in lines.items()}
    content = {"common": SEEDS, "lines": [text(words) for words in lines.values()]}
    path.write_text(f"# {said}\n{yaml.safe_dump(content, sort_keys=False, width=1000)}", encoding="utf-8")
    return lines


def sweep(grid: str, common: Sequence[str], only: Sequence[str], processes: int) -> None:
    """Run what is left of a grid by several processes that share its cells; cells that fail are its own report's."""
    command = [sys.executable, "-m", "zobench.sweep", grid, *common, *(x for each in only for x in ("--only", each))]
    started = [subprocess.Popen(command) for _ in range(processes)]
    codes = [process.wait() for process in started]
    if set(codes) - {0, 1}:
        raise SystemExit(f"first_run: the sweep {grid} ended with code {max(codes)}; the same command goes on")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder with sst2/train.parquet and validation.parquet")
    parser.add_argument("--model", required=True, help="folder that scripts/pretrain_tiny.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs, grids and the table")
    parser.add_argument("--processes", type=int, default=1, help="how many share the cells")
    parser.add_argument("--only", action="append", default=[], metavar="method=NAME", help="these methods")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of every run, such as forwards=200"
    )
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    runs, timed = asked.out / "runs", asked.out / "runs-at-equal-seconds"
    inputs = [f"data.dir={asked.data}", f"model.dir={asked.model}"]
    common = [*inputs, f"runs_dir={runs}", *asked.set]
    sweep("first", common, asked.only, asked.processes)
    trials = [words_of(line) for line in grids.find("first").arguments(asked.set)]
    best = write(asked.out / "chosen.yaml", "The best trial of each method", chosen(trials, finished(runs)))
    sweep(str(asked.out / "chosen.yaml"), common, asked.only, asked.processes)
    equal = write(asked.out / "seconds.yaml", "The same at equal seconds", at_equal_seconds(best, finished(runs)))
    if equal:
        sweep(str(asked.out / "seconds.yaml"), [*inputs, f"runs_dir={timed}"], asked.only, asked.processes)
    table = tabulate(finished(runs), finished(timed) if equal else None, trials, best, equal)
    lost = sorted({words["method"] for words in trials} - set(best)) if not asked.only else []
    shown = markdown(table) + (f"\n\nNo trial finished: {', '.join(lost)}." if lost else "")
    table.to_csv(asked.out / "first-run.csv", index=False)
    (asked.out / "first-run.md").write_text(f"{shown}\n", encoding="utf-8")
    print(shown)


def tabulate(
    frame: pd.DataFrame,
    timed: pd.DataFrame | None,
    trials: Sequence[Words],
    best: dict[str, Words],
    equal: dict[str, Words],
) -> pd.DataFrame:
    """A row a method: what was chosen, its cost, and test results at both budgets beside the reference's."""
    lines = []
    reference = runs_of(frame, best[REFERENCE])
    for method, words in best.items():
        own = runs_of(frame, words)
        in_time = own if timed is None or method not in equal else runs_of(timed, equal[method])
        tried = [trial for trial in trials if trial["method"] == method]
        row: dict[str, Any] = {
            "method": method,
            "setting": " ".join(words_text(words)),
            "rate": _rank(words, tried),
            "trials finished": sum(runs_of(frame, trial)["seed"].eq(0).any() for trial in tried),
            "seconds per forward": own["cost"].mean() / reference["cost"].mean(),
            **_result("forwards", own, reference),
            **_result("seconds", in_time, reference),
        }
        lines.append(row)
    return pd.DataFrame(lines).sort_values("forwards: accuracy", ascending=False)


def words_text(words: Words) -> list[str]:
    return [f"{key.removeprefix('method.')}={value}" for key, value in words.items() if key.startswith("method.")]


def _rank(words: Words, tried: Sequence[Words]) -> str:
    """The place of the chosen learning rate among those that were tried: ``2 of 5``."""
    rates = sorted({float(trial["method.lr"]) for trial in tried})
    return f"{rates.index(float(words['method.lr'])) + 1} of {len(rates)}"


def _result(name: str, own: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    both = own.merge(reference, on="seed", suffixes=("", "_reference"))
    accuracy = paired(both["test_metric"], both["test_metric_reference"], resolution_of(both["test/n"].min()))
    loss = paired(both["test/loss"], both["test/loss_reference"])
    answers = [predictions(runs).groupby("index")["score"].mean() for runs in (own, reference)]
    examples = over_examples(*(part.loc[answers[0].index.intersection(answers[1].index)] for part in answers))
    beats = "no" if accuracy.mean <= 0 else "surely" if max(accuracy.p, examples) < ALPHA else "yes"
    row = {
        "forward passes": own["forwards"].mean(),
        "accuracy": own["test_metric"].mean(),
        "std": own["test_metric"].std(),
        "loss": own["test/loss"].mean(),
        "Δ accuracy": accuracy.mean,
        "low": accuracy.low,
        "high": accuracy.high,
        "p seeds": accuracy.p,
        "p examples": examples,
        "Δ loss": loss.mean,
        "beats": "" if own["method"].iloc[0] == REFERENCE else beats,
    }
    return {f"{name}: {key}": value for key, value in row.items()}


def markdown(table: pd.DataFrame) -> str:
    """The table in short, at equal forward passes and at equal seconds."""
    header = ["method", "setting", "rate", "seconds per forward"]
    rows = [
        [str(row["method"]), row["setting"], row["rate"], f"{row['seconds per forward']:.2f}"]
        for _, row in table.iterrows()
    ]
    for name in ("forwards", "seconds"):
        header += [f"accuracy, equal {name}", "loss", "Δ accuracy", "beats MeZO"]
        for cells, (_, row) in zip(rows, table.iterrows(), strict=True):
            get = lambda key, row=row, name=name: row[f"{name}: {key}"]  # noqa: E731
            interval = f"{get('Δ accuracy'):+.3f} [{get('low'):+.3f}, {get('high'):+.3f}]"
            cells += [f"{get('accuracy'):.3f} ± {get('std'):.3f}", f"{get('loss'):.3f}", interval, get("beats")]
    return pipe_table([header, *rows])


if __name__ == "__main__":
    main()
