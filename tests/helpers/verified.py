"""Runs of a few steps, and the verdicts on them."""

import json
from pathlib import Path

from helpers.commands import command
from helpers.tiny_runs import TINY
from zobench.config.signature import compose
from zobench.run.runner import run

STEPS = ("steps=6", "eval_every=2", "log_every=2")


def made(folder, *overrides):
    return Path(run(compose(*TINY, *STEPS, *overrides, f"runs_dir={folder}"))["directory"])


def verify(runs, *words):
    """Exit code, what was printed, and what was written for machines."""
    file = Path(runs).parent / "verdicts.json"
    ended = command("zobench.verify", str(runs), *words, "--json", str(file), cwd=".")
    assert "Traceback" not in ended.stderr
    return ended, json.loads(file.read_text()) if file.is_file() else None


def verdict(runs, *words):
    ended, found = verify(runs, *words)
    assert found, ended.stderr
    (only,) = found["runs"]
    assert ended.returncode == (only["verdict"] == "refuted")
    return only
