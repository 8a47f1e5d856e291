"""Tables of runs that are measured by macro-F1 or MCC."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.written import write_run

from zobench import report
from zobench.objective import metrics
from zobench.report.compare.board import CALIBRATED
from zobench.report.compare.comparable import Mixed

GOLD = [0] * 240 + [1] * 120 + [2] * 40
METRICS = {"macro_f1": metrics.macro_f1, "mcc": metrics.mcc}


def write_measured(folder, name, method, seed, right):
    """A run that answers a class right with the given chance, and else with the most frequent one; its metric."""
    draw = np.random.default_rng([seed, right > 0.6])
    chosen = [g if draw.random() < right else 0 for g in GOLD]
    value = METRICS[name](metrics.table(GOLD, chosen))
    added = metrics.shares(METRICS[name], GOLD, chosen)
    known = {f"zero_shot/test/{name}": 0.31, f"zero_shot/test/{name}_calibrated": 0.35}
    directory = write_run(
        folder, method, seed, metric=name, test=value, majority=0.6, **known,
        **{"test_metric_stderr": metrics.stderr(added), "test/n": len(GOLD)},
    )  # fmt: skip
    rows = [
        {"split": "test", "index": i, "gold": str(g), "prediction": str(c), "scores": [0.0] * 3, "score": s}
        for i, (g, c, s) in enumerate(zip(GOLD, chosen, added, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), directory / "predictions.parquet")
    return value


@pytest.mark.parametrize(("name", "majority"), [("macro_f1", 2 * 0.6 / 1.6 / 3), ("mcc", 0.0)])
def test_results_baselines_and_tests_are_of_the_tasks_metric(tmp_path, name, majority):
    found = {
        method: [write_measured(tmp_path, name, method, seed, right) for seed in range(3)]
        for method, right in (("mezo", 0.4), ("kerzoo", 0.8))
    }
    headline, deltas, _ = report.tables(report.load(tmp_path))
    assert headline.title.startswith(f"Test {name}, ")
    lines = headline.frame.set_index("row")
    for method, values in found.items():
        assert lines.loc[method, "test_metric"] == pytest.approx(np.mean(values))
    assert lines["majority"].tolist() == pytest.approx([majority] * 2)
    assert lines["chance"].isna().all()
    assert [CALIBRATED, "0.350"] in headline.cells()
    assert lines.loc["kerzoo", "supported"]  # over seeds, and over what each test example adds
    assert lines.loc["kerzoo", "delta_p"] < 0.05
    assert lines.loc["kerzoo", "delta_examples"] == len(GOLD)
    assert deltas.title == f"Test {name} less that of mezo"


def test_the_same_runs_without_a_difference_are_told_apart_by_no_test(tmp_path):
    for method in ("mezo", "kerzoo"):
        for seed in range(3):
            write_measured(tmp_path, "mcc", method, seed, 0.5)
    lines = report.tables(report.load(tmp_path))[0].frame.set_index("row")
    assert not lines["supported"].any()
    assert lines.loc["kerzoo", "delta_p"] > 0.05


def test_an_accuracy_and_an_mcc_share_no_table(tmp_path):
    write_run(tmp_path, "mezo", 0)
    write_measured(tmp_path, "mcc", "kerzoo", 0, 0.5)
    with pytest.raises(Mixed, match=r"differ in metric \((accuracy|mcc) in 1 run, (accuracy|mcc) in 1 run\)"):
        report.tables(report.load(tmp_path))
