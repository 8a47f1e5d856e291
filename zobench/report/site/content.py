"""What a leaderboard is made of: scored runs, and what its pages say of entries, workloads and single runs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from zobench.report.frames.runs import LeftOut, Row
from zobench.report.workloads.comparison import Compared, Place
from zobench.report.workloads.page import Page

#: verdicts on a record beside those of ``zobench.verify``: nobody looked, or at files that are others by now
UNVERIFIED, STALE = "not verified", "stale"


@dataclass(frozen=True)
class Source:
    """Whose runs some are.

    Args:
        name: of the folder.
        said: of a submission, what it says of itself: label -> text; empty for a comparison of one's own.
        code: where its code is, an address with http(s); empty where that is zobench's.
        outside: whether its method is code that zobench has not.
    """

    name: str
    said: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    outside: bool = False


@dataclass(frozen=True)
class EntryFacts:
    """An entry, as the rules or a submission declare it.

    Args:
        method: the option of ``method``.
        described: what that is, in a line.
        words: what is set in all of its runs.
        space: setting -> (where it is searched, the value that ships).
        source: whose runs its scores are.
    """

    name: str
    method: str
    described: str
    words: str
    space: Mapping[str, tuple[str, str]]
    source: Source


@dataclass(frozen=True)
class WorkloadFacts:
    """A workload, as the rules declare it."""

    name: str
    words: str
    forwards: int


@dataclass(frozen=True)
class Check:
    """What was said of a record.

    Args:
        verdict: a word of ``zobench.verify``, ``UNVERIFIED`` or ``STALE``.
        why: in a line; empty where there is nothing to add.
        verified: what was.
        unverified: what was not -> why.
        differs: what differs from the record, a line each.
    """

    verdict: str = UNVERIFIED
    why: str = ""
    verified: Sequence[str] = ()
    unverified: Mapping[str, str] = field(default_factory=dict)
    differs: Sequence[str] = ()


@dataclass(frozen=True)
class RunFacts:
    """A run: where its record is, how to make it again, and what a verification found.

    Args:
        stage: the ruleset, or ``trials``.
        trial: of a trial its number.
        chosen: whether it is the trial whose settings were scored.
        place: of the record, below the folder of its source.
        command: that makes it again; empty where that is not known.
        digest: of the files of the record.
        row: of the record.
    """

    stage: str
    workload: str
    entry: str
    seed: int
    source: Source
    place: str
    command: str
    digest: str
    check: Check
    row: Row
    trial: int | None = None
    chosen: bool = False

    @property
    def page(self) -> str:
        """The file of its page."""
        return address("run", self.source.name, self.entry, self.place)

    @property
    def number(self) -> str:
        """Which of its entry's runs it is."""
        return f"seed {self.seed}" if self.trial is None else f"trial {self.trial}"

    @property
    def title(self) -> str:
        """What it is of."""
        return f"{self.entry}, {self.workload}, {self.stage}: {self.number}"


@dataclass(frozen=True)
class Content:
    """Everything that the pages are made of.

    Args:
        version: of the rules.
        rulesets: name -> what it asks for, in a line.
        runs: (entry, address of a record) -> the run, scored ones and trials; entries may share runs.
        left_out: what is on no board, and why.
        documentation: address of zobench's documentation site; empty where none was given.
    """

    compared: Compared
    version: str
    rulesets: Mapping[str, str]
    workloads: Mapping[str, WorkloadFacts]
    entries: Mapping[str, EntryFacts]
    runs: Mapping[tuple[str, str], RunFacts]
    left_out: LeftOut = field(default_factory=list)
    documentation: str = ""

    @cached_property
    def numbers(self) -> Page:
        """Scores, differences, ranks and pictures."""
        return Page(self.compared)

    @cached_property
    def found(self) -> pd.DataFrame:
        """The lines of ``scores``."""
        return self.numbers.found

    def of_entry(self, name: str) -> list[tuple[Place, list[RunFacts]]]:
        """The scored runs of an entry, by workload and stage."""
        found = [(place, self.compared.of_place(*place).get(name)) for place in self.compared.places]
        return [(place, self.of_frame(runs)) for place, runs in found if runs is not None]

    def trials_of(self, name: str) -> dict[str, list[RunFacts]]:
        """The trials of an entry, by workload."""
        trials = self.compared.trials
        own = trials[trials["entry"].eq(name)] if len(trials) else trials
        found = {str(workload): self.of_frame(runs) for workload, runs in own.groupby("workload")} if len(own) else {}
        return {name: sorted(runs, key=lambda run: run.trial or 0) for name, runs in found.items()}

    def of_frame(self, runs: pd.DataFrame) -> list[RunFacts]:
        """What there is to say of the runs of a frame."""
        return [self.runs[key] for key in zip(runs["entry"], runs["directory"], strict=True)]


def address(kind: str, *names: Any) -> str:
    """The file of a page; a hash, so that no name that a stranger chose is one of a file.

    >>> address("entry", "mezo"), address("entry", "../mezo")
    ('entry-4f93882b51e6.html', 'entry-66c6c47f734b.html')
    """
    return f"{kind}-{hashlib.sha256(repr(names).encode(errors='backslashreplace')).hexdigest()[:12]}.html"


def anchor(*names: Any) -> str:
    """The place on a page that is about these names.

    >>> anchor("sst2", "tuned")
    'at-c3252fe927'
    """
    return f"at-{hashlib.sha256(repr(names).encode(errors='backslashreplace')).hexdigest()[:10]}"
