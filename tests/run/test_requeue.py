"""After a warning signal a SLURM job asks to be requeued, once, under its own name. A stand-in for scontrol notes it.

The real one is in test_slurm.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zobench

ROOT = Path(zobench.__file__).resolve().parent.parent


def hand_over(folder, name, *, exit_code=0, shown="", **environment):
    """(what scontrol was asked to do, what was printed) when a run was stopped by a signal."""
    tool = folder / "scontrol"
    tool.write_text(
        f'#!/bin/sh\n[ "$1" = show ] && {{ echo "{shown}"; exit 0; }}\n'
        f'echo "$@" >> {folder}/asked\necho "Job is gone" >&2\nexit {exit_code}\n'
    )
    tool.chmod(0o755)
    found = subprocess.run(
        [sys.executable, "-c", f"from zobench.system.requeue import hand_over; hand_over({name!r})"],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    asked = folder / "asked"
    return asked.read_text().splitlines() if asked.exists() else [], found.stderr


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2"])
def test_a_warned_job_is_requeued(tmp_path, name):
    asked, said = hand_over(tmp_path, name, SLURM_JOB_ID="17", SLURM_PROCID="0")
    assert asked == ["requeue 17"]
    assert "SLURM job 17 requeued" in said


def test_a_job_of_an_array_names_itself_and_not_the_array(tmp_path):
    asked, _ = hand_over(tmp_path, "SIGUSR1", SLURM_JOB_ID="17", SLURM_ARRAY_JOB_ID="17", SLURM_ARRAY_TASK_ID="3")
    assert asked == ["requeue 17_3"]


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("SIGINT", {"SLURM_JOB_ID": "17"}),
        ("SIGUSR1", {}),  # no cluster
        ("SIGUSR1", {"SLURM_JOB_ID": "17", "SLURM_PROCID": "1"}),  # another process of the job asks
        ("SIGUSR1", {"SLURM_JOB_ID": "17", "RANK": "1"}),
    ],
)
def test_otherwise_nobody_is_asked(tmp_path, name, environment):
    assert hand_over(tmp_path, name, **environment) == ([], "")


@pytest.mark.parametrize(
    ("shown", "comes_back"),
    [
        ("JobState=RUNNING PreemptTime=2026-01-01T00:00:00", True),  # in its grace time
        ("JobState=RUNNING PreemptTime=None", False),  # somebody's kill
        ("JobState=COMPLETING PreemptTime=2026-01-01T00:00:00", False),  # SLURM is requeueing it
        ("JobState=CANCELLED PreemptTime=None", False),
    ],
)
def test_after_sigterm_only_a_job_in_its_grace_time_asks(tmp_path, shown, comes_back):
    asked, _ = hand_over(tmp_path, "SIGTERM", shown=shown, SLURM_JOB_ID="17")
    assert asked == ["requeue 17"] * comes_back


def test_a_refusal_is_told(tmp_path):
    _, said = hand_over(tmp_path, "SIGUSR1", exit_code=1, SLURM_JOB_ID="17")
    assert "SLURM job 17 was not requeued: Job is gone; submit it again" in said
