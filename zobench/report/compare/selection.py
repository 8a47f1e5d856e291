"""Which runs are results, which repeat each other, and the learning rate of each method."""

import math
from collections.abc import Sequence
from functools import cache

import pandas as pd

from zobench.config.folders import conf_dir
from zobench.config.options import defaults, load_yaml
from zobench.errors import UserError
from zobench.record.summaries import RESULTS
from zobench.report.compare.comparable import (
    AGREE,
    AGREE_IF_TRAINED,
    Mixed,
    Seeds,
    check_key,
    differences,
    parts,
    seeds_of,
    text,
)
from zobench.report.frames.runs import SEEDS, Row

#: columns that are there even if no record holds them
_NUMBERS = (
    "device", "method.lr", "trains", "steps", "forwards", "backwards", "metric", "rows_hash", "eval_every",
    "dev_metric", "dev/loss", "test_metric", "test_metric_stderr", "test/n", "test/auc", "test/loss", "test/majority",
    "train_seconds", "cpu_hours", "gpu_hours", "peak_gib", "state_bytes",
)  # fmt: skip


def results(frame: pd.DataFrame, axes: Sequence[str] = ("method",), allow_mixed: bool = False) -> pd.DataFrame:
    """Select the finished and diverged runs, and name the row that each belongs to.

    The column ``row`` is the method, with its settings where it occurs with several: ``ldsd (lr_mu=0)``.

    Args:
        frame: from ``load``.
        axes: keys that rows and columns are made of; in the others the runs must agree.
        allow_mixed: let them differ. ``row`` then tells what of, and ``attrs["mixed"]`` lists it.

    Raises:
        Mixed: if the runs are not comparable, or if two have the same settings and seeds.
        ConfigError: if no run has one of the keys.
        UserError: if there are no results.
    """
    runs = frame[frame["state"].isin(RESULTS)] if len(frame) else frame
    if runs.empty:
        states = (
            ", ".join(f"{n} {state}" for state, n in frame["state"].value_counts().items()) if len(frame) else "none"
        )
        raise UserError(f"no finished or diverged run among those found ({states})")
    # Records of different ages have different columns; what none but an old one lacks is null there.
    runs = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *AGREE, *AGREE_IF_TRAINED, *SEEDS, *_NUMBERS])))
    within = [axis for axis in axes if axis != "method"]
    for axis in within:
        check_key(frame, axis, axis)
    differing = differences(runs, within)
    if differing and not allow_mixed:
        raise Mixed(
            f"these runs cannot share one table; they differ in {'; '.join(differing.values())}. "
            f"Choose comparable ones with --where KEY=VALUE and make a table of each{_advice(differing)}"
        )
    labels = [name for name in differing if name != "rows_hash" and name not in within]
    runs = runs.assign(row=pd.concat([_row_names(part, labels) for _, part in parts(runs, within)]))
    _refuse_repetitions(runs, within)
    if "method" not in axes:
        _refuse_several_rows(runs, within)
    runs.attrs["mixed"] = list(differing.values())
    return runs


def _advice(differing: dict[str, str]) -> str:
    axes = [name for name in ("task", "model") if name in differing]
    return f", give each {' and '.join(axes)} a column with --columns {','.join(axes)}" * bool(axes) + (
        ", or have them labelled with --allow-mixed"
    )


def _refuse_repetitions(runs: pd.DataFrame, within: list[str]) -> None:
    same = list(dict.fromkeys([*within, "row", "method.lr", *SEEDS]))
    repeated = runs[runs.duplicated(same, keep=False)]
    if len(repeated):
        first, second = repeated.sort_values(same)["directory"].iloc[:2]
        raise Mixed(f"two runs with the same settings and seeds would count twice: {first} and {second}; leave one out")


def _refuse_several_rows(runs: pd.DataFrame, within: list[str]) -> None:
    for key, part in parts(runs, within):
        if part["row"].nunique() > 1:
            cell = ", ".join(f"{name}={value}" for name, value in key.items())
            raise Mixed(
                f"the cell {cell} would mix the methods {', '.join(sorted(part['row'].unique()))}; "
                "add method to --rows or --columns, or choose one with --where method=NAME"
            )


def _row_names(runs: pd.DataFrame, labels: Sequence[str]) -> pd.Series:
    settings = [name for name in runs.columns if name.startswith("method.") and name != "method.lr"]
    names = runs["method"].copy()
    for method, of_method in runs.groupby("method"):
        finished = of_method[of_method["state"].eq("finished")]  # one that diverged early may not know all settings
        varying = [name for name in settings if of_method[name].map(text).nunique() > 1]
        evaluations = (finished["steps"] / finished["eval_every"]).dropna().apply(math.ceil)
        if evaluations.nunique() > 1:  # with more of them the best is better by chance
            varying.append("eval_every")
        for index, run in zip(of_method.index, of_method.to_dict("records"), strict=True) if varying or labels else ():
            mine = [name for name in labels if _says(run, name)]
            told = [name for name in [*varying, *mine] if text(run[name]) != _defaults(method).get(name)]
            shown = [f"{name.removeprefix('method.')}={text(run[name])}" for name in told]
            names[index] = f"{method} ({', '.join(shown)})" if shown else method
    return names


@cache
def _defaults(method: str) -> dict[str, str]:
    """Read the settings in which a method ships, as texts by their name in the record; none for a user's own method."""
    path = conf_dir() / "method" / f"{method}.yaml"
    if not path.is_file():
        return {}
    given = load_yaml(path) | {group: ",".join(options) for group, options in defaults(path).items()}
    return {f"method.{name}": text(value) for name, value in given.items()}


def _says(run: Row, name: str) -> bool:
    """Tell if a setting means something for a run: an untrained one has no budget, a diverged one did not spend it."""
    return name in AGREE or (text(run["trains"]) != "False" and (name != "forwards" or run["state"] == "finished"))


def rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Choose the learning rate of each row.

    Chosen is the rate with the best mean dev value by the protocol's selection rule, never by test values, over the
    seeds that all rates of the row have (all of its own where none is shared). A rate at which a seed diverged is
    chosen only if every rate has one.

    Args:
        runs: from ``results``.

    Returns:
        One line per row and learning rate, MeZO first: row, method.lr, runs (finished ones), diverged (how many),
        dev_metric and dev/loss (means), chosen.
    """
    lines: list[Row] = []
    for name, of_row in sorted(runs.groupby("row"), key=lambda item: _mezo_first(str(item[0]))):
        groups = [RateGroup(group) for _, group in of_row.groupby("method.lr", dropna=False)]
        candidates = [group for group in groups if len(group.finished)]
        candidates = [group for group in candidates if not group.diverged] or candidates
        shared = set.intersection(*(group.seeds for group in candidates)) if candidates else set()
        rule = _by_loss if of_row["selection"].iloc[0] == "lowest dev loss" else _by_metric
        best = max(candidates, key=lambda group: rule(group.dev(shared or group.seeds)), default=None)
        for group in groups:
            values = group.dev(shared if group.seeds >= shared else group.seeds)
            lines.append(
                {"row": name, "method.lr": group.lr, "runs": len(group.finished), "diverged": group.diverged}
                | values
                | {"chosen": group is best}
            )
    return pd.DataFrame(lines)


class RateGroup:
    """The runs of a row at one learning rate ``lr``: the ``finished`` ones, their ``seeds``, how many ``diverged``."""

    def __init__(self, runs: pd.DataFrame):
        self.lr = runs["method.lr"].iloc[0]
        self.finished = runs[runs["state"].eq("finished")]
        self.diverged = len(runs) - len(self.finished)
        self._keys = seeds_of(self.finished)
        self.seeds = set(self._keys)

    def dev(self, seeds: set[Seeds]) -> dict[str, float]:
        """Average the dev values over the finished runs with these seeds."""
        runs = self.finished.loc[[key in seeds for key in self._keys], ["dev_metric", "dev/loss"]]
        return {name: runs[name].mean() for name in ("dev_metric", "dev/loss")}


def _mezo_first(name: str) -> tuple[bool, str]:
    return name.split()[0] != "mezo", name


def _by_metric(dev: dict[str, float]) -> tuple[float, ...]:
    return dev["dev_metric"], -dev["dev/loss"]


def _by_loss(dev: dict[str, float]) -> tuple[float, ...]:
    return (-dev["dev/loss"],)


def tuned(runs: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Select the finished runs at the chosen rate of their row, MeZO first.

    Args:
        runs: from ``results``.
        rates: from ``rates``.
    """
    chosen = rates.loc[rates["chosen"], ["row", "method.lr"]]
    return chosen.merge(runs[runs["state"].eq("finished")], on=["row", "method.lr"])
