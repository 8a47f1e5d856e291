"""Files of a data set: whatever they hold, the rows are those that were written, or one line says what is wrong."""

import copy
import gzip
import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zobench.data import files, rows
from zobench.data.folder import FILES
from zobench.errors import ConfigError, DataError

ROWS = [{"sentence": f"it is film number {i} .", "label": i % 2} for i in range(8)]
SQUAD = {"title": "t", "context": "in Lyon", "question": "where ?", "answers": {"text": ["Lyon"], "answer_start": [3]}}


def write(folder, content, task="sst2", kind="jsonl", splits=FILES):
    """Files of a task under ``folder``, of rows or of bytes."""
    (folder / task).mkdir(parents=True, exist_ok=True)
    for split in splits:
        path = folder / task / f"{split}.{kind}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return folder


def loaded(task, folder, name="sst2"):
    task = copy.copy(task)
    task.splits = {"all": {"train": 4, "dev": 4, "test": 8}}
    return rows.load(task, name, directory=folder, splits="all", data_seed=0, test_seed=0, strict=True)


@pytest.fixture
def read(compose_task, tmp_path):
    """``read(content)``: the examples that these rows give, train and dev first."""

    def read(content, task="sst2", kind="jsonl"):
        splits = loaded(compose_task(task), str(write(tmp_path, content, task, kind)), task)
        return [*splits.train, *splits.dev, *splits.test]

    return read


@pytest.fixture
def refused(read):
    """The one line that says what is wrong."""

    def refused(*content):
        with pytest.raises(DataError) as caught:
            read(*content)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        assert str(caught.value).isprintable()
        return str(caught.value)

    return refused


@pytest.mark.parametrize(
    "text", ["2019-01-01", "2019-01-01T00:00:00Z", "12:30:00", "1", "1.5", "true", "null", "NaN", ""]
)
def test_texts_that_look_like_something_else_stay_texts(read, text):
    examples = read([{"sentence": text, "label": 1}] * 8)
    assert {e.prompt for e in examples} == {f"{text} It was"}


def test_answers_that_look_like_dates_stay_texts(read):
    row = {**SQUAD, "title": "2001-01-01", "answers": {"text": ["2019-01-01", "1786"], "answer_start": [0, 0]}}
    assert {e.answers for e in read([row] * 8, "squad")} == {("2019-01-01", "1786")}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_long_rows_are_read(read, kind):
    """One of 3 MB, past the block in which a JSON reader looks for the end of a row."""
    content = [{"sentence": "word " * (600_000 if i == 3 else 1), "label": i % 2} for i in range(8)]
    examples = read(content if kind == "jsonl" else pa.Table.from_pylist(content), "sst2", kind)
    assert max(len(e.prompt) for e in examples) > 2_900_000


def test_columns_in_any_order_and_others_beside_them(read):
    content = [{"idx": i, "label": 1, "extra": [{"a": None}], "sentence": f"film {i}"} for i in range(8)]
    assert {e.prompt for e in read(content)} == {f"film {i} It was" for i in range(8)}


def test_empty_lines_and_a_byte_order_mark_are_no_rows(read):
    text = "\ufeff" + "\n\r\n  \n".join(json.dumps(row) for row in ROWS) + "\n\n"
    assert len({e.prompt for e in read(text.encode())}) == 8
    odd = [{**row, "sentence": f"a\u2028b\x85c {i}"} for i, row in enumerate(ROWS)]  # line ends of Unicode, not of JSON
    assert len({e.prompt for e in read("\n".join(json.dumps(r, ensure_ascii=False) for r in odd).encode())}) == 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"sentence": "Füllwörter", "label": 1}\n'.encode("latin-1"), ["line 1", "UTF-8"]),
        ('{"sentence": "good", "label": 1}\n'.encode("utf-16"), ["in UTF-16", "UTF-8"]),
        ('{"sentence": "good", "label": 1}\n'.encode("utf-16-be"), ["line 1"]),
        (gzip.compress(b'{"sentence": "good", "label": 1}\n', mtime=0), ["compressed"]),
        (b'{"sentence": "good", "label": 1}\n{"sentence": "ba', ["line 2"]),
        (b'{"sentence": "good", "label": 1}\n5\n', ["line 2", "expected an object"]),
        (b'[{"sentence": "good", "label": 1}]\n', ["one JSON list", "expected JSON lines"]),
        (b'{"sentence": "good", "sentence": "bad", "label": 1}\n', ["twice"]),
        (b'{"sentence": "good", "label": 1} {"sentence": "bad", "label": 0}\n', ["line 1"]),
        (b'{"sentence": ' + b"[" * 10**5 + b"\n", ["line 1"]),
        (b'{"sentence": "good", "label": ' + b"9" * 5000 + b"}\n", ["line 1"]),
        (b"\0" * 100, ["line 1"]),
        (b"", ["no rows"]),
        (b"\n\n", ["no rows"]),
        (b"sentence,label\ngood,1\n", ["line 1"]),
    ],
)
def test_files_that_are_no_json_lines(refused, content, words):
    said = refused(content)
    assert "jsonl" in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "label", [2, -1, 10**30, None, True, False, "01", "positive", 1.5, 1e400, [1], {"a": 1}, "\x1b[2J" * 10**6]
)
def test_labels_that_are_no_class(refused, label):
    said = refused([*ROWS[:7], {"sentence": "good", "label": label}])
    assert "label is" in said


