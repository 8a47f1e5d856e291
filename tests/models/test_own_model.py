"""A model of one's own: its folder says how it is used, and its row is named after what is in it."""

import shutil
import subprocess
import sys

import pytest
import torch
from helpers import families
from tokenizers.processors import TemplateProcessing

from zobench.config import instantiate
from zobench.config.folders import conf_dir
from zobench.config.labels import folder_digest, label_of
from zobench.config.options import load_yaml
from zobench.config.signature import _ATTENTION, compose
from zobench.errors import ConfigError, ModelError
from zobench.models.facts import first_token, linear_names, longest, query_and_value
from zobench.models.hub import HubModel
from zobench.models.own import check_chosen, stored_parameters
from zobench.models.tiny import tiny_tokenizer
from zobench.run.runner import run

RUN = (
    "model=local", "task=sst2", "data=mini", "wandb=disabled", "threads=1", "batch_size=2", "steps=1",
    "task.splits.mini.train=4", "task.splits.mini.dev=4", "task.splits.mini.test=4",
)  # fmt: skip
OPEN = {"max_length": None, "start_token": {"native": "auto", "mezo": "auto"}, "lora_targets": None}
CPU = {"dtype": torch.float32, "device": torch.device("cpu"), "attention": "sdpa"}


def save(folder, family="qwen2", begins=None, change=0.0):
    """A tiny model of a family in a folder, its tokenizer with a token in front or without."""
    tokenizer = tiny_tokenizer()
    if begins:
        processor = TemplateProcessing(single=f"{begins} $A", special_tokens=[(begins, tokenizer.vocab[begins])])
        tokenizer.backend_tokenizer.post_processor = processor
    model = families.build(family, vocabulary=len(tokenizer), positions=256)
    with torch.no_grad():
        next(model.parameters()).add_(change)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "my qwen2")


def loaded(folder, **settings):
    spec = HubModel(dir=str(folder), **{**OPEN, **settings})
    spec.check()
    return spec, spec.load(**CPU)


def test_a_folder_is_all_that_a_run_needs_and_its_row_says_what_it_is(own, tmp_path, capsys):
    row = run(compose(*RUN, f"model.dir='{own}'", f"runs_dir={tmp_path}"))
    assert row["state"] == "finished"
    assert row["model"] == f"my-qwen2@{folder_digest(own)}"
    facts = ("model_family", "model_layers", "max_length", "start_token", "lora_targets", "attention", "model_commit")
    assert [row[name] for name in facts] == ["qwen2", families.LAYERS, 256, None, "q_proj, v_proj", "sdpa", None]
    assert row["model_parameters"] == stored_parameters(own)
    assert "no start token, sequences of up to 256 tokens\n" in capsys.readouterr().out
    assert row["directory"].startswith(str(tmp_path / "sst2" / row["model"] / "mezo"))


def test_a_folder_that_moved_keeps_its_run_and_other_weights_get_another(own, tmp_path):
    words = (*RUN, f"runs_dir={tmp_path / 'runs'}")
    first = run(compose(*words, f"model.dir='{own}'"))
    moved = shutil.copytree(own, tmp_path / "elsewhere" / own.name)
    (moved / "README.md").write_text("notes change nothing")
    assert run(compose(*words, f"model.dir='{moved}'"))["directory"] == first["directory"]
    other = save(tmp_path / "other" / own.name, change=0.5)
    second = run(compose(*words, f"model.dir='{other}'"))
    assert second["model"].partition("@")[0] == first["model"].partition("@")[0]
    assert second["model"] != first["model"]
    assert second["model_checksum"] != first["model_checksum"]
    assert len(list((tmp_path / "runs").rglob("summary.json"))) == 2


def test_the_label_hangs_on_weights_settings_and_tokenizer(own, tmp_path):
    labels = {label_of("local", {"dir": str(own)})}
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        copy = shutil.copytree(own, tmp_path / name / own.name)
        (copy / name).write_bytes((copy / name).read_bytes() + b" ")
        labels.add(label_of("local", {"dir": str(copy)}))
    assert len(labels) == 5
    link = tmp_path / "models--ORG--NAME" / "snapshots" / "0123abcd"
    shutil.copytree(own, link)
    assert label_of("local", {"dir": str(link)}) == f"NAME@{folder_digest(own)}"


def test_what_is_set_wins_over_the_folder(own):
    spec, _ = loaded(own, max_length=32, start_token={"native": None, "mezo": "</s>"}, lora_targets=["o_proj"])
    assert (spec.max_length, spec.start_token, spec.lora_targets) == (32, {"native": None, "mezo": "</s>"}, ["o_proj"])


@pytest.mark.parametrize(("family", "mezo"), [("llama", "</s>"), ("opt", "<s>")])
def test_prompts_begin_as_the_tokenizer_has_them_begin_and_opts_as_in_2023(family, mezo, tmp_path):
    spec, _ = loaded(save(tmp_path / family, family, begins="</s>"))
    assert spec.start_token == {"native": "</s>", "mezo": mezo}
    assert first_token(tiny_tokenizer()) is None


def test_the_longest_sequence_is_what_model_and_tokenizer_are_made_for(own):
    tokenizer, config = tiny_tokenizer(), families.config_of("llama", positions=8192)
    assert longest(config, tokenizer) == 2048
    tokenizer.model_max_length = 512
    assert longest(config, tokenizer) == 512
    assert longest(families.config_of("gpt2", positions=64), tokenizer) == 64


#: where LoRA of a family of tests adapts something else than what gives queries and values
WITHOUT = {"mamba", "mamba2", "llama4_text", "bert, as a decoder", "bert, as it is"}


