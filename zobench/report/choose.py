"""What may stand in one table, which runs repeat each other, and the learning rate of each method."""

import math
from typing import Any

import pandas as pd

from zobench.errors import UserError
from zobench.report.load import SEEDS

#: finished and diverged runs are results; the other states are not
RESULTS = ("finished", "diverged")
_AGREE = ("task", "model", "protocol", "selection", "data", "dtype")
_AGREE_IF_TRAINED = ("batch_size", "tuning")
#: columns that are there even if no record holds them
_NUMBERS = (
    "method.lr", "trains", "steps", "forwards", "backwards", "metric", "rows_hash", "eval_every",
    "dev_metric", "dev/loss", "test_metric", "test_metric_stderr", "test/auc", "test/loss", "test/majority",
    "train_seconds", "peak_gib", "state_bytes",
)  # fmt: skip


class Mixed(UserError):
    """Runs that cannot share a table; the message names what differs."""


def results(frame: pd.DataFrame) -> pd.DataFrame:
    """The finished and diverged runs, with a column ``row``: the method, and its settings where it occurs with several.

    Raises:
        Mixed: if the runs are not comparable, or if two have the same settings and seeds.
        UserError: if there are none.
    """
    found = frame[frame["state"].isin(RESULTS)] if len(frame) else frame
    if found.empty:
        states = (
            ", ".join(f"{n} {state}" for state, n in frame["state"].value_counts().items()) if len(frame) else "none"
        )
        raise UserError(f"no finished or diverged run among those found ({states})")
    # Records of different ages have different columns; what none but an old one lacks is null there.
    found = found.reindex(columns=list(dict.fromkeys([*found.columns, *_AGREE, *_AGREE_IF_TRAINED, *SEEDS, *_NUMBERS])))
    if differing := _differences(found):
        raise Mixed(
            f"these runs cannot share one table; they differ in {'; '.join(differing)}. "
            "Choose comparable ones with --where KEY=VALUE and make a table of each"
        )
    found = found.assign(row=_row_names(found))
    repeated = found[found.duplicated(["row", "method.lr", *SEEDS], keep=False)]
    if len(repeated):
        first, second = repeated.sort_values(["row", "method.lr", *SEEDS])["directory"].iloc[:2]
        raise Mixed(f"two runs with the same settings and seeds would count twice: {first} and {second}; leave one out")
    return found


def _differences(found: pd.DataFrame) -> list[str]:
    trained = found[found["trains"].ne(False)]
    tuning = [name for name in found.columns if name.startswith("tuning.")]
    shown = [_values(found, name) for name in _AGREE]
    shown += [_values(trained, name) for name in (*_AGREE_IF_TRAINED, *tuning)]
    shown += [_values(rows, "rows_hash", f"rows of data_seed={seed}") for seed, rows in found.groupby("data_seed")]
    return [text for text in (*shown, _budgets(trained)) if text]


def _values(runs: pd.DataFrame, name: str, title: str | None = None) -> str | None:
    counts = runs[name].map(text).value_counts()
    shown = ", ".join(f"{value} in {n} run{'s' * (n > 1)}" for value, n in counts.items())
    return f"{title or name} ({shown})" if len(counts) > 1 else None


def _budgets(trained: pd.DataFrame) -> str | None:
    """Budgets are equal up to one step of the costliest method, which need not divide them."""
    finished = trained[trained["state"].eq("finished") & trained["steps"].gt(0)]
    if (
        finished.empty
        or finished["forwards"].max() - finished["forwards"].min() < (finished["forwards"] / finished["steps"]).max()
    ):
        return None
    return _values(finished, "forwards", "forwards")


def _row_names(found: pd.DataFrame) -> pd.Series:
    settings = [name for name in found.columns if name.startswith("method.") and name != "method.lr"]
    names = found["method"].copy()
    for method, runs in found.groupby("method"):
        finished = runs[runs["state"].eq("finished")]  # a run that diverged early may not know all its settings
        varying = [name for name in settings if runs[name].map(text).nunique() > 1]
        evaluations = (finished["steps"] / finished["eval_every"]).apply(math.ceil)
        if evaluations.nunique() > 1:  # with more of them the best is better by chance
            varying.append("eval_every")
        for index, run in runs.iterrows() if varying else ():
            shown = [f"{name.removeprefix('method.')}={text(run[name])}" for name in varying]
            shown = [setting for setting in shown if setting != "variant=paper"]
            names[index] = f"{method} ({', '.join(shown)})" if shown else method
    return names


def cells(found: pd.DataFrame) -> pd.DataFrame:
    """One line per row name and learning rate of ``results(...)``: counts, mean dev values, and ``chosen``.

    Chosen is the rate with the best mean dev value by the protocol's selection rule, never by test values, over the
    seeds that all rates of the row have (all of its own where none is shared). A rate at which a seed diverged is
    chosen only if every rate has one.
    """
    lines: list[dict[str, Any]] = []
    for name, of_row in sorted(found.groupby("row"), key=lambda item: _mezo_first(str(item[0]))):
        groups = [_Cell(runs) for _, runs in of_row.groupby("method.lr", dropna=False)]
        candidates = [cell for cell in groups if len(cell.finished)]
        candidates = [cell for cell in candidates if not cell.diverged] or candidates
        shared = set.intersection(*(cell.seeds for cell in candidates)) if candidates else set()
        rule = _by_loss if of_row["selection"].iloc[0] == "lowest dev loss" else _by_metric
        best = max(candidates, key=lambda cell: rule(cell.dev(shared or cell.seeds)), default=None)
        for cell in groups:
            values = cell.dev(shared if cell.seeds >= shared else cell.seeds)
            lines.append(
                {"row": name, "method.lr": cell.lr, "runs": len(cell.finished), "diverged": cell.diverged}
                | values
                | {"chosen": cell is best}
            )
    return pd.DataFrame(lines)


class _Cell:
    """The runs of one row name at one learning rate."""

    def __init__(self, runs: pd.DataFrame):
        self.lr = runs["method.lr"].iloc[0]
        self.finished = runs[runs["state"].eq("finished")]
        self.diverged = len(runs) - len(self.finished)
        self._keys = [tuple(map(text, seeds)) for seeds in self.finished[list(SEEDS)].itertuples(index=False)]
        self.seeds = set(self._keys)

    def dev(self, seeds: set[tuple[str, ...]]) -> dict[str, float]:
        """Mean dev values over the runs with these seeds."""
        runs = self.finished.loc[pd.array([key in seeds for key in self._keys], dtype=bool)]
        return {name: runs[name].mean() for name in ("dev_metric", "dev/loss")}


def _mezo_first(name: str) -> tuple[bool, str]:
    return name.split()[0] != "mezo", name


def _by_metric(dev: dict[str, float]) -> tuple[float, ...]:
    return dev["dev_metric"], -dev["dev/loss"]


def _by_loss(dev: dict[str, float]) -> tuple[float, ...]:
    return (-dev["dev/loss"],)


def tuned(found: pd.DataFrame) -> pd.DataFrame:
    """The finished runs of ``results(...)`` at the chosen rate of their row, MeZO first."""
    chosen = cells(found)
    chosen = chosen.loc[chosen["chosen"], ["row", "method.lr"]]
    return chosen.merge(found[found["state"].eq("finished")], on=["row", "method.lr"])


def text(value: Any) -> str:
    """A setting as people write it: 0.001, mlp, null."""
    if isinstance(value, float):
        return "null" if value != value else f"{value:g}"
    return "null" if value is None or value is pd.NA else str(value)
