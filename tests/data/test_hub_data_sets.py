"""Data sets of a hub, served on this machine: layouts, revisions, logins, broken downloads, and no network."""

import json
import subprocess
import sys

import pytest
from helpers.hub import COMMIT, environment, serving, write_data_set

from zobench.data.layout import Layout
from zobench.errors import DataError

# A process of its own: the hub's library reads its environment when imported.
LOADS = """
import json, sys
from zobench.data.hub import from_hub
from zobench.errors import UserError
from zobench.tasks.template import TemplateTask

for facts in json.loads(sys.argv[1]):
    task = TemplateTask(prompt="{sentence}", options=[" no", " yes"], splits={}, **facts)
    try:
        tables = from_hub(task, "mine")
        found = {name: [row["sentence"] for row in table.take(["sentence"])] for name, table in tables.items()}
    except UserError as error:
        found = str(error)
    print(json.dumps(found), flush=True)
"""

# What the hub's own library reads.
READS = """
import json, sys, datasets
datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
for facts in json.loads(sys.argv[1]):
    data = datasets.load_dataset(facts["hub"], facts["subset"], revision=facts["revision"])
    print(json.dumps({split: data[split]["sentence"][:] for split in ("train", "validation")}), flush=True)
"""


def loads(home, url, *facts, code=LOADS, **more):
    """What comes of each data set in turn: its sentences, or the error's text."""
    ended = subprocess.run(
        [sys.executable, "-c", code, json.dumps(facts)],
        env=environment(url, home, **more), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert code != LOADS or ended.stderr == ""
    return [json.loads(line) for line in ended.stdout.splitlines()]


def rows(start, count):
    return [{"sentence": f"film number {i}", "label": i % 2} for i in range(start, start + count)]


def sentences(start, count):
    return [row["sentence"] for row in rows(start, count)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data_sets")
    first = {"ax": {"test": [rows(90, 3)]}, "sst2": {"train": [rows(0, 5), rows(5, 3)], "validation": [rows(50, 4)]}}
    write_data_set(root / "glue", first)
    write_data_set(root / "plain", {"data": {"train": [rows(0, 8)], "test": [rows(60, 2)]}}, readme=False)
    (root / "script").mkdir()
    (root / "script" / "script.py").write_text("raise SystemExit")
    other = {"train": [rows(0, 2), [{"text": "x", "label": 0}]], "validation": [rows(0, 2)]}
    write_data_set(root / "uneven", {"sst2": other})
    return {f"datasets/you/{folder.name}": folder for folder in root.iterdir()}


GLUE = {"hub": "you/glue", "subset": "sst2", "revision": COMMIT}


def test_a_commit_is_downloaded_once_and_only_what_is_read(folders, tmp_path):
    with serving() as hub:
        hub.repositories = folders
        twice = loads(tmp_path, hub.url, GLUE, {**GLUE, "rows": {"train": 8, "validation": 4}})
        gets = [path.rpartition("/")[2] for method, path in hub.asked if method == "GET"]
        hub.asked.clear()
        (again,) = loads(tmp_path, hub.url, GLUE)
        assert hub.asked == []
        official = loads(tmp_path / "official", hub.url, GLUE, code=READS)
    assert twice == [again, again] == [*official, *official]
    assert again == {"train": sentences(0, 8), "validation": sentences(50, 4)}
    parts = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"]
    assert gets[:2] == [COMMIT, "README.md"]  # the list of files comes first
    assert sorted(gets[2:]) == [f"{part}.parquet" for part in parts]
    offline = loads(tmp_path, "http://127.0.0.1:9", GLUE, {**GLUE, "revision": "e" * 40}, {**GLUE, "hub": "no/no"})
    assert offline[0] == again
    assert f"is in the cache with revision {COMMIT}, not {'e' * 40}, and http://127.0.0.1:9 cannot" in offline[1]
    assert "is not in the cache, and http://127.0.0.1:9 cannot be reached" in offline[2]
    assert "HF_HUB_OFFLINE is set" in loads(tmp_path, hub.url, {**GLUE, "hub": "no/no"}, HF_HUB_OFFLINE="1")[0]


def test_what_cannot_be_read_is_said_in_one_line(folders, tmp_path):
    with serving() as hub:
        hub.repositories = folders | {"datasets/you/gated": folders["datasets/you/glue"]}
        hub.gated = {"datasets/you/gated"}
        faults = {
            "has no revision v9 at": {**GLUE, "revision": "v9"},
            "did you mean task.subset=sst2?": {**GLUE, "subset": "sst-2"},
            "choose one: task.subset=ax | sst2": {**GLUE, "subset": None},
            "of a split train; it has a split test": {**GLUE, "subset": "ax"},
            "train has 8 rows, expected 9": {**GLUE, "rows": {"train": 9, "validation": 4}},
            "expected at most three splits": {**GLUE, "rows": dict.fromkeys("abcd")},
            "(script.py), which is not run": {"hub": "you/script", "revision": COMMIT},
            "has other columns than": {**GLUE, "hub": "you/uneven"},
            "of a split validation; it has data/test-00000-of-00001": {"hub": "you/plain", "revision": COMMIT},
            "is no id of the hub": {**GLUE, "hub": "x y"},
            "names no data": {},
            f"does not exist at {hub.url}; check task.hub": {**GLUE, "hub": "no/no"},
            f"is gated: accept its licence at {hub.url}/datasets/you/gated": {**GLUE, "hub": "you/gated"},
        }
        said = loads(tmp_path, hub.url, *faults.values())
        for fault, text in zip(faults, said, strict=True):
            assert fault in text
            assert "\n" not in text
            assert "huggingface.co" not in text
        gated = {**GLUE, "hub": "you/gated"}
        (refused,) = loads(tmp_path, hub.url, gated, HF_TOKEN="hf_stranger")
        assert "your token has no access" in refused
        assert "hf_stranger" in hub.tokens
        assert "hf_stranger" not in refused
        assert loads(tmp_path, hub.url, gated, HF_TOKEN="hf_friend") == loads(tmp_path, hub.url, GLUE)
        three = {"hub": "you/glue", "subset": "sst2", "rows": {"validation": 4, "train": None, "test": None}}
        assert "of a split test; it has a split train, a split validation" in loads(tmp_path, hub.url, three)[0]
        (one,) = loads(tmp_path, hub.url, {**GLUE, "rows": {"validation": 4}})
        assert one == {"train": sentences(50, 4)}
        plain = {"hub": "you/plain", "revision": None, "rows": {"train": None, "test": 2}}
        assert loads(tmp_path, hub.url, plain) == [{"train": sentences(0, 8), "validation": sentences(60, 2)}]
        for hub.fails in (401, 403):
            (refused,) = loads(tmp_path / "new", hub.url, GLUE)
            assert f"is refused by {hub.url} ({hub.fails}): it asks for a token" in refused
        (refused,) = loads(tmp_path / "new", hub.url, GLUE, HF_TOKEN="hf_old")
        assert "your token is not valid" in refused


@pytest.mark.parametrize(
    ("url", "more", "why"),
    [
        ("http://no-such-host.invalid", {}, "is not in the cache, and http://no-such-host.invalid cannot be reached"),
        ("http://me:secret@127.0.0.1:9", {}, "is not in the cache, and http://127.0.0.1:9 cannot be reached"),
        ("127.0.0.1:9", {}, "HF_ENDPOINT is '127.0.0.1:9', expected an address such as https://my.mirror"),
        ("http://127.0.0.1:99999", {}, "HF_ENDPOINT is 'http://127.0.0.1:99999', expected an address"),
        ("", {}, "HF_ENDPOINT is '', expected an address"),
        ("http://127.0.0.1:9", {"TRANSFORMERS_OFFLINE": "1"}, "is not in the cache, and TRANSFORMERS_OFFLINE is set"),
    ],
)
def test_an_address_that_cannot_be_asked_is_said_without_its_password(tmp_path, url, more, why):
    (refused,) = loads(tmp_path, url, GLUE, **more)
    assert why in refused
    assert "secret" not in refused


def test_a_mirror_has_a_path_names_of_revisions_and_another_host_for_large_files(folders, tmp_path):
    with serving() as hub, serving() as other:
        hub.repositories = other.repositories = folders
        hub.revisions, hub.elsewhere = {"v1", "refs/convert/parquet"}, other.url
        hub.below = other.below = "/hf/mirror"
        named = [{**GLUE, "revision": name} for name in ("v1", "refs/convert/parquet", COMMIT)]
        found = loads(tmp_path, f"{hub.url}/hf/mirror/", *named, HF_TOKEN="hf_friend")
        assert found == [{"train": sentences(0, 8), "validation": sentences(50, 4)}] * 3
        assert hub.tokens == {"hf_friend"}
        assert other.tokens == {""}
        (refused,) = loads(tmp_path, f"{hub.url}/hf/mirror/", {**GLUE, "hub": "no/no"})
        assert f"does not exist at {hub.url}/hf/mirror; check task.hub" in refused


def test_a_cache_that_cannot_be_written_or_lacks_files_is_said(folders, tmp_path):
    bare = {"hub": "you/plain", "revision": COMMIT, "rows": {"train": None, "test": None}}
    (tmp_path / "file").write_text("")
    with serving() as hub:
        hub.repositories = folders
        (refused,) = loads(tmp_path / "file", hub.url, bare)
        assert f"cannot be kept in {tmp_path / 'file' / 'hub'}: Not a directory" in refused
        loads(tmp_path, hub.url, GLUE)
    next(tmp_path.rglob("trees/*.json")).unlink()  # as where other programs have filled the cache
    next(tmp_path.rglob("train-00001-of-00002.parquet")).unlink()
    counted = {**GLUE, "rows": {"train": 8, "validation": 4}}
    lacking, fewer = loads(tmp_path, "http://127.0.0.1:9", GLUE, counted)
    assert "may lack files: the hub's list of them is not in the cache" in lacking
    assert "train has 5 rows, expected 8" in fewer


@pytest.mark.slow  # the hub's library tries each for 23 seconds
@pytest.mark.parametrize(("status", "why"), [(500, "it has trouble"), (429, "wait some minutes")])
def test_a_hub_in_trouble_is_said_and_the_cache_is_used(folders, tmp_path, status, why):
    with serving() as hub:
        hub.repositories = folders
        whole = loads(tmp_path, hub.url, GLUE)
        hub.fails = status
        (refused,) = loads(tmp_path / "new", hub.url, GLUE)
        assert f"{hub.url} answers {status}" in refused
        assert why in refused
        assert loads(tmp_path, hub.url, GLUE) == whole


@pytest.mark.slow  # for the same reason
def test_a_host_that_is_silent_or_gone_is_named(folders, tmp_path):
    with serving() as hub:
        hub.repositories, hub.elsewhere = folders, "http://localhost:9"
        (refused,) = loads(tmp_path, hub.url, GLUE)
        assert f"cannot be downloaded from {hub.url}, which sends to localhost: ConnectError" in refused
        hub.elsewhere, hub.slow = None, 2.0
        brief = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
        (refused,) = loads(tmp_path, hub.url, GLUE, **brief)
        assert f"cannot be downloaded from {hub.url}: ReadTimeout" in refused


def test_what_breaks_off_or_is_damaged_comes_whole_by_the_same_command(folders, tmp_path):
    train = "train-00001-of-00002.parquet"
    content = (folders["datasets/you/glue"] / "sst2" / train).read_bytes()
    with serving() as hub:
        hub.repositories = folders
        hub.broken = {train: 100}
        (broken,) = loads(tmp_path, hub.url, GLUE)
        assert f"cannot be downloaded from {hub.url}" in broken
        assert "the same command goes on" in broken
        hub.broken = {}
        for wrong, why in ((content[:-1], "bytes, the hub's list says"), (content[::-1], "the hub's checksum")):
            hub.damaged = {train: wrong}
            (damaged,) = loads(tmp_path, hub.url, GLUE)
            assert f"was damaged: sst2/{train}" in damaged
            assert why in damaged
        hub.damaged = {}
        whole = loads(tmp_path, hub.url, GLUE)
        for blob in tmp_path.rglob("blobs/*"):
            blob.write_bytes(blob.read_bytes()[:-1])
        damaged, again = loads(tmp_path, hub.url, GLUE, GLUE)
    assert "and 3 more. It is removed" in damaged
    assert [again] == whole == [{"train": sentences(0, 8), "validation": sentences(50, 4)}]


def readme(tmp_path, head):
    path = tmp_path / "README.md"
    path.write_text(f"---\n{head}\n---\n", encoding="utf-8")
    return path


def test_a_readme_says_which_files_hold_a_split(tmp_path):
    names = ["a/train.parquet", "a/more/train.parquet", "b.jsonl", "b/dev.jsonl", "../train.parquet"]
    two = (
        "configs: [{config_name: x, data_dir: a, data_files: {train: 'train*'}}, {config_name: y, data_files: b.jsonl}]"
    )
    assert Layout(readme(tmp_path, two), "x").files("train", names) == ["a/train.parquet"]
    assert Layout(readme(tmp_path, two), "y").files("train", names) == ["b.jsonl"]
    default = two.replace("config_name: y", "config_name: y, default: true")
    assert Layout(readme(tmp_path, default), None).files("train", names) == ["b.jsonl"]
    deep = "configs: [{config_name: default, data_files: [{split: train, path: ['a/**', b.jsonl]}]}]"
    assert Layout(readme(tmp_path, deep), None).files("train", names) == [
        "a/more/train.parquet",
        "a/train.parquet",
        "b.jsonl",
    ]
    for head in ("configs: 3", "configs: [x]", "configs: [{data_files: x}]"):
        with pytest.raises(DataError, match=r"configs without config_name"):
            Layout(readme(tmp_path, head), None)


def test_without_a_readme_names_say_which_split_a_file_holds():
    names = ["x/validation/0000.parquet", "x/train/0000.parquet", "x/train/0001.parquet", "dev.jsonl", "trained.jsonl"]
    assert Layout(None, "x").files("train", names) == names[1:3]
    assert Layout(None, "x").files("validation", names) == names[:1]
    assert Layout(None, None).files("validation", ["dev.jsonl", "trained.jsonl"]) == ["dev.jsonl"]
    assert Layout(None, None).files("train", ["trained.jsonl", "my-train.jsonl"]) == ["my-train.jsonl"]
