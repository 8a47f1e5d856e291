"""What a comparison is made of: scored runs and trials, each labelled with its workload and its entry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from zobench.errors import UserError
from zobench.report.compare.entries import Entries, Overall
from zobench.report.frames.runs import predictions

#: the entry against which the others are set, and that whose score is the upper end of every scale
REFERENCE, CEILING = "mezo", "adamw"
#: entries that mark the ends of a scale and take no part in ranks and profiles
ENDS = ("zeroshot", CEILING)
#: stage -> what was equal for all entries
STAGES = {
    "tuned": "tuned, equal forward passes",
    "seconds": "tuned, equal seconds",
    "fixed": "shipped settings, equal forward passes",
    "self_tuning": "nothing set, three times the forward passes",
}
#: stages whose settings were chosen by trials
TUNED = ("tuned", "seconds")
#: a workload and a stage: within it entries are compared
Place = tuple[str, str]


@dataclass(frozen=True)
class Target:
    """What a run must reach on a workload: the reference's median at the weights that its runs selected."""

    dev_loss: float
    dev_metric: float


@dataclass(frozen=True)
class Compared:
    """The runs of a comparison, as ``zobench.report.load`` gives them, with two or three columns more.

    Args:
        runs: the scored runs, with the columns stage (of ``STAGES``), workload and entry.
        trials: the runs that chose their settings, with the columns workload and entry.
        targets: workload -> its target.
        of: an ablation -> the entry that it is an ablation of.
        notes: what else there is to say, such as of runs that are left out.

    Raises:
        UserError: if there is no run, or two of one stage, workload and entry have the same seed.
    """

    runs: pd.DataFrame
    trials: pd.DataFrame
    targets: Mapping[str, Target] = field(default_factory=dict)
    of: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.runs.empty:
            raise UserError("no scored run is finished: there is nothing to compare yet")
        keys = ["stage", "workload", "entry", "seed"]
        if len(twice := self.runs[self.runs.duplicated(keys)]):
            said = ", ".join(f"{key} {twice.iloc[0][key]}" for key in keys)
            raise UserError(f"two scored runs of {said}: {twice.iloc[0]['directory']} and another; keep one of them")

    @cached_property
    def places(self) -> list[Place]:
        """The stages of each workload, in the order of ``STAGES``."""
        known = self.runs[["stage", "workload"]].drop_duplicates().itertuples(index=False)
        return sorted(((each.workload, each.stage) for each in known), key=lambda x: (list(STAGES).index(x[1]), x[0]))

    @property
    def stages(self) -> list[str]:
        """The stages that have runs."""
        return list(dict.fromkeys(stage for _, stage in self.places))

    def workloads(self, stage: str) -> list[str]:
        """The workloads that have runs at a stage."""
        return [workload for workload, of in self.places if of == stage]

    def of_place(self, workload: str, stage: str) -> dict[str, pd.DataFrame]:
        """Entry -> its runs on a workload at a stage, by seed.

        The reference is its own measure of time, so at equal seconds its runs at equal forward passes stand; so do
        those of the untrained model.
        """
        on = self.runs[self.runs["workload"].eq(workload)]
        found = on[on["stage"].eq(stage)]
        if stage == "seconds":
            same = on[on["stage"].eq("tuned") & (on["entry"].eq(REFERENCE) | on["trains"].eq(False))]
            found = pd.concat([same[~same["entry"].isin(set(found["entry"]))], found])
        return {str(entry): runs.sort_values("seed") for entry, runs in found.groupby("entry")}

    def ends(self, workload: str, stage: str) -> Entries:
        """The reference and the ends of the scale, for their differences."""
        return Entries(self._of(workload, stage, [REFERENCE, *ENDS]), untrained=["zeroshot"])

    def entries(self, workload: str, stage: str) -> Entries:
        """All entries but the ends of the scale, on the test examples that they share.

        One that diverged with a seed is not among them: what its other seeds reached is no fair sample.
        """
        return self._entries[workload, stage]

    @cached_property
    def _entries(self) -> dict[Place, Entries]:
        names = set(self.runs["entry"]) - set(ENDS)
        return {place: Entries(self._of(*place, sorted(names))) for place in self.places}

    def together(self, stage: str, ends: bool = False) -> Overall:
        """The entries that were scored on all workloads of a stage, over all of them; or the ends of the scale."""
        of_place = self.ends if ends else self.entries
        samples: dict[tuple[str, str], list[Entries]] = {}  # workloads of one task's data have the same test rows
        for workload in self.workloads(stage):
            run = self.runs[self.runs["workload"].eq(workload)].iloc[0]
            samples.setdefault((str(run["task"]), str(run.get("data"))), []).append(of_place(workload, stage))
        return Overall(list(samples.values()))

    def _of(self, workload: str, stage: str, names: list[str]) -> dict[str, pd.DataFrame]:
        runs = self.of_place(workload, stage)
        whole = {name: runs[name] for name in names if name in runs and not runs[name]["state"].eq("diverged").any()}
        return {name: found for name, of in whole.items() if len(found := _scores(of))}

    def forwards_in_time(self, workload: str, runs: pd.DataFrame) -> pd.Series:
        """How many forward passes of the reference the CPU seconds of training of each run would have paid for.

        Of the reference's training only the share counts that its forward passes took. Where every finished run of the
        workload tells what a dev evaluation took it, which all methods do alike, times are in dev evaluations, so that
        those of several machines compare; else in seconds.
        """
        on = self.runs[self.runs["workload"].eq(workload)]
        ended = on[on["trains"].ne(False) & on["state"].eq("finished")]
        clocked = "dev_cpu_seconds" in ended and bool(ended["dev_cpu_seconds"].gt(0).all())

        def time(of: pd.DataFrame) -> pd.Series:
            return of["cpu_hours"] * 3600 / (of["dev_cpu_seconds"] if clocked else 1.0)

        reference = on[on["entry"].eq(REFERENCE)]
        shares = reference["forward_seconds"] / reference["train_seconds"]
        return time(runs) / (time(reference) * shares / reference["forwards"]).mean()


def _scores(runs: pd.DataFrame) -> pd.DataFrame:
    """The score of each seed and test example of an entry's finished runs."""
    lines = predictions(runs[runs["state"].eq("finished")])
    return lines.pivot(index="seed", columns="index", values="score").astype(np.float64)
