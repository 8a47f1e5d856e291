"""Damage to the files of a record: one change of whatever kind a disk, an editor or a stranger can make.

``damages(record)`` draws one; ``apply`` makes it. Hypothesis chooses, so that a case is made again from its seed.
"""

import json
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zobench.record import digests

#: what a value is replaced by, whatever it was
VALUES = [
    None, True, False, [], {}, [[1]], {"a": {"b": [1]}}, "", "x", "finished", "running", "-1", "1e3", "\x1b]0;t\x07",
    "a\u202eb", "\ud800", "a\nb", "a\0b", "../../etc/passwd", "/etc", "=1+1", "+1", "@x", "$x_{", "${oc.env:HOME}",
    "[x](javascript:alert(1))", "<script>alert(1)</script>", "x" * 5000, 0, 1, -1, 7, 0.5, -0.25, 1.5, 10**12, 2**63,
    -(2**63), 10**400, 1e300, -1e300, 1e-320, float("nan"), float("inf"), [None] * 50, ["x", 1, None],
]  # fmt: skip
#: bytes that stand in the place of a whole file
CONTENTS = {
    "empty": b"", "null": b"null", "list": b"[]", "number": b"5", "text": b'"x"', "object": b"{}", "nuls": b"\0" * 99,
    "not UTF-8": b'{"state": "\xff"}', "UTF-16": '{"state": "finished"}'.encode("utf-16"), "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000, "deep YAML": b"- " * 100_000, "flow YAML": b"{a: " * 100_000,
    "only a state": b'{"state": "finished"}', "python tag": b"x: !!python/object/apply:os.getcwd []",
    "aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(12)
    ),
    "interpolation": b"method: ${oc.env:HOME}\nmodel: ${method}\n",
    "twice": b'{"state": "failed", "state": "finished"}',
    "not JSON": b'{"state": NaN, "x": Infinity}', "lines": b"5\n[]\nnull\n\"x\"\n{}\n\xff\n" * 3,
}  # fmt: skip
SWAPS = ("gone", "directory", "dangling link", "link to itself", "link to its folder", "pipe", "socket", "device")


@dataclass(frozen=True)
class Damage:
    """One change: which file below a record, and how it is changed."""

    file: str
    kind: str
    at: tuple[Any, ...] = ()
    value: Any = None
    #: whether the digests in summary.json are made to fit, as a stranger can
    sealed: bool = False

    def __str__(self):
        where = ".".join(map(str, self.at))
        return f"{self.file}: {self.kind} {where} {self.value!r}"[:160] + ", sealed" * self.sealed

    def apply(self, record):
        self._change(Path(record) / self.file)
        if self.sealed:
            reseal(Path(record))

    def _change(self, path):
        if self.kind == "swap":
            swap(path, self.value)
        elif self.kind == "content":
            path.write_bytes(CONTENTS[self.value])
        elif self.kind in ("cut", "flip", "insert"):
            path.write_bytes(_bytes(path.read_bytes(), self.kind, *self.at))
        elif self.kind == "line":
            lines = path.read_bytes().splitlines(keepends=True)
            i = self.at[0] % len(lines)
            lines[i : i + 1] = {
                "remove": [],
                "twice": [lines[i]] * 2,
                "torn": [lines[i][: len(lines[i]) // 2] + b"\n"],
            }[self.value]
            path.write_bytes(b"".join(lines))
        else:
            write(path, changed(read(path), self.kind, self.at, self.value))


def reseal(record):
    """Make the digests of a record fit its files, as far as it has them and can be read."""
    try:
        row = json.loads((record / "summary.json").read_bytes())
        for name in row.get(digests.FILES) or ():
            if (record / name).is_file():
                row[digests.FILES][name] = digests.of((record / name).read_bytes())
        row.pop(digests.ROW, None)
        (record / "summary.json").write_text(json.dumps(digests.sealed(row), indent=1))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return


def _bytes(data, kind, share, bit):
    at = int(share * max(0, len(data) - 1))
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + bytes([bit * 37 % 256]) * (1 + bit) + data[at:]
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] if data else b"\1"


def swap(path, what):
    """Put something that is no file in the place of one."""
    path.unlink()
    if what == "directory":
        (path / "inner").mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the address of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        finally:
            os.chdir(here)
    elif what != "gone":
        aims = {
            "dangling link": "nowhere",
            "link to itself": path.name,
            "link to its folder": ".",
            "device": "/dev/zero",
        }
        path.symlink_to(aims[what])


def read(path):
    """A file as nested values."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_text())


def write(path, value):
    """Nested values as a file of the kind that its name says, as far as its format can hold them."""
    if path.suffix == ".parquet":
        try:
            pq.write_table(pa.Table.from_pylist(value), path)
        except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError, AttributeError):
            columns = sorted({name for row in value if isinstance(row, dict) for name in row})
            texts = [[repr(row.get(name)) if isinstance(row, dict) else "" for row in value] for name in columns]
            pq.write_table(pa.table(texts, names=columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(line) + "\n" for line in value))
    elif path.suffix == ".json":
        path.write_text(json.dumps(value, indent=1))
    else:
        path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=False), errors="surrogatepass")


def changed(node, kind, at, value):
    """Nested values with one of them replaced, removed, or with another key beside it."""
    if not at:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    first, *rest = at
    if rest:
        copy[first] = changed(copy[first], kind, rest, value)
    elif kind == "remove":
        del copy[first]
    elif kind == "add" and isinstance(copy, dict):
        copy[f"{first}x" if not isinstance(value, str) else value[:50] or "x"] = value
    else:
        copy[first] = value
    return copy


def places(node, at=()):
    """Where values are: paths of keys and indices."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def files(record):
    """The files of a record that can be damaged."""
    paths = (path.relative_to(record).as_posix() for path in Path(record).rglob("*") if path.is_file())
    return sorted(path for path in paths if not path.endswith(".lock"))


def damages(record, only=None):
    """A strategy of changes to the files of a record."""
    names = [name for name in files(record) if only is None or name in only]
    structured = {name: list(places(read(Path(record) / name))) for name in names if not name.endswith("safetensors")}

    @st.composite
    def drawn(draw):
        name = draw(st.sampled_from(names))
        kinds = ["content", "swap", "cut", "flip", "insert"]
        kinds += ["value"] * 8 + ["remove", "remove", "add"] if structured.get(name) else []
        kind = draw(st.sampled_from([*kinds, "line"] if name.endswith(("jsonl", "yaml")) else kinds))
        return replace(of_kind(draw, name, kind), sealed=draw(st.booleans()))

    def of_kind(draw, name, kind):
        if kind == "content":
            return Damage(name, kind, value=draw(st.sampled_from(sorted(CONTENTS))))
        if kind == "swap":
            return Damage(name, kind, value=draw(st.sampled_from(SWAPS)))
        if kind == "line":
            return Damage(name, kind, (draw(st.integers(0, 99)),), draw(st.sampled_from(["remove", "twice", "torn"])))
        if kind in ("cut", "flip", "insert"):
            return Damage(name, kind, (draw(st.floats(0, 1)), draw(st.integers(0, 7))))
        at = draw(st.sampled_from(structured[name]))
        return Damage(name, kind, at, draw(st.sampled_from(VALUES)))

    return drawn()


def rewritten(path, change):
    """Other tensors under the file's own checksums."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=metadata)
