"""A model's folder that is not whole, not sound, or not of a causal language model is refused in one line.

The folders are real ones of transformers; each test damages one.
"""

import json
import pickle
import re
import shutil
import socket
import struct

import pytest
import torch
import transformers as T
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from zobench.errors import ModelError
from zobench.models.hub import load_folder
from zobench.models.tiny import tiny_tokenizer

VOCABULARY = len(tiny_tokenizer())
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: T.LlamaConfig(**SIZES, num_key_value_heads=2),
    "opt": lambda: T.OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32),
    "gpt2": lambda: T.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt_neox": lambda: T.GPTNeoXConfig(**SIZES),
    "mixtral": lambda: T.MixtralConfig(**SIZES, num_local_experts=2, num_key_value_heads=2),
    "qwen3": lambda: T.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),
}
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """``whole("llama")``: a folder of that family; ``shards=True``: in several files with an index."""
    made = {}

    def make(family, shards=False):
        if (family, shards) not in made:
            folder = tmp_path_factory.mktemp(family)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = T.AutoModelForCausalLM.from_config(FAMILIES[family]())
            model.save_pretrained(folder, **({"max_shard_size": "60KB"} if shards else {}))
            tiny_tokenizer().save_pretrained(folder)
            made[family, shards] = folder
        return made[family, shards]

    return make


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of such a folder, for a test to damage."""
    return lambda family="llama", shards=False: shutil.copytree(whole(family, shards), tmp_path / "model")


def load(folder, dtype=torch.float32):
    return load_folder(folder, dtype=dtype, device=torch.device("cpu"), attention="sdpa")


def refused(folder, dtype=torch.float32):
    """The one line that says why."""
    with pytest.raises(ModelError) as caught:
        load(folder, dtype)
    said = str(caught.value)
    assert said.startswith(f"model.dir={folder} cannot be loaded: ")
    assert "\n" not in said
    assert len(said) < 400 + len(str(folder))
    return said


def check_right_or_refused(folder, right):
    """A folder gives these weights, or one line."""
    try:
        found = load(folder).model.state_dict()
    except ModelError:
        refused(folder)
    else:
        assert all(tensor.equal(found[name]) for name, tensor in right.items())


def edit_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


def edit_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    tensors = change(tensors) or tensors
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_whole_folders_load_with_the_very_weights(whole, family, shards):
    loaded = load(whole(family, shards))
    expected = T.AutoModelForCausalLM.from_pretrained(whole(family, shards), dtype=torch.float32).state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.equal(expected[name]), name


def test_nobody_is_asked_for_a_folder_that_is_here(whole, monkeypatch):
    asked = []
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda _, address: asked.append(address) or 1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address) or [])
    for family in FAMILIES:
        load(whole(family))
    assert asked == []


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_tensor_that_is_missing_is_named(whole, tmp_path, family):
    names = sorted(load_file(whole(family) / WEIGHTS))
    for place in range(0, len(names), 5):
        folder = shutil.copytree(whole(family), tmp_path / str(place))
        edit_weights(folder, lambda tensors, gone=names[place]: {k: v for k, v in tensors.items() if k != gone})
        said = refused(folder)
        assert re.search(r" 1 tensor \(| 2 tensors \(lm_head.weight, ", said)  # the head goes with what it is tied to
        assert "missing" in said
        named = {"embed_out.weight": "lm_head"}.get(names[place], f".{names[place]}".rsplit(".", 2)[-2])
        assert named in said or "experts" in said  # transformers names what it renames or merges a tensor to


def test_many_missing_tensors_are_counted_and_three_named(copied):
    folder = copied()
    edit_weights(folder, lambda tensors: {k: v for k, v in tensors.items() if ".layers." not in k})
    said = refused(folder)
    assert "18 tensors (model.layers.0.input_layernorm.weight, " in said
    assert "and 15 more) missing" in said


def test_an_unexpected_tensor_is_named(copied):
    folder = copied()
    edit_weights(folder, lambda tensors: {**tensors, "score.weight": torch.ones(2, 32)})
    assert "1 tensor (score.weight) that no such model has" in refused(folder)


@pytest.mark.parametrize(
    ("family", "leftover"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt_neox", "gpt_neox.layers.0.attention.bias"),
        ("gpt_neox", "gpt_neox.layers.1.attention.masked_bias"),
        ("gpt2", "transformer.h.0.attn.bias"),
    ],
)
def test_harmless_leftovers_of_older_versions_are_ignored(copied, family, leftover):
    folder = copied(family)
    for value in (torch.ones(4), torch.ones(4, dtype=torch.bool))[: 1 if "inv_freq" in leftover else 2]:
        edit_weights(folder, lambda tensors, value=value: {**tensors, leftover: value})
        load(folder)


@pytest.mark.parametrize("family", ["opt", "gpt2", "qwen3"])
def test_a_tied_head_is_not_missing_and_a_base_models_names_fit(copied, family):
    folder = copied(family)
    before = load(folder).model
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    assert before.get_output_embeddings().weight is before.get_input_embeddings().weight
    prefix = f"{before.base_model_prefix}."
    edit_weights(folder, lambda tensors: {k.removeprefix(prefix): v for k, v in tensors.items()})
    after = load(folder).model.state_dict()
    assert all(tensor.equal(after[name]) for name, tensor in before.state_dict().items())


def test_a_base_model_without_a_head_is_refused(copied):
    folder = copied("llama")
    edit_weights(
        folder, lambda tensors: {k.removeprefix("model."): v for k, v in tensors.items() if k != "lm_head.weight"}
    )
    assert "1 tensor (lm_head.weight) missing" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 10}, ["of another shape", "lm_head.weight"]),
        ({"hidden_size": 64}, ["of another shape"]),
        ({"num_hidden_layers": 1}, ["that no such model has", "model.layers.1."]),
        ({"num_hidden_layers": 3}, ["missing", "model.layers.2."]),
        ({"num_hidden_layers": 10**9}, ["num_hidden_layers=1000000000"]),
        ({"hidden_size": 10**9}, ["config.json describes a model of"]),
        ({"hidden_size": 1e9}, []),
        ({"hidden_size": 10**30}, []),
        ({"hidden_size": -4}, []),
        ({"hidden_size": "32"}, []),
        ({"vocab_size": 10**9}, ["config.json describes a model of"]),
        ({"num_attention_heads": 0}, []),
        ({"num_attention_heads": 5}, []),
        ({"hidden_act": "os.system"}, []),
        ({"rope_parameters": {"rope_type": "none"}}, []),
        ({"model_type": "nothing"}, ["model_type=nothing"]),
        ({"model_type": "nothing", "auto_map": {"AutoConfig": "code.C"}}, ["own code (auto_map) is not run"]),
        ({"model_type": None}, ["model_type=None"]),
        ({"model_type": "x\x1b[2J" * 10**5}, ["x\\x1b[2Jx"]),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, ["quantization_config"]),
        ({"quantization_config": {"quant_method": "fp8"}}, ["quantization_config"]),
        ({"transformers_weights": "../other.safetensors"}, ["transformers_weights"]),
        ({"model_type": "opt"}, []),
    ],
)
def test_a_config_that_the_weights_do_not_fit(copied, changes, words):
    folder = copied()
    edit_config(folder, **changes)
    said = refused(folder)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "config",
    [
        T.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
        T.RobertaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
        T.DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=32),
        T.T5Config(d_model=32, num_layers=1, num_heads=2, d_ff=32),
        T.BartConfig(d_model=32, encoder_layers=1, decoder_layers=1),
        T.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
        T.CLIPConfig(),
        T.BertGenerationConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_other_kinds_of_models_are_refused_before_their_weights_are_read(tmp_path, config):
    config.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"not read")
    said = refused(tmp_path)
    assert "causal language model" in said
    assert config.model_type in said


def test_a_classifier_is_none(copied):
    folder = copied()
    edit_config(folder, architectures=["LlamaForSequenceClassification"])
    assert "it is a LlamaForSequenceClassification, whose head chooses no tokens" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"5",
        b"null",
        b'"opt"',
        b'{"model_type": "opt", ',
        b"\xff\xfe{",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b"{}",
    ],
)
@pytest.mark.parametrize("name", [CONFIG, "generation_config.json", "tokenizer_config.json", INDEX])
def test_settings_that_are_no_json_object(copied, name, content):
    if content == b"{}" and name in ("generation_config.json", "tokenizer_config.json"):
        pytest.skip("an empty object is one")
    folder = copied()
    (folder / name).write_bytes(content)
    assert name in refused(folder)


@pytest.mark.parametrize("ends", ["two", [2, "three"], {"id": 2}, 2.5])
def test_end_tokens_that_are_no_ids(copied, ends):
    folder = copied()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    assert "generation_config.json has eos_token_id=" in refused(folder)


def test_settings_may_be_neither_a_folder_nor_huge(copied):
    folder = copied()
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").mkdir()
    assert "generation_config.json cannot be read" in refused(folder)
    (folder / "generation_config.json").rmdir()
    with (folder / CONFIG).open("r+b") as file:
        file.truncate(10**9)
    assert "config.json has over 64 MiB" in refused(folder)


def test_folders_that_hold_something_else(copied, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    assert "an adapter" in refused(tmp_path / "empty")
    folder = copied()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "other/model", "peft_type": "LORA"}')
    assert "merge it into its model" in refused(folder)
    assert refused(tmp_path / ("x" * 300))


class Trap:
    def __reduce__(self):
        return (print, ("it ran",))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "consolidated.pth"]
)
def test_pickled_weights_are_never_read(copied, capfd, name):
    folder = copied()
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap()))
    said = refused(folder)
    assert name in said
    assert "from_pretrained(DIR).save_pretrained(NEW)" in said
    assert "it ran" not in capfd.readouterr().out


@pytest.mark.parametrize("file", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 5, None, "x.bin"])
def test_an_index_names_files_of_its_folder_alone(copied, file):
    folder = copied(shards=True)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = file
    (folder / INDEX).write_text(json.dumps(index))
    assert "safetensors files in the folder itself" in refused(folder)


def test_shards_and_index_must_agree(copied, tmp_path):
    folder = copied(shards=True)
    index = json.loads((folder / INDEX).read_text())
    first, last = sorted(set(index["weight_map"].values()))[:: len(set(index["weight_map"].values())) - 1]

    kept = (folder / last).read_bytes()
    (folder / last).unlink()
    assert f"{last} is not there" in refused(folder)

    shutil.copy(folder / first, folder / last)
    assert "is in two shards" in refused(folder)

    (folder / last).write_bytes(kept)
    there = {**index["weight_map"], "more.weight": first}
    (folder / INDEX).write_text(json.dumps({**index, "weight_map": there}))
    assert "more.weight is in" in refused(folder)

    (folder / INDEX).write_text(json.dumps(index))
    (folder / WEIGHTS).write_bytes(kept)
    assert "both there" in refused(folder)

    (folder / WEIGHTS).unlink()
    elsewhere = shutil.move(folder / last, tmp_path / "blob")
    (folder / last).symlink_to(elsewhere)  # as the hub's cache is made
    load(folder)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1, -1000])
def test_truncated_weights(copied, keep):
    folder = copied()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:keep])
    assert f"{WEIGHTS} is no whole safetensors file" in refused(folder)


@pytest.mark.parametrize("size", [2**62, 2**42, 2**63, 0, 1])
def test_headers_that_claim_a_size(copied, size):
    folder = copied()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", size) + (folder / WEIGHTS).read_bytes()[8:])
    assert "no whole safetensors file" in refused(folder)


def test_any_flipped_byte_of_the_header_is_held(whole, tmp_path):
    """Refused in one line, or the very same weights."""
    folder = shutil.copytree(whole("qwen3"), tmp_path / "model")
    right = load(folder).model.state_dict()
    content = bytearray((folder / WEIGHTS).read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(place=st.integers(0, header - 1), bits=st.integers(1, 255))
    def flip(place, bits):
        damaged = bytearray(content)
        damaged[place] ^= bits
        (folder / WEIGHTS).write_bytes(damaged)
        check_right_or_refused(folder, right)

    flip()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_no_floats(copied, dtype):
    folder = copied()
    edit_weights(folder, lambda tensors: {**tensors, "lm_head.weight": tensors["lm_head.weight"].to(dtype)})
    assert "lm_head.weight" in (said := refused(folder))
    assert "expected weights of F64, F32, F16, BF16" in said


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(copied, stored, value):
    folder = copied()

    def change(tensors):
        tensors = {name: tensor.to(stored) for name, tensor in tensors.items()}
        tensors["model.layers.1.mlp.up_proj.weight"].view(-1)[-1] = value
        return tensors

    edit_weights(folder, change)
    said = refused(folder, torch.bfloat16 if stored is torch.bfloat16 else torch.float32)
    assert "1 tensor (model.layers.1.mlp.up_proj.weight) with NaN or infinity" in said


def test_weights_that_overflow_in_the_runs_dtype_are_refused(copied):
    folder = copied()
    edit_weights(folder, lambda tensors: tensors["lm_head.weight"].view(-1)[:1].fill_(1e6) and None)
    load(folder, torch.bfloat16)
    said = refused(folder, torch.float16)
    assert "lm_head.weight" in said
    assert "float16" in said


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "mixtral"])
def test_any_value_in_the_config_is_one_line_or_the_same_weights(whole, copied, family):
    """Such as layers without end, which must not be built, and sizes that no memory holds."""
    folder = copied(family)
    config = json.loads((folder / CONFIG).read_text())
    right = load(whole(family)).model.state_dict()
    values = (None, [], {}, "text", True, -1, 0, 10**9, 10**30, 1e300, ["x"] * 9, {"a": None})

    @settings(max_examples=40, deadline=10_000, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(key=st.sampled_from(sorted(config)), value=st.sampled_from(values))
    def put(key, value):
        (folder / CONFIG).write_text(json.dumps({**config, key: value}))
        check_right_or_refused(folder, right)

    put()
