"""How the methods stand on the tasks of one model, and which of those that tie for best cost least."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from zobench.report.compare.board import Board
from zobench.report.compare.front import noise_of
from zobench.report.compare.slices import Slice
from zobench.report.compare.stats import ALPHA
from zobench.report.frames.runs import Row

#: verdicts, the hardest first
DIVERGED, WORSE, LIKELY, TIED = VERDICTS = ("diverged", "worse", "likely worse", "tied for best")
#: what they mean
RULES = (
    "worse: another method is better by the test over seeds and test examples, with three or more shared seeds and p "
    f"below {ALPHA} after Holm's correction for all pairs of methods on the task",
    f"likely worse: p is below {ALPHA} without the correction only, or the seeds are two",
    "tied for best: no test tells another method to be better. A tie is what these runs cannot tell apart; it does not "
    "say that the methods are equal",
)


@dataclass(frozen=True)
class Choice:
    """What costs least among the methods that tie for best: methods as (name, cost), the cheapest first.

    Args:
        take: those whose cost is the least, up to noise.
        dearer: the others that tie for best.
        cheaper: methods below the least cost that do not tie for best.
    """

    take: list[tuple[str, float]]
    dearer: list[tuple[str, float]]
    cheaper: list[tuple[str, float]]


@dataclass(frozen=True)
class Standing:
    """The methods of one model that need no backward pass.

    Args:
        board: with the axes method, task and model.
        model: its name.
        slices: its tasks.
    """

    board: Board
    model: str
    slices: Sequence[Slice]

    @cached_property
    def parameters(self) -> float:
        """The model's number of parameters; infinity where no run knows it."""
        known = pd.concat([slice_.runs.reindex(columns=["parameters"]) for slice_ in self.slices])["parameters"]
        return float(known.max()) if known.notna().any() else math.inf

    def lines(self, slice_: Slice) -> list[Row]:
        """The methods of a task, the best mean first; those that never finished last."""
        frame = self.board.frame
        for name, value in slice_.key.items():
            frame = frame[frame[name].eq(value)]
        frame = frame[frame["trains"] & ~frame["backwards"].gt(0)]
        return frame.sort_values("test_metric", ascending=False, kind="stable").to_dict("records")

    def verdict(self, slice_: Slice, line: Row) -> tuple[str, list[str]]:
        """How a method stands on a task, and the methods that make it so."""
        if not line["runs"]:
            return DIVERGED, []
        better: dict[str, list[str]] = {WORSE: [], LIKELY: []}
        pairs = self.board.pairs(slice_)
        for other in self.lines(slice_):
            if other["row"] == line["row"] or not (result := pairs.versus(other["row"], line["row"])).mean > 0:
                continue
            if pairs.apart(other["row"], line["row"]):
                better[WORSE].append(other["row"])
            elif result.p < ALPHA:
                better[LIKELY].append(other["row"])
        return next(((verdict, names) for verdict, names in better.items() if names), (TIED, []))

    @cached_property
    def verdicts(self) -> dict[str, tuple[str, list[str]]]:
        """Method -> its hardest verdict, and the tasks of it; of the methods that were run on every task."""
        found: dict[str, list[tuple[str, str]]] = {}
        for slice_ in self.slices:
            for line in self.lines(slice_):
                found.setdefault(line["row"], []).append((self.verdict(slice_, line)[0], slice_.key["task"]))
        hardest = {row: min((said for said, _ in of), key=VERDICTS.index) for row, of in found.items()
                   if len(of) == len(self.slices)}  # fmt: skip
        return {row: (said, [task for verdict, task in found[row] if verdict == said]) for row, said in hardest.items()}

    def of_verdict(self, verdict: str) -> list[str]:
        """The methods of a verdict."""
        return [row for row, (said, _) in self.verdicts.items() if said == verdict]

    def least(self, name: str) -> Choice:
        """Choose by a cost: hours are added over the tasks, of memory the highest counts."""
        costs = self._costs(name)
        tied = [cost for cost in costs if cost["row"] in self.of_verdict(TIED)]
        if not tied:
            return Choice([], [], [])
        equal = [abs(cost[name] - tied[0][name]) <= noise_of(tied[0], cost, name, self.board.on_cpu) for cost in costs]
        take, others = ([cost for cost, same in zip(costs, equal, strict=True) if same == wanted]
                        for wanted in (True, False))  # fmt: skip
        parts = ([cost for cost in take if cost in tied], [cost for cost in others if cost in tied],
                 [cost for cost in others if cost[name] < tied[0][name]])  # fmt: skip
        return Choice(*([(cost["row"], cost[name]) for cost in part] for part in parts))

    def _costs(self, name: str) -> list[Row]:
        of_rows: dict[str, list[Row]] = {}
        for slice_ in self.slices:
            for line in self.lines(slice_):
                of_rows.setdefault(line["row"], []).append(line)
        costs: list[Row] = []
        for row in self.verdicts:
            values = [line[name] for line in of_rows[row]]
            cost = max(values) if name.endswith("mib") else sum(values)
            spread = math.hypot(*(line.get(f"{name}_std", 0.0) for line in of_rows[row]))
            costs += [] if any(map(pd.isna, values)) else [{"row": row, name: cost, f"{name}_std": spread}]
        return sorted(costs, key=lambda cost: float(cost[name]))


def standings(board: Board) -> list[Standing]:
    """The models of a board with the axes method, task and model, the smallest first, that have a finished method."""
    names = dict.fromkeys(slice_.key["model"] for slice_ in board.slices)
    found = [Standing(board, name, [each for each in board.slices if each.key["model"] == name]) for name in names]
    finished = [each for each in found if any(line["runs"] for slice_ in each.slices for line in each.lines(slice_))]
    return sorted(finished, key=lambda each: each.parameters)
