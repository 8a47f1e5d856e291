"""What wandb is sent, read back from its offline file."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def records(path):
    """The protobuf records of an offline file: LevelDB framing, 32 KiB blocks of (checksum, length, kind, data)."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while True:
        left = 32768 - at % 32768
        at += left if left < 7 else 0
        if at + 7 > len(data):
            return
        _, size, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_wandb_mirrors_the_record(tmp_path):
    # A process of its own: wandb reads its environment once, and its service is shared within one.
    overrides = ["model=tiny-opt", "task=rte", "data=mini", "steps=4", "batch_size=4", "log_every=1", "tags=[trial]"]
    env = {k: v for k, v in os.environ.items() if k != "WANDB_API_KEY"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "zobench", *overrides, f"runs_dir={tmp_path}", "wandb=offline"]
    subprocess.run(command, env=env, check=True, capture_output=True)
    row = json.loads(next(tmp_path.rglob("summary.json")).read_text())
    found = list(records(next(tmp_path.rglob("*.wandb"))))
    runs = [r.run for r in found if r.HasField("run")]
    assert runs[-1].run_group == "rte/tiny-opt"
    assert set(runs[-1].tags) == {"zo", "trial", "finished"}
    assert runs[-1].display_name == "mezo-s0"
    settings = {item.key: json.loads(item.value_json) for r in runs for item in r.config.update}
    assert settings["method"]["eps"] == 1e-3
    history = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in r.history.item}
        for r in found
        if r.HasField("history")
    ]
    lines = [json.loads(x) for x in next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert [h["train/loss"] for h in history if "train/loss" in h] == losses
    assert any("zero_shot/test/accuracy" in h for h in history)
    summary = {}
    for r in found:
        for item in r.summary.update if r.HasField("summary") else ():
            summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    assert summary["test_metric"] == row["test_metric"]
    assert summary["weights_checksum"] == row["weights_checksum"]
