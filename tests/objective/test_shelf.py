"""Activations kept on disk are the bits that computing again gives, and are found only where all else is equal."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zobench.models.tuning import LastLayers
from zobench.objective import Objective
from zobench.objective.shelf import Shelf


@pytest.fixture
def filled(tiny, mini, tmp_path):
    """``filled()``: (an objective whose cache was filled, by way of the shelf in ``tmp_path``; the examples)."""
    LastLayers(layers=1).apply(tiny.model, tiny.spec, 0)
    task, splits = mini("sst2")
    examples = tiny.encoder.encode(task, splits.train[:9])

    def make(rows=9, **settings):
        shelf = Shelf(tmp_path, **{"worth_seconds": 0.0, **settings})
        objective = Objective(tiny.model, tiny.tokenizer, task, cache_gib=1.0, shelf=shelf, length_buckets=1)
        seen = []
        objective.prepare(examples[:rows], seen.append)
        assert sum(seen) == rows
        return objective, examples

    return make


def files(folder):
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def lower_runs(model):
    """A list that grows by the sequences of each forward; those of the trials when an objective is made are fewer."""
    runs = []
    model.get_decoder().layers[0].register_forward_hook(
        lambda module, args, out: runs.append(len(args[0]) if args[0].shape[1] > 1 else 0)
    )
    return runs


@torch.no_grad()
def test_a_second_run_reads_the_same_bits(tiny, filled, tmp_path):
    runs = lower_runs(tiny.model)
    first, examples = filled()
    assert runs.pop() == 9
    assert 9 not in runs
    again, _ = filled()
    assert 9 not in runs, "the frozen layers did not run again"
    assert len(files(tmp_path)) == 1
    assert again.prefix.bytes == first.prefix.bytes
    assert first.prefix._cache.keys() == again.prefix._cache.keys()
    for key, kept in first.prefix._cache.items():
        assert torch.equal(again.prefix._cache[key], kept)
    assert again.scores(examples) == first.scores(examples)


@torch.no_grad()
def test_test_rows_are_found_whatever_rows_were_trained(tiny, mini, tmp_path):
    LastLayers(layers=1).apply(tiny.model, tiny.spec, 0)
    task, splits = mini("sst2")
    rows = tiny.encoder.encode(task, splits.train[:30])
    test = rows[20:]
    runs = lower_runs(tiny.model)
    for trained in (rows[:10], rows[10:25]):  # five of these are test rows too
        objective = Objective(
            tiny.model, tiny.tokenizer, task, cache_gib=1.0, shelf=Shelf(tmp_path, worth_seconds=0.0), length_buckets=1
        )
        objective.prepare(trained)
        runs.clear()
        objective.prepare(test)
    assert not runs
    assert len(files(tmp_path)) == 3


@torch.no_grad()
def test_other_weights_rows_or_threads_are_other_files(tiny, filled, tmp_path):
    filled()
    filled(rows=8)
    assert len(files(tmp_path)) == 2
    trained = tiny.model.get_decoder().layers[-1].mlp if hasattr(tiny.model.get_decoder().layers[-1], "mlp") else None
    for param in (trained or tiny.model.get_decoder().layers[-1].fc1).parameters():
        param.add_(1.0)
    filled()
    assert len(files(tmp_path)) == 2, "what trains is no part of it"
    next(tiny.model.get_decoder().layers[0].parameters()).add_(1.0)
    filled()
    assert len(files(tmp_path)) == 3
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        filled()
    finally:
        torch.set_num_threads(threads)
    assert len(files(tmp_path)) == 4


def flipped(where):
    def damage(path, other):
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= 1
        path.write_bytes(content)

    return damage


def rewritten(change):
    """Other tensors, with the metadata of the file."""

    def damage(path, other):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        save_file(change(load_file(path)), path, metadata=metadata)

    return damage


DAMAGES = {
    **{f"bit at {where}": flipped(where) for where in (0.0, 0.001, 0.01, 0.3, 0.9, 0.9999)},
    "text": lambda path, other: path.write_bytes(b"not a tensor"),
    "empty": lambda path, other: path.write_bytes(b""),
    "truncated": lambda path, other: path.write_bytes(path.read_bytes()[:-1]),
    "another file": lambda path, other: shutil.copy(other, path),
    "no digest": lambda path, other: save_file(load_file(path), path),
    "shape": rewritten(lambda tensors: tensors | {"entries": tensors["entries"][:, :-1].contiguous()}),
    "dtype": rewritten(lambda tensors: tensors | {"entries": tensors["entries"].view(torch.int32)}),
    "lengths": rewritten(lambda tensors: tensors | {"lengths": tensors["lengths"].flip(0).contiguous()}),
    "a tensor less": rewritten(lambda tensors: {"entries": tensors["entries"]}),
}


@torch.no_grad()
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_removed_and_computed_again(filled, tmp_path, damage):
    first, examples = filled()
    (path,) = files(tmp_path)
    right = path.read_bytes()
    filled(rows=8)
    (other,) = set(files(tmp_path)) - {path}
    damage(path, other)
    again, _ = filled()
    (said,) = again.prefix.complaints
    assert str(path) in said
    assert again.scores(examples) == first.scores(examples)
    assert path.read_bytes() == right
    third, _ = filled()
    assert third.prefix.complaints == []


@torch.no_grad()
def test_what_is_no_file_is_let_alone(filled, tmp_path):
    first, examples = filled()
    (path,) = files(tmp_path)
    for make in (Path.mkdir, os.mkfifo):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        again, _ = filled()
        assert len(again.prefix.complaints) == 1
        assert again.scores(examples) == first.scores(examples)


def test_what_is_cheap_is_not_kept_and_an_unwritable_folder_is_no_error(filled, tmp_path):
    filled(worth_seconds=60.0)
    assert not files(tmp_path)
    (tmp_path / "file").write_text("")
    Shelf(tmp_path / "file" / "under").store("name", [torch.zeros(2, 3)])


def test_the_longest_unused_go_first(filled, tmp_path):
    for rows in (4, 5, 6):
        filled(rows=rows)
    oldest, second, _ = files(tmp_path)
    filled(rows=4)  # reading it makes it the newest
    size = max(path.stat().st_size for path in files(tmp_path))
    filled(rows=9, limit_bytes=4 * size)
    left = files(tmp_path)
    assert oldest in left
    assert second not in left
