"""A run's name hangs on what can change its result, and on nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.tiny_runs import TINY, summary_of
from omegaconf import OmegaConf

import zobench
from zobench.config import folders, schema, signature
from zobench.config.options import leaves, load_yaml
from zobench.config.schema import Integer, Setting
from zobench.config.signature import compose, identity
from zobench.data import rows
from zobench.data.folder import FILES
from zobench.errors import ConfigError, DataError
from zobench.methods.mezo import MeZO
from zobench.record import checkpoint, lookup
from zobench.run import runner
from zobench.run.runner import run
from zobench.sweep.overview import Overview
from zobench.sweep.plan import Planner

RUN = (*TINY, "task=sst2", "steps=2", "method.lr=1e-3")


def name_of(*overrides):
    return compose(*overrides).out.rpartition("/")[2]


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ that the test may write to, in use."""
    copy = tmp_path / "conf"
    shutil.copytree(folders.conf_dir(), copy)
    for module in (folders, signature, zobench.config.settings):
        monkeypatch.setattr(module, "conf_dir", lambda: copy)
    return copy


def edit(path, change):
    settings = yaml.safe_load(path.read_text())
    change(settings)
    path.write_text(yaml.safe_dump(settings))


class Moved(MeZO):
    """MeZO in another module, with an option that does nothing."""

    def __init__(self, named_parameters, *, inert=3, **common):
        super().__init__(named_parameters, **common)


Moved.__name__ = "MeZO"


SAME = {
    "a device by its name": ["device=cpu"],
    "a folder with the same rows": ["data=local", "data.dir=somewhere", "data.splits=mini"],
    "batches of evaluations": ["eval_batch_size=3"],
    "logs and checkpoints": ["log_every=1", "save_every=1", "snapshot_minutes=0", "tags=[a]", "keep_weights=true"],
    "a default written out": ["method.eps=0.001", "noise_seed=0", "micro_batch_size=null", "method/rule=sgd"],
    "settings of a lens that is not used": ["lens.draws=5"],
    "sizes that are not drawn": ["task.splits.clean.train=7"],
    "the same sizes under another name": ["data.splits=twin", "+task.splits.twin={train:8,dev:8,test:8}"],
    "processes and threads": ["parallel=queries", "threads=2"],
}


@pytest.mark.parametrize("overrides", SAME.values(), ids=SAME)
def test_what_changes_no_result_is_not_in_the_name(overrides):
    assert name_of(*RUN, *overrides) == name_of(*RUN)


OTHER = {
    "a rate": ["method.lr=1.1e-3"],
    "a seed": ["seed=1"],
    "one seed of four": ["noise_seed=1"],
    "a dtype": ["dtype=bfloat16"],
    "another split": ["data.splits=clean"],
    "a size that is drawn": ["task.splits.mini.train=7"],
    "a budget": ["steps=3"],
    "an update rule": ["method/rule=momentum"],
    "an update rule's setting": ["method/rule=momentum", "method.rule.beta=0.8"],
    "a method": ["method=loren"],
    "a model": ["model=tiny-llama"],
    "a model's setting": ["model.layers=3"],
    "a tuning": ["tuning=last_layers", "tuning.layers=1"],
    "a lens": ["lens.every=1"],
    "a class of one's own": ["method._target_=my_package.Mine"],
    "a revision of the data": ["task.revision=abc"],
}


def test_what_can_change_a_result_changes_the_name():
    names = {"nothing": name_of(*RUN)} | {what: name_of(*RUN, *overrides) for what, overrides in OTHER.items()}
    assert len(set(names.values())) == len(names)


def test_numbers_count_by_value():
    assert name_of("method.lr=1") == name_of("method.lr=1.0") == name_of("method.lr=1e0") != name_of("method.lr=2")


def test_layers_have_one_name_however_they_are_written():
    def named(layers):
        return name_of("tuning=last_layers", f"tuning.layers={layers}")

    assert named("4-6") == named("[4,5,6]") == named("[6,4,5]")
    assert len({named(layers) for layers in (4, "4-4", "4-5", "4-6")}) == 4


def test_the_default_budget_is_the_same_written_out():
    assert name_of() == name_of("forwards=40000") != name_of("forwards=40000", "steps=9")


