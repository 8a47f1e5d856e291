"""What the mirrors of a record are sent, read back from their files."""

import json
import socket
import struct
import sys
from pathlib import Path

import pytest
from helpers.processes import Zobench
from helpers.tiny_runs import TINY, lines_of, summary_of

from zobench.config.signature import compose
from zobench.run.runner import run
from zobench.system import network


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


def tracked(folder, *overrides, **environment):
    """A run with wandb as a process of its own, which has neither key nor network: (stdout, the run's directory).

    wandb reads its environment once, and its service is shared within a process.
    """
    without = dict.fromkeys(("WANDB_API_KEY", "WANDB_MODE", "HTTPS_PROXY", "https_proxy"))
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "NETRC": str(folder / "none")}
    tiny = [word for word in TINY if not word.startswith("wandb=")]
    process = Zobench(folder, *tiny, *overrides, f"runs_dir={folder}", environment=without | nowhere | environment)
    code, out, error = process.wait()
    assert (code, error) == (0, "")
    (summary,) = folder.rglob("summary.json")
    return out, summary.parent


def test_wandb_mirrors_the_record(tmp_path):
    _, directory = tracked(tmp_path, "task=rte", "steps=4", "log_every=1", "tags=[trial]")
    row = summary_of(directory)
    assert row["state"] == "finished"
    found = list(records(next(directory.glob("wandb/**/*.wandb"))))
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
    sent = [{name: value for name, value in line.items() if not name.startswith("_")} for line in history]
    assert [line for line in sent if line] == lines_of(directory)
    summary = {}
    for r in found:
        for item in r.summary.update if r.HasField("summary") else ():
            summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    assert summary["test_metric"] == row["test_metric"]
    assert summary["weights_checksum"] == row["weights_checksum"]


def test_wandb_online_needs_neither_key_nor_network(tmp_path):
    out, directory = tracked(tmp_path, "wandb=online", "task=sst2", "steps=2")
    assert "wandb: no API key; recording offline" in out
    assert summary_of(directory)["state"] == "finished"
    (mirror,) = directory.glob("wandb/**/*.wandb")
    content = mirror.read_bytes()
    for word in ("train/loss", "dev/accuracy", "weights_checksum", "batch_size", "sst2/tiny-opt"):
        assert word.encode() in content, word


def test_tensorboard_mirrors_the_lines(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    row = run(compose(*TINY, "tensorboard=true", "steps=4", "log_every=1", f"runs_dir={tmp_path}"))
    directory = Path(row["directory"])
    found = EventAccumulator(str(directory / "tensorboard"))
    found.Reload()
    lines = lines_of(directory)
    assert set(found.Tags()["scalars"]) == {name for line in lines for name in line} - {"forwards"}
    for name in ("train/loss", "dev/accuracy", "final/test/loss"):
        expected = [(line["forwards"], pytest.approx(line[name])) for line in lines if name in line]
        assert [(event.step, event.value) for event in found.Scalars(name)] == expected


def test_a_mirror_that_fails_is_told_once_and_harms_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    row = run(compose(*TINY, "tensorboard=true", "steps=2", f"runs_dir={tmp_path}"))
    assert row["state"] == "finished"
    assert capsys.readouterr().out.count("pip install 'zobench[tensorboard]'; not used further") == 1


def test_an_unreachable_wandb_is_found_out_in_seconds(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "cannot be reached" in network.why_offline()
    with socket.create_server(("127.0.0.1", 0)) as server:  # a local wandb server on a port of its own
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert network.why_offline() is None
