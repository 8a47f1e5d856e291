"""The registry of the papers' headline claims, read from claims.yaml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).parent / "claims.yaml"


@dataclass(frozen=True)
class Claim:
    """One claim, and what it takes to test it.

    Args:
        says: the claim in a sentence.
        paper, source: arXiv id, or the repository, and where the number comes from.
        method, against: the two sides, named as in the published numbers; ``majority`` is the most frequent class.
        measure: a key of ``MEASURES``.
        claimed: the size in the measure's unit; 0: no difference; None: better, by an unknown amount.
        metric: of the paper's number, where it is of a metric; runs with another do not test it.
        margin: with ``claimed: 0``, how far apart the two may be, in the measure's unit.
        models, tasks, tuning: the paper's settings; no others test the claim. Models are known by family and size;
            tasks may be ``any``.
        commands: what to run; ``commands`` and then ``python -m zobench.report runs --claims``.
    """

    name: str
    says: str
    paper: str
    source: str
    method: str
    against: str
    measure: str
    claimed: float | None
    models: list[str]
    tasks: list[str] | str
    tuning: str
    commands: list[str]
    metric: str | None = None
    margin: float | None = None

    def is_of(self, cell: dict[str, Any]) -> bool:
        """Tell if runs with these settings are at the paper's model, task and tuning, on the real data, by the loss."""
        task = self.tasks == "any" or cell["task"] in self.tasks
        real = cell["data"] in ("hub", "local")
        return (
            task
            and real
            and cell["objective"] == "loss"
            and cell["paper_model"] in self.models
            and cell["tuning"] == self.tuning
        )


def registry() -> list[Claim]:
    """Read every claim, in the order of the file.

    >>> registry()[0].paper
    '2305.17333'
    """
    return [Claim(**entry) for entry in yaml.safe_load(_FILE.read_text(encoding="utf-8"))]
