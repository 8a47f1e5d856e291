"""Whole runs whose model and data come from a hub on this machine: what it is asked, and what is kept of a token."""

import json
import subprocess
import sys

import pytest
from helpers.hub import COMMIT, environment, serving, write_data_set

from zobench.models.tiny import tiny_tokenizer

MODEL = f"model=opt-125m model.id=you/model model.revision={COMMIT} model.allow_pickle=false"
SIZES = " ".join(f"task.splits.clean.{part}=4" for part in ("train", "dev", "test"))
COMMON = f"method=mezo steps=2 batch_size=2 threads=1 {SIZES}"
PINNED = f"task.revision={COMMIT} task.rows={{train:8,validation:4}}"
SWEEP = f"""
common: {COMMON}
lines:
  - task=sst2 wandb=offline {MODEL} {PINNED}
  - task=rte wandb=disabled {MODEL} {PINNED}
  - task=films wandb=disabled {MODEL}
"""
# A task of one's own, of whatever the main branch has.
FILMS = """
prompt: "{text:strip} It was"
options: {bad: " terrible", good: " great"}
label: verdict
hub: you/films
rows: {train: 8, validation: 4}
splits:
  clean: {train: 4, dev: 4, test: 4}
"""
TOKEN = "hf_secretsecretsecret"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, load_model):
    root = tmp_path_factory.mktemp("hub")
    load_model("tiny-opt").model.save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")

    def split(*columns):
        rows = [{column: f"{column} number {i} ." for column in columns} | {"label": i % 2, "idx": i} for i in range(8)]
        return {"train": [rows[:5], rows[5:]], "validation": [rows[:4]], "test": [rows[:3]]}

    write_data_set(root / "glue", {"cola": split("sentence"), "sst2": split("sentence")})
    write_data_set(root / "super_glue", {"boolq": split("passage"), "rte": split("premise", "hypothesis")})
    films = [{"text": f"film number {i} .", "verdict": ("bad", "good")[i % 2]} for i in range(8)]
    write_data_set(root / "films", {"data": {"train": [films], "validation": [films[:4]]}}, readme=False)
    return {
        "you/model": root / "model",
        "datasets/nyu-mll/glue": root / "glue",
        "datasets/aps/super_glue": root / "super_glue",
        "datasets/you/films": root / "films",
    }


def sweep(folder, url, home, runs, **more):
    (folder / "cfg" / "task").mkdir(parents=True, exist_ok=True)
    (folder / "cfg" / "task" / "films.yaml").write_text(FILMS)
    (folder / "hub.yaml").write_text(SWEEP.replace("common:", f"common: runs_dir={runs}"))
    command = [sys.executable, "-m", "zobench.sweep", "hub.yaml", "--config-dir", "cfg"]
    ended = subprocess.run(
        command, cwd=folder, env=environment(url, home, **more), capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [json.loads(path.read_text()) for path in sorted((folder / runs).rglob("summary.json"))]
    return ended.stdout + ended.stderr, {row["task"]: row for row in rows}


def test_runs_ask_the_hub_once_for_what_they_read_and_keep_no_token(repositories, tmp_path):
    with serving() as hub:
        hub.repositories, hub.gated, hub.token = repositories, set(repositories), TOKEN
        said, rows = sweep(tmp_path, hub.url, tmp_path / "hf", "runs", HF_TOKEN=TOKEN)
        gets = [path for method, path in hub.asked if method == "GET"]
        assert len(gets) == len(set(gets))  # nothing twice, although three runs have one model
        files = [path.partition(f"/resolve/{COMMIT}/")[2] for path in gets if "/resolve/" in path]
        assert not any(file.startswith(("cola", "boolq")) or "test" in file for file in files)
        assert {"model.safetensors", "sst2/train-00001-of-00002.parquet", "data/train-00000-of-00001.parquet"} <= {
            *files
        }
        hub.asked.clear()
        _, again = sweep(tmp_path, hub.url, tmp_path / "hf", "again", HF_TOKEN=TOKEN)
        # a commit needs no request, a branch one
        assert hub.asked == [("GET", "/api/datasets/you/films/revision/main")]
    assert {task: row["state"] for task, row in rows.items()} == dict.fromkeys(("sst2", "rte", "films"), "finished")
    for task, row in rows.items():
        for fact in ("rows_hash", "base_checksum", "weights_checksum"):
            assert row[fact] == again[task][fact]
    assert hub.tokens == {TOKEN}
    assert TOKEN not in said
    kept = [path for path in (tmp_path).rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in kept)
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_any_model_of_the_hub_is_named_after_id_and_commit_and_a_branch_says_its_commit(repositories, tmp_path):
    small = [f"task.splits.mini.{part}=4" for part in ("train", "dev", "test")]
    words = ["model=hub", "model.id=you/model", "data=mini", "task=sst2", "method=zeroshot", "wandb=disabled", *small]
    with serving() as hub:
        hub.repositories = repositories
        ended = subprocess.run(
            [sys.executable, "-m", "zobench", "-m", *words, f"model.revision=main,{COMMIT}"], cwd=tmp_path,
            capture_output=True, text=True, env=environment(hub.url, tmp_path / "hf"), timeout=200,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count(f"commit {COMMIT}") == 2
    rows = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("summary.json"))]
    assert {row["model"] for row in rows} == {f"you--model@{COMMIT[:8]}", "you--model@main"}
    assert {row["model_commit"] for row in rows} == {COMMIT}
