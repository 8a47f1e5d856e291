"""Runs of one process and of several, for the tests that compare them."""

import socket
from pathlib import Path

from helpers.processes import Zobench
from helpers.tiny_runs import TINY, lines_of
from zobench.config.signature import compose
from zobench.run.runner import run

RUN = (*TINY, "batch_size=5", "eval_batch_size=2", "log_every=1")
LOREN = (*RUN, "method=loren", "method.mode=exact", "method.probes=5", "method.lr=1e-3")


def alone(runs, *overrides):
    """A run as this process, or its team, does it."""
    return run(compose(*overrides, f"runs_dir={runs}"))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def as_torchrun_does(folder, *arguments, module="zobench"):
    """Two processes of a command, each with what torchrun tells them: (exit code, stdout, stderr) of both."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    members = [Zobench(folder, *arguments, module=module, environment=shared | each) for each in own]
    return [member.wait() for member in members]


def directory_of(runs):
    (path,) = runs.glob("*/*/*/*/config.yaml")
    return path.parent


def _measured(directory):
    """metrics.jsonl without the clocks."""
    return [{k: v for k, v in line.items() if k != "train_seconds"} for line in lines_of(directory)]


def assert_same_bits(row, reference):
    counted = ("state", "steps", "forwards", "examples_seen", "tokens_seen", "best_step", "config_hash")
    for key in (*counted, *(k for k in reference if "/" in k), "weights_checksum", "best_weights_checksum"):
        assert row[key] == reference[key], key
    here, there = Path(row["directory"]), Path(reference["directory"])
    assert _measured(here) == _measured(there)
    assert lines_of(here, "trajectory.jsonl") == lines_of(there, "trajectory.jsonl")
