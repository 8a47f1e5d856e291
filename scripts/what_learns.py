"""Which tasks can be learned, by which model: AdamW, MeZO and a linear probe beside the untrained model.

    python scripts/what_learns.py DATA TINY OUT [--tasks sst2 subj ...]

DATA holds real rows in the hub's layout, DATA/<task>/train.parquet and validation.parquet; TINY is the folder that
scripts/pretrain_tiny.py wrote. Runs and probes are kept under OUT; what is there already is not done again.
docs/what-learns.md gets the table: the script writes what OUT has after each task.

SmolLM2 trains the MLP of its last layer, the tiny model all of its weights. Of the learning rates, the same for both
methods, the one with the lowest dev loss is shown. The probe is a logistic regression on the last hidden state of the
prompt's last token. The tiny model was pretrained on labelled SST-2 sentences, which other tasks' test files hold too:
a second table has the rows that it did not see.
"""

import argparse
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from pretrain_tiny import corpus

from zobench.config.signature import compose
from zobench.data.files import read
from zobench.objective.encode import Encoder
from zobench.run.build import build_task, build_trained, load_splits, specs
from zobench.run.runner import run
from zobench.system.markdown import pipe_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "what-learns.md"
TASKS = ("sst2", "mr", "cr", "subj", "trec", "sst5", "rte", "cb", "wsc", "wic", "copa", "boolq", "multirc")
#: long prompts and small files, of which fewer rows are taken
LONG = {
    "boolq": (200, 100, 300),
    "multirc": (200, 100, 300),
    "cb": (150, 100, 56),
    "wsc": (454, 100, 104),
    "copa": (300, 100, 100),
}
SIZES = (500, 200, 1000)
#: test rows of SmolLM2, which takes 50 times the tiny model's seconds a row
FEWER = 500
MODELS = {
    "SmolLM2, last MLP": ("model=smollm2", "tuning=last_layers", "tuning.layers=1", "tuning.only=mlp"),
    "tiny, all weights": ("model=tiny-pretrained", "tuning=full"),
}
RATES = (1e-4, 3e-4, 1e-3)
#: tasks of single sentences, by the column that has them, some of which the tiny model may have seen
SENTENCES = {"sst2": "sentence", "mr": "text", "cr": "text", "subj": "text", "trec": "text", "sst5": "text"}
BUDGETS = {"adamw": ("steps=200",), "mezo": ("forwards=2000",)}


def words(task: str, model: str, data: Path, tiny: Path, out: Path) -> list[str]:
    """The overrides that all runs of a task and a model share."""
    train, dev, test = LONG.get(task, SIZES)
    own = [f"model.dir={tiny}"] if model.startswith("tiny") else []
    test = test if own or task == "sst2" else min(test, FEWER)  # its file has no more than 872
    sizes = {"train": train, "dev": dev, "test": test}
    return [
        f"task={task}", *MODELS[model], *own, "data=local", f"data.dir={data}", "wandb=disabled", "batch_size=16",
        f"runs_dir={out / 'runs'}", *(f"task.splits.clean.{part}={size}" for part, size in sizes.items()),
    ]  # fmt: skip


def best(task: str, model: str, method: str, *places: Path) -> dict[str, Any]:
    """The row of the run with the lowest dev loss, of a method's rates."""
    shared = [*words(task, model, *places), f"method={method}", *BUDGETS[method]]
    rows = [run(compose(*shared, f"method.lr={rate}")) for rate in RATES]
    return min(rows, key=lambda row: _number(row.get("dev/loss"), math.inf))


def _number(value: float | None, otherwise: float) -> float:
    return otherwise if value is None or not math.isfinite(value) else value


