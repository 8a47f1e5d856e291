"""Tokenizers: one that is missing, damaged or of another model is refused, and what names one."""

import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from zobench.config.signature import compose
from zobench.errors import ModelError
from zobench.models.hub import load_folder
from zobench.models.identity import model_family, model_parameters
from zobench.models.tiny import tiny_tokenizer
from zobench.models.tokenizer import check_ids, tokenizer_hash
from zobench.models.tuning import LoRA
from zobench.objective import Encoder
from zobench.run.runner import run

RUN = (
    "model=opt-125m", "model.max_length=64", "data=mini", "wandb=disabled", "threads=1", "batch_size=2", "steps=1",
    *(f"task.splits.mini.{part}=4" for part in ("train", "dev", "test")),
)  # fmt: skip


def load(folder):
    return load_folder(folder, dtype=torch.float32, device=torch.device("cpu"), attention="sdpa")


def refused(folder):
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    return str(caught.value)


@pytest.mark.parametrize("family", ["tiny-opt", "tiny-llama"])
def test_a_folder_without_a_tokenizer(tmp_path, family, load_model):
    """For OPT, transformers makes an empty tokenizer of nothing, without a word."""
    load_model(family).model.save_pretrained(tmp_path)
    assert "the tokenizer is missing or damaged" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"[]", b"null", b'{"a":', b"\xff\xfe", b"[" * 10**5),
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
    ],
)
def test_a_damaged_tokenizer(folder, tmp_path, content):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_bytes(content)
    assert "the tokenizer is missing or damaged" in refused(tmp_path / "model")


def test_any_damage_of_the_tokenizers_file_is_one_line_or_no_harm(folder, tmp_path):
    model = shutil.copytree(folder, tmp_path / "model")
    content = (model / "tokenizer.json").read_bytes()
    right = tokenizer_hash(load(model).tokenizer)
    rows = load(model).model.get_input_embeddings().num_embeddings

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(place=st.integers(0, len(content) - 1), bits=st.integers(1, 255), cut=st.booleans())
    def damage(place, bits, cut):
        flipped = content[:place] + bytes([content[place] ^ bits]) + (b"" if cut else content[place + 1 :])
        (model / "tokenizer.json").write_bytes(flipped)
        try:
            found = load(model).tokenizer
        except ModelError:
            refused(model)
        else:
            same = tokenizer_hash(found) == right
            assert same or json.loads(flipped) != json.loads(content)
            assert len(found) * 2 >= rows

    damage()


def test_code_that_comes_with_a_tokenizer_is_not_run_and_nothing_is_asked(folder, tmp_path, capfd):
    model = shutil.copytree(folder, tmp_path / "model")
    (model / "code.py").write_text("print('it ran')\nclass C: pass\n")
    config = {"tokenizer_class": "C", "auto_map": {"AutoTokenizer": ["code.C", "code.C"]}}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    (model / "tokenizer.json").unlink()
    (model / "config.json").write_text(
        json.dumps({**json.loads((model / "config.json").read_text()), "auto_map": {"AutoConfig": "code.C"}})
    )
    said = refused(model)
    assert "tokenizer" in said
    out, error = capfd.readouterr()
    assert "it ran" not in out + error
    assert "y/N" not in out + error


def test_code_that_stands_in_for_a_family_that_is_known_is_left_aside(folder, tmp_path, capfd):
    model = shutil.copytree(folder, tmp_path / "model")
    (model / "code.py").write_text("print('it ran')\nclass C: pass\n")
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.C"}
    (model / "config.json").write_text(json.dumps(config))
    load(model)
    assert "it ran" not in capfd.readouterr().out


def test_a_tokenizer_of_a_far_smaller_model(folder, tmp_path):
    model = shutil.copytree(folder, tmp_path / "model")
    backend = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    kept = {token: i for token, i in backend["model"]["vocab"].items() if i < 300}
    backend["model"] |= {"vocab": kept, "merges": []}
    (model / "tokenizer.json").write_text(json.dumps(backend))
    said = refused(model)
    assert "300 tokens" in said
    assert "1,024 rows" in said


def test_ids_beyond_the_embedding_are_refused_before_the_data_run_through_the_model(tmp_path, load_model):
    from transformers import OPTConfig, OPTForCausalLM

    tokenizer = tiny_tokenizer()
    config = load_model("tiny-opt").model.config.to_dict() | {"vocab_size": len(tokenizer) - 200}
    OPTForCausalLM(OPTConfig(**config)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError) as caught:
        run(compose(*RUN, f"model.dir={tmp_path / 'model'}", f"runs_dir={tmp_path / 'runs'}"))
    said = str(caught.value)
    assert f"the model's embedding has {len(tokenizer) - 200} rows" in said
    assert "\n" not in said


def test_a_start_token_beyond_the_embedding_is_refused_and_unused_ones_are_not(load_model, mini):
    task, splits = mini("sst2")
    tiny = load_model("tiny-opt")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<start>"])
    assert len(tokenizer) > tiny.model.get_input_embeddings().num_embeddings
    unused = Encoder(tokenizer, start=2, max_length=64).encode(task, splits.dev[:4])
    check_ids(tiny.model, tokenizer, unused)
    used = Encoder(tokenizer, start=len(tokenizer) - 1, max_length=64).encode(task, splits.dev[:4])
    with pytest.raises(ModelError, match="'<start>' has id 1024"):
        check_ids(tiny.model, tokenizer, used)


def test_a_hash_names_what_makes_ids_and_nothing_else(folder, load_model):
    def changed(change):
        tokenizer = tiny_tokenizer()
        facts = json.loads(tokenizer.backend_tokenizer.to_str())
        change(facts)
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(json.dumps(facts))
        names = {name: getattr(tokenizer, name) for name in ("bos_token", "pad_token", "eos_token", "unk_token")}
        return PreTrainedTokenizerFast(tokenizer_object=backend, **names)

    plain = tokenizer_hash(tiny_tokenizer())
    assert plain == tokenizer_hash(load(folder).tokenizer) == tokenizer_hash(changed(lambda facts: None))
    padded = tiny_tokenizer()
    padded(["a", "long text"], padding=True, truncation=True, max_length=4)
    assert tokenizer_hash(padded) == plain
    others = [
        changed(lambda facts: facts["model"]["merges"].pop()),
        changed(lambda facts: facts.update(normalizer={"type": "Lowercase"})),
        changed(lambda facts: facts["model"]["vocab"].update({" great": 999_999})),
        PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token="<unk>"),
    ]
    assert len({plain, *map(tokenizer_hash, others)}) == 5


def test_family_and_parameters_do_not_depend_on_the_tuning(tiny):
    before = model_parameters(tiny.model)
    assert model_family(tiny.model) in ("opt", "llama")
    assert before == sum(param.numel() for param in tiny.model.parameters())
    LoRA(r=2).apply(tiny.model, tiny.spec, init_seed=0)
    assert sum(param.numel() for param in tiny.model.parameters()) > before
    assert model_parameters(tiny.model) == before