def test_a_finished_run_is_found_after_the_configuration_grew_and_a_class_moved(tmp_path, conf, monkeypatch, capsys):
    first = run(compose(*RUN, f"runs_dir={tmp_path / 'runs'}"))
    monkeypatch.setattr(schema, "SETTINGS", (*schema.SETTINGS, Setting("inert", 3, Integer(0), "does nothing")))
    for module in (signature, zobench.config.settings):
        monkeypatch.setattr(module, "SETTINGS", schema.SETTINGS)
    edit(conf / "method" / "mezo.yaml", lambda node: node.update(_target_=f"{__name__}.MeZO", inert=3))
    monkeypatch.setattr("test_signature.MeZO", Moved, raising=False)
    edit(conf / "task" / "sst2.yaml", lambda node: node["splits"].update(tiny={"train": 2, "dev": 2, "test": 2}))
    elsewhere = tmp_path / "data" / "sst2"
    shutil.copytree(Path(rows.__file__).parent / "mini" / "sst2", elsewhere)
    words = [word for word in RUN if word != "data=mini"]
    words += ["data=local", f"data.dir={elsewhere.parent}", "data.splits=mini", "device=cpu"]
    cfg = compose(*words, f"runs_dir={tmp_path / 'runs'}")
    assert (cfg.inert, cfg.method.inert, cfg.method._target_) == (3, 3, "test_signature.MeZO")
    monkeypatch.setattr(runner, "Cell", None)  # nothing may run
    again = run(cfg)
    assert (again["directory"], again["weights_checksum"]) == (first["directory"], first["weights_checksum"])
    assert "Finished already" in capsys.readouterr().out
    # The new settings name a run where they differ from what they came with.
    assert compose(*words, "inert=4").out != cfg.out != compose(*words, "method.inert=4").out


