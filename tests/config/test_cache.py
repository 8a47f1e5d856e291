"""A stored value that was damaged, or is another's, is as good as none."""

import os

import pytest

from zobench.config.cache import Cache


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache with one value, and its file."""
    monkeypatch.setenv("ZOBENCH_CACHE", str(tmp_path))
    cache = Cache("prices", keep=3)
    cache.store({"steps": 5}, "mezo", 1)
    (path,) = cache.folder.iterdir()
    return cache, path


DAMAGES = {
    "value": lambda path: path.write_text(path.read_text().replace("5", "6")),
    "bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"\xff" + path.read_bytes()),
    "deep": lambda path: path.write_text("[" * 100_000),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_value_is_not_taken(kept, damage):
    cache, path = kept
    assert cache.load("mezo", 1) == {"steps": 5}
    damage(path)
    assert cache.load("mezo", 1) is None
    cache.store({"steps": 5}, "mezo", 1)
    assert cache.load("mezo", 1) == (None if path.is_dir() else {"steps": 5})


def test_the_value_of_other_facts_is_not_taken(kept):
    cache, path = kept
    cache.store({"steps": 7}, "mezo", 2)
    (other,) = set(cache.folder.iterdir()) - {path}
    path.write_bytes(other.read_bytes())
    assert cache.load("mezo", 1) is None
