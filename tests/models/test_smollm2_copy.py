"""The converted copy of SmolLM2 in the cache: compared with its digests, and made anew where it differs."""

import json

import pytest

from zobench.models import smollm2


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """``convert()`` is ``converted_folder()`` as a new process calls it; converting itself writes small files.

    The real conversion takes half a minute and 1 GB; ``test_tuning.py`` loads what it made.
    """
    made = []

    def small(source, target):
        made.append(target)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (target / name).write_text(f"{name} as it was converted")

    monkeypatch.setenv("ZOBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "_convert", small)

    def convert():
        smollm2.converted_folder.cache_clear()
        made.clear()
        folder = smollm2.converted_folder()
        assert {path.name for path in folder.iterdir()} == {
            "config.json", "model.safetensors", "tokenizer.json", "sha256.json",
        }  # fmt: skip
        assert (folder / "model.safetensors").read_text() == "model.safetensors as it was converted"
        return folder, len(made)

    yield convert
    smollm2.converted_folder.cache_clear()


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swap(folder):
    for name in ("tokenizer.json", "config.json"):
        flip(folder / name)


DAMAGES = {
    "one bit of the weights": lambda folder: flip(folder / "model.safetensors"),
    "other files": swap,
    "truncated": lambda folder: (folder / "model.safetensors").write_text("model"),
    "a file is gone": lambda folder: (folder / "tokenizer.json").unlink(),
    "of an older version, without digests": lambda folder: (folder / "sha256.json").unlink(),
    "digests of nothing": lambda folder: (folder / "sha256.json").write_text("{}"),
    "digests that are none": lambda folder: (folder / "sha256.json").write_text('["model.safetensors"'),
    "digests of other types": lambda folder: (folder / "sha256.json").write_text(json.dumps({"config.json": 5})),
    "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_copy_is_converted_anew_and_one_line_says_so(convert, damage, capsys):
    folder, times = convert()
    assert times == 1
    assert convert() == (folder, 0)
    assert capsys.readouterr().out == ""
    DAMAGES[damage](folder)
    assert convert() == (folder, 1)
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith(f"{folder}: ")
    assert said.endswith("; it is converted anew")
    assert convert() == (folder, 0)


def test_a_process_compares_once(convert, monkeypatch):
    folder, _ = convert()
    flip(folder / "model.safetensors")
    assert smollm2.converted_folder() == folder
