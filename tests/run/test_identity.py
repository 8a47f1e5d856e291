"""A finished run is shown for what it was made of alone: data, prompts, label words, tokenizer and model."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from helpers.tiny_runs import TINY, summary_of
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from zobench.config import folders, instantiate, signature
from zobench.config.signature import compose
from zobench.data import rows
from zobench.errors import DataError
from zobench.record import inputs
from zobench.run import identity
from zobench.run.runner import run
from zobench.sweep.overview import Overview
from zobench.sweep.plan import Planner

MINI = Path(rows.__file__).parent / "mini" / "sst2"
WORDS = [word for word in TINY if not word.startswith(("model=", "data="))]
TASK = '''
from zobench.tasks.base import Task
from words_of_{name} import WORDS


class Own(Task):
    """SST-2 in words of one's own."""

    columns = ("sentence", "label")
    verbaliser = WORDS

    def prompt(self, row):
        return f"{{row['sentence']}} It was"
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch

    folder = tmp_path_factory.mktemp("model")
    spec = instantiate.build(OmegaConf.to_container(compose("model=tiny-llama").model), "model")
    loaded = spec.load(dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def made(model, tmp_path, monkeypatch, request):
    """(overrides of a finished run on folders of its own, the folder with all of it)."""
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(MINI, tmp_path / "data/sst2")
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(TASK.format(name=name))
    (tmp_path / f"words_of_{name}.py").write_text('WORDS = (" terrible", " great")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    inputs.code_of.cache_clear()
    words = [*WORDS, "model=tiny-pretrained", "steps=1", f"model.dir={tmp_path}/model", f"runs_dir={tmp_path}/runs"]
    words += ["data=local", f"data.dir={tmp_path}/data", "data.splits=mini", "task=sst2"]
    (tmp_path / "conf/task").mkdir(parents=True)
    text = (folders.conf_dir() / "task/sst2.yaml").read_text()
    own = re.sub("prompt: .*\noptions: .*\nmetric: .*", f"_target_: {name}.Own", text)
    (tmp_path / "conf/task/sst2.yaml").write_text(own)
    run(composed(words, tmp_path))
    return words, tmp_path, name


def composed(words, folder):
    return OmegaConf.create(planned(words, folder)[0].settings)


def planned(words, folder):
    signature.register()
    ours = folder / "conf"
    for path in [*folders.conf_dir().rglob("*.yaml")]:
        at = ours / path.relative_to(folders.conf_dir())
        if not at.exists():
            at.parent.mkdir(parents=True, exist_ok=True)
            at.symlink_to(path)
    with initialize_config_dir(str(ours), version_base="1.3"):
        load = lambda line: hydra_compose("config", overrides=line, return_hydra_config=True)  # noqa: E731
        return Planner(load, [ours]).cells([words])


def again(words):
    """The same command in a process that has imported no task yet."""
    for module in [module for module in sys.modules if module.startswith(("own_", "words_of_own_"))]:
        del sys.modules[module]
    inputs.code_of.cache_clear()
    return run(composed(words, folder_of(words)))


def status(words):
    return Overview(planned(words, folder_of(words)))


def folder_of(words):
    return next(Path(word.partition("=")[2]).parent for word in words if word.startswith("runs_dir="))


def written(path, text):
    """New content of the same size and the same time, as ``cp -p``, ``rsync -t`` or a checkout can leave."""
    before = path.stat()
    path.write_text(text)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def reversed_rows(path):
    return "\n".join(reversed(path.read_text().splitlines())) + "\n"


def older_rows(folder, name):
    for path in (folder / "data/sst2").iterdir():
        text = reversed_rows(path)
        path.unlink()
        path.write_text(text)
        os.utime(path, (0, 0))


def rows_of_one_size_and_time(folder, name):
    for path in (folder / "data/sst2").iterdir():
        written(path, reversed_rows(path))


def another_folder_of_rows(folder, name):
    shutil.copytree(folder / "data/sst2", folder / "other")
    older_rows(folder, name)
    (folder / "data/sst2").rename(folder / "before")
    shutil.copytree(folder / "before", folder / "data/sst2")


def a_link_to_older_rows(folder, name):
    (folder / "data/sst2").rename(folder / "sst2")
    other = folder / "elsewhere"
    other.mkdir()
    for path in (folder / "sst2").iterdir():
        (other / path.name).write_text(reversed_rows(path))
        os.utime(other / path.name, (0, 0))
    (folder / "data/sst2").symlink_to(other)


def other_weights(folder, name):
    path = folder / "model/model.safetensors"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_tokenizer(folder, name):
    path = folder / "model/tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = [token for token in vocabulary if len(token) == 2][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(tokenizer))
    os.utime(path, (0, 0))


def another_prompt(folder, name):
    path = folder / f"{name}.py"
    written(path, path.read_text().replace("It was", "It's a"))


def other_label_words(folder, name):
    path = folder / f"words_of_{name}.py"
    written(path, path.read_text().replace("great", "grand"))


CHANGES = {
    older_rows: "rows", rows_of_one_size_and_time: "rows", another_folder_of_rows: "rows", a_link_to_older_rows: "rows",
    other_weights: "weights", another_tokenizer: "tokenizer", another_prompt: "prompts or label words",
    other_label_words: "prompts or label words",
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_at_the_same_place_is_said(change, made):
    words, folder, name = made
    (path,) = (folder / "runs").rglob("summary.json")
    before = path.read_bytes()
    change(folder, name)
    with pytest.raises(DataError, match=f"was made of other {CHANGES[change]} .*, or overwrite=true") as error:
        again(words)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    inputs.code_of.cache_clear()
    assert status(words).counts == {"failed": 1}
    assert "or overwrite=true" in status(words).failures()[0]
    assert again([*words, "overwrite=true"])["state"] == "finished"
    assert status(words).counts == {"finished": 1}


def test_what_only_looks_new_is_compared_once(made, monkeypatch):
    words, folder, name = made
    for path in [*(folder / "data/sst2").iterdir(), *(folder / "model").iterdir(), folder / f"{name}.py"]:
        text = path.read_bytes()
        path.unlink()
        path.write_bytes(text + b"\n# more" * (path.suffix == ".py"))
    assert status(words).counts == {"waiting": 1}  # its own run compares the model
    assert again(words)["state"] == "finished"
    for name in ("load_splits", "build_trained", "specs"):
        monkeypatch.setattr(identity, name, None)
    assert again(words)["state"] == "finished"
    assert status(words).counts == {"finished": 1}


def test_a_model_that_one_run_has_seen_is_known_to_all(made):
    """A sweep of many finished cells does not wait for each to load one folder anew."""
    words, folder, _ = made
    run(composed([*words, "seed=1"], folder))
    path = folder / "model/config.json"
    path.write_bytes(path.read_bytes() + b"\n")
    assert status([*words, "seed=0,1"]).counts == {"waiting": 2}
    again(words)
    assert status([*words, "seed=0,1"]).counts == {"finished": 2}


def test_an_untouched_finished_run_is_found_without_a_look_at_its_content(made, monkeypatch):
    words, _, _ = made
    for name in ("load_splits", "build_trained", "specs"):
        monkeypatch.setattr(identity, name, None)
    monkeypatch.setattr(inputs.Cache, "load", None)
    assert run(composed(words, folder_of(words)))["state"] == "finished"
    assert status(words).counts == {"finished": 1}


@pytest.mark.parametrize("change", [older_rows, another_prompt])
def test_a_record_of_an_older_version_is_compared_by_times(change, made):
    words, folder, name = made
    (path,) = (folder / "runs").rglob("summary.json")
    row = {key: value for key, value in summary_of(path.parent).items() if not key.startswith("inputs.")}
    path.write_text(json.dumps(row))
    assert again(words)["state"] == "finished"
    change(folder, name)
    with pytest.raises(DataError, match="was made of other"):
        again(words)


def test_prompts_whose_data_are_elsewhere_cannot_be_compared_and_that_is_said(made, capsys):
    words, folder, _ = made
    cfg = composed(words, folder)
    (path,) = (folder / "runs").rglob("summary.json")
    (folder / "data").rename(folder / "gone")
    row = summary_of(path.parent)
    identity._compare_rows(cfg, row, path.parent, {"prompts"}, identity.Console())
    assert "the code of the prompts changed, and they could not be compared" in capsys.readouterr().out
    with pytest.raises(DataError, match="has no train"):
        identity._compare_rows(cfg, row, path.parent, {"data"}, identity.Console())


def test_a_cell_whose_row_says_other_settings_is_not_counted(made):
    words, folder, _ = made
    (path,) = (folder / "runs").rglob("summary.json")
    path.write_text(json.dumps(summary_of(path.parent) | {"order_seed": 7}))  # as if two settings had one name
    assert "holds another run (order_seed=7, now 0)" in status(words).failures()[0]
