"""A verdict on a run: what was verified, what was not and why, and what differs from what it says."""

import math
from dataclasses import dataclass, field
from typing import Any

from zobench.record.archive import Place

#: what is verified of a run, in the order of the work
FILES, NAME, BUDGET, SELECTION, VALUES, RULES, WEIGHTS, SCORES, LOSSES = (
    "files", "name", "budget", "selection", "values", "rules", "weights", "scores", "losses",
)  # fmt: skip
VERIFIED, CONSISTENT, REFUTED = "verified", "consistent", "refuted"
_DECISIVE = {WEIGHTS, SCORES}


@dataclass
class Verdict:
    """What was found of one run.

    >>> from pathlib import Path
    >>> found = Verdict(Path("runs/a"))
    >>> found.hold(WEIGHTS)
    >>> found.leave(SCORES, "no data at hand")
    >>> found.word
    'consistent'
    >>> found.refute("summary.json: steps=3, but the trajectory has 4")
    >>> found.word
    'refuted'

    Attributes:
        place: the run's directory, in a folder or a zip.
        row: of the run; empty where it cannot be read.
        verified: what was, of ``FILES``, ``NAME`` and so on.
        unverified: what was not → why.
        differs: what differs from what the record says, a line each.
        test_metric: as it was measured again; None where it was not.
        seconds: what the verification took.
        record: digest of the files that it is about; empty where one cannot be read.
    """

    place: Place
    row: dict[str, Any] = field(default_factory=dict)
    verified: list[str] = field(default_factory=list)
    unverified: dict[str, str] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)
    test_metric: float | None = None
    seconds: float = 0.0
    record: str = ""

    @property
    def word(self) -> str:
        """``refuted`` where anything differs, ``verified`` where weights, scores and losses hold, else between."""
        if self.differs:
            return REFUTED
        return VERIFIED if set(self.verified) >= _DECISIVE and LOSSES not in self.unverified else CONSISTENT

    @property
    def reason(self) -> str:
        """Why it is not verified, in one line; empty where it is."""
        if self.differs:
            more = len(self.differs) - 1
            return self.differs[0] + f" (and {more} more)" * bool(more)
        left = {} if self.word == VERIFIED else self.unverified
        return "; ".join(f"{what}: {why}" for what, why in left.items())

    def hold(self, what: str) -> None:
        """Note what was verified."""
        self.verified.append(what)

    def leave(self, what: str, why: str) -> None:
        """Note what cannot be verified, and why, in one line."""
        self.unverified.setdefault(what, " ".join(why.split()))

    def refute(self, line: str) -> None:
        """Note what differs."""
        self.differs.append(" ".join(line.split()))

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        names = ("config_hash", "task", "model", "method", "seed", "state", "test_metric")
        return {
            "place": str(self.place),
            "run": {name: self.row.get(name) for name in names},
            "verdict": self.word,
            "verified": self.verified,
            "unverified": self.unverified,
            "differs": self.differs,
            "test_metric": self.test_metric,
            "seconds": round(self.seconds, 2),
            "record": self.record,
        }


def close(a: Any, b: Any, tolerance: float = 1e-9) -> bool:
    """Whether two values of a record are one: texts alike, numbers but for their last digits.

    >>> close(1, 1.0), close(0.5, 0.5 + 1e-12), close("a", "b"), close(None, None), close(True, 1)
    (True, True, False, True, False)
    """
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (a, b))
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) if numbers else type(a) is type(b) and a == b