def probe(task: str, model: str, *places: Path) -> float | None:
    """Test accuracy of a logistic regression on the last hidden state; None for options that differ from row to row."""
    cfg = compose(*words(task, model, *places))
    protocol, spec, tuning = specs(cfg)
    splits = load_splits(cfg, protocol)
    if len({e.options for e in splits.train}) > 1:
        return None
    loaded = build_trained(cfg, torch.device("cpu"), protocol, spec, tuning).loaded
    encoder = Encoder(
        loaded.tokenizer, start=spec.start_id(loaded.tokenizer, protocol.start_token), max_length=spec.max_length
    )
    node: Any = OmegaConf.to_container(cfg.task, resolve=True)
    made = build_task(node)
    features = {}
    for part in ("train", "test"):
        encoded = encoder.encode(made, getattr(splits, part))
        with torch.inference_mode():
            states = [
                loaded.model.base_model(input_ids=torch.tensor([e.rows[0].ids[: -e.rows[0].option_len]]))
                .last_hidden_state[0, -1]
                for e in encoded
            ]  # fmt: skip
        features[part] = torch.stack(states).float(), torch.tensor([e.gold for e in encoded])
    return fitted(len(splits.train[0].options), *features["train"], *features["test"])


def fitted(classes: int, x: torch.Tensor, y: torch.Tensor, x_test: torch.Tensor, y_test: torch.Tensor) -> float:
    """Test accuracy of a logistic regression with a penalty of 1/n on standardised features."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, x_test = (x - mean) / spread, (x_test - mean) / spread
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y) + weight.square().sum() / len(y)
        loss.backward()
        return loss

    search.step(closure)
    return float(((x_test @ weight + bias).argmax(-1) == y_test).float().mean())


def plain(sentence: str) -> str:
    """A sentence by which copies are told: words alone, as data sets differ in case, spaces and punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", sentence.lower()))


@cache
def pretrained_on(data: Path) -> frozenset[str]:
    """The sentences that the tiny model was pretrained on."""
    return frozenset(plain(sentence) for sentence, _ in corpus(data / "sst2" / "train.parquet"))


def unseen(task: str, data: Path, **rows: dict[str, Any]) -> dict[str, Any] | None:
    """Results on the test rows that the tiny model was not pretrained on; None for tasks of other than sentences."""
    if task not in SENTENCES:
        return None
    column = SENTENCES[task]
    texts = [plain(row[column]) for row in read(data / task / "validation.parquet").take((column,))]
    found: dict[str, Any] = {}
    for method, row in rows.items():
        tested = pq.read_table(Path(row["directory"]) / "predictions.parquet").to_pylist()
        tested = [each for each in tested if each["split"] == "test"]
        left = [each for each in tested if texts[each["index"]] not in pretrained_on(data)]
        golds = [each["gold"] for each in left]
        accuracy = sum(each["score"] for each in left) / len(left)
        found |= {
            "seen": len(tested) - len(left), "n": len(left), "majority": max(map(golds.count, golds)) / len(left),
            method: accuracy, f"{method}_stderr": math.sqrt(accuracy * (1 - accuracy) / len(left)),
        }  # fmt: skip
    return found


def line(task: str, model: str, data: Path, tiny: Path, out: Path) -> dict[str, Any]:
    """A line of the table, as plain values."""
    places = (data, tiny, out)
    adamw, mezo = (best(task, model, method, *places) for method in ("adamw", "mezo"))
    return {
        "task": task, "model": model, "train": adamw["train_examples"], "n": adamw["test/n"],
        "majority": adamw["test/majority"], "zero_shot": adamw["zero_shot/test/accuracy"],
        "calibrated": adamw.get("zero_shot/test/accuracy_calibrated"), "probe": probe(task, model, *places),
        **{f"{name}_{key}": row[column] for name, row in (("adamw", adamw), ("mezo", mezo)) for key, column in COLUMNS},
        "cpu_hours": adamw["cpu_hours"] + mezo["cpu_hours"],
        "unseen": unseen(task, data, adamw=adamw, mezo=mezo) if model.startswith("tiny") else None,
    }  # fmt: skip


COLUMNS = (("accuracy", "test_metric"), ("stderr", "test_metric_stderr"), ("rate", "method.lr"))


