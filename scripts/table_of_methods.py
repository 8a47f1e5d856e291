"""One table of all methods: what a step takes, and what its estimates are worth, per forward pass and per second.

    python -m zobench.bench --methods all --json bench.json
    python scripts/table_of_methods.py --data DIR --model FOLDER --out FOLDER --bench bench.json

FOLDER of ``--model`` is what scripts/pretrain_tiny.py wrote. Each method is measured on three subjects, each time in a
process of its own, in some two minutes on one core for all three; a line of JSON in ``OUT/measured.jsonl`` holds what
was found, and what has a line is not measured again. Then docs/methods-table.md and docs/methods-table.json are
written.

- ``shape``: three steps on OPT-125M's shape with random weights in fp32; the bytes that the method then holds.
- ``tiny``: all weights of the tiny pretrained model, SST-2, batches of 16; ``smollm2``: the MLP of SmolLM2's last
  layer, batches of 64. A run of 600 forward passes, looked at by the lens at about six points after its start. They
  lie at multiples of an odd number of steps, so that those at which a method renews something have no more than their
  share.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from zobench.atomic import write_atomically
from zobench.bench.spec import Shape, Spec
from zobench.config.folders import conf_dir
from zobench.rules import Workload, load
from zobench.rules import settings as rules
from zobench.sweep import trials
from zobench.system.markdown import pipe_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "methods-table.md"
REFERENCE, SHAPE = "mezo", "shape"
MODEL, STEPS = Spec("opt-125m-random", "float32", "cpu", 1, (Shape(2, 8),), ()), 3
#: factor on learning rates where the length of a step does not hang on the loss's scale
STEP_RATES = 10
#: evaluations play no part
COMMON = (
    "threads=1 wandb=disabled keep_weights=false seed=0 eval_every=1000000 "
    "task.splits.clean.dev=50 task.splits.clean.test=50"
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A model and what trains in it.

    Attributes:
        says: as the table's head has it.
        words: overrides of its runs.
        forwards: budget of a run.
        looks, draws: of the lens.
        rates: factor on learning rates of methods whose steps follow the loss's scale.
        small: whether its matrices are small, and its model a folder; entries of the rules set ranks there.
    """

    says: str
    words: str
    forwards: int
    looks: int
    draws: int
    rates: float
    small: bool


SUBJECTS = {
    "tiny": Subject("Tiny pretrained, all weights", "experiment=compare_tiny", 600, 6, 32, 100, True),
    "smollm2": Subject("SmolLM2, last MLP", "experiment=compare_smollm2", 600, 6, 16, 1000, False),
}


def settings(method: str, subject: Subject) -> list[str]:
    """The overrides of a method's run: the middle of its learning rates, and ranks for small matrices."""
    entry = load("v1").entries[method]
    sizes = {"rates": subject.rates, "step_rates": STEP_RATES, "small_matrices": subject.small}
    workload = Workload(subject.says, subject.words, subject.forwards, **sizes)
    times = rules.factor(entry, workload) / entry.times
    rate = float(trials.draw(dict(entry.space), 0, times)[trials.LR])
    fixed = rules.imposed(entry, workload) if subject.small else {}
    return [f"method={method}", f"method.lr={rate:.3g}", *(f"{key}={value}" for key, value in fixed.items())]


def measure(method: str, name: str, asked: argparse.Namespace) -> Row:
    """What is measured of a method on a subject; meant to be called in a fresh process."""
    return _shape(method) if name == SHAPE else _run(method, SUBJECTS[name], asked)


def _shape(method: str) -> Row:
    import torch

    from zobench.bench import models, subjects

    torch.set_num_threads(1)
    tuned = models.load(MODEL.model, MODEL.dtype, torch.device("cpu"))
    loss, _ = subjects.losses(tuned, MODEL.shapes[0])
    made = subjects.build_method(method, tuned.model.named_parameters())
    made.oracle.further = lambda first, count: loss
    for _ in range(STEPS):
        made.step(loss)
    made.total_steps = 1000
    each = [made.forwards_at(step) for step in range(made.total_steps)]
    return {"forwards": mean(each), "least": min(each), "most": max(each), "state_bytes": made.state_bytes()}


