"""A sweep killed at random moments and continued has the results of one that nobody disturbed: scripts/endure.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zobench

ROOT = Path(zobench.__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_short_form(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "endure.py"), "--short", "--seed", "44", "--out", str(tmp_path)]
    found = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 of 2 finished, 2 equal, 0 touched" in found.stdout
    assert "1 kills, 2 starts of a sweep" in found.stdout
    assert "basic: SIGKILL to the sweep" in found.stdout
