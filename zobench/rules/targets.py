"""Targets: what the reference reaches on each workload, the median over its scored seeds, in a file of its own.

``targets.yaml`` of a version is what this command printed for the comparison that the version was made with.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from zobench.config.options import load_yaml
from zobench.errors import ConfigError
from zobench.rules.files import FOLDER
from zobench.rules.records import Records

FILE = "targets.yaml"
_HEADER = "# Targets, by python -m zobench.rules targets: medians over the reference's seeds, at the selected weights\n"


def measured(records: Records) -> dict[str, dict[str, Any]]:
    """Workload → dev loss and dev metric that the reference reaches, and over how many seeds.

    Raises:
        ConfigError: if the reference has no finished scored run.
    """
    tuned = records.rules.searched.name
    found = {}
    for held in records.held:
        rows = [run.row for run in held.scored.get(tuned, {}).values() if run.finished]
        if held.entry.name == records.rules.reference and rows:
            found[held.workload.name] = {
                "dev_loss": round(median(row["dev/loss"] for row in rows), 6),
                "dev_metric": round(median(row["dev_metric"] for row in rows), 6),
                "metric": str(rows[0]["metric"]),
                "seeds": len(rows),
            }
    if not found:
        reference = records.rules.reference
        raise ConfigError(
            f"{records.tops[0] / tuned}: no finished run of {reference}, which sets the targets; run it first"
        )
    return found


def as_yaml(targets: Mapping[str, Mapping[str, Any]]) -> str:
    """Targets as a file's text."""
    return _HEADER + yaml.safe_dump({name: dict(of) for name, of in targets.items()}, sort_keys=False)


def of(version: str) -> dict[str, dict[str, Any]]:
    """The targets of a version of the rules, by workload; empty before they were measured."""
    path: Path = FOLDER / version / FILE
    return load_yaml(path) if path.is_file() else {}
