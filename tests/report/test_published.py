"""The published numbers: well-formed, consistent, and as transcribed."""

import csv
import os
import re
from pathlib import Path

import pandas as pd
import pytest

import zobench
from zobench import report
from zobench.config.folders import conf_dir
from zobench.report.papers import published

FOLDER = Path(zobench.__file__).parent / "report" / "papers" / "published"
FILES = sorted(FOLDER.glob("*.csv"))
ACROSS = ("task", "method", "tuning")
NOTES = os.environ.get("ZOBENCH_NOTES")
#: the notes' tables of cells, in the columns of the files here
TABLES = [path for path in (sorted(Path(NOTES).glob("*.csv")) if NOTES else ())
          if path.read_text("utf-8").startswith(",".join(published.COLUMNS))]  # fmt: skip
#: tasks and models of the papers that zobench does not have
TASKS = {"cb", "boolq", "wic", "copa", "record", "drop", "sst5", "snli", "mnli", "trec", "qnli", "cola", "winogrande",
         "cifar-100"}  # fmt: skip
MODELS = {"opt-30b", "opt-66b", "opt-175b", "roberta-large", "gpt2-xl", "llama-7b", "llama-3.1-8b", "mistral-7b",
          "vicuna-7b", "qwen3-0.6b", "qwen3-4b", "qwen3-8b", "pangu-1b", "phi-2", "vit-b"}  # fmt: skip
#: methods and references of the papers that are no option of zobench; the first four are update rules of its methods
METHODS = {"ldsd_adamm", "ldsd_jaguar", "zo_adamm", "zo_sgd_sign", "first_order", "fo_sgd", "icl", "lp", "lo_grzo",
           "qu_grzo", "relizo", "sparse_grzo", "sparse_jaguar", "spsa", "spsa_1_5", "subzero_gv",
           "zo_sgd_cons"}  # fmt: skip
KEYS = {"protocol", "steps", "forwards", "batch_size", "selection", "dtype", "train_examples", "method.eps",
        "method.probes", "method.lr", "method.candidates", "objective"}  # fmt: skip


@pytest.fixture(scope="module")
def numbers():
    return report.published()


def test_every_file_is_one_paper_with_all_columns():
    assert len(FILES) > 20
    for path in FILES:
        rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
        assert rows[0] == list(published.COLUMNS), path.name
        assert len({row[0] for row in rows[1:]}) == 1, path.name
        assert all(cell == cell.strip() for row in rows for cell in row), path.name


def test_the_page_counts_what_is_there(numbers):
    page = (FOLDER.parents[3] / "docs" / "published.md").read_text(encoding="utf-8")
    without = int(numbers["value"].isna().sum())
    assert f"{len(FILES)} of them, {len(numbers):,} cells; {without} of these were looked for and not found" in page
    assert f"holds {len(report.registry())} claims" in page


def test_no_number_stands_twice(numbers):
    assert not numbers.duplicated(list(published.KEY)).any()


def test_names_are_known(numbers):
    groups = ("task", "model", "method")
    options = {group: {path.stem for path in (conf_dir() / group).glob("*.yaml")} for group in groups}
    averages = {task for task in numbers["task"] if re.fullmatch(r"average_\d+", task)}
    assert set(numbers["task"]) <= options["task"] | TASKS | averages | {""}
    assert set(numbers["model"]) <= options["model"] | MODELS | {""}
    assert set(numbers["method"]) <= options["method"] | METHODS
    assert set(numbers["against"]) <= options["method"] | METHODS | {""}
    assert set(numbers["tuning"]) <= {"full", "lora", "prefix", "prompt", ""}
    assert set(numbers["metric"]) <= set(published.METRICS)
    assert set(numbers["source"]) == set(published.SOURCES)
    assert set(numbers["unit"]) <= {*published.ABSOLUTE, *published.RELATIVE, "unclear"}
    for protocol in set(numbers["protocol"]):
        assert set(published.split_protocol(protocol)[0]) <= KEYS


def test_every_task_has_the_papers_metric(numbers):
    generated = numbers["task"].isin(["squad", "drop"])
    assert set(numbers.loc[generated & numbers["unit"].eq("%"), "metric"]) == {"f1"}
    assert set(numbers.loc[numbers["task"].str.startswith("average"), "metric"]) == {"score"}


