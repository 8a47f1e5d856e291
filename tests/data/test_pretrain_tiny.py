"""The script that pretrains the tiny model: what it keeps unseen, and that zobench runs on what it writes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from zobench.data.rows import load

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "pretrain_tiny.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pretrain_tiny", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_sees_no_row_that_zobench_draws(script, shared_data, compose_task):
    seen = {sentence for sentence, _ in script.corpus(shared_data / "sst2" / "train.parquet")}
    assert len(seen) > 55_000
    for data_seed in script.DATA_SEEDS:
        drawn = load(
            compose_task("sst2"), "sst2", directory=str(shared_data), splits="clean", data_seed=data_seed, test_seed=0,
            strict=True,
        )  # fmt: skip
        sentences = {e.prompt.removesuffix(" It was") for e in (*drawn.train, *drawn.dev, *drawn.test)}
        assert len(sentences) > 2_000
        assert not sentences & seen


def test_zobench_runs_on_the_folder_it_writes(shared_data, tmp_path):
    (tmp_path / "sst2").mkdir()
    for split, rows in (("train", 4_000), ("validation", 40)):
        table = pyarrow.parquet.read_table(shared_data / "sst2" / f"{split}.parquet").slice(0, rows)
        pyarrow.parquet.write_table(table, tmp_path / "sst2" / f"{split}.parquet")
    _run(str(SCRIPT), "--data", ".", "--out", "tiny", "--steps", "4", cwd=tmp_path)
    vocabulary = json.loads((tmp_path / "tiny" / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"Ġgreat", "Ġterrible"} <= set(vocabulary)  # Ġ is byte-level BPE's space

    _run(
        "-m", "zobench", "method=mezo", "model=llama", "model.dir=tiny", "task=sst2", "tuning=full", "data=local",
        "data.dir=.", "steps=2", "batch_size=4", "wandb=disabled", "threads=1", "device=cpu",
        *(f"task.splits.clean.{part}=16" for part in ("train", "dev", "test")), cwd=tmp_path,
    )  # fmt: skip
    (summary,) = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("summary.json")]
    assert summary["state"] == "finished"
    assert summary["forwards"] == 4


def _run(*arguments, cwd):
    ended = subprocess.run([sys.executable, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
