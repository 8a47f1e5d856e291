"""Weights from the trajectory, and models for other programs: the two command lines, on real runs."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers.damage import reseal, rewritten
from helpers.tiny_runs import summary_of as row_of
from safetensors.torch import load_file

from zobench import export, replay
from zobench.config.signature import compose
from zobench.record import checkpoint, packing
from zobench.run.runner import run
from zobench.zo import Method
from zobench.zo.slot import make_slots

TINY = ("model=tiny-opt", "task=sst2", "data=mini", "wandb=disabled", "batch_size=4", "steps=8", "eval_every=2")
SIZES = tuple(f"task.splits.mini.{part}=8" for part in ("train", "dev", "test"))
LR = "method.lr=1e-3"


def cell(folder, *overrides):
    return Path(run(compose(*TINY, *SIZES, *overrides, f"runs_dir={folder}"))["directory"])


@pytest.fixture(scope="module")
def mezo(tmp_path_factory):
    """A finished run without weights."""
    return cell(tmp_path_factory.mktemp("mezo"), LR)


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    return cell(tmp_path_factory.mktemp("lora"), "tuning=lora", "method.lr=1e-2", "keep_weights=true")


# Every method is replayed in tests/methods/test_methods.py; here the command is, on runs of different kinds.
RUNS = [
    ("method=mezo", LR, "dtype=bfloat16"),
    ("method=loren", LR, "tuning=lora"),
    ("method=pgap", LR, "method.rank=4", "method.refresh=3", "model=tiny-llama", "method.mode=exact"),
    ("protocol=mezo_exact", LR),
]


@pytest.mark.parametrize("overrides", RUNS, ids=lambda overrides: "-".join(o.split("=")[1] for o in overrides))
def test_the_trajectory_gives_the_weights_bit_for_bit(tmp_path, capsys, overrides):
    directory = cell(tmp_path, *overrides)
    row = row_of(directory)
    assert not (directory / "checkpoint").exists()
    for step, key in (("last", "weights_checksum"), ("best", "best_weights_checksum")):
        capsys.readouterr()
        assert replay.main([str(directory), "--step", step]) == 0
        assert f"weights {row[key]}: bit for bit those of the run" in capsys.readouterr().out
    assert row["weights_checksum"] != row["base_checksum"]


def test_a_replay_has_as_many_threads_as_the_run(tmp_path, monkeypatch):
    """The bits of torch's products hang on their number."""
    before, seen, step = torch.get_num_threads(), set(), Method.replay

    def counted(method, losses, missed):
        seen.add(torch.get_num_threads())
        return step(method, losses, missed)

    monkeypatch.setattr(Method, "replay", counted)
    try:
        directory = cell(tmp_path, LR, "threads=2")
        torch.set_num_threads(1)
        assert replay.main([str(directory)]) == 0
        assert (seen, torch.get_num_threads()) == ({2}, 1)
    finally:
        torch.set_num_threads(before)


def test_bytes_a_step(mezo):
    *_, last = (mezo / "trajectory.jsonl").read_text().splitlines(keepends=True)
    assert len(last) < 64


def test_any_step_to_a_file(mezo, tmp_path, capsys):
    files = [tmp_path / f"{step}.safetensors" for step in (0, 3)]
    for step, file in zip(("0", "3"), files, strict=True):
        assert replay.main([str(mezo), "--step", step, "--out", str(file)]) == 0
    assert "the record has no checksum of this step" in capsys.readouterr().out
    first, third = (load_file(file) for file in files)
    assert checkpoint.checksum(make_slots(first.items())) == row_of(mezo)["base_checksum"]
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_a_run_inside_a_zip(mezo, tmp_path, capsys):
    file = tmp_path / "runs.zip"
    packing.pack({"sst2/mezo/1234": mezo}, file)
    assert replay.main([f"{file}/sst2/mezo/1234"]) == 0
    said = capsys.readouterr().out
    assert f"weights {row_of(mezo)['weights_checksum']}: bit for bit those of the run" in said
    assert f"trajectory {(mezo / 'trajectory.jsonl').stat().st_size:,} bytes" in said
    assert replay.main([f"{file}/sst2/mezo"]) == 1
    assert "or its path in a zip of records, FILE.zip/<task>/<model>/<method>/<signature>" in capsys.readouterr().err


