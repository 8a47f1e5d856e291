"""What is run by hand around the benchmark: tables of the pages, the check of a GPU machine, a sweep's seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.methods import METHODS
from helpers.modules import module_of

from zobench.bench import memory, models
from zobench.bench.spec import Shape, Spec, all_methods, label

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"noise", "tests", "bench-1.3b", "memory-1.3b", "bench-13b", "ranks"}


def script(name):
    return module_of(ROOT / "scripts" / f"{name}.py")


@pytest.fixture(scope="module")
def record_bench():
    return script("record_bench")


@pytest.fixture(scope="module")
def memory_claim():
    return script("memory_claim")


@pytest.fixture(scope="module")
def gpu_check():
    return script("gpu_check")


@pytest.fixture(scope="module")
def table_of_methods():
    return script("table_of_methods")


def test_the_page_of_all_methods_shows_what_was_measured(table_of_methods):
    page = (ROOT / "docs" / "methods-table.md").read_text(encoding="utf-8")
    rows = json.loads((ROOT / "docs" / "methods-table.json").read_text(encoding="utf-8"))
    assert {row["method"] for row in rows} == set(table_of_methods.methods())
    assert page.endswith(f"\n\n{table_of_methods.markdown(rows)}\n")


def test_a_method_is_looked_at_in_the_middle_of_its_learning_rates(table_of_methods):
    tiny, smollm2 = table_of_methods.SUBJECTS.values()
    assert table_of_methods.settings("mezo", tiny) == ["method=mezo", "method.lr=3.16e-05"]
    assert table_of_methods.settings("mezo", smollm2) == ["method=mezo", "method.lr=0.000316"]
    assert table_of_methods.settings("pgap", tiny)[1:] == ["method.lr=0.00316", "method.rank=16"]
    assert table_of_methods.settings("fzoo", smollm2)[1] == "method.lr=3.16e-08"


@pytest.mark.parametrize("name", ["mezo", "loren", "mezo_adam"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_law_of_memory_counts_the_state_that_a_method_declares(memory_claim, name, dtype):
    tuned = models.load("tiny-opt", dtype, torch.device("cpu"))
    row = memory.measure(Spec("tiny-opt", dtype, "cpu", 1, (Shape(2, 8),), (name,)), Shape(2, 8), name)
    assert memory_claim.Sizes.of(tuned.model).state(name) == row["method_state_bytes"]


def test_a_peak_for_which_there_is_no_memory_is_a_line_with_a_reason(memory_claim, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_claim, "free_bytes", lambda: 3 * 2**30)
    row = memory_claim.row(tmp_path, "float32", "mezo_adam", 1)
    assert row == {"name": "mezo_adam", "reason": "needs about 16.7 GiB, 3.0 were free"}
    assert not list(tmp_path.iterdir())


def test_an_efficiency_per_second_is_in_units_of_mezos_run(table_of_methods):
    of = {"subject": "tiny", "efficiency_stderr": 0.1}
    found = {
        ("mezo", "tiny"): of | {"efficiency": 1.0, "seconds_per_forward": 2.0},
        ("loren", "tiny"): of | {"efficiency": 1.5, "seconds_per_forward": 3.0},
        ("loren", "shape"): {"forwards": 6, "least": 6, "most": 6, "state_bytes": 2**21},
    }
    mezo, loren = table_of_methods.table(found, None)
    assert (loren["tiny"]["per_second"], loren["tiny"]["cost"]) == (1.0, 1.5)
    assert mezo["tiny"]["per_second"] == 1.0
    assert "| loren  |              6 |           2 MiB |         - |" in table_of_methods.markdown([mezo, loren])


HEADLINE = ["mezo", "loren", "ldsd", "kerzoo", "curvzo", "pgap"]


def test_the_measured_table_has_the_headline_methods_in_every_way(record_bench):
    text = record_bench.PAGE.read_text(encoding="utf-8")
    table = text.partition(record_bench.START)[2].partition(record_bench.END)[0].split("\n**")[1]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    ways = [label(name) for name in all_methods() if name.partition(":")[0] in (*HEADLINE, "adamw")]
    assert [way for way in ways if way not in rows] == []
    assert " threads, torch " in table


def test_the_page_of_all_methods_says_what_a_step_of_each_costs():
    rows = json.loads((ROOT / "docs" / "methods-table.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in rows if row["step_cost"] is None] == []


def measurement(file, ratios, threads=2, **asked):
    numbers = ("ratio", "plain_over_this", "seconds")
    rows = [
        {
            "name": name,
            "forwards": 2,
            "outside_share": 0.1,
            "outside_ms_per_forward": 1.0,
            "ns_per_weight_pass": None,
            "evaluation": "walk",
            "fed": "16x64",
            **{key: {"median": 1.0, "q1": 1.0, "q3": 1.0} for key in numbers},
            "ratio_to_as_many_forwards": {"median": ratio, "q1": ratio, "q3": ratio},
        }
        for name, ratio in ratios.items()
    ]
    asked = {"model": "tiny-opt", "dtype": "float32", "repeats": 3, **asked}
    machine = {"device_name": "A CPU", "threads": threads, "versions": {"torch": "2.13.0"}}
    found = {"asked": asked, "environment": machine, "results": [{"shape": "16x64", "time": rows}]}
    file.write_text(json.dumps(found))
    return file


def test_a_page_gets_the_tables_of_its_files_with_those_of_before_beside(record_bench, tmp_path):
    before = measurement(tmp_path / "before.json", {"mezo": 1.23})
    now = measurement(tmp_path / "now.json", {"mezo": 1.12, "pgap": 1.3}, tuning="full")
    other = measurement(tmp_path / "other.json", {"mezo": 1.5}, tuning="lora")
    first, second = record_bench.tables([now, other], [before])
    assert first.startswith(
        "**tiny-opt, float32, 16x64 (batch x tokens), all weights.** A CPU, 2 threads, torch 2.13.0;"
    )
    assert ["1.23", "1.12"] in [[cell.strip() for cell in line.split("|")[2:4]] for line in first.splitlines()]
    assert ["-", "1.30"] in [[cell.strip() for cell in line.split("|")[2:4]] for line in first.splitlines()]
    assert "before" not in second
    elsewhere = measurement(tmp_path / "elsewhere.json", {"mezo": 1.23}, threads=1)
    assert "before" not in record_bench.tables([now], [elsewhere])[0]
    page = tmp_path / "page.md"
    page.write_text(f"head\n{record_bench.START}old\n{record_bench.END}tail\n")
    record_bench.write(page, first)
    assert page.read_text() == f"head\n{record_bench.START}\n{first}\n{record_bench.END}tail\n"
    page.write_text(f"head\n{record_bench.START}tail\n")
    with pytest.raises(SystemExit, match="lacks the marks"):
        record_bench.write(page, first)


def test_the_check_has_the_same_stages_on_a_gpu_and_on_a_cpu(gpu_check):
    on_gpu, on_cpu = gpu_check.stages(tiny=False), gpu_check.stages(tiny=True)
    assert [stage.name for stage in on_gpu] == [stage.name for stage in on_cpu]
    assert {stage.name for stage in on_gpu} > STAGES
    assert len({stage.name for stage in on_gpu}) == len(on_gpu)
    named = ",".join([gpu_check.LIGHT, gpu_check.HEAVY, gpu_check.RELATIVES])
    known = {row.partition(":")[0] for row in named.split(",")}
    assert known == set(METHODS) - {"adamw", "zeroshot"}
    assert gpu_check.LIMIT <= 480


def test_a_stage_that_fails_hangs_or_lacks_a_package_says_so(gpu_check):
    def of(code, needs=(), limit=30):
        stage = gpu_check.Stage("it", limit, needs, ["-c", code, "{json}"], gpu_check._json)
        return gpu_check.run(stage, 100, dict(os.environ))

    written = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('{\"x\": 1}')"
    assert of(written)["result"] == {"x": 1}
    failed = of("raise SystemExit('no luck')")
    assert (failed["state"], failed["why"], failed["output"]) == ("failed", "exit code 1", "no luck\n")
    assert "cannot be read" in of("pass")["why"]
    hung = of("import time; print('here', flush=True); time.sleep(60)", limit=0.5)
    assert (hung["state"], hung["output"]) == ("timed out", "here\n")
    assert of("pass", needs=("no_such_package",))["why"].endswith("lacks no_such_package")


def test_the_check_runs_on_a_cpu_and_goes_on_where_it_was(tmp_path):
    command = ["bash", str(ROOT / "scripts" / "gpu_check.sh"), "--tiny", "--only", "noise"]
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    result = found["stages"]["noise"]["result"]
    assert found["stages"]["noise"]["state"] == "ok"
    assert result["same_bits"]
    assert set(result["bits"].values()) == {True}
    assert all(row["values_per_second"] > 0 for row in result["draws"])
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == found
    assert "bits equal the CPU's: True" in again.stdout


def test_a_machine_without_a_gpu_is_told_what_to_do(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py")]
    environment = {**os.environ, "OUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpu_check: torch sees no GPU; --tiny runs the same stages on the CPU\n"


def test_a_sweeps_seconds_are_shared_out_by_its_rows():
    rows = [{"cpu_hours": 0.01, "forward_seconds": 3, "train_seconds": 4, "evaluate_seconds": 5, "cache_seconds": 1}]
    parts = script("sweep_seconds")._parts(rows, 60.0)
    assert parts == pytest.approx({"forwards": 27, "outside": 9, "evaluation": 5, "cache": 1, "the rest": 18})