@pytest.mark.parametrize("family", [*families.LISTED, *families.OTHERS])
def test_queries_and_values_are_found_by_name(family):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(families.config_of(family), attn_implementation="eager")
    expected = families.TARGETS.get(family.partition(",")[0], ["q_proj", "v_proj"])
    expected = [*expected, "value"] if family == "rwkv" else [] if family in WITHOUT else expected
    assert query_and_value(linear_names(model)) == expected


def test_lora_says_which_modules_there_are_where_none_gives_queries_and_values(tmp_path):
    spec, _ = loaded(save(tmp_path / "mamba", "mamba"))
    with pytest.raises(ConfigError, match=r"tuning.targets=\[...\], of its linear modules in_proj, x_proj, dt_proj"):
        _ = spec.lora_targets


def test_attention_is_in_the_name_where_it_is_not_the_protocols(own, tmp_path):
    names = [
        compose(*RUN, f"model.dir='{own}'", *words).out
        for words in ([], ["model.attention=sdpa"], ["model.attention=eager"])
    ]
    assert names[0] == names[1] != names[2]
    row = run(compose(*RUN, f"model.dir='{own}'", "model.attention=eager", f"runs_dir={tmp_path}"))
    assert row["attention"] == "eager"
    for protocol, attention in _ATTENTION.items():
        kind = instantiate.locate(load_yaml(conf_dir() / "protocol" / f"{protocol}.yaml")["_target_"], "protocol")
        assert kind.attention == attention


def test_a_model_of_the_hub_is_called_after_id_and_revision():
    commit = "c1899de289a04d12100db370d81485cdf75e47ca"
    cfg = compose("model=hub", "model.id=Qwen/Qwen3-0.6B", f"model.revision={commit}")
    assert cfg.choices.model == "Qwen--Qwen3-0.6B@c1899de2"
    assert compose("model=hub", "model.id=Qwen/Qwen3-0.6B").out != cfg.out


def spoilt(own, folder, kind):
    """A folder with something wrong, and what is said of it."""
    if kind in ("no tokenizer", "no weights", "pickles", "encoder", "cut"):
        shutil.copytree(own, folder)
    else:
        folder.mkdir()
    if kind == "no tokenizer":
        for path in folder.glob("token*"):
            path.unlink()
    elif kind == "no weights":
        (folder / "model.safetensors").unlink()
    elif kind == "pickles":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif kind == "encoder":
        save(folder, "bert, as it is")
    elif kind == "cut":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:9000])
    elif kind == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    elif kind == "diffusers":
        (folder / "model_index.json").write_text("{}")
    elif kind == "GGUF":
        (folder / "model.gguf").touch()
    elif kind == "a run of checkpoints":
        shutil.copytree(own, folder / "checkpoint-100")
    return folder


SPOILT = {
    "no tokenizer": "there is no tokenizer",
    "no weights": "there is no model.safetensors",
    "pickles": "its weights are pickled",
    "adapter": "it holds an adapter, not a model",
    "diffusers": "it is a pipeline of diffusers",
    "GGUF": "it holds GGUF alone",
    "empty": "the folder is empty",
    "a run of checkpoints": "did you mean model.dir=.*/checkpoint-100?",
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_no_model_is_told_before_torch(own, tmp_path, kind):
    settings = {"choices": {"model": "local"}, "model": {"dir": str(spoilt(own, tmp_path / "given", kind))}}
    with pytest.raises(ModelError, match=SPOILT[kind]) as caught:
        check_chosen(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "said"), [("encoder", "sees tokens to its right"), ("cut", "no whole safetensors")])
def test_what_only_transformers_can_tell_leaves_nothing_behind(own, tmp_path, kind, said):
    folder = spoilt(own, tmp_path / "given", kind)
    with pytest.raises(ModelError, match=said):
        run(compose(*RUN, f"model.dir={folder}", f"runs_dir={tmp_path / 'runs'}"))
    assert not (tmp_path / "runs").exists()


def test_a_misspelt_folder_a_file_and_an_id_are_told_apart(own):
    local = {"choices": {"model": "local"}}
    with pytest.raises(ModelError, match=rf"no such folder; did you mean model.dir={own}\?"):
        check_chosen({**local, "model": {"dir": f"{own}x"}})
    with pytest.raises(ModelError, match=rf"it is a file; did you mean model.dir={own}\?"):
        check_chosen({**local, "model": {"dir": str(own / "config.json")}})
    with pytest.raises(ModelError, match=r"model=hub model\.id=Qwen/Qwen2-0\.5B"):
        check_chosen({**local, "model": {"dir": "Qwen/Qwen2-0.5B"}})
    hub = {"choices": {"model": "hub@main"}}
    with pytest.raises(ConfigError, match=r"model=local model\.dir="):
        check_chosen({**hub, "model": {"id": str(own)}})
    with pytest.raises(ConfigError, match=r"model\.id=a/b/c: expected a repository"):
        check_chosen({**hub, "model": {"id": "a/b/c"}})


def test_the_command_line_answers_without_torch(own, tmp_path):
    code = "import sys\nfrom zobench.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    said = {}
    for words in (["model=local"], ["model=local", f"model.dir={tmp_path / 'none'}"], ["model=hub"]):
        ended = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
        assert ended.stdout.strip() == "False", ended
        said[" ".join(words[:1])] = ended.stderr
        assert ended.stderr.count("\n") == 1
    assert "needs model.id=ORG/NAME" in said["model=hub"]
    assert not list(tmp_path.iterdir())


def test_parameters_are_counted_from_the_files_of_the_weights(own, tmp_path):
    _, there = loaded(own)
    there.model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert stored_parameters(tmp_path / "shards") == stored_parameters(own) == there.model.num_parameters()
    assert stored_parameters(tmp_path) is None