def _run(method: str, subject: Subject, asked: argparse.Namespace) -> Row:
    """A run of the product with the lens; it is in ``OUT/runs``, and goes on where it was stopped."""
    import torch

    from zobench.bench.subjects import build_method
    from zobench.report import curves
    from zobench.report import load as load_runs
    from zobench.run.budget import spending

    own = settings(method, subject)
    text = "+".join(word.removeprefix("method.") for word in own[2:])
    stand_in = build_method(f"{method}:{text}" if text else method, [("weight", torch.zeros(64, 64))])
    every = max(1, spending(None, subject.forwards, stand_in).steps // subject.looks)
    every -= 1 - every % 2 if every > 1 else 0
    words = [*subject.words.split(), *COMMON.split(), *own, f"forwards={subject.forwards}"]
    words += [f"lens.every={every}", f"lens.draws={subject.draws}", f"data.dir={asked.data}"]
    words += [f"model.dir={asked.model}"] if subject.small else []
    runs = asked.out / "runs" / method / subject.says.partition(",")[0].replace(" ", "-")
    done = subprocess.run([sys.executable, "-m", "zobench", *words, f"runs_dir={runs}"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    frame = load_runs(runs)
    row, seen = frame.iloc[-1], curves(frame)
    if row["state"] != "finished":
        raise SystemExit(f"{row['state']}: {row['reason']}")
    looks = seen.loc[seen["step"] > 0, "lens/efficiency"].dropna().tolist()
    gains = seen.loc[seen["step"] > 0, "lens/gain"].dropna().tolist()
    return {
        "settings": own[1:],
        "forwards": row["forwards"] / row["steps"],
        "seconds_per_forward": row["cpu_hours"] * 3600 / row["forwards"],
        "evaluation": row["evaluation"],
        "looks": len(looks),
        "efficiency": mean(looks),
        "efficiency_stderr": stdev(looks) / math.sqrt(len(looks)) if len(looks) > 1 else None,
        "gain": mean(gains),
        "precision_error": seen["lens/precision_error"].dropna().max(),
        "train_loss": float(seen["train/loss"].dropna().iloc[-1]),
    }


def methods() -> list[str]:
    """What conf/method lists, less those that make no zeroth-order estimates; MeZO first."""
    from zobench.config.instantiate import locate
    from zobench.config.options import load_yaml

    names = []
    for path in sorted((conf_dir() / "method").glob("*.yaml")):
        made = locate(load_yaml(path)["_target_"], "method")
        if made.trains and not made.backwards_per_step:
            names.append(path.stem)
    return sorted(names, key=lambda name: (name != REFERENCE, name))


def measured(path: Path) -> dict[tuple[str, str], Row]:
    """(method, subject) → what was found, of the file's lines; of several the last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(row["method"], row["subject"]): row for row in map(json.loads, lines)}


def work_off(asked: argparse.Namespace, path: Path) -> None:
    """Measure what has no line yet; what fails is told, has none, and is tried again the next time."""
    there = measured(path)
    chosen = asked.methods.split(",") if asked.methods else methods()
    for method in chosen:
        for name in (SHAPE, *SUBJECTS):
            if (method, name) in there:
                continue
            given = ["--data", asked.data, "--model", asked.model, "--out", str(asked.out), "--one", method, name]
            done = subprocess.run([sys.executable, __file__, *given], capture_output=True, text=True)
            if done.returncode:
                print(f"{method}, {name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr, flush=True)
                continue
            line = json.dumps({"method": method, "subject": name, **json.loads(done.stdout.splitlines()[-1])})
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            print(line, flush=True)


def table(found: dict[tuple[str, str], Row], bench: Path | None) -> list[Row]:
    """A row a method, of all that has been measured."""
    costs: dict[str, float] = {}
    if bench is not None:
        times = json.loads(bench.read_text(encoding="utf-8"))["results"][0]["time"]
        costs = {row["name"]: row["ratio_to_as_many_forwards"]["median"] for row in times}
    rows = []
    for method in dict.fromkeys(method for method, _ in found):
        row: Row = {"method": method, **found.get((method, SHAPE), {}), "step_cost": costs.get(method)}
        for name in SUBJECTS:
            own, unit = found.get((method, name)), found.get((REFERENCE, name))
            if own:
                row[name] = dict(own)
            if own and unit:
                cost = own["seconds_per_forward"] / unit["seconds_per_forward"]
                row[name] |= {"cost": cost, "per_second": own["efficiency"] / cost}
                row[name]["per_second_stderr"] = (own["efficiency_stderr"] or math.nan) / cost
        rows.append(row)
    return rows


def markdown(rows: Sequence[Row]) -> str:
    header = ["method", "forward passes", "state, OPT-125M", "step cost"]
    header += [f"{of.says}: {what}" for of in SUBJECTS.values() for what in ("per forward pass", "per second")]
    lines = [header]
    for row in rows:
        cells = [row["method"], _passes(row), _bytes(row.get("state_bytes")), _short(row["step_cost"])]
        for name in SUBJECTS:
            own = row.get(name, {})
            cells += [_plus_minus(own, "efficiency"), _plus_minus(own, "per_second")]
        lines.append(cells)
    return pipe_table(lines)


def _passes(row: Row) -> str:
    if "forwards" not in row:
        return "-"
    spread = f", {row['least']} to {row['most']}" if row["least"] != row["most"] else ""
    return f"{row['forwards']:.4g}{spread}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 2**20:,.0f} MiB" if value >= 2**20 else f"{value:,} B"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _plus_minus(own: Row, key: str) -> str:
    error = own.get(f"{key}_stderr")
    return f"{own[key]:.2f} ± {error:.2f}" if key in own and error is not None else _short(own.get(key))


HEAD = """\
# All methods in one table

By `scripts/table_of_methods.py`; [methods-table.json](methods-table.json) has all digits and what else was measured.

- **Forward passes** of a step, averaged over 1,000 steps where steps differ.
- **State**: bytes beyond the weights after three steps on OPT-125M's shape (125 M weights, fp32: 478 MiB).
- **Step cost**: time of a step over that of as many forward passes, OPT-125M's shape, 16 x 64 tokens, all weights,
  fp32, by `python -m zobench.bench`. Of a step between refreshes; [performance.md](performance.md) has the rest of it.
- **Per forward pass**: the lens's efficiency ([lens.md](lens.md)): the largest expected decrease that a forward pass
  buys, in units of MeZO's. Mean over six points of a run of 600 forward passes, ± its standard error over
  them.
- **Per second**: that over the CPU seconds of training per forward pass in the same run, in units of MeZO's run: over
  whole steps, refreshes and updates included, on one thread. The error is that of the efficiency alone.

The runs are on SST-2. {tiny}. {smollm2}.
Learning rates are the middle of each search space, on the scale of the tiny model; other settings are as shipped, but
for ranks that the tiny model's sides of 48 have no room for.{note}

"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder with sst2/train.parquet and validation.parquet")
    parser.add_argument("--model", required=True, help="folder that scripts/pretrain_tiny.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and what was measured")
    parser.add_argument("--methods", help="these, with commas; without it all of conf/method")
    parser.add_argument("--bench", type=Path, help="a file of python -m zobench.bench --json, for the cost of a step")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes; a .json beside it")
    parser.add_argument("--note", default="", help="a sentence for the page: the machine, and what else it did")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SUBJECT"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    asked.out = asked.out.resolve()
    if asked.one:
        print(json.dumps(measure(*asked.one, asked)))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    work_off(asked, asked.out / "measured.jsonl")
    rows = table(measured(asked.out / "measured.jsonl"), asked.bench)
    says = {name: f"{of.says}: {of.draws} draws a point" for name, of in SUBJECTS.items()}
    note = f"\n\n{asked.note}" if asked.note else ""
    write_atomically(asked.page, f"{HEAD.format(**says, note=note)}{markdown(rows)}\n")
    write_atomically(asked.page.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