def test_other_rows_under_the_same_name_are_refused(tmp_path):
    first = run(compose(*RUN, f"runs_dir={tmp_path / 'runs'}"))
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    for split in FILES:
        lines = (Path(rows.__file__).parent / "mini" / "sst2" / f"{split}.jsonl").read_text().splitlines()
        (folder / f"{split}.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    words = [word for word in RUN if word != "data=mini"]
    words += ["data=local", f"data.dir={folder.parent}", "data.splits=mini", f"runs_dir={tmp_path / 'runs'}"]
    with pytest.raises(DataError, match=r"was made of other rows .*runs_dir, or overwrite=true"):
        run(compose(*words))
    assert json.loads((Path(first["directory"]) / "summary.json").read_text())["state"] == "finished"
    (cell,) = planned(words)
    said = "has other rows than the run was made of; give it another runs_dir, or overwrite=true"
    assert Overview([cell]).failures()[0].endswith(said)


def test_another_model_under_the_same_name_is_refused(tmp_path):
    folders_of = [tmp_path / "a", tmp_path / "b", tmp_path / "copy of a"]
    for seed, folder in enumerate(folders_of[:2]):
        save_tiny(folder, seed)
    shutil.copytree(folders_of[0], folders_of[2])
    words = [*(w for w in RUN if not w.startswith("model=")), "model=tiny-pretrained", f"runs_dir={tmp_path / 'runs'}"]
    first = run(compose(*words, f"model.dir={folders_of[0]}"))
    assert run(compose(*words, f"model.dir={folders_of[2]}"))["directory"] == first["directory"]
    (cell,) = planned([*words, f"model.dir={folders_of[1]}"])
    assert Overview([cell]).line() == "1 cell: 1 waiting"  # the run compares the weights
    with pytest.raises(DataError, match="was made of other weights"):
        run(compose(*words, f"model.dir={folders_of[1]}"))
    assert "model_checksum is another than that of the run" in Overview([cell]).failures()[0]  # and remembers them
    (cell,) = planned([*words, f"model.dir={folders_of[2]}"])
    assert Overview([cell]).line() == "1 cell: 1 finished"  # and remembers that they are the same


@pytest.mark.parametrize("tuning", [["tuning=lora", "tuning.r=2"], ["tuning=last_layers", "tuning.layers=1"]])
def test_another_frozen_part_under_the_same_name_is_refused(tuning, tmp_path):
    """The weights that train are the same: adapters are new, and the last layer is copied."""
    save_tiny(tmp_path / "a", 0)
    save_tiny(tmp_path / "b", 0, change="layers.0.mlp.up_proj")
    words = [*(w for w in RUN if not w.startswith("model=")), "model=tiny-pretrained", f"runs_dir={tmp_path / 'runs'}"]
    first = run(compose(*words, *tuning, f"model.dir={tmp_path / 'a'}"))
    with pytest.raises(DataError, match="was made of other weights"):
        run(compose(*words, *tuning, f"model.dir={tmp_path / 'b'}"))
    folder = Path(first["directory"]) / "checkpoint"
    saved = {"step": 1, "rows_hash": first["rows_hash"], "base_checksum": first["base_checksum"], "device": "cpu"}
    checkpoint.save(folder, 1, {**saved, "model_checksum": "0" * 16})
    summary = Path(first["directory"]) / "summary.json"
    summary.write_text(json.dumps(first | {"state": "interrupted"}))
    with pytest.raises(DataError, match="the base model changed since"):
        run(compose(*words, *tuning, f"model.dir={tmp_path / 'a'}"))
    assert json.loads(summary.read_text())["state"] == "interrupted"  # refused before it began: nothing is lost


def test_rows_that_changed_in_their_folder_are_found_out(tmp_path):
    folder = tmp_path / "data" / "sst2"
    shutil.copytree(Path(rows.__file__).parent / "mini" / "sst2", folder)
    words = [word for word in RUN if word != "data=mini"]
    words += ["data=local", f"data.dir={folder.parent}", "data.splits=mini", f"runs_dir={tmp_path / 'runs'}"]
    first = run(compose(*words))
    for path in folder.iterdir():  # newer, and the same
        path.write_bytes(path.read_bytes())
    assert run(compose(*words))["directory"] == first["directory"]
    assert run(compose(*RUN, f"runs_dir={tmp_path / 'runs'}"))["directory"] == first["directory"]  # the files that ship
    with pytest.raises(DataError, match="has no train"):  # that comparison says nothing of a folder without files
        run(compose(*(word for word in words if not word.startswith("data.dir=")), f"data.dir={tmp_path / 'none'}"))
    for path in folder.iterdir():
        path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    (cell,) = planned(words)
    assert Overview([cell]).counts["failed"] == 1
    with pytest.raises(DataError, match="was made of other rows"):
        run(compose(*words))


def test_a_mistyped_folder_costs_an_interrupted_run_nothing(tmp_path):
    first = run(compose(*RUN, f"runs_dir={tmp_path}"))
    directory = Path(first["directory"])
    (directory / "summary.json").write_text(json.dumps(first | {"state": "interrupted"}))
    before = {name: (directory / name).read_text() for name in ("config.yaml", "summary.json", "trajectory.jsonl")}
    words = [word for word in RUN if word != "data=mini"]
    with pytest.raises(DataError, match="has no train"):
        run(compose(*words, "data=local", "data.dir=/nowhere", "data.splits=mini", f"runs_dir={tmp_path}"))
    assert {name: (directory / name).read_text() for name in before} == before


def test_a_directory_that_holds_another_run_is_refused(tmp_path):
    first = run(compose(*RUN, f"runs_dir={tmp_path}", "out=mine"))
    with pytest.raises(ConfigError, match=r"holds another run \(method.lr=0.001, now 0.002\); give this one its own"):
        run(compose(*RUN, f"runs_dir={tmp_path}", "out=mine", "method.lr=2e-3"))
    assert run(compose(*RUN, f"runs_dir={tmp_path}", "out=mine"))["weights_checksum"] == first["weights_checksum"]


def test_a_class_of_ones_own_is_another_whatever_its_name():
    settings = OmegaConf.to_container(compose(*RUN), resolve=True)
    names = set()
    for target in ("zobench.zo.rules.SGD", "zobench.elsewhere.SGD", "laba.SGD", "labb.SGD"):
        settings["method"]["rule"]["_target_"] = target
        names.add(signature.digest(settings))
    assert len(names) == 3  # zobench's own may move


def test_sizes_are_those_of_the_protocol_and_not_of_its_name():
    settings = OmegaConf.to_container(compose("model=tiny-opt"), resolve=True)
    settings["choices"]["protocol"] = "mini"  # a protocol of a user's own, which draws clean's sizes
    before = signature.digest(settings)
    settings["task"]["splits"]["clean"]["train"] += 1
    assert signature.digest(settings) != before


def save_tiny(folder, seed, change=""):
    """A random tiny model in Hugging Face format; weights whose name holds ``change`` are moved."""
    import torch

    from zobench.config import instantiate

    spec = instantiate.build(OmegaConf.to_container(compose("model=tiny-llama").model), "model")
    loaded = spec.load(dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")
    torch.manual_seed(seed)
    for name, parameter in loaded.model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.02)
        if change and change in name:
            torch.nn.init.constant_(parameter, 0.01)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def planned(line):
    """The cells of a line, as a sweep plans them."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    signature.register()
    with initialize_config_dir(str(folders.conf_dir()), version_base="1.3"):
        load = lambda words: hydra_compose("config", overrides=words, return_hydra_config=True)  # noqa: E731
        return Planner(load, [folders.conf_dir()]).cells([line])


@pytest.mark.parametrize("setting", ["data.dir=/a,/b data=local", "device=cpu,cuda", "model=opt-125m model.dir=/a,/b"])
def test_cells_that_a_name_cannot_tell_apart_are_refused(setting):
    with pytest.raises(ConfigError, match=r"two cells of the sweep would share .*runs_dir of each"):
        planned(setting.split())
    assert len(planned(["device=auto,cpu", "eval_batch_size=4,8", "method.lr=1,1.0"])) == 1


def test_a_run_under_an_old_name_is_found_and_goes_on(tmp_path):
    first = run(compose(*RUN, f"runs_dir={tmp_path}"))
    directory = Path(first["directory"])
    old = directory.rename(directory.with_name("0123abcd"))
    summary = summary_of(old)
    for key in ("schema", "data.dir", "model.dir"):
        del summary[key]
    summary["config_hash"] = "0123abcd"
    (old / "summary.json").write_text(json.dumps(summary))
    before = {path.name: path.stat().st_mtime_ns for path in old.iterdir()}
    found = run(compose(*RUN, f"runs_dir={tmp_path}"))
    assert found["weights_checksum"] == first["weights_checksum"]
    assert {path.name: path.stat().st_mtime_ns for path in old.iterdir()} == before
    (cell,) = planned([*RUN, f"runs_dir={tmp_path}"])
    assert (cell.directory, Overview([cell]).line()) == (old, "1 cell: 1 finished")
    assert run(compose(*RUN, "method.lr=2e-3", f"runs_dir={tmp_path}"))["directory"] != str(old)
    # Of two that have one name today, the one of the folder that is asked for; the other was made elsewhere.
    other = old.with_name("9999abcd")
    shutil.copytree(old, other)
    config = OmegaConf.load(other / "config.yaml")
    config.data.dir = "/elsewhere"
    OmegaConf.save(config, other / "config.yaml")
    (other / "summary.json").write_text(json.dumps(summary | {"state": "failed"}))
    lookup._renamed.cache_clear()
    assert planned([*RUN, f"runs_dir={tmp_path}"])[0].directory == old
    words = ["data=local" if word == "data=mini" else word for word in RUN]
    (cell,) = planned([*words, "data.dir=/elsewhere", "data.splits=mini", f"runs_dir={tmp_path}"])
    assert cell.directory == other


def test_every_setting_that_names_runs_is_recorded():
    """What a setting came with is written down before it can change."""
    recorded = json.loads((Path(signature.__file__).parent / "named.json").read_text())
    missing = []
    for option, kept in recorded.items():
        if option == "run":
            keys = {setting.key for setting in schema.SETTINGS if setting.names_run}
        else:
            group = option.partition("/")[0]
            node = load_yaml(folders.conf_dir() / f"{option}.yaml")
            keys = {k for k, _ in leaves(node) if k != "_target_" and not signature.is_outside(group, k)}
        missing += [f"{option}: {key}" for key in sorted(keys - {*kept["always"], *kept["introduced"]})]
    assert not missing, "python scripts/record_settings.py records what these came with"


def test_the_identity_is_plain_and_holds_no_path():
    settings = OmegaConf.to_container(compose("data=local", "data.dir=/somewhere", "model.dir=/model"), resolve=True)
    text = json.dumps(identity(settings))
    assert "/somewhere" not in text
    assert "/model" not in text
    assert "zobench." not in text
