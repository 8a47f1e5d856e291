"""Whoever reads records looks up names that there are.

A column that is renamed in the schema, as its writer must, fails here wherever it is still read by its old name. Else
tables would hold nulls in silence.
"""

import ast
import re

import pytest
from helpers.tiny_runs import ROOT

from zobench.record.columns import ENVIRONMENT, LINES, PREDICTIONS, ROW

#: room -> what is looked up in it by text and is no name of the record
OWN = {
    "report": {
        # what tables and pictures make of the runs
        "bin", "chosen", "column label", "delta", "delta_high", "delta_low", "dev", "difference", "differs", "diverged",
        "done", "key", "n_seeds", "ours", "ours_std", "peak_mib", "rates_tried", "reached_of", "reached_runs", "row",
        "row label", "runs", "seconds", "supported", "test_metric_std",
        # published numbers and claims
        "deviation", "known_as", "paper", "published", "setting", "source", "table", "unit", "value", "where",
        # attributes of a frame, variables, parts of a page
        "Environment", "WANDB_MODE", "WANDB_PROJECT", "bold", "center", "left_out", "mixed", "numbers",
        "outside upper center", "svgs",
    },
    "sweep": {
        "choices", "common", "failed", "hydra", "lines", "out", "overwrite", "params", "running", "runs_dir", "runtime",
        "sweeper",
    },
    "run": {"best", "clocks", "device_map", "last", "loss", "progress", "shards", "train"},
    "system/console.py": set(),
    "export.py": {"run"},
    "replay.py": set(),
}  # fmt: skip
_CALLS = ("get", "groupby", "sort_values", "drop_duplicates", "dropna", "set_index")
_NAME = re.compile(r"[A-Za-z]\w*([/. ]\w+)*")


def is_known(name):
    return any(schema.names(name) for schema in (ROW, LINES, PREDICTIONS, ENVIRONMENT))


def looked_up(tree):
    """Texts by which something is looked up: in ``x["..."]``, ``x.get("...")``, ``"..." in x`` and calls of pandas."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            yield from texts(node.slice)
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            yield from texts(node.left)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
            for argument in (*node.args[:1], *(word.value for word in node.keywords)):
                yield from texts(argument)


def listed(tree):
    """The texts of each list most of which are names of the record: the others must be too."""
    for node in ast.walk(tree):
        lists = [node] if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
        lists += [ast.Tuple(side) for side in (node.keys, node.values)] if isinstance(node, ast.Dict) else []
        for each in lists:
            found = list(texts(each))
            if sum(map(is_known, found)) > len(found) / 2:
                yield from found


def grouped(tree):
    """Texts such as ``test/loss``, wherever they stand."""
    starts = {column.start for schema in (ROW, LINES) for column in schema if "/" in column.start}
    heads = {start.partition("/")[0] for start in starts}
    for text in (text for node in ast.walk(tree) for text in texts(node)):
        if "/" in text and text.partition("/")[0] in heads and f"{text}/" not in starts:
            yield text


def texts(node):
    for each in getattr(node, "elts", [node]):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and _NAME.fullmatch(each.value):
            yield each.value


def strangers(room):
    """What a room looks up that is neither a name of the record nor its own."""
    path = ROOT / "zobench" / room
    trees = [ast.parse(file.read_text()) for file in ([path] if path.is_file() else path.rglob("*.py"))]
    names = {name for tree in trees for name in (*looked_up(tree), *listed(tree), *grouped(tree))}
    return {name for name in names if not is_known(name)} - OWN[room]


@pytest.mark.parametrize("room", OWN)
def test_readers_look_up_names_of_the_record(room):
    assert strangers(room) == set(), f"no names of the record; if they are {room}'s own, say so in this test"


def test_what_is_said_to_be_of_their_own_is_no_name_of_the_record():
    assert {name for names in OWN.values() for name in names if is_known(name)} == set()


def test_a_renamed_column_is_found_out(monkeypatch):
    names = type(ROW).names
    for column, room in (
        ("peak_gib", "report"),
        ("cache_seconds", "report"),
        ("wall_seconds", "sweep"),
        ("best_step", "run"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(type(ROW), "names", lambda self, name, old=column: name != old and names(self, name))
            assert strangers(room) == {column}