def test_scores_are_percentages_and_relative_numbers_name_their_reference(numbers):
    percent = numbers.loc[numbers["unit"].eq("%"), "value"].dropna()
    assert percent.between(2, 100).all()  # a fraction would be below
    assert set(numbers.loc[numbers["unit"].eq("%"), "metric"]) == {"accuracy", "dev_accuracy", "f1", "score"}
    relative = numbers["unit"].isin(published.RELATIVE)
    assert numbers.loc[relative, "against"].ne("").all()
    assert numbers.loc[numbers["unit"].eq("% change"), "value"].between(-100, 0).all()
    assert numbers.loc[numbers["unit"].isin(["GB", "GiB", "s", "nats"]), "value"].dropna().gt(0).all()
    assert numbers["deviation"].dropna().between(0, 25).all()
    assert numbers["n_seeds"].dropna().isin(range(1, 11)).all()


def test_the_authors_of_a_number_or_those_who_quote_it_are_named(numbers):
    """A paper that compares with others prints numbers of its own run; `via` says so where they are in a ledger."""
    assert numbers["paper"].ne("").all()
    ledger = numbers[numbers["paper"].eq("github.com/EkkoXy/AIM-ZO")]
    others = ledger["method"].ne("aim_zo") & ledger["metric"].isin(["accuracy", "f1", "score"])
    assert ledger["source"].eq("authors").all()
    assert set(ledger.loc[others & ledger["via"].ne(""), "via"]) == {"independent re-run by the authors of AIM-ZO"}
    assert ledger["table"].str.fullmatch(r"Table \d+").all()


def test_a_cell_without_a_number_says_why(numbers):
    empty = numbers[numbers["value"].isna()]
    assert len(empty) > 100
    assert empty["protocol"].str.contains("not found|stopped at 3312 steps").all()
    assert not numbers.loc[numbers["value"].notna(), "protocol"].str.contains("not found").any()


def test_printed_averages_are_those_of_the_printed_cells(numbers):
    """Checks the transcription against the papers' own arithmetic; one unit of the last digit is rounding."""
    columns = ["paper", "table", "model", "method", "tuning"]
    cells = numbers[numbers["unit"].eq("%") & numbers["setting"].eq("") & numbers["value"].notna()]
    checked = 0
    for average in cells[cells["metric"].eq("score")].to_dict("records"):
        same = cells[cells[columns].eq([average[name] for name in columns]).all(axis=1) & cells["metric"].ne("score")]
        if len(same) == int(average["task"].removeprefix("average_")):
            assert same["value"].mean() == pytest.approx(average["value"], abs=0.1), average
            checked += 1
    assert checked >= 20


@pytest.mark.parametrize(
    ("conditions", "value"),
    [
        ({"paper": "2305.17333", "table": "Table 1", "task": "sst2", "method": "mezo", "tuning": "full"}, 91.4),
        ({"paper": "2305.17333", "table": "Table 1", "task": "drop", "method": "adamw"}, 31.3),
        ({"paper": "2305.17333", "table": "Table 1", "task": "record", "method": "lp"}, 27.1),
        ({"paper": "2305.17333", "table": "Table 20", "model": "opt-66b", "task": "squad", "tuning": "prefix"}, 85.0),
        ({"paper": "2305.17333", "table": "Table 22", "model": "opt-13b", "method": "adamw", "tuning": "full"}, 316),
        ({"paper": "2305.17333", "table": "Table 23", "model": "opt-13b", "method": "adamw"}, 13.638),
        ({"paper": "2402.11592", "method": "mezo", "tuning": "prompt", "metric": "peak_memory"}, 18.8),
        ({"paper": "2608.15665", "model": "llama-3.1-8b", "task": "drop", "method": "subzero"}, 67.8),
        ({"paper": "2601.01452", "model": "opt-13b", "method": "mezo_adam", "metric": "seconds_per_step"}, 0.6145),
        ({"paper": "2603.21725", "table": "Table 1", "task": "average_8", "method": "curvzo"}, 66.8),
        ({"paper": "2510.18228", "model": "opt-2.7b", "task": "squad", "method": "pgap", "tuning": "lora"}, 76.6),
        ({"paper": "2510.18228", "table": "abstract", "metric": "steps"}, -81),
        ({"paper": "2505.18886", "task": "multirc", "metric": "gpu_hours"}, -44),
        ({"paper": "2511.07971", "table": "abstract", "metric": "peak_memory"}, -27.3),
        ({"paper": "2511.07971", "task": "qnli", "setting": "", "method": "loren"}, 74.6),
        ({"paper": "2602.13659", "setting": "lr_mu=3e-3", "metric": "accuracy"}, 90.02),
        ({"paper": "2410.08989", "task": "wic", "method": "subzero"}, 60.8),
        ({"paper": "2410.07698", "setting": "rank 2, interval 1"}, 55.0),
        ({"paper": "2605.28760", "task": "sst2", "setting": "full validation set"}, 93.1),
        ({"paper": "2606.02857", "model": "llama-3-8b", "task": "rte", "method": "grzo", "unit": "%"}, 81.6),
        ({"paper": "2506.09034", "model": "phi-2", "method": "hizoo"}, 71.4),
        ({"paper": "2609.38095", "model": "qwen3-8b", "task": "wic", "method": "spsa_1_5"}, 71.2),
        ({"paper": "github.com/EkkoXy/AIM-ZO", "model": "opt-13b", "task": "sst2", "method": "curvzo"}, 49.39),
        ({"paper": "github.com/EkkoXy/AIM-ZO", "model": "qwen3-8b", "task": "squad", "method": "aim_zo"}, 91.8),
    ],
)
def test_numbers_as_the_sources_print_them(numbers, conditions, value):
    found = numbers[numbers[list(conditions)].eq(list(conditions.values())).all(axis=1)]
    assert list(found["value"]) == [value]


