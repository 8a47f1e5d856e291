"""What stages of scripts/gpu_check.py run in their processes: the noise kernel, peak memory, two ranks.

python scripts/gpu_check_worker.py noise DEVICE FILE
python scripts/gpu_check_worker.py memory MODEL DEVICE FILE
python scripts/gpu_check_worker.py ranks DEVICE FILE
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from zobench.zo.noise import Distribution, add_

DTYPES = (torch.bfloat16, torch.float32, torch.float16, torch.float64)
DISTRIBUTIONS: tuple[Distribution, ...] = ("normal", "sign")
ADAM, LOREN = "mezo:rule=adam", "loren"


def noise(device: torch.device) -> dict[str, Any]:
    """Values that are drawn and added in a second, whether their bits are the CPU's, and what the machine could do."""
    found: dict[str, Any] = {"machine": _ceilings(device), "draws": [], "bits": {}}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for dtype in DTYPES:
            for distribution in DISTRIBUTIONS:
                made = []
                for place in (torch.device("cpu"), device):
                    flat = torch.linspace(-2, 2, 300_001).to(dtype).to(place)
                    add_(flat, 3, {11: 0.37, 12: -1.3e-3}, keep=0.99, first=5, distribution=distribution)
                    made.append(flat.cpu())
                found["bits"][f"{dtype} {distribution}"] = torch.equal(*made)
        for dtype in DTYPES[:2]:
            flat = torch.zeros(1 << (28 if device.type == "cuda" else 16), dtype=dtype, device=device)
            for distribution in DISTRIBUTIONS:
                for terms in (1, 6):
                    weights = {11 + i: 1e-3 for i in range(terms)}
                    seconds = _seconds(lambda: add_(flat, 3, weights, distribution=distribution), device)  # noqa: B023
                    row = {"dtype": str(dtype), "distribution": distribution, "terms": terms, "seconds": seconds}
                    row["values_per_second"] = terms * flat.numel() / seconds
                    row["bytes_per_second"] = 2 * flat.numel() * flat.element_size() / seconds
                    found["draws"].append(row)
    found["warnings"] = sorted({str(each.message) for each in said})
    found["same_bits"] = all(found["bits"].values())
    return found


def _ceilings(device: torch.device) -> dict[str, float]:
    """Bytes that a copy reads and writes, and bf16 operations of a matrix product, in a second."""
    side, size = (8192, 1 << 31) if device.type == "cuda" else (256, 1 << 20)
    a = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy, product = _seconds(lambda: target.copy_(source), device), _seconds(lambda: a @ a, device)
    return {"copy_bytes_per_second": 2 * size / copy, "bf16_operations_per_second": 2 * side**3 / product}


def _seconds(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Of one call, in the mean, after three that are not counted."""
    for i in range(3 + times):
        if i == 3:
            _wait(device)
            start = time.perf_counter()
        work()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(model: str, device: torch.device) -> dict[str, Any]:
    """Peaks of LOREN and of MeZO with Adam beside two forward passes, each in a process of its own."""
    from zobench.bench.memory import apart
    from zobench.bench.spec import Shape, Spec
    from zobench.bench.subjects import TRIMMED
    from zobench.errors import UserError

    shape = Shape(16, 64) if device.type == "cuda" else Shape(2, 8)
    spec = Spec(model, "bfloat16", str(device), None, (shape,), (LOREN, ADAM))
    peaks: dict[str, dict[str, Any]] = {}
    for name in (LOREN, ADAM, TRIMMED):
        try:
            row = apart(spec, shape, name)
            peaks[name] = {**row, "gib": round(row["peak_bytes"] / 2**30, 2)}
        except UserError as error:
            peaks[name] = {"name": name, "error": str(error)}
    found: dict[str, Any] = {"peaks": list(peaks.values())}
    if all("peak_bytes" in peaks[name] for name in (LOREN, ADAM)):
        found["loren_over_adam"] = peaks[LOREN]["peak_bytes"] / peaks[ADAM]["peak_bytes"]
    return found


def ranks(device: torch.device) -> dict[str, Any]:
    """Two processes that share the queries of a run, and one that does not: their losses are the same numbers."""
    rows = {}
    settings = ["method=loren", "task=sst2", "data=mini", "model=tiny-llama", "steps=6", "batch_size=4", "eval_every=6"]
    settings += ["method.mode=exact", "parallel=queries", "wandb=disabled", f"device={device}"]
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        for processes in (1, 2):
            runs = Path(folder) / str(processes)
            team = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
            subprocess.run([sys.executable, *team, "-m", "zobench", *settings, f"runs_dir={runs}"], check=True)
            (summary,) = runs.rglob("summary.json")
            rows[processes] = json.loads(summary.read_text(encoding="utf-8"))
    keys = ("state", "processes", "weights_checksum", "train_seconds", "test/loss")
    found: dict[str, Any] = {str(n): {key: row.get(key) for key in keys} for n, row in rows.items()}
    found["same_weights"] = rows[1]["weights_checksum"] == rows[2]["weights_checksum"]
    return found


def main(stage: str, *words: str) -> None:
    """Run a stage and write what it finds."""
    *given, device, file = words
    stages: dict[str, Callable[..., dict[str, Any]]] = {"noise": noise, "memory": memory, "ranks": ranks}
    found = stages[stage](*given, torch.device(device))
    Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
