"""Records written by hand, with the fields of real ones, for numbers that a test can know."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FORWARDS = 200
#: number of parameters of models whose options zobench ships
SIZES = {
    "opt-125m": 125239296, "opt-1.3b": 1315758080, "opt-2.7b": 2651596800, "opt-6.7b": 6658473984,
    "opt-13b": 12853473280, "llama": 6738415616, "smollm2": 134515008,
}  # fmt: skip


def write_run(
    folder,
    method="mezo",
    seed=0,
    *,
    task="sst2",
    scores=None,
    test=0.7,
    dev=(0.5, 0.6, 0.7),
    dev_losses=(),
    majority=0.5,
    **values,
):
    """A finished run of 100 steps below a folder: its directory.

    Args:
        scores: 1 or 0 for each test example; ``test`` is then their mean, and predictions are stored.
        dev: the dev metric at evenly spaced evaluations; the last is the run's.
        dev_losses: the dev loss at each of them, where it matters.
        values: further fields of the summary, or others than those here.
    """
    directory = Path(folder) / f"{task}-{method}-{seed}-{len(list(Path(folder).glob('*')))}"
    directory.mkdir(parents=True)
    if scores is not None:
        test = sum(scores) / len(scores)
        answers = [{"index": i, "gold": "1", "prediction": str(s), "score": float(s)} for i, s in enumerate(scores)]
        rows = [{"split": "test", "scores": [0.0, 1.0], **answer} for answer in answers]
        pq.write_table(pa.Table.from_pylist(rows), directory / "predictions.parquet")
    n = len(scores) if scores is not None else 100
    zero = {f"zero_shot/{split}/{name}": value for split in ("dev", "test")
            for name, value in (("accuracy", 0.5), ("loss", 0.7), ("majority", majority), ("auc", 0.5))}  # fmt: skip
    name = values.get("model", "tiny-opt")
    known = {"parameters": SIZES.get(name, 263808), "model_checksum": f"{name}0123456789"}
    summary = known | {
        "state": "finished", "reason": None, "method": method, "model": "tiny-opt", "task": task, "tuning": "full",
        "protocol": "clean", "data": "mini", "experiment": None, "seed": seed, "data_seed": seed, "noise_seed": seed,
        "order_seed": seed, "init_seed": seed, "batch_size": 8, "device": "cpu", "dtype": "float32", "method.lr": 1e-3,
        "rows_hash": f"{task}{seed}", "selection": "highest dev metric, then lowest dev loss", "metric": "accuracy",
        "trains": True, **zero, "dev_metric": dev[-1], "dev/loss": 0.6, "test_metric": test,
        "test_metric_stderr": (test * (1 - test) / n) ** 0.5, "test/n": n, "test/auc": test, "test/loss": 0.6,
        "steps": 100, "forwards": FORWARDS, "backwards": 0, "wall_seconds": 60.0, "train_seconds": 36.0,
        "forward_seconds": 30.0, "outside_seconds": 6.0, "evaluate_seconds": 20.0, "cache_seconds": 0.0,
        "lens_seconds": 0.0, "gpu_hours": 0.0, "cpu_hours": 0.01, "peak_gib": 1.0, "state_bytes": 0,
        "memory_measured_by": "by a test, of the run alone", "weights_gib": 0.5, "method_state_gib": 0.0,
        "eval_every": 100 // len(dev),
    } | values  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(summary))
    passes, lines = summary["forwards"], []
    for i, value in enumerate(dev, start=1):
        at = {"step": 100 * i // len(dev), "forwards": passes * i // len(dev)}
        lines.append(at | {"train/loss": 0.7 - 0.1 * i, "train_seconds": 36.0 * i / len(dev)})
        lines.append(
            at | {f"dev/{summary['metric']}": value, "dev/loss": dev_losses[i - 1] if dev_losses else 0.7 - 0.1 * i}
        )
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "environment.json").write_text(json.dumps({"device": "cpu", "versions": {"torch": "2.13.0"}}))
    return directory