@pytest.fixture
def stranger(mezo, tmp_path):
    """A copy of a run whose configuration went through a change; below a folder, or in a zip."""

    def made(old, new, *, zipped=False):
        copy = tmp_path / "stranger"
        shutil.copytree(mezo, copy)
        config = copy / "config.yaml"
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new))
        reseal(copy)
        if not zipped:
            return str(copy)
        packing.pack({"run": copy}, tmp_path / "runs.zip")
        return str(tmp_path / "runs.zip" / "run")

    return made


MEZO, SGD = "zobench.methods.mezo.MeZO", "zobench.zo.rules.SGD"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("module", ["evil_module.X", "subprocess.Popen", "..evil_module.X", "evil_module"])
def test_a_record_names_no_classes_but_zobenchs_own(stranger, tmp_path, monkeypatch, capsys, module, zipped):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    run = stranger(MEZO, module, zipped=zipped)
    for main in (replay.main, lambda words: export.main([*words, str(tmp_path / "model")])):
        assert main([run]) == 1
        said = capsys.readouterr().err
        assert "not of zobench's own" in said or "expected the dotted path of a class" in said
        assert said.count("\n") == 1


def test_a_package_of_ones_own_is_allowed_by_its_name(stranger, tmp_path, monkeypatch, capsys):
    """The name of a run holds the path of a class of one's own, so this record is of an age that had no such names."""
    (tmp_path / "my_package.py").write_text("from zobench.methods.mezo import MeZO\n\n\nclass Mine(MeZO):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = stranger(MEZO, "my_package.Mine")
    row = row_of(Path(run))
    del row["schema"]
    (Path(run) / "summary.json").write_text(json.dumps(row))
    assert replay.main([run]) == 1
    assert "if you trust the record and that package, add --allow my_package" in capsys.readouterr().err
    assert replay.main([run, "--allow", "my_pack"]) == 1
    assert replay.main([run, "--allow", "my_package"]) == 0
    assert "bit for bit those of the run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (MEZO, "zobench.errors.complain", "expected a Method of its own"),
        (MEZO, "zobench.zo.Method", "expected a Method of its own"),
        (MEZO, SGD, "expected a Method of its own"),
        (SGD, "zobench.errors.complain", "expected a UpdateRule of its own"),
        (MEZO, "zobench.methods.nowhere.X", "cannot be imported"),
        ("wandb:", "wandb:\n  _target_: zobench.zo.rules.SGD", "a _target_; expected one in"),
        ("probes: 1", "probes: ${oc.env:HOME}", "an interpolation; records are written resolved"),
        ("probes: 1", "probes: !!python/object/apply:os.getcwd []", "a record has none"),
        ("hub: nyu-mll/glue", "hub: ../../glue", "expected the name of a repository"),
        ("subset: sst2", "subset: ../sst2", "expected a name"),
        ("task: sst2", "task: /etc", "expected the name of an option"),
        ("lr: 0.001", "lr: 0.002", "but the run is named"),
        ("batch_size: 4", "batch_size: many", "batch_size='many'; expected an integer"),
    ],
)
def test_a_configuration_that_is_none_of_a_run_is_refused_in_a_line(stranger, capsys, monkeypatch, old, new, said):
    monkeypatch.setenv("HOME", "/secret")
    assert replay.main([stranger(old, new)]) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert "/secret" not in out + err


def changed(mezo, folder, change):
    """A copy of a run whose trajectory lines went through ``change``."""
    copy = folder / "copy"
    shutil.copytree(mezo, copy)
    lines = (copy / "trajectory.jsonl").read_text().splitlines(keepends=True)
    (copy / "trajectory.jsonl").write_text("".join(change(lines)))
    return copy


def without_checksums(lines):
    """The lines as an earlier version wrote them."""
    head, *steps = map(json.loads, lines)
    return [
        json.dumps(line, separators=(",", ":")) + "\n"
        for line in ({"missed": head["missed"]}, *[s[:-1] for s in steps])
    ]


