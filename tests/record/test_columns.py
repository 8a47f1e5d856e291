"""The schema of the record against the records of real runs; tests/record/test_readers.py has those who read them."""

import ast
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.tiny_runs import ROOT, TINY, lines_of, strictly, summary_of
from helpers.written import write_run

import zobench.record.columns as schema
from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.signature import compose
from zobench.errors import DataError
from zobench.record import summaries
from zobench.record.columns import ENDED, ENVIRONMENT, FINISHED, LINES, PREDICTIONS, ROW, STAGES, START, TRAINING
from zobench.record.summaries import as_row
from zobench.run.runner import run
from zobench.zo import Method

PACKAGE = ROOT / "zobench"
OPTIONS = {
    "tasks with options",
    "tasks with options of which one is right",
    "tasks with two options",
    "tasks with two options, each of them right somewhere",
}
LENS = {"`lens.gradient=true`", "`lens.gradient=true`, unless the gradient is 0"}
TRAINS = "runs that train"
LOOK = ("lens.every=4", "lens.draws=3")


@dataclass
class Told:
    """What a run left, and what of the schema must be there: stages of its row, and conditions that hold."""

    directory: Path
    stages: tuple[str, ...]
    where: set[str]

    @property
    def row(self):
        return summary_of(self.directory)

    @property
    def lines(self):
        return lines_of(self.directory)


def told(folder, *overrides, upto=FINISHED, where=OPTIONS):
    tiny = TINY if "task=cb" not in overrides else [word for word in TINY if "mini" not in word]
    cfg = compose(*tiny, "steps=3", "log_every=1", *overrides, f"runs_dir={folder}")
    with suppress(DataError, KeyboardInterrupt):
        run(cfg, in_sweep=True)
    return Told(folder / cfg.out, STAGES[: STAGES.index(upto) + 1], where)


def interrupted(folder):
    """Between two steps, by a signal."""
    step = Method.step

    def disturbed(self, closure):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "step", disturbed)
        return told(folder, upto=ENDED)