@pytest.mark.skipif(not TABLES, reason="ZOBENCH_NOTES names no folder with tables of cells")
def test_every_cell_of_the_notes_tables_is_there_as_it_stands():
    rows = {tuple(row.values()) for path in FILES for row in _rows(path)}
    cells = [tuple(row.values()) for path in TABLES for row in _rows(path)]
    assert cells
    assert [cell for cell in cells if cell not in rows] == []


@pytest.mark.skipif(not NOTES, reason="ZOBENCH_NOTES does not name the folder with the notes that were transcribed")
def test_every_number_stands_in_the_notes():
    """Four and more scores over tasks, methods or tunings stand in one line and in order; other numbers somewhere.

    Cells of the notes' tables have a test of their own.
    """
    tables = {tuple(row.values()) for path in TABLES for row in _rows(path)}
    texts = [path.read_text("utf-8") for path in sorted(Path(NOTES).glob("*.md"))]
    lines = [_numbers(line) for text in texts for line in text.splitlines()]
    somewhere = {number for line in lines for number in line}
    rows = [row for path in FILES for row in _rows(path) if row["value"] and tuple(row.values()) not in tables]
    for row in rows:
        if "printed as" not in row["protocol"]:
            assert _as_printed(row) & somewhere, row
    groups = {}
    scores = [row for row in rows if row["unit"] == "%" and row["metric"] != "score"]
    for row in scores:
        for across in ACROSS:
            groups.setdefault(_group(row, across), []).append(row["value"])
    long = {key: any(_in_order(values, line) for line in lines) for key, values in groups.items() if len(values) >= 4}
    checked = [row for row in scores if any(_group(row, across) in long for across in ACROSS)]
    assert len(checked) > 400
    for row in checked:
        assert any(long.get(_group(row, across)) for across in ACROSS), row


def _rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _numbers(line):
    line = re.sub(r"(?<=\d) (?=\d{3} s)", "", line)  # seconds have thin thousands
    return re.findall(r"(?<![\d.])\d+(?:\.\d+)?", line)


def _as_printed(row):
    """The value as it may be printed: without its sign, in milliseconds, or in thousands of steps."""
    value = row["value"].lstrip("-")
    milli = {form.format(1000 * float(value)) for form in ("{:g}", "{:.1f}")} if row["unit"] == "s" else set()
    return {value, value.removesuffix("000") if row["unit"] == "steps" else value} | milli


def _group(row, across):
    named = ("paper", "table", "model", "setting", "via", *(name for name in ACROSS if name != across))
    return across, *(row[name] for name in named)


def _in_order(values, line):
    rest = iter(line)
    return all(value in rest for value in values)


def test_the_frame_is_tidy(numbers):
    assert tuple(numbers.columns) == published.COLUMNS
    assert all(pd.api.types.is_numeric_dtype(numbers[name]) for name in ("value", "deviation", "n_seeds"))
    assert not numbers.drop(columns=["value", "deviation", "n_seeds"]).isna().any().any()
