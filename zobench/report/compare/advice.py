"""What to type where runs cannot share a table: the conditions that leave the most runs which can."""

import shlex
from collections.abc import Collection, Iterable

import pandas as pd

from zobench.report.compare.comparable import AGREE, AGREE_IF_TRAINED, budget_step, differences, text

#: what hangs on data_seed, so that each seed may have one of its own
_BY_SEED = ("rows_hash", "prompt_hash")


def agreeing(runs: pd.DataFrame, raw: pd.DataFrame, differing: Collection[str], within: Collection[str]) -> str | None:
    """The words ``--where KEY=VALUE ...`` that keep the most frequent of comparable runs; None where none are found.

    Args:
        runs: the results, under the names that tell different models apart.
        raw: the same runs as they were loaded, which conditions are for.
        differing: settings in which they should agree and do not.
        within: settings that rows or columns are made of.
    """
    kept = raw.reindex(columns=list(dict.fromkeys([*runs.columns, *raw.columns])))
    words = []
    for name in differing:
        if name not in differences(runs.loc[kept.index], within):
            continue
        key = "model_checksum" if name == "model" and kept["model"].nunique() < runs["model"].nunique() else name
        values = _usual(kept, key)
        kept = kept[kept[key].map(text).isin(values)]
        words.append(f"--where {shlex.quote(f'{key}=' + ','.join(values))}")
    left = runs.loc[kept.index]
    return " ".join(words) if len(left) and not differences(left, within) else None


def _usual(runs: pd.DataFrame, key: str) -> list[str]:
    """The values of a key that the most runs share, as text: one, or as many as may differ in a table."""
    trained = runs[runs["trains"].ne(False)]
    if key == "forwards":
        usual = trained["forwards"].mode().iloc[0]
        near = runs[(runs["forwards"] - usual).abs() < budget_step(trained) / 2]
        return _listed([usual, *near["forwards"], *runs.loc[runs["trains"].eq(False), "forwards"]])
    if key in _BY_SEED:
        return _listed(of_seed[key].mode().iloc[0] for _, of_seed in runs.groupby("data_seed") if of_seed[key].any())
    counted = trained if key not in AGREE and key in (*AGREE_IF_TRAINED, *_settings(runs)) else runs
    return _listed([counted[key].map(text).mode().iloc[0]])


def _settings(runs: pd.DataFrame) -> list[str]:
    return [name for name in runs.columns if name.startswith(("tuning.", "objective."))]


def _listed(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(text(value) for value in values))
