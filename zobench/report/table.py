"""The comparison table and the grid behind its learning rates."""

from collections.abc import Callable, Iterable

import pandas as pd

from zobench.report.choose import RESULTS, cells, results, text, tuned
from zobench.report.load import curves
from zobench.report.markup import Row, Table, number, spread

_GRID = ("train/loss", "dev_metric", "dev/loss", "test_metric", "test/loss")
_TAIL = 0.1  # the share of a run over which its final training loss is averaged


def comparison(frame: pd.DataFrame) -> Table:
    """One row a method, at its learning rate of best mean dev value, mean over seeds.

    A method that occurs with several settings has a row for each. Seconds are those of training: the process's own on a
    CPU, whatever else the machine does, and those of the clock on a GPU. Memory is the highest of the runs.

    Unfinished and failed runs are left out, and a note says so.

    Raises:
        Mixed: if task, model, protocol, data, selection rule, budget or tuning differ; the message names them.
        UserError: if no run is finished.
    """
    found = _with_train_losses(results(frame))
    on_cpu = found["device"].eq("cpu").all()
    seconds = "cpu_hours" if on_cpu else "train_seconds"
    found = found.assign(seconds=found[seconds] * (3600 if on_cpu else 1))
    tried, best = cells(found), tuned(found)
    rows: list[Row] = []
    for name, rates in tried.groupby("row", sort=False):
        chosen = rates[rates["chosen"]]
        row: Row = {
            "row": name,
            "method.lr": chosen["method.lr"].iloc[0] if len(chosen) else None,
            "rates_tried": len(rates),
            "runs": int(chosen["runs"].sum()),
            "diverged": int((chosen if len(chosen) else rates)["diverged"].sum()),
        }
        rows.append(row | _statistics(best[best["row"].eq(name)]))
    metric = found["metric"].iloc[0]
    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda r: r["row"],
        "learning rate": _rate,
        "runs": _runs,
        f"test {metric}": lambda r: spread(r, "test_metric"),
        "std. error (test rows)": lambda r: number(r["test_metric_stderr"], ".3f"),
        "AUC": lambda r: spread(r, "test/auc"),
        "test loss": lambda r: spread(r, "test/loss"),
        "train loss": lambda r: spread(r, "train/loss"),
        "forward passes": _passes,
        "training CPU s" if on_cpu else "training s": lambda r: number(
            r["seconds"], ".3g" if (r["seconds"] or 0) < 100 else ".0f"
        ),
        "peak MiB": lambda r: number(r["peak_mib"], ".0f"),
        "state bytes": lambda r: number(r["state_bytes"], ",.0f"),
    }
    return Table(pd.DataFrame(rows), columns, [*_facts(found, metric), *_warnings(tried), *_left_out(frame)])


def grid(frame: pd.DataFrame) -> Table:
    """Every learning rate of every method: final training loss, dev and test values, divergence, and the one chosen.

    The training loss is the mean over the last tenth of the forward passes. Raises as ``comparison``.
    """
    found = _with_train_losses(results(frame))
    rows = []
    for cell in cells(found).to_dict("records"):
        rate = found["method.lr"].isna() if pd.isna(cell["method.lr"]) else found["method.lr"].eq(cell["method.lr"])
        runs = found[found["row"].eq(cell["row"]) & rate & found["state"].eq("finished")]
        counts = {name: cell[name] for name in ("row", "method.lr", "runs", "diverged")}
        rows.append(counts | _means(runs, _GRID) | {"chosen": cell["chosen"]})
    metric = found["metric"].iloc[0]
    columns: dict[str, Callable[[Row], str]] = {
        "method": lambda r: r["row"],
        "learning rate": lambda r: _lr(r) + (" *" if r["chosen"] else ""),
        "runs": _runs,
        "train loss": lambda r: spread(r, "train/loss"),
        f"dev {metric}": lambda r: spread(r, "dev_metric"),
        "dev loss": lambda r: spread(r, "dev/loss"),
        f"test {metric}": lambda r: spread(r, "test_metric"),
        "test loss": lambda r: spread(r, "test/loss"),
    }
    told = "\\* chosen for the comparison"
    return Table(pd.DataFrame(rows), columns, [told, *_facts(found, metric), *_left_out(frame)])


