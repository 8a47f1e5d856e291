"""What can happen to a sweep: kills, signals, preemption. Each says what it did, or None if nobody was there."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from endurance import cells
from endurance.launch import Sweep

Disturbance = Callable[[Sweep, random.Random], str | None]


def _to_sweep(number: signal.Signals, *, group: bool = False) -> Disturbance:
    def send(sweep: Sweep, rng: random.Random) -> str | None:
        try:
            (os.killpg if group else os.kill)(sweep.process.pid, number)
        except ProcessLookupError:
            return None
        return f"{number.name} to the sweep{' and its processes' * group}"

    return send


def _to_cell(number: signal.Signals) -> Disturbance:
    def send(sweep: Sweep, rng: random.Random) -> str | None:
        pid = _somebody(sweep.runs, rng)
        try:
            if pid is not None:
                os.kill(pid, number)
                return f"{number.name} to a cell"
        except ProcessLookupError:
            pass
        return None

    return send


def _somebody(runs: Path, rng: random.Random) -> int | None:
    at_work = sorted(cells.workers(runs))
    return rng.choice(at_work) if at_work else None


def _requeue(sweep: Sweep, rng: random.Random) -> str | None:
    """``scontrol requeue`` on the job of a running cell."""
    pid = _somebody(sweep.runs, rng)
    job = _job_of(pid) if pid is not None else None
    if job is None:
        return None
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, check=False)
    return "scontrol requeue of a job" if done.returncode == 0 else None


def _preempt(sweep: Sweep, rng: random.Random) -> str | None:
    """A job of a partition with a higher priority takes the node."""
    if not cells.workers(sweep.runs):
        return None
    command = ["sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"]
    subprocess.run(command, capture_output=True, check=True)
    return "preemption by an urgent job"


def _job_of(pid: int) -> str | None:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    values = dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)
    array = values.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{values['SLURM_ARRAY_TASK_ID']}" if array else values.get("SLURM_JOB_ID")


#: launcher → what is done to its sweeps
DISTURBANCES: dict[str, tuple[Disturbance, ...]] = {
    "basic": tuple(
        _to_sweep(number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    ),
    "joblib": (
        _to_sweep(signal.SIGTERM),
        _to_sweep(signal.SIGINT),
        _to_sweep(signal.SIGKILL, group=True),
        _to_cell(signal.SIGKILL),
        _to_cell(signal.SIGTERM),
    ),
    "local": (_to_cell(signal.SIGKILL), _to_cell(signal.SIGTERM), _to_cell(signal.SIGUSR2)),
    "slurm": (_requeue, _preempt, _to_cell(signal.SIGUSR2), _to_cell(signal.SIGKILL)),
}
