"""Started again: a run that stopped in good order before its job ends asks for the job to be put back in line."""

import os
import signal
import subprocess
import sys

#: what schedulers send before they stop a job: SLURM's ``--signal=USR1@120``, submitit's SIGUSR2
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


def hand_over(stopped_by: str) -> None:
    """Have the job of this process started again, if it was warned or is being preempted.

    Inside a submitit job its own handler is called, which resubmits the job and ends the process. Any other SLURM job
    is put back with ``scontrol requeue``. Otherwise nothing happens: a cancelled job must stay away.

    Args:
        stopped_by: the name of the signal that stopped the run, e.g. ``SIGUSR1``.
    """
    job = _slurm_job()
    warned = stopped_by in {number.name for number in WARNINGS}
    if not warned and not (stopped_by == "SIGTERM" and job is not None and _in_grace(job)):
        return
    for number in WARNINGS:
        if (getattr(signal.getsignal(number), "__module__", None) or "").startswith("submitit."):
            signal.raise_signal(number)
            return
    if job is not None:
        print(f"zobench: {_requeue(job)}", file=sys.stderr, flush=True)


def _slurm_job() -> str | None:
    """The job that this process answers for: one of its processes does so, whatever their number."""
    first = {os.environ.get(name, "0") for name in ("SLURM_PROCID", "RANK")} == {"0"}
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    # The last job of an array has the array's own number as SLURM_JOB_ID, which would name all of them.
    job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else os.environ.get("SLURM_JOB_ID")
    return job if first else None


def _in_grace(job: str) -> bool:
    """Whether SLURM preempts the job after a grace time; a job that ends in it counts as failed, not as preempted."""
    try:
        shown = _scontrol("show", "job", job)
    except (OSError, subprocess.SubprocessError):
        return False
    return "JobState=RUNNING" in shown and "PreemptTime=" in shown and "PreemptTime=None" not in shown


def _requeue(job: str) -> str:
    try:
        _scontrol("requeue", job)
    except subprocess.CalledProcessError as error:
        return f"SLURM job {job} was not requeued: {error.stderr.strip()}; submit it again"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"SLURM job {job} was not requeued: {error}; submit it again"
    return f"SLURM job {job} requeued"


def _scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout
