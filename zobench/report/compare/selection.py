"""Which runs are results, which repeat each other, and the learning rate of each method."""

import math
from collections.abc import Sequence
from functools import cache

import pandas as pd

from zobench.config.folders import conf_dir
from zobench.config.options import TUNED, defaults, load_yaml
from zobench.errors import UserError
from zobench.record.summaries import RESULTS
from zobench.report.compare.advice import agreeing
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
from zobench.report.compare.identity import DATA, MODEL, identified
from zobench.report.frames.runs import SEEDS, Row

#: columns that are there even if no record holds them
_NUMBERS = (
    "device", "method.lr", "trains", "steps", "forwards", "backwards", "metric", "data.dir", "eval_every",
    "dev_metric", "dev/loss", "test_metric", "test_metric_stderr", "test/n", "test/auc", "test/loss", "test/majority",
    "train_seconds", "cpu_hours", "gpu_hours", "peak_gib", "memory_measured_by", "weights_gib", "method_state_gib",
    "state_bytes",
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
    names = [*runs.columns, *AGREE, *AGREE_IF_TRAINED, *SEEDS, *MODEL, *DATA, *_NUMBERS]
    runs, said = identified(runs.reindex(columns=list(dict.fromkeys(names))))
    unknown = [name for name in _NUMBERS if runs[name].isna().all()]  # null everywhere, no number to pandas
    runs = runs.astype(dict.fromkeys(unknown, float)).copy()  # in one piece
    within = [axis for axis in axes if axis != "method"]
    for axis in within:
        check_key(frame, axis, axis)
    differing = differences(runs, within)
    if differing and not allow_mixed:
        raise Mixed(
            f"these runs cannot share one table; they differ in {'; '.join(differing.values())}. "
            f"{_advice(differing, agreeing(runs, frame.loc[runs.index], differing, within))}"
        )
    labels = [name for name in differing if name not in within]
    if data := [name for name in DATA if name in labels]:
        runs = runs.assign(data_row=_data_names(runs))
        labels = ["data_row", *(name for name in labels if name not in data)]
    runs = runs.assign(row=pd.concat([_row_names(part, labels) for _, part in parts(runs, within)]))
    _refuse_repetitions(runs, within)
    if "method" not in axes:
        _refuse_several_rows(runs, within)
    runs.attrs |= {
        "mixed": list(differing.values()),
        "said": [*said, *_maximised(runs), *_other_folders(runs), *_not_as_shipped(runs)],
    }
    return runs


def _data_names(runs: pd.DataFrame) -> "pd.Series[str]":
    """Name the data of each run by its folder where that tells all rows apart, else by the hashes themselves."""
    hashes = ["data_seed", *DATA]
    texts = runs[["data.dir", *hashes]].map(text)
    folders = texts.groupby(["data.dir", "data_seed"])[list(DATA)].nunique().max().max() <= 1
    several = texts["data.dir"].nunique() > 1
    return texts["data.dir"] if folders and several else texts["rows_hash"].str[:6] + "/" + texts["prompt_hash"].str[:6]


def _maximised(runs: pd.DataFrame) -> list[str]:
    """Say where no loss was trained, but a score."""
    scores = {
        str(run.get("metric")) if pd.isna(path := run.get("objective.score")) else path
        for run in runs[runs["trains"].ne(False) & runs["objective"].eq("metric")].to_dict("records")
    }
    return [f"objective=metric: trained to maximise {', '.join(sorted(scores))}, not by the loss"] if scores else []


def _other_folders(runs: pd.DataFrame) -> list[str]:
    """Say where rows came from several folders of which no shared data_seed shows that they hold the same."""
    said = []
    for key, part in parts(runs, ["task", "data"]):
        seen = part[part["data.dir"].notna()]
        folders = {folder: set(of["data_seed"]) for folder, of in seen.groupby("data.dir")}
        apart = [name for name, seeds in folders.items()
                 if not any(seeds & others for other, others in folders.items() if other != name)]  # fmt: skip
        if len(folders) > 1 and apart:
            said.append(
                f"{key['task']}: rows from {', '.join(map(str, folders))}; that they hold the same data is not known, "
                "for no data_seed was drawn from both"
            )
    return said


def _advice(differing: dict[str, str], conditions: str | None) -> str:
    """What to type about runs that differ: to choose some, to give each a column, or to have them labelled."""
    if conditions is None:
        several = ", one model by --where model_checksum=VALUE" * ("[" in differing.get("model", ""))
        choose = f"Choose comparable ones with --where KEY=VALUE and make a table of each{several}"
    else:
        choose = f"Choose comparable ones, such as by {conditions}, and make a table of each"
    axes = [name for name in ("task", "model") if name in differing]
    columns = f", give each {' and '.join(axes)} a column with --columns {','.join(axes)}" if axes else ""
    if columns and len(axes) < len(differing):
        columns += f" (not enough for {', '.join(name for name in differing if name not in axes)})"
    return f"{choose}{columns}, or have them labelled with --allow-mixed"


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
            shown = [
                f"{'data' if name == 'data_row' else name.removeprefix('method.')}={text(run[name])}" for name in told
            ]
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


def _not_as_shipped(runs: pd.DataFrame) -> list[str]:
    """Say what all runs of a method have set otherwise than it ships, which the names of its rows do not tell."""
    found: dict[str, list[str]] = {}
    for method, of_method in runs.groupby("method"):
        for name, shipped in _defaults(method).items():
            values = set(of_method[name].dropna().map(text)) if name in of_method and name != "method.lr" else set()
            if len(values) == 1 and not values & {shipped, *_tuned_defaults(method, name)}:
                found.setdefault(f"{name.removeprefix('method.')}={values.pop()}", []).append(method)
    told = [f"{setting} ({', '.join(methods)})" for setting, methods in found.items()]
    return [f"set otherwise than the methods ship, in all of their runs: {', '.join(told)}"] if told else []


def _tuned_defaults(method: str, name: str) -> set[str]:
    """What tunings set a method's setting to by default, as texts."""
    files = [load_yaml(path) for path in (conf_dir() / TUNED).glob(f"*/{method}.yaml")]
    return {text(values[key]) for values in files if (key := name.removeprefix("method.")) in values}


def _says(run: Row, name: str) -> bool:
    """Tell if a setting means something for a run: an untrained one has no budget, a diverged one did not spend it."""
    return name in (*AGREE, "metric", "data_row") or (
        text(run["trains"]) != "False" and (name != "forwards" or run["state"] == "finished")
    )


def rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Choose the learning rate of each row.

    Chosen is the rate with the best mean dev value by the protocol's selection rule, never by test values, over the
    seeds that all rates of the row have (all of its own where none is shared). A rate at which a seed diverged is
    chosen only if every rate has one.

    Args:
        runs: from ``results``.

    Returns:
        One line per row and learning rate, MeZO first: row, method.lr, runs (finished ones), diverged (how many),
        shared_runs (seeds that all rates have), dev_metric and dev/loss (means over these), chosen.
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
            counts = {"runs": len(group.finished), "diverged": group.diverged, "shared_runs": len(shared)}
            lines.append({"row": name, "method.lr": group.lr, **counts, **values, "chosen": group is best})
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
        return {name: runs[name].mean(skipna=False) for name in ("dev_metric", "dev/loss")}


def _mezo_first(name: str) -> tuple[bool, str]:
    return name.split()[0] != "mezo", name


def _by_metric(dev: dict[str, float]) -> tuple[float, ...]:
    return _or_last(dev["dev_metric"]), _or_last(-dev["dev/loss"])


def _by_loss(dev: dict[str, float]) -> tuple[float, ...]:
    return (_or_last(-dev["dev/loss"]),)


def _or_last(value: float) -> float:
    """A value to be maximised; what is unknown comes last."""
    return -math.inf if value != value else value


def tuned(runs: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Select the finished runs at the chosen rate of their row, MeZO first.

    Args:
        runs: from ``results``.
        rates: from ``rates``.
    """
    chosen = rates.loc[rates["chosen"], ["row", "method.lr"]]
    return chosen.merge(runs[runs["state"].eq("finished")], on=["row", "method.lr"])
