"""docs/tasks.md shows what the tasks make of real rows, and real rows suit a real model's tokenizer."""

from pathlib import Path

import pytest
from helpers.modules import module_of

from zobench.config.folders import conf_dir
from zobench.config.signature import compose
from zobench.data import files
from zobench.data.folder import FILES
from zobench.models.smollm2 import is_converted
from zobench.objective import Encoder
from zobench.run.build import specs

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
#: so many rows of a file are tokenised
ROWS = 100


@pytest.fixture(scope="module")
def script():
    return module_of(ROOT / "scripts" / "record_tasks.py")


def test_the_page_has_every_task_that_ships_with_its_sizes(script):
    names = (*script.SUITE, *script.SENTENCES)
    assert sorted(names) == sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))
    assert [line.removeprefix("## ") for line in TEXT.splitlines() if line.startswith("## ")] == list(names)
    assert script.table(script.SUITE) in TEXT
    assert script.table(script.SENTENCES) in TEXT


def test_the_page_is_what_the_script_makes_of_the_real_rows(script, shared_data):
    assert script.page(shared_data) == TEXT, "stale: python scripts/record_tasks.py DATA"


def test_invented_rows_are_shown_of_tasks_without_real_ones_only(script, shared_data):
    for name, row in script.INVENTED.items():
        assert not (shared_data / name).exists()
        assert script.task_of(name).problem(row) is None


@pytest.fixture(scope="module")
def encoder():
    if not is_converted():
        pytest.skip("model=smollm2 was not run on this machine yet")
    _, spec, _ = specs(compose("model=smollm2"))
    return Encoder(spec.tokenizer(), start=None, max_length=spec.max_length)


def test_real_rows_become_options_that_smollm2_tells_apart(task_name, compose_task, shared_data, encoder):
    task = compose_task(task_name)
    paths = [path for split in FILES if (path := shared_data / task_name / f"{split}.parquet").is_file()]
    if not paths:
        pytest.skip(f"no real rows of {task_name} in {shared_data}")
    for path in paths:
        table = files.read(path)
        rows = table.take(task.columns, range(0, len(table), max(1, len(table) // ROWS)))
        assert [problem for row in rows if (problem := task.problem(row))] == []
        encoded = encoder.encode(task, [task.example(place, row) for place, row in enumerate(rows)])
        assert all(len({row.ids for row in e.rows}) == len(e.example.options) for e in encoded)
        assert not any(e.truncated for e in encoded)
