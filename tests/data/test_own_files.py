"""Files and prompts of a user's own: what spreadsheets and YAML do to them, and the line that says so."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zobench.config.options import load_yaml
from zobench.data import rows
from zobench.errors import ConfigError, DataError
from zobench.tasks.template import TemplateTask

OPTIONS = {"neg": " bad", "pos": " good"}
LINES = [f"film {i},{'neg' if i % 3 else 'pos'}" for i in range(20)]


def loaded(path, prompt="{text} It was", label="label", splits=None, **files):
    task = TemplateTask(prompt=prompt, options=OPTIONS, label=label, splits=splits, files={"train": str(path), **files})
    return rows.load(task, "mine", directory=None, splits="clean", data_seed=0, test_seed=0, strict=True)


@pytest.fixture
def table(tmp_path):
    def write(*lines, name="mine.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def test_lines_that_a_spreadsheet_leaves_empty_are_passed_over(table):
    plain = loaded(table("text,label", *LINES))
    assert loaded(table("", "text,label", *LINES, ",", "  ", " ,", name="other.csv")) == plain


@pytest.mark.parametrize("label", ["meta.label", "label.of"])
def test_a_dot_leads_into_a_column_or_is_part_of_its_name(tmp_path, label):
    texts, labels = zip(*(line.split(",") for line in LINES), strict=True)
    columns = {"label.of": labels, "meta": [{"label": each} for each in labels], "body.text": texts}
    pq.write_table(pa.table(columns), tmp_path / "mine.parquet")
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *LINES]), encoding="utf-8")
    splits = loaded(tmp_path / "mine.parquet", "{body.text} It was", label)
    assert splits.rows_hash == loaded(tmp_path / "mine.csv").rows_hash


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["Text,label", *LINES],
            "no column text (task.prompt); did you mean Text?; found Text, label, expected text, label",
        ),
        (["text, label", *LINES], "found text, ' label', expected text, label"),
        (["text,label", *LINES[:4], '"film,neg', *LINES], "line 6: cannot be read as a table: double quotes are not"),
        (["PK\x03\x04", *LINES], "a spreadsheet or an archive: save its table as CSV"),
        (["text,label", *LINES[:9]], "a tenth of 9 rows is no row for dev"),
    ],
)
def test_tables_that_cannot_be_used(table, lines, said):
    with pytest.raises(DataError) as caught:
        loaded(table(*lines))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_another_separator_is_told_by_the_header(table, sign):
    lines = [line.replace(",", f", a long one{sign}") for line in LINES]
    found = loaded(table(f"text{sign}label", *lines))
    assert found.train[0].prompt.endswith(", a long one It was")
    with pytest.raises(DataError, match=r"its header has ';' and '\|': save it with one of them between cells"):
        loaded(table("a;b|c", "1;2|3", name="both.csv"))


def test_a_column_that_is_asked_for_in_vain_is_told_with_the_setting_that_asks(table):
    path = table("text,label", *LINES)
    with pytest.raises(DataError, match=r"no column txt \(task\.prompt\); did you mean text\?; found text, label"):
        loaded(path, "{txt} It was")
    with pytest.raises(DataError, match=r"no column lab \(task\.label\); did you mean label\?"):
        loaded(path, label="lab")
    with pytest.raises(DataError, match=r"the first line of \.csv must name the columns"):
        loaded(table(*LINES, name="bare.csv"))


def test_labels_without_an_option_are_counted_and_the_line_is_that_of_the_file(table):
    lines = [line.replace("neg", "neutral") if i % 2 else line for i, line in enumerate(LINES)]
    with pytest.raises(DataError) as caught:
        loaded(table("text,label", "", *lines))
    found = re.search(r"train, line (\d+): label is 'neutral'", str(caught.value))
    assert "neutral" in ["", "", *lines][int(found[1]) - 1]
    assert re.search(r"(\d) of 16 rows have such labels: neutral \(\1\)", str(caught.value))
    assert 'add them to task.options, such as neutral: " neutral"' in str(caught.value)


def test_splits_of_more_rows_than_there_are_name_all_parts(table):
    path = table("text,label", *LINES)
    with pytest.raises(DataError, match=r"train=15 and dev=5 and test=5 rows are wanted, 25 in all; .* has 20"):
        loaded(path, splits={"train": 15, "dev": 5, "test": 5})
    with pytest.raises(DataError, match=r"splits\.test add up to 1\.2; .* of one file of 20 rows: expected at most 1"):
        loaded(path, splits={"train": 0.7, "dev": 0.1, "test": 0.4})


def test_a_share_that_gives_no_row_and_a_test_file_are_named_as_such(table):
    path = table("text,label", *LINES)
    with pytest.raises(DataError, match=r"task\.splits\.dev=0\.01 of 20 rows is no row for dev; get more rows, or set"):
        loaded(path, splits={"train": 0.5, "dev": 0.01, "test": 0.2})
    with pytest.raises(DataError, match="test has no column label"):
        loaded(path, test=str(table("text,lab", *LINES, name="test.csv")))


def test_numbers_are_texts_in_prompts_and_answers_however_large(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"a": 10**400 + i, "b": i}) + "\n" for i in range(20)), encoding="utf-8")
    task = TemplateTask(prompt="{a} plus 1 is", answer="b", files=str(path))
    splits = rows.load(task, "mine", directory=None, splits="clean", data_seed=0, test_seed=0, strict=True)
    assert splits.train[0].answers == (str(splits.train[0].index),)


def test_a_label_that_the_prompt_gives_away_is_refused():
    with pytest.raises(ValueError, match="label=label: is in the prompt or an option"):
        TemplateTask(prompt="{text} {label}", options=OPTIONS)


@pytest.mark.parametrize("keys", ["yes: a, true: b, no: c", "1: a, 1.0: b, 2: c", "1: a, true: b, 2: c"])
def test_labels_that_yaml_takes_for_one_are_refused(tmp_path, keys):
    path = tmp_path / "mine.yaml"
    path.write_text(f"options: {{{keys}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 1: not YAML: .* are one"):
        load_yaml(path)
