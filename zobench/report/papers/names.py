"""What the literature calls the method of a run, and which runs can be set against the published numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from zobench.record.summaries import RESULTS
from zobench.report.compare.identity import MODEL, identified, model_of
from zobench.report.papers.models import paper_model

#: runs that agree in these can share a cell; the rest of the settings is for ``results`` to judge
CELL = ("model", "paper_model", "not_paper", "task", "tuning", "protocol", "objective", "data", "dtype", "selection")
_RULES = {"loren": "momentum", "ldsd": "momentum"}  # the rule that makes the paper's method; sgd for all others
#: options that are another one with an update rule of their own
_PRESETS = {"mezo_adam": "mezo", "mezo_momentum": "mezo", "lozo_m": "lozo"}
_NAMES = {
    ("mezo", "adam"): "mezo_adam",
    ("mezo", "adamm"): "zo_adamm",
    ("mezo", "momentum"): "mezo_momentum",
    ("mezo", "sign"): "zo_sgd_sign",
    ("lozo", "corespace"): "lozo_m",
    ("ldsd", "adamm"): "ldsd_adamm",
    ("ldsd", "jaguar"): "ldsd_jaguar",
}
#: settings that take a method's own idea out: no paper's number is of them
_ABLATIONS = (
    ("mezo", "method.distribution", "rademacher", "mezo_rademacher"),
    ("mezo", "method.distribution", "low_rank", "mezo_low_rank"),
    ("loren", "method.variant", "iso_rloo", "iso_rloo"),
    ("ldsd", "method.lr_mu", 0, "ldsd_no_policy"),
    ("lozo", "method.interval", 1, "lozo_interval_1"),
    ("kerzoo", "method.r_scope", "none", "kerzoo_no_kernel"),
    ("curvzo", "method.score_power", 0, "curvzo_uniform"),
    ("curvzo", "method.score", "size", "curvzo_by_size"),
    ("pgap", "method.basis", "random", "pgap_random"),
)


def known_as(run: Mapping[str, Any]) -> str:
    """Name a run's method as the published numbers do; an ablation gets a name that none of them has.

    >>> known_as({"method": "mezo", "method.rule": "adam"}), known_as({"method": "ldsd", "method.lr_mu": 0})
    ('mezo_adam', 'ldsd_no_policy')

    Args:
        run: its row, as ``load`` gives it.
    """
    option, rule = str(run["method"]), run.get("method.rule")
    method = _PRESETS.get(option, option)
    for ablated, setting, value, name in _ABLATIONS:
        if method == ablated and run.get(setting) == value:
            return name
    usual = _RULES.get(method, "sgd")
    if pd.isna(rule) or rule == usual:
        return method
    return _NAMES.get((method, str(rule)), f"{method} with {rule}")


def cells_of(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Split the finished and diverged runs by the settings in ``CELL``, and add a column ``known_as``.

    ``model`` names what ``identified`` tells apart, ``paper_model`` what the papers call it, by family and size; where
    that is nothing, ``not_paper`` says why.

    Yields:
        The settings of a cell, and its runs.
    """
    if frame.empty:
        return
    runs = frame[frame["state"].isin(RESULTS)]
    runs = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *CELL, *MODEL])))
    if len(runs):
        rows = runs.to_dict("records")
        theirs = [paper_model(model_of(run)) for run in rows]
        runs, _ = identified(runs)
        runs = runs.assign(
            known_as=[known_as(run) for run in rows],
            paper_model=[name for name, _ in theirs], not_paper=[why for _, why in theirs],
        )  # fmt: skip
        for values, cell in runs.groupby(list(CELL), dropna=False):
            yield dict(zip(CELL, values, strict=True)), cell