def _cell(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _rate(value: float) -> str:
    return f"{value:.0e}" + ("*" if value in (RATES[0], RATES[-1]) else "")


def page(lines: list[dict[str, Any]]) -> str:
    """The text of docs/what-learns.md."""
    parts = [INTRODUCTION]
    for model in MODELS:
        own = [each for each in lines if each["model"] == model]
        rows = [
            [
                each["task"], str(each["train"]), str(each["n"]), *(_cell(each[key]) for key in HEADS.values()),
                *(_cell(each[f"{name}_accuracy"], each[f"{name}_stderr"]) for name in ("mezo", "adamw")),
                *(_rate(each[f"{name}_rate"]) for name in ("mezo", "adamw")),
            ]
            for each in own
        ]  # fmt: skip
        parts.append(f"## {model}")
        if rows:
            heads = ["task", "train", "n", *HEADS, "MeZO", "AdamW", "rate of MeZO", "of AdamW"]
            parts.append(pipe_table([heads, *rows]))
        measured = {each["task"] for each in own}
        if missing := [f"`{task}`" for task in TASKS if task not in measured]:
            parts.append(f"Not measured yet: {', '.join(missing)}.")
        known = [(each["task"], each["unseen"]) for each in own if each["unseen"]]
        if known:
            parts += [UNSEEN, pipe_table([
                ["task", "rows seen", "n", "majority", "MeZO", "AdamW"],
                *([task, str(each["seen"]), str(each["n"]), _cell(each["majority"]),
                   *(_cell(each[name], each[f"{name}_stderr"]) for name in ("mezo", "adamw"))] for task, each in known),
            ])]  # fmt: skip
    return "\n\n".join(parts) + "\n"


HEADS = {"majority": "majority", "zero-shot": "zero_shot", "calibrated": "calibrated", "linear probe": "probe"}

INTRODUCTION = """# What learns

Which tasks can tell methods apart: where AdamW, with the same rows and the same weights to train, ends clearly above
the majority class and the untrained model, and MeZO can follow. Test accuracy of one seed, with its standard error over
test rows; another seed may move it by more. Batches of 16, 1,000 steps of MeZO (2,000 forward passes), 200 steps of
AdamW (as many forward and backward passes); of three learning rates, the same for both, the one with the lowest dev
loss. A rate with a star is the lowest or the highest tried: a better one may lie beyond it, and the method may do
better than is said here. The train rows of `boolq` are from its validation file: other questions than the test's, but
one in eight of those has its passage among them.

*Calibrated* is the untrained model with a threshold from dev, of two options. *Linear probe*: a logistic regression on
the last hidden state of the prompt's last token, fitted to the same train rows; "–" where the options differ from row
to row. Made by `scripts/what_learns.py` on two CPU cores that did other work too."""

UNSEEN = """The tiny model was pretrained on labelled sentences of SST-2's train file (`scripts/pretrain_tiny.py`), and
MR, SST-5 and the opinions of Subj come from the same reviews. What it saw of each test set, compared word by word, and
results on the rest; the table above counts all rows, and its zero-shot values and probes are of all rows too. Train and
dev rows that it saw are not left out, and a sentence of which it saw a part counts as unseen."""


def main() -> None:
    """Do what is missing and write the page."""
    parser = argparse.ArgumentParser(description="Which tasks can be learned.")
    parser.add_argument("data", type=Path)
    parser.add_argument("tiny", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="none: the page alone")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(reversed(MODELS)))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = {(m, t): options.out / f"{m.partition(',')[0]}-{t}.json" for m in reversed(MODELS) for t in TASKS}

    def write() -> None:
        lines = [json.loads(path.read_text()) for path in kept.values() if path.exists()]
        options.page.write_text(page(lines), encoding="utf-8")

    write()
    for model in options.models:
        for task in options.tasks:
            if not kept[model, task].exists():
                found = line(task, model, options.data, options.tiny, options.out)
                kept[model, task].write_text(json.dumps(found, indent=1) + "\n")
                write()


if __name__ == "__main__":
    main()