DAMAGES = {
    "loss": lambda lines: [*lines[:4], re.sub(r",.*?,", ",0.7,", lines[4]), *lines[5:]],
    "hole": lambda lines: [*lines[:4], *lines[5:]],
    "end": lambda lines: lines[:-1],
    "few": lambda lines: [*lines[:4], "[4,0.5]\n", *lines[5:]],
    "many": lambda lines: [*lines[:4], "[4,0.5,0.5,0.5]\n", *lines[5:]],
    "head": lambda lines: lines[1:],
    "nan": lambda lines: [*lines[:4], "[4,NaN,0.5]\n", *lines[5:]],
    "huge": lambda lines: [*lines[:4], f"[4,1{'0' * 400},0.5]\n", *lines[5:]],
    "number": lambda lines: [*lines[:4], "5\n", *lines[5:]],
    "deep": lambda lines: [*lines[:4], "[" * 100_000 + "\n", *lines[5:]],
    "missed": lambda lines: ['{"missed":5}\n', *lines[1:]],
    "stranger": lambda lines: ['{"missed":["nobody"]}\n', *lines[1:]],
    "empty": lambda lines: [],
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("first", [list, without_checksums], ids=["checksums", "older"])
def test_a_damaged_trajectory_is_found_out_in_one_line(mezo, tmp_path, capsys, first, change):
    assert replay.main([str(changed(mezo, tmp_path, lambda lines: change(first(lines))))]) == 1
    out, err = capsys.readouterr()
    said = err or out.splitlines()[-1]
    assert "trajectory.jsonl: " in said or "but the run had" in said  # a loss that an older file has otherwise
    assert len(err.splitlines()) <= 1


def test_a_trajectory_without_checksums_is_replayed_and_said_to_be(mezo, tmp_path, capsys):
    assert replay.main([str(changed(mezo, tmp_path, without_checksums))]) == 0
    assert "bit for bit those of the run; the losses carry no checksums" in capsys.readouterr().out


def test_another_base_model_is_found_out(mezo, tmp_path, capsys):
    copy = changed(mezo, tmp_path, list)
    (copy / "summary.json").write_text(json.dumps(row_of(mezo) | {"base_checksum": "0" * 16}))
    assert replay.main([str(copy)]) == 1
    assert "started from a base model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "values",
    [
        {"steps": "x"}, {"steps": [8]}, {"steps": float("nan")}, {"steps": -1}, {"steps": True}, {"best_step": -5},
        {"best_step": 9}, {"best_step": "2"}, {"best_step": 10**40}, {"best_weights_checksum": 5},
        {"base_checksum": []},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("command", [replay, export])
def test_a_damaged_summary_is_found_out_in_one_line(mezo, tmp_path, capsys, command, values):
    copy = changed(mezo, tmp_path, list)
    (copy / "summary.json").write_text(json.dumps(row_of(mezo) | values))
    assert command.main([str(copy), *([str(tmp_path / "out")] if command is export else []), "--step", "best"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "summary.json: " in said
    assert not (tmp_path / "out").exists()


def test_a_file_is_replaced_only_by_force(mezo, tmp_path, capsys):
    there, folder = tmp_path / "there", tmp_path / "folder"
    there.write_text("mine")
    folder.mkdir()
    for path in (there, folder, tmp_path / "none" / "x"):
        assert replay.main([str(mezo), "--out", str(path)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert there.read_text() == "mine"
    assert replay.main([str(mezo), "--out", str(there), "--force"]) == 0
    assert checkpoint.checksum(make_slots(load_file(there).items())) == row_of(mezo)["weights_checksum"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "no config.yaml there"),
        (["--step", "worst"], 2, "expected best, last or a number"),
        (["--step", "9"], 2, "the run has 8 steps"),
        (["--step", "9" * 5000], 2, "expected best, last or a number"),
        (["--step", "²"], 2, "expected best, last or a number"),
        (["--device", "tpu"], 2, "expected auto, cpu, cuda or cuda:N"),
        (["--device", "cuda:x"], 2, "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_wrong_arguments(mezo, capsys, arguments, code, said):
    assert replay.main(arguments if code == 1 else [str(mezo), *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_first_order_run_keeps_its_weights(tmp_path, capsys):
    directory = cell(tmp_path, "method=adamw")
    assert replay.main([str(directory)]) == 1
    assert "steps by gradients" in capsys.readouterr().err
    assert export.main([str(directory), str(tmp_path / "model")]) == 0


def logits(model):
    with torch.inference_mode():
        return model(torch.arange(2, 12)[None]).logits


def test_export_is_a_hugging_face_folder(mezo, tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "model"
    assert export.main([str(mezo), str(folder)]) == 0
    model = AutoModelForCausalLM.from_pretrained(folder)
    named = dict(model.named_parameters()).items()
    assert checkpoint.checksum(make_slots(named)) == row_of(mezo)["best_weights_checksum"]
    assert AutoTokenizer.from_pretrained(folder)("great")["input_ids"]
    assert json.loads((folder / "zobench.json").read_text())["run"]["config_hash"] == row_of(mezo)["config_hash"]
    assert export.main([str(mezo), str(folder)]) == 2
    assert "give a new or empty folder" in capsys.readouterr().err


def test_lora_is_merged_or_written_for_peft(lora, tmp_path):
    peft = pytest.importorskip("peft", reason="pip install peft")
    from transformers import AutoModelForCausalLM

    whole, alone, base = (tmp_path / name for name in ("whole", "alone", "base"))
    assert export.main([str(lora), str(whole)]) == 0
    assert export.main([str(lora), str(alone), "--adapter"]) == 0
    assert export.main([str(cell(tmp_path, "method=adamw", "method.lr=0")), str(base)]) == 0
    bare = logits(AutoModelForCausalLM.from_pretrained(base))
    merged = logits(AutoModelForCausalLM.from_pretrained(whole))
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), alone)
    adapted = logits(model.eval())
    torch.testing.assert_close(adapted, merged, rtol=1e-5, atol=1e-5)
    assert (merged - bare).abs().max() > 1e-3


def test_an_adapter_of_a_run_without_one(mezo, tmp_path, capsys):
    assert export.main([str(mezo), str(tmp_path / "x"), "--adapter"]) == 2
    assert "tuning=full, not lora or prefix" in capsys.readouterr().err


def flip(path, where, bit=1):
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= bit
    path.write_bytes(content)


def broadcast(tensors):
    tensors[min(tensors)] = tensors[min(tensors)][:1].clone()


KEPT = {
    "bit": lambda path: flip(path, 0.9),
    "header": lambda path: flip(path, 0.001, 32),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "lacking": lambda path: rewritten(path, lambda tensors: tensors.pop(min(tensors))),
    "more": lambda path: rewritten(path, lambda tensors: tensors.update(x=torch.zeros(1))),
    "broadcast": lambda path: rewritten(path, broadcast),
    "dtype": lambda path: rewritten(path, lambda tensors: tensors.update({k: v.double() for k, v in tensors.items()})),
}


@pytest.mark.parametrize("damage", KEPT.values(), ids=KEPT)
def test_damaged_weights_are_not_exported(lora, tmp_path, capsys, damage):
    copy, model = tmp_path / "run", tmp_path / "model"
    shutil.copytree(lora, copy)
    (kept,) = (copy / "checkpoint").glob("best-*")
    damage(kept)
    assert export.main([str(copy), str(model)]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "remove it, and the trajectory makes the weights again" in said
    assert not model.exists()
    kept.unlink()
    assert export.main([str(copy), str(model)]) == 0
    written = json.loads((model / "zobench.json").read_text())
    assert written["weights_checksum"] == row_of(lora)["best_weights_checksum"]


def test_a_flipped_bit_is_exported_when_asked_for(lora, tmp_path, capsys):
    copy, model = tmp_path / "run", tmp_path / "model"
    shutil.copytree(lora, copy)
    flip(next((copy / "checkpoint").glob("best-*")), 0.9)
    assert export.main([str(copy), str(model), "--unverified"]) == 0
    assert "the weights are not bit for bit those of the run" in capsys.readouterr().out