def _means(runs: pd.DataFrame, names: Iterable[str]) -> Row:
    return {f"{name}{end}": value for name in names
            for end, value in (("", runs[name].mean()), ("_std", runs[name].std(ddof=1)))}  # fmt: skip


def _statistics(runs: pd.DataFrame) -> Row:
    return {
        **_means(runs, ["dev_metric", "test_metric"]),
        "test_metric_stderr": runs["test_metric_stderr"].mean(),
        **_means(runs, ["test/auc", "test/loss", "train/loss"]),
        **{name: runs[name].mean() for name in ("forwards", "backwards", "seconds")},
        "peak_mib": 1024 * runs["peak_gib"].max(),
        "state_bytes": runs["state_bytes"].max(),
    }


def _with_train_losses(found: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column ``train/loss``: its mean over the last tenth of each run's forward passes."""
    lines, losses = curves(found), {}
    if "train/loss" in lines:
        lines = lines[lines["train/loss"].notna()]
        end = lines.groupby("directory")["forwards"].transform("max")
        losses = dict(lines[lines["forwards"] > (1 - _TAIL) * end].groupby("directory")["train/loss"].mean())
    return found.assign(**{"train/loss": found["directory"].map(losses)})


def _rate(row: Row) -> str:
    tried = f" (of {row['rates_tried']})" if row["rates_tried"] > 1 else ""
    return _lr(row) + tried


def _lr(row: Row) -> str:
    return "-" if pd.isna(row["method.lr"]) else text(row["method.lr"])


def _runs(row: Row) -> str:
    return f"{row['runs']}" + (f", {row['diverged']} diverged" if row["diverged"] else "")


def _passes(row: Row) -> str:
    backwards = f" + {row['backwards']:,.0f} backward" if row["backwards"] > 0 else ""
    return number(row["forwards"], ",.0f") + backwards


def _facts(found: pd.DataFrame, metric: str) -> list[str]:
    one = found.iloc[0]
    known = [
        f"{title} {found[name].mean():.3f}"
        for title, name in (
            ("zero-shot", f"zero_shot/test/{metric}"),
            ("majority class", "zero_shot/test/majority"),
        )
        if name in found
    ]
    facts = [f"{one['task']}, {one['model']}, tuning {one['tuning']}, protocol {one['protocol']}, data {one['data']}"]
    facts += [f"test {metric} without training: {', '.join(known)}"] if known else []
    facts += ["train loss: mean over the last tenth of the forward passes"]
    facts += [f"mean ± sample standard deviation over seeds; learning rates by mean dev values ({one['selection']})"]
    if len(devices := sorted(set(found["device"].dropna()))) > 1:
        facts.append(f"seconds and memory from several devices: {', '.join(devices)}")
    return facts


def _warnings(tried: pd.DataFrame) -> list[str]:
    """Rates at the edge of their grid, and rows of fewer runs than others."""
    found = []
    for name, rates in tried.groupby("row", sort=False):
        chosen = rates.loc[rates["chosen"], "method.lr"]
        usable = rates.loc[rates["runs"].gt(0), "method.lr"]
        edge = len(rates) > 1 and len(chosen) and chosen.iloc[0] in (usable.min(), rates["method.lr"].max())
        found += [f"{name}: the chosen learning rate is at the edge of those tried"] if edge else []
    runs = tried.loc[tried["chosen"] & tried["method.lr"].notna()].set_index("row")["runs"]
    uneven = ", ".join(f"{name} {n}" for name, n in runs.items())
    return [*found, f"numbers of runs differ: {uneven}"] if runs.nunique() > 1 else found


def _left_out(frame: pd.DataFrame) -> list[str]:
    counts = frame.loc[~frame["state"].isin(RESULTS), "state"].value_counts()
    shown = [f"{n} {state}" for state, n in counts.items()]
    shown += [f"{len(found)} unreadable"] if (found := frame.attrs.get("left_out")) else []
    return [f"left out: {', '.join(shown)}"] if shown else []