@pytest.mark.parametrize("text", [None, float("nan"), True, ["a"], {"text": "a"}, "\ud800", ["x" * 10**6]])
def test_texts_that_are_none(refused, text):
    assert "sentence" in refused([*ROWS[:7], {"sentence": text, "label": 1}])


@pytest.mark.parametrize(
    "answers",
    [
        *(None, 5, "Paris", [], ["Paris"], {}, {"text": []}, {"text": None}, {"text": True}),
        *({"text": [None]}, {"text": [1e400]}, {"text": [""]}, {"text": [" "]}, {"text": ["a", []]}),
        *({"text": {"a": "b"}}, {"text": [["Paris"]]}, {"text": " "}, {"text": ["\ud800"]}),
        {"text": ["ok", "\x1b[2J", None]},
    ],
)  # fmt: skip
def test_answers_that_are_no_list_of_texts(refused, answers):
    said = refused([*([SQUAD] * 7), {**SQUAD, "answers": answers}], "squad")
    assert ", line 8: answers" in said


def of_column(name, values, kind=None):
    """Eight rows of SST-2 in which one column holds other values."""
    columns = {
        "sentence": pa.array([row["sentence"] for row in ROWS]),
        "label": pa.array([row["label"] for row in ROWS]),
    }
    return pa.table({**columns, name: pa.array(values, kind) if kind is not None else values})


def invalid_utf8(values):
    lengths, data = [0], b""
    for value in values:
        data += value
        lengths.append(len(data))
    return pa.StringArray.from_buffers(len(values), pa.array(lengths, pa.int32()).buffers()[1], pa.py_buffer(data))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (of_column("sentence", [0] * 8, pa.timestamp("ns")), ["sentence is"]),
        (of_column("sentence", [2**60] * 8, pa.timestamp("us")), ["train.parquet", "Python cannot hold"]),
        (of_column("sentence", [b"good"] * 8, pa.binary()), ["sentence is b'good', expected text"]),
        (of_column("sentence", [["good"]] * 8), ["sentence is ['good']"]),
        (of_column("sentence", [None] * 8, pa.null()), ["sentence is missing"]),
        (of_column("sentence", invalid_utf8([b"good"] * 7 + [b"\xff\xfe"])), ["row 7", "UTF-8"]),
        (of_column("label", [True] * 8), ["label is True"]),
        (of_column("label", [float("nan")] * 8), ["label is nan"]),
        (of_column("label", [2**63] * 8, pa.uint64()), ["label is 9223372036854775808"]),
        (of_column("label", [None] * 8, pa.int64()), ["label is missing"]),
        (of_column("label", ["good"] * 8), ["label is 'good'"]),
        (pa.table([pa.array(["a"] * 8)] * 2 + [pa.array([0] * 8)], ["sentence", "sentence", "label"]), ["twice"]),
        (pa.table({"text": ["a"] * 8, "label": [0] * 8}), ["no column sentence", "found text, label"]),
        (pa.table({"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())}), ["no rows"]),
    ],
)  # fmt: skip
def test_parquet_of_other_types(refused, table, words):
    said = refused(table, "sst2", "parquet")
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "table",
    [
        of_column("sentence", pa.array([row["sentence"] for row in ROWS]).dictionary_encode()),
        of_column("sentence", [row["sentence"] for row in ROWS], pa.large_string()),
        of_column("label", [row["label"] for row in ROWS], pa.int8()),
        of_column("label", [row["label"] for row in ROWS], pa.uint64()),
    ],
)
def test_parquet_in_other_forms_of_the_same_types(tmp_path, compose_task, table):
    task = compose_task("sst2")
    found, expected = (loaded(task, str(write(tmp_path / kind, content, kind=kind))) for kind, content in (
        ("parquet", table), ("jsonl", ROWS),
    ))  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("as_dictionary", [False, True])
