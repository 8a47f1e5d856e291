"""Which tasks can be learned, by which model: AdamW, MeZO and a linear probe beside the untrained model.

    python scripts/what_learns.py DATA TINY OUT [--tasks sst2 subj ...]

DATA holds real rows in the hub's layout, DATA/<task>/train.parquet and validation.parquet; TINY is the folder that
scripts/pretrain_tiny.py wrote. Runs and probes are kept under OUT; what is there already is not done again.
docs/what-learns.md gets the table: the script writes what it has after each task.

SmolLM2 trains the MLP of its last layer, the tiny model all of its weights. Of two learning rates the one with the
lower dev loss is shown. The probe is a logistic regression on the last hidden state of the prompt's last token.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from zobench.config.signature import compose
from zobench.objective.encode import Encoder
from zobench.run.build import build_task, build_trained, load_splits, specs
from zobench.run.runner import run
from zobench.system.markdown import pipe_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "what-learns.md"
TASKS = ("sst2", "mr", "cr", "subj", "trec", "sst5", "rte", "cb", "wsc", "wic", "copa", "boolq", "multirc")
#: long prompts, of which fewer rows are taken
LONG = {"boolq": (200, 100, 300), "multirc": (200, 100, 300), "cb": (150, 100, 56), "wsc": (454, 100, 104)}
SIZES = (500, 200, 1000)
MODELS = {
    "SmolLM2, last MLP": ("model=smollm2", "tuning=last_layers", "tuning.layers=1", "tuning.only=mlp"),
    "tiny, all weights": ("model=tiny-pretrained", "tuning=full"),
}
RATES = {
    ("SmolLM2, last MLP", "adamw"): (1e-4, 1e-3), ("SmolLM2, last MLP", "mezo"): (1e-4, 1e-3),
    ("tiny, all weights", "adamw"): (1e-4, 1e-3), ("tiny, all weights", "mezo"): (1e-4, 1e-3),
}  # fmt: skip
BUDGETS = {"adamw": ("steps=200",), "mezo": ("forwards=2000",)}


def words(task: str, model: str, data: Path, tiny: Path, out: Path) -> list[str]:
    """The overrides that all runs of a task and a model share."""
    sizes = zip(("train", "dev", "test"), LONG.get(task, SIZES), strict=True)
    own = [f"model.dir={tiny}"] if model.startswith("tiny") else []
    return [
        f"task={task}", *MODELS[model], *own, "data=local", f"data.dir={data}", "wandb=disabled", "batch_size=16",
        f"runs_dir={out / 'runs'}", *(f"task.splits.clean.{part}={size}" for part, size in sizes),
    ]  # fmt: skip


def best(task: str, model: str, method: str, *places: Path) -> dict[str, Any]:
    """The row of the run with the lower dev loss, of a method's two rates."""
    shared = [*words(task, model, *places), f"method={method}", *BUDGETS[method]]
    rows = [run(compose(*shared, f"method.lr={rate}")) for rate in RATES[model, method]]
    return min(rows, key=lambda row: row.get("dev/loss", float("inf")))


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
    return fitted(*features["train"], *features["test"])


def fitted(x: torch.Tensor, y: torch.Tensor, x_test: torch.Tensor, y_test: torch.Tensor) -> float:
    """Test accuracy of a logistic regression with a penalty of 1/n on standardised features."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, x_test = (x - mean) / spread, (x_test - mean) / spread
    weight = torch.zeros(x.shape[1], int(y.max()) + 1, requires_grad=True)
    bias = torch.zeros(int(y.max()) + 1, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y) + weight.square().sum() / len(y)
        loss.backward()
        return loss

    search.step(closure)
    return float(((x_test @ weight + bias).argmax(-1) == y_test).float().mean())


def line(task: str, model: str, *places: Path) -> dict[str, Any]:
    """A line of the table, as plain values."""
    adamw, mezo = (best(task, model, method, *places) for method in ("adamw", "mezo"))
    return {
        "task": task, "model": model, "n": adamw["test/n"], "majority": adamw["test/majority"],
        "zero_shot": adamw["zero_shot/test/accuracy"],
        "zero_shot_calibrated": adamw.get("zero_shot/test/accuracy_calibrated"),
        "mezo": mezo["test_metric"], "mezo_lr": mezo["method.lr"], "adamw": adamw["test_metric"],
        "adamw_lr": adamw["method.lr"], "probe": probe(task, model, *places),
        "stderr": adamw["test_metric_stderr"], "cpu_hours": adamw["cpu_hours"] + mezo["cpu_hours"],
    }  # fmt: skip


def page(lines: list[dict[str, Any]]) -> str:
    """The text of docs/what-learns.md."""
    heads = ("task", "n", "majority", "zero-shot", "calibrated", "MeZO", "AdamW", "linear probe", "± (AdamW)")
    keys = ("majority", "zero_shot", "zero_shot_calibrated", "mezo", "adamw", "probe", "stderr")
    parts = [INTRODUCTION]
    for model in MODELS:
        rows = [
            [each["task"], str(each["n"]), *("–" if each[key] is None else f"{each[key]:.3f}" for key in keys)]
            for each in lines
            if each["model"] == model
        ]
        if rows:
            parts += [f"## {model}", pipe_table([heads, *rows])]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# What learns

Which tasks can tell methods apart: where AdamW, with the same rows and the same weights to train, ends clearly above
the untrained model, and MeZO can follow. Test accuracy of one seed; 500 train, 200 dev and up to 1,000 test rows (fewer
for `boolq`, `multirc`, `cb` and `wsc`; the train rows of `boolq` are from its validation file), batches of 16, 2,000
forward passes of MeZO, 200 steps of AdamW, of two learning rates the one with the lower dev loss. *Calibrated* is the
untrained model with a threshold from dev. *Linear probe*: a logistic regression on the last hidden state of the
prompt's last token, fitted to the same train rows; "–" where the options differ from row to row. Made by
`scripts/what_learns.py` on two CPU cores that did other work too."""


def main() -> None:
    """Do what is missing and write the page."""
    parser = argparse.ArgumentParser(description="Which tasks can be learned.")
    parser.add_argument("data", type=Path)
    parser.add_argument("tiny", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for model in reversed(MODELS):
        for task in options.tasks:
            kept = options.out / f"{model.partition(',')[0]}-{task}.json"
            if not kept.exists():
                kept.write_text(json.dumps(line(task, model, options.data, options.tiny, options.out), indent=1) + "\n")
            lines.append(json.loads(kept.read_text()))
            PAGE.write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