def three_options(folder):
    """Overrides for CB with files of its own."""
    (folder / "data" / "cb").mkdir(parents=True)
    row = '{{"premise": "It rains.", "hypothesis": "It is wet.", "label": {}}}\n'
    for name in ("train", "validation"):
        (folder / "data" / "cb" / f"{name}.jsonl").write_text("".join(row.format(i % 3) for i in range(12)))
    sizes = [f"task.splits.clean.{split}=6" for split in ("train", "dev", "test")]
    return "task=cb", "data=local", f"data.dir={folder / 'data'}", *sizes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name -> a run of every kind: each method, with the lens where it can look, and each way to end."""
    folder = tmp_path_factory.mktemp("columns")
    found = {}
    for name in sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml")):
        method = instantiate.locate(compose(f"method={name}").method._target_, name)
        seen = method.trains and not method.backwards_per_step
        where = OPTIONS | (LENS if seen else set()) | ({TRAINS} if method.trains else set())
        found[name] = told(folder, f"method={name}", *(LOOK if seen else ()), where=where)
    return found | {
        "rounding": told(folder, *LOOK, "lens.gradient=false", where=OPTIONS | {TRAINS}),
        "generation": told(folder, "task=squad", "eval_every=3", where={"tasks that generate", TRAINS}),
        "three options": told(folder, *three_options(folder), where={"tasks with options", TRAINS}),
        "frozen layers": told(folder, "tuning=last_layers", "tuning.layers=1", where=OPTIONS | {TRAINS}),
        "mezo_exact": told(folder, "protocol=mezo_exact", where=OPTIONS | {TRAINS}),
        "diverged": told(folder, "method.lr=1e30", upto=ENDED),
        "interrupted": interrupted(folder / "interrupted"),
        "failed": told(folder, "task.splits.mini.train=9999", upto=START),
    }


def misfits(values, columns):
    """Names that the schema lacks, and values that it does not allow."""
    found = {name: columns.find(name) for name in values}
    return {name: values[name] for name, column in found.items() if column is None or not column.fits(values[name])}


def test_the_runs_ended_as_they_should(runs):
    states = {name: each.row["state"] for name, each in runs.items()}
    others = {name: states.pop(name) for name in ("diverged", "interrupted", "failed")}
    assert all(name == state for name, state in others.items())
    assert set(states.values()) == {"finished"}


def test_a_row_has_the_columns_of_the_schema_and_no_others(runs):
    for name, each in runs.items():
        assert summaries.problem(each.row) is None, name
        assert misfits(each.row, ROW) == {}, name
        assert ROW.always(*each.stages, where=each.where) - set(each.row) == set(), name
        assert misfits(as_row(each.row), ROW) == {}, name


def test_a_line_has_the_names_of_the_schema_and_no_others(runs):
    marks = {
        "train/loss": "Every `log_every` steps",
        "dev/loss": "Every `eval_every` steps",
        "lens/precision_sign": "Every `lens.every` steps",
        "zero_shot/test/loss": "The first, before any step",
        "final/test/loss": "The last",
    }
    seen = set()
    for name, each in runs.items():
        for line in each.lines:
            assert misfits(line, LINES) == {}, name
            (mark,) = marks.keys() & line.keys()
            assert LINES.always("In every line", marks[mark], where=each.where) - set(line) == set(), name
            assert mark == "train/loss" or not [key for key in line.keys() - {"step", "forwards"} if "/" not in key]
            seen.add(mark)
    assert seen == marks.keys()
    assert all("projected_gradient" in line for line in runs["mezo"].lines if "train/loss" in line)


def test_environment_and_predictions_have_the_names_of_the_schema_and_no_others(runs):
    for name in ("mezo", "generation"):
        each = runs[name]
        environment = strictly((each.directory / "environment.json").read_text())
        assert misfits(environment, ENVIRONMENT) == {}
        assert ENVIRONMENT.always("In one object") == set(environment)
        for example in pq.read_table(each.directory / "predictions.parquet").to_pylist():
            assert misfits(example, PREDICTIONS) == {}
            assert PREDICTIONS.always("A row for each example", where=each.where) == set(example)


def test_a_name_or_a_value_that_the_schema_does_not_know_is_found_out():
    assert misfits({"steps": 3, "stepz": 3, "forwards": "3", "test/auc": None, "method.lr": None}, ROW) == {
        "stepz": 3, "forwards": "3", "test/auc": None,
    }  # fmt: skip
    assert "accuracy" not in ROW.always(*STAGES)
    assert "test/accuracy" in ROW.always(*STAGES, where=OPTIONS)
    assert "zero_shot/dev/n" in ROW.always(TRAINING)


def test_every_name_is_there_once():
    for columns in (*schema.FILES.values(), schema.METRICS, schema.READINGS):
        names = [column.name for column in columns]
        assert len(names) == len(set(names))


def test_every_column_is_written_where_the_schema_says():
    for columns in (*schema.FILES.values(), schema.METRICS, schema.READINGS):
        for group in columns.groups:
            source = "".join(path.read_text() for path in PACKAGE.glob(group.writer))
            texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
            for column in group.columns:
                names = {
                    column.name,
                    column.name.removesuffix("_stderr").removesuffix("_calibrated"),
                    column.start[:-1],
                    column.start.split("/")[0],
                    column.start.split(".")[0],
                }
                assert names & texts or (column.is_family and not column.of), f"{group.writer}: {column.name}"


def test_records_written_for_tests_are_like_real_ones(tmp_path):
    """Else a reader of a renamed column would go on to find the old one in them."""
    directory = write_run(tmp_path, scores=[1, 0])
    assert misfits(summary_of(directory), ROW) == {}
    assert [misfits(line, LINES) for line in lines_of(directory)] == [{}] * len(lines_of(directory))


def test_the_page_is_made_from_the_schema():
    page = (ROOT / "docs" / "record.md").read_text()
    assert schema.documented(page) == page, "stale: python -m zobench.record.columns docs/record.md"


def test_the_schema_needs_the_standard_library_alone():
    code = "import sys, zobench.record.columns; print(*{name.partition('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not set(said.split()) - set(sys.stdlib_module_names) - {"zobench", "__main__", "_distutils_hack"}
