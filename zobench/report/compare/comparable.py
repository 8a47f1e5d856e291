"""What must agree before runs may share a table."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from zobench.errors import ConfigError, UserError, did_you_mean
from zobench.report.frames.runs import SEEDS, Row

#: what two runs of a table share, unless rows or columns are made of it
AGREE = ("task", "model", "protocol", "selection", "data", "dtype")
AGREE_IF_TRAINED = ("batch_size", "tuning", "objective")
#: what may differ in no table, whatever its rows and columns are
_STRICT = ("protocol", "selection", "forwards")
Seeds = tuple[str, ...]


class Mixed(UserError):
    """Runs that cannot share a table; the message names what differs."""


def text(value: Any) -> str:
    """Write a setting as people do.

    >>> text(1e-3), text("mlp"), text(float("nan"))
    ('0.001', 'mlp', 'null')
    """
    if isinstance(value, float):
        return "null" if value != value else f"{value:g}"
    return "null" if value is None or value is pd.NA else str(value)


def seeds_of(runs: pd.DataFrame) -> list[Seeds]:
    """List all seeds of each run, as text: two runs with equal ones are a pair."""
    return list(zip(*(runs[seed].map(text) for seed in SEEDS), strict=True))


def by_seeds(runs: pd.DataFrame) -> dict[Seeds, Row]:
    """Make a dictionary of runs by all their seeds.

    >>> runs = pd.DataFrame([dict.fromkeys(SEEDS, 0), dict.fromkeys(SEEDS, 1)]).assign(test_metric=[0.6, 0.7])
    >>> by_seeds(runs)["1", "1", "1", "1", "1"]["test_metric"]
    0.7
    """
    return dict(zip(seeds_of(runs), runs.to_dict("records"), strict=True))


def check_key(frame: pd.DataFrame, key: str, said: str) -> None:
    """Refuse a key that no run has.

    Args:
        said: the option as it was given, for the message.

    Raises:
        ConfigError: with the key of the records that is most like it.
    """
    if key not in frame:
        raise ConfigError(f"{said}: no run has {key}{did_you_mean(key, frame.columns)}")


def parts(runs: pd.DataFrame, names: Sequence[str]) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Split runs by the values of some keys.

    Returns:
        For each combination of values, as text by the name of its key, the runs that have it. All runs in one part
        where no key is given.
    """
    if not names:
        return [({}, runs)]
    groups = runs.groupby([runs[name].map(text) for name in names])
    return [(dict(zip(names, key, strict=True)), part) for key, part in groups]


def differences(runs: pd.DataFrame, within: Collection[str]) -> dict[str, str]:
    """Find the settings in which runs should agree and do not.

    Args:
        within: settings that rows or columns are made of. The rest must agree over the whole table, and the rows of the
            data set for each of their combinations.

    Returns:
        Setting -> what the runs have of it, in words: ``protocol (clean in 8 runs, mezo_exact in 1 run)``.
    """
    trained = runs[runs["trains"].ne(False)]
    shown = {name: _values(runs, name) for name in AGREE}
    shown |= {name: _values(trained, name) for name in AGREE_IF_TRAINED}
    shown = {name: said for name, said in shown.items() if name in _STRICT or name not in within}
    for group in ("tuning", "objective"):
        settings = [name for name in runs.columns if name.startswith(f"{group}.") and name not in within]
        for _, part in parts(trained, [group] if group in within else []):
            for name in settings:
                shown[name] = shown.get(name) or _values(part, name)
    for _, part in parts(runs, [name for name in within if name != "data_seed"]):
        shown["metric"] = shown.get("metric") or _values(part[part["metric"].notna()], "metric")
        for seed, of_seed in part.groupby("data_seed"):
            shown["rows_hash"] = shown.get("rows_hash") or _values(of_seed, "rows_hash", f"rows of data_seed={seed}")
            prompts = of_seed[of_seed["prompt_hash"].notna()]
            shown["prompt_hash"] = shown.get("prompt_hash") or _values(
                prompts, "prompt_hash", f"prompts of data_seed={seed}"
            )
    shown["forwards"] = _budgets(trained)
    return {name: said for name, said in shown.items() if said}


def _values(runs: pd.DataFrame, name: str, title: str | None = None) -> str | None:
    counts = runs[name].map(text).value_counts()
    shown = ", ".join(f"{value} in {n} run{'s' * (n > 1)}" for value, n in counts.items())
    return f"{title or name} ({shown})" if len(counts) > 1 else None


def _budgets(trained: pd.DataFrame) -> str | None:
    """Compare budgets: they are equal up to one step of the costliest method, which need not divide them."""
    finished = trained[trained["state"].eq("finished") & trained["steps"].gt(0)]
    if finished.empty or finished["forwards"].max() - finished["forwards"].min() < budget_step(finished):
        return None
    return _values(finished, "forwards")


def budget_step(runs: pd.DataFrame) -> float:
    """The most forward passes that a step of some runs takes, up to which their budgets may differ."""
    return float((runs["forwards"] / runs["steps"]).max())
