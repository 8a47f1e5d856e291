"""A comparison of two entries and zero-shot in real processes, as tests of rules and reports have it."""

import json
from pathlib import Path

from helpers.commands import command
from helpers.tiny_runs import summary_of
from zobench.rules import load
from zobench.rules.records import Records

ENTRIES = """
two_probes:
  words: method=mezo method.probes=2
  of: mezo
  shipped: {method.lr: 1.0e-6}
  space: {method.lr: "tag(log, interval(1e-8, 1e-5))"}
"""
ONLY = ("--workload", "toy", "--only", "mezo,two_probes,zeroshot")


def rules(folder, *words):
    return command("zobench.rules", *words, "--config-dir", "mine", cwd=folder)


def held(folder):
    own = [folder / "mine"]
    return {each.entry.name: each for each in Records(load("v1", own), [folder / "RUNS"], own).held}


def rewritten(run, **values):
    """Change what a run's summary says."""
    path = Path(str(run.place)) / "summary.json"
    path.write_text(json.dumps(summary_of(path.parent) | values))
