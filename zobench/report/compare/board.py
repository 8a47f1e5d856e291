"""What a table says of each row of each slice: the tidy numbers behind every table and picture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from zobench.errors import ConfigError
from zobench.record.summaries import RESULTS
from zobench.report.compare.crossed import Difference
from zobench.report.compare.memory import of_the_run_alone
from zobench.report.compare.pairs import POINTS, Pairs
from zobench.report.compare.slices import Slice, slices
from zobench.report.compare.stats import ALPHA, POWER, resolution_of
from zobench.report.compare.time_to_target import reached
from zobench.report.frames.runs import Row, predictions

#: what the rows and columns of a table are made of, unless it is said
ROWS, COLUMNS = ("method",), ("task",)
#: the method against which the others are set, unless it is said
REFERENCE = "mezo"
#: the fair baseline: the untrained model, its bias to an option taken away
CALIBRATED = "zero-shot, threshold from dev"
_MEANS = ("dev_metric", "test_metric", "test/auc", "test/loss", "train/loss")
#: what is reached without learning: its name in the frame -> the name of the column in the record, `{metric}` filled in
_UNTRAINED = {
    "zero_shot": "zero_shot/test/{metric}", "zero_shot_calibrated": "zero_shot/test/{metric}_calibrated",
    "majority": "zero_shot/test/majority",
}  # fmt: skip
#: of the difference to the reference: the end of its name in the frame -> its name
_DELTA = {
    "": "mean", "_std": "std", "_low": "low", "_high": "high", "_p": "p", "_seeds": "seeds", "_examples": "examples",
}  # fmt: skip
_TAIL = 0.1  # the share of a run over which its final training loss is averaged


@dataclass(frozen=True)
class Board:
    """The slices of a table, and their numbers.

    Args:
        loaded: all runs that were loaded, for what is left out.
        slices: the runs that are in the table.
        axes: keys that rows and columns are made of.
        reference: the row, or method, against which the others are set.
    """

    loaded: pd.DataFrame
    slices: list[Slice]
    axes: Sequence[str]
    reference: str

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The numbers: one line per slice and row, a column per quantity under its name in the record.

        Means over seeds, with ``_std`` for the sample standard deviation; counts of runs; costs; the difference to the
        reference with interval and p values (``delta``); what it took to reach it (``reached``); what is reached
        without learning (``zero_shot``, ``zero_shot_calibrated``, ``majority``, ``chance``); and whether the row is
        ``best``, and better than all others by the tests (``supported``).
        """
        return pd.DataFrame([line for pairs in self._pairs for line in _measured(pairs, self.reference)])

    @cached_property
    def _pairs(self) -> list[Pairs]:
        return [Pairs(slice_) for slice_ in self.slices]

    @cached_property
    def on_cpu(self) -> bool:
        """Whether every run was on a CPU."""
        return all(slice_.runs["device"].eq("cpu").all() for slice_ in self.slices)

    @property
    def within(self) -> list[str]:
        """The axes other than the method."""
        return [axis for axis in self.axes if axis != "method"]

    def pairs(self, slice_: Slice) -> Pairs:
        """The rows of a slice, paired."""
        return next(pairs for pairs in self._pairs if pairs.slice is slice_)

    def versus(self, slice_: Slice, row: str, other: str) -> Difference:
        """Compare two rows of a slice: the first less the second."""
        return self.pairs(slice_).versus(row, other)

    def supported(self, slice_: Slice, row: str, other: str) -> bool:
        """Whether the tests say that a row is better than another of its slice."""
        result = self.versus(slice_, row, other)
        return result.supported and result.mean > 0

    def said(self) -> list[str]:
        """Say what a reader must know of the identity of models and data; empty where there is nothing."""
        return list(self.slices[0].said)

    def tried(self) -> list[str]:
        """Say in one line how many learning rates each row was given to choose from, and where they are unequal."""
        lines = self.frame[self.frame["trains"]]
        counts = {title: dict(zip(of["row"], of["rates_tried"], strict=True)) for title, of in self._titled(lines)}
        if not counts:
            return []
        uneven = any(len(set(of.values())) > 1 for of in counts.values())
        told = "; ".join(f"{title}: {_counted(of)}" if title else _counted(of) for title, of in counts.items())
        warned = ". UNEVEN: a row with more had more chances to be good by luck" * uneven
        return [f"settings (learning rates) tried: {told}{warned}"]

    def _titled(self, lines: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
        """The lines of each slice, with the values of its key as a title."""
        if not self.within:
            return [("", lines)] if len(lines) else []
        return [(", ".join(map(str, key)), of) for key, of in lines.groupby(self.within)]

    def mixed(self) -> list[str]:
        """Label a table of runs that differ where they should agree; empty for others."""
        mixed = self.slices[0].mixed
        return [f"MIXED, not a comparison: the runs differ in {'; '.join(mixed)}. Nothing is tested"] if mixed else []

    def power(self) -> list[str]:
        """Say in one line what it would take to see a difference of two points; empty where nothing is compared."""
        known = [pairs for pairs in self._pairs if not pairs.slice.mixed and len(pairs.rows) > 1]
        said = [f"{pairs.slice.title}: {pairs.power()}" for pairs in known]
        test = f"over seeds and test examples, {100 * ALPHA:.0f} %, power {100 * POWER:.0f} %"
        asked = f"to see {100 * POINTS:.0f} points between two rows ({test})"
        return [f"{asked} at this spread: {'; '.join(said)}"] if said else []

    def unpaired(self) -> list[str]:
        """Name the slices in which nothing can be set against the reference."""
        alone = [slice_ for slice_ in self.slices if not slice_.mixed and slice_.reference(self.reference) is None]
        names = ", ".join(slice_.title for slice_ in alone)
        return [f"no single row {self.reference} to set others against in {names}; --reference names one"] * bool(alone)

    def left_out(self) -> list[str]:
        """Count the runs that are in no table, by the reason why."""
        frame = self.loaded
        counts = frame.loc[~frame["state"].isin(RESULTS), "state"].value_counts()
        shown = [f"{n} {state}" for state, n in counts.items()]
        shown += [f"{len(unreadable)} unreadable"] if (unreadable := frame.attrs.get("left_out")) else []
        return [f"left out: {', '.join(shown)}"] if shown else []


def make_board(
    frame: pd.DataFrame, axes: Sequence[str] = ("method",), reference: str = REFERENCE, allow_mixed: bool = False
) -> Board:
    """Measure the runs of a table.

    Args:
        frame: from ``load``.
        axes: keys that rows and columns are made of.
        reference: the row, or method, against which the others are set.
        allow_mixed: let runs differ that should agree; nothing is tested then.

    Raises:
        Mixed: if the runs are not comparable.
        ConfigError: if no run has one of the keys, or there is no such reference.
        UserError: if no run is finished or diverged.
    """
    compared = slices(frame, axes, allow_mixed)
    rows = sorted({row for slice_ in compared for row in slice_.best["row"]})
    known = {slice_.reference(reference) for slice_ in compared} - {None}
    if reference != REFERENCE and not known and not compared[0].mixed:
        raise ConfigError(f"reference={reference}: no such row, or several of that method; rows are {', '.join(rows)}")
    return Board(frame, compared, axes, reference)


def label(line: Row, keys: Sequence[str]) -> str:
    """Name a row or column of a table by its keys.

    >>> label({"row": "ldsd (lr_mu=0)", "task": "rte", "tuning": "lora"}, ["method", "tuning"])
    'ldsd (lr_mu=0), lora'
    """
    return ", ".join(str(line["row" if key == "method" else key]) for key in keys)


def with_train_losses(runs: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``train/loss`` to runs: its mean over the last tenth of each run's forward passes.

    Args:
        runs: the runs.
        lines: what they logged, from ``curves``.
    """
    losses = {}
    if "train/loss" in lines:
        lines = lines[lines["train/loss"].notna()]
        end = lines.groupby("directory")["forwards"].transform("max")
        losses = dict(lines[lines["forwards"] > (1 - _TAIL) * end].groupby("directory")["train/loss"].mean())
    return runs.assign(**{"train/loss": runs["directory"].map(losses).astype(float)})


def means(runs: pd.DataFrame, names: Iterable[str]) -> Row:
    """Average columns over the runs.

    >>> means(pd.DataFrame({"test_metric": [0.5, 0.7]}), ["test_metric"])["test_metric_std"].round(3).item()
    0.141

    Returns:
        Mean of each column under its name, and sample standard deviation under its name and ``_std``; none where a run
        has no value.
    """
    averages: Row = {}
    for name in names:
        column = runs[name].astype(float)  # one that is empty, or all null, has another type
        averages |= {name: column.mean(skipna=False), f"{name}_std": column.std(ddof=1, skipna=False)}
    return averages


def _measured(pairs: Pairs, reference: str) -> list[Row]:
    slice_ = pairs.slice
    best = with_train_losses(slice_.best, slice_.lines)
    base = slice_.reference(reference)
    top, supported = pairs.best_row() if not slice_.mixed else (None, False)
    level = _level(slice_)
    rows: list[Row] = []
    for name, rates in slice_.tried.groupby("row", sort=False):
        chosen, runs = rates[rates["chosen"]], best[best["row"].eq(name)]
        row: Row = slice_.key | {
            "row": name,
            "metric": slice_.metric,
            "method.lr": chosen["method.lr"].iloc[0] if len(chosen) else None,
            "rates_tried": len(rates),
            "runs": int(chosen["runs"].sum()),
            "diverged": int((chosen if len(chosen) else rates)["diverged"].sum()),
            "trains": not runs["trains"].eq(False).all() if len(runs) else True,
        }
        row |= means(runs, _MEANS) | _costs(runs) | level
        row |= {"best": name == top, "supported": name == top and supported}
        rows.append(row | _delta(pairs, name, base) | reached(slice_, name, base))
    return rows


def _counted(counts: dict[str, int]) -> str:
    """Write how many settings each row had: ``5 for mezo, 3 for the others``.

    >>> _counted({"mezo": 5, "loren": 3, "pgap": 3}), _counted({"mezo": 3, "loren": 3})
    ('5 for mezo, 3 for the others', '3 each')
    """
    usual = max(sorted(set(counts.values())), key=list(counts.values()).count)
    others = [f"{n} for {row}" for row, n in counts.items() if n != usual]
    return (
        ", ".join([*others, f"{usual} for the others"])
        if others
        else f"{usual} each"
        if len(counts) > 1
        else f"{usual}"
    )


def _costs(runs: pd.DataFrame) -> Row:
    told = len(runs) > 0 and runs["memory_measured_by"].map(of_the_run_alone).all()
    return {
        "test_metric_stderr": runs["test_metric_stderr"].mean(),
        "test_resolution": resolution_of(runs["test/n"].min()),
        **{name: runs[name].mean() for name in ("steps", "forwards", "backwards")},
        **means(runs, ("cpu_hours", "gpu_hours")),
        "peak_mib": 1024 * runs["peak_gib"].max(),
        "peak_of_the_run_alone": told,
        "held_mib": 1024 * (runs["weights_gib"] + runs["method_state_gib"]).max(),
        "state_bytes": runs["state_bytes"].max(),
    }


def _delta(pairs: Pairs, name: str, base: str | None) -> Row:
    result = pairs.versus(name, base) if base is not None and name != base else None
    return {
        **{f"delta{end}": getattr(result, name) if result else None for end, name in _DELTA.items()},
        "delta_unseen": bool(result and result.unseen),
    }


def _level(slice_: Slice) -> Row:
    """Collect what is reached without learning: zero-shot with and without a threshold from dev, majority, chance."""
    names = {title: name.format(metric=slice_.metric) for title, name in _UNTRAINED.items()}
    level: Row = {title: slice_.runs[name].mean() if name in slice_.runs else None for title, name in names.items()}
    return level | {"majority": _majority(slice_, level["majority"]), "chance": _chance(slice_)}


def _majority(slice_: Slice, share: float | None) -> float | None:
    """What always giving the most frequent class scores, of which ``share`` of the test rows are."""
    if slice_.metric == "macro_f1" and share is not None:
        classes = predictions(slice_.best.head(1)).get("gold", pd.Series(dtype=object)).nunique()
        return 2 * share / (1 + share) / classes if classes else None
    return {"accuracy": share, "mcc": 0.0}.get(slice_.metric)


def _chance(slice_: Slice) -> float | None:
    if slice_.metric != "accuracy":
        return None
    if "zero_shot/test/auc" in slice_.runs and slice_.runs["zero_shot/test/auc"].notna().any():
        return 0.5  # an area under the curve is that of two options
    options = predictions(slice_.best.head(1)).get("scores", pd.Series(dtype=object)).map(len)
    return float((1 / options).mean()) if len(options) else None
