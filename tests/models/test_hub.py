"""Models from a hub, served on this machine: whole, gated, pickled, without a network, and after a broken download."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from helpers.hub import COMMIT, environment, serving

from zobench.models.tiny import tiny_tokenizer

# A process of its own: the hub's libraries read their environment when imported.
LOADS = """
import json, sys, torch
from zobench.errors import ModelError
from zobench.models.hub import HubModel

facts = {"max_length": 64, "start_token": {"native": None}, "lora_targets": []}
for arguments in json.loads(sys.argv[1]):
    try:
        spec = HubModel(**arguments, **facts)
        loaded = spec.load(dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")
        total = sum(float(p.double().sum()) for p in loaded.model.parameters())
        print(json.dumps([total, loaded.model.name_or_path, len(loaded.tokenizer)]), flush=True)
    except ModelError as error:
        print(json.dumps(str(error)), flush=True)
"""


def loads(home, url, *models, **more):
    """What comes of loading each model in turn: [sum of weights, name, tokens], or the error's text."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADS, json.dumps(models)],
        env=environment(url, home, **more),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, load_model):
    """Folders as the hub would have them: whole, in shards, pickled, without a config."""
    root = tmp_path_factory.mktemp("repositories")
    model = load_model("tiny-opt").model
    for name in ("whole", "shards", "torn", "pickled", "trap", "bare"):
        model.save_pretrained(root / name, max_shard_size={"shards": "100KB", "torn": "200KB"}.get(name, "1GB"))
        tiny_tokenizer().save_pretrained(root / name)
    for name in ("pickled", "trap"):
        (root / name / "model.safetensors").unlink()
    torch.save(model.state_dict(), root / "pickled" / "pytorch_model.bin")
    (root / "trap" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": print}))
    (root / "bare" / "config.json").unlink()
    (root / "whole" / "consolidated.safetensors").write_bytes(b"x" * 1000)
    (root / "whole" / "notes.md").write_text("notes")
    total = sum(float(p.detach().double().sum()) for p in model.parameters())
    return root, total


def test_models_are_downloaded_once_and_refused_in_one_line(repositories, tmp_path):
    root, total = repositories
    with serving() as hub:
        hub.repositories = {f"you/{path.name}": path for path in root.iterdir()} | {"you/gated": root / "whole"}
        hub.gated = {"you/gated"}
        hub.broken = {sorted((root / "torn").glob("model-*"))[1].name: 1000}
        pinned = {"revision": COMMIT}
        local, whole, shards, again, refused, read, trap, bare, gated, nothing, misnamed, broken = loads(
            tmp_path / "hf", hub.url,
            {"id": "you/whole", "dir": str(root / "whole")}, {"id": "you/whole", **pinned}, {"id": "you/shards"},
            {"id": "you/whole", **pinned}, {"id": "you/pickled", **pinned},
            {"id": "you/pickled", **pinned, "allow_pickle": True}, {"id": "you/trap", **pinned, "allow_pickle": True},
            {"id": "you/bare"}, {"id": "you/gated"}, {"id": "you/nothing"}, {"id": "no such name"}, {"id": "you/torn"},
        )  # fmt: skip
        asked = hub.paths
    assert local[:2] == [pytest.approx(total, abs=1e-9), str(root / "whole")]
    for found, name in ((whole, "whole"), (again, "whole"), (shards, "shards"), (read, "pickled")):
        assert found[:2] == [pytest.approx(total, abs=1e-9), f"you/{name}"]
    for file in ("consolidated.safetensors", "notes.md"):
        assert not any(path.endswith(file) for path in asked)
    assert len([path for path in asked if path.endswith("whole/resolve/" + COMMIT + "/model.safetensors")]) <= 2
    assert "pickled weights are not read" in refused
    for text in (refused, trap, bare, gated, nothing, misnamed, broken):
        assert text.startswith("model ")
        assert "model.dir=DIR" in text
        assert "\n" not in text
    assert "no config.json" in bare
    assert "/you/gated, then log in once" in gated
    assert "check model.id" in nothing

    cached, unknown, torn_still = loads(
        tmp_path / "hf", "http://127.0.0.1:9", {"id": "you/whole", **pinned}, {"id": "you/other"}, {"id": "you/torn"}
    )
    assert cached == whole
    assert "is not in the cache, and http://127.0.0.1:9 cannot be reached" in unknown
    assert "is not whole in the cache, and http://127.0.0.1:9 cannot be reached" in torn_still