@pytest.mark.parametrize(("size", "count"), [(100_000_000, 8), (10_000_000, 100)])
def test_a_small_parquet_that_unpacks_to_much_is_refused_soon(tmp_path, compose_task, as_dictionary, size, count):
    text = pa.array(["x" * size]).dictionary_encode().take(pa.array([0] * count))
    (tmp_path / "sst2").mkdir()
    for split in FILES:
        path = tmp_path / "sst2" / f"{split}.parquet"
        pq.write_table(
            pa.table({"sentence": text, "label": [0] * count}), path, compression="zstd", store_schema=as_dictionary
        )
        assert path.stat().st_size < 100_000
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        loaded(compose_task("sst2"), str(tmp_path))
    assert time.process_time() - start < 10
    assert len(str(caught.value)) < 500


def test_two_files_of_one_split_are_refused(tmp_path, compose_task):
    write(tmp_path, ROWS)
    write(tmp_path, pa.Table.from_pylist(ROWS), kind="parquet", splits=("train",))
    with pytest.raises(DataError, match=r"train\.parquet and train\.jsonl are both there"):
        loaded(compose_task("sst2"), str(tmp_path))


@pytest.mark.parametrize("kind", ["folder", "gz", "fifo", "dead link"])
def test_what_is_there_in_the_place_of_a_file_is_named(tmp_path, compose_task, kind):
    write(tmp_path, ROWS)
    path = tmp_path / "sst2" / "train.jsonl"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "gz":
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(b"{}"))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no train\.parquet or train\.jsonl as a file \(there is train\.jsonl"):
        loaded(compose_task("sst2"), str(tmp_path))


@pytest.mark.parametrize("folder", ["", "  ", 5, ["a"], "~nobody-of-this-name/x", "x" * 5000, "a\0b", "/proc/1/root"])
def test_folders_that_are_none(compose_task, folder):
    with pytest.raises((DataError, ConfigError)) as caught:
        loaded(compose_task("sst2"), folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 6000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("task", ["sst2", "squad", "wsc", "multirc"])
def test_any_value_is_taken_as_it_is_or_refused_in_one_line(tmp_path, compose_task, task):
    made = compose_task(task)
    good = {"sst2": ROWS[1], "squad": SQUAD}.get(task) or {c: 1 if c == "label" else "a text" for c in made.columns}

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(column=st.sampled_from(made.columns), value=JSON, inside=st.booleans())
    def put(column, value, inside):
        row = {**good, column: {"text": value} if inside and column == "answers" else value}
        write(tmp_path, [row] * 8, task)
        try:
            splits = loaded(made, str(tmp_path), task)
        except DataError as error:
            said = str(error)
            assert "\n" not in said, said
        else:
            held = row[column]["text"] if column == "answers" else value
            text = str(held[0] if isinstance(held, list) else held)
            assert (
                column == "label"
                or text.strip() in "".join((splits.test[0].prompt, *splits.test[0].options))
                or (column == "span2_text")
            )

    put()


def test_any_damage_of_a_parquet_file_is_one_line_or_rows(tmp_path, compose_task):
    write(tmp_path, pa.Table.from_pylist(ROWS), kind="parquet")
    path = tmp_path / "sst2" / "train.parquet"
    content = path.read_bytes()

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(place=st.integers(0, len(content) - 1), bits=st.integers(1, 255), cut=st.booleans())
    def damage(place, bits, cut):
        path.write_bytes(content[:place] + bytes([content[place] ^ bits]) + (b"" if cut else content[place + 1 :]))
        try:
            loaded(compose_task("sst2"), str(tmp_path))
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either way is right

    damage()


def test_only_drawn_rows_are_made_and_in_the_order_drawn(tmp_path):
    for kind in ("jsonl", "parquet"):
        content = [{"sentence": f"film {i}", "label": i % 2} for i in range(1000)]
        write(tmp_path, content if kind == "jsonl" else pa.Table.from_pylist(content), kind=kind)
        table = files.read(tmp_path / "sst2" / f"train.{kind}")
        assert len(table) == 1000
        assert table.take(("sentence",), [999, 0, 500]) == [{"sentence": f"film {i}"} for i in (999, 0, 500)]
        assert table.take(table.names) == content
