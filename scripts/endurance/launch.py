"""Starting the sweep, through any launcher, as a process that can be disturbed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: launcher → its overrides; the presets of conf/hydra/launcher with the resources of a small machine
LAUNCHERS: dict[str, tuple[str, ...]] = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "local": ("hydra/launcher=local",),
    "slurm": (
        "hydra/launcher=slurm",
        "hydra.launcher.gpus_per_node=null",
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.mem_gb=1",
        "hydra.launcher.timeout_min=30",
    ),
}
#: set where scripts/slurm/up.sh started a cluster for this script, whose jobs are all its own
OWN_CLUSTER = "ENDURE_CLUSTER"
_STUCK_S = 5.0


class Sweep:
    """``python -m zobench -m ...`` in a session of its own; ``log`` gets what it prints."""

    def __init__(self, launcher: str, overrides: list[str], runs: Path, log: Path):
        self.launcher, self.runs, self.log = launcher, runs, log
        command = [sys.executable, "-m", "zobench", "-m", *LAUNCHERS[launcher], *overrides, f"runs_dir={runs}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n$ {' '.join(command[1:])}\n")
            file.flush()
            self.process = subprocess.Popen(
                command, cwd=runs, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self._empty_since: float | None = None

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop_if_stuck(self) -> None:
        """End a launcher that waits for jobs which are gone: without accounting it never learns that one was killed."""
        if self.launcher != "slurm" or not self.alive:
            return
        now = time.monotonic()
        if jobs() or not list(self.runs.glob(".submitit/*")):
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        elif now - self._empty_since > _STUCK_S:
            self.end()

    def end(self) -> None:
        """Kill whatever is left of it, jobs included."""
        if jobs():
            subprocess.run(["scancel", "--full", *jobs()], check=False)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def jobs() -> list[str]:
    """Ids of the jobs that SLURM knows and has not ended; none without the script's own cluster."""
    if OWN_CLUSTER not in os.environ:
        return []
    listed = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=False)
    return listed.stdout.split()
