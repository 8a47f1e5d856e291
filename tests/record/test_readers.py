"""Whoever reads records looks up names that there are.

A column that is renamed in the schema, as its writer must, fails here wherever it is still read by its old name. Else
tables would hold nulls in silence.
"""

import ast
import re

import pytest
from helpers.tiny_runs import ROOT

from zobench.record.columns import ENVIRONMENT, LINES, PREDICTIONS, ROW

#: who reads records -> what it looks up that is neither a name of the record nor made by itself
OTHER = {
    "report": {
        "WANDB_MODE", "WANDB_PROJECT",  # variables
        "deviation", "setting", "table", "value",  # columns of the published numbers
        "bin", "test_metric_std",  # columns with names that are put together
        "center", "outside upper center", "bottom", "left", "right", "top", "max", "min", "y",  # places in pictures
        "stable", "all", "first",  # ways to sort, to repeat
        *(f"{of}delta{end}" for of in ("", "own_") for end in ("", "_low", "_high")), "rank_low", "rank_high",
        "delta_seeds",  # scores
    },
    "record/summaries.py": {"versions"},
    "record/metrics.py": set(),
    "sweep/state.py": set(),
    "estimate/costs.py": set(),
    "estimate/rates.py": {"data.splits", "task.rows", "task.splits"},
    "sweep/overview.py": {"out", "overwrite", "running"},
    "run/app.py": set(),
    "run/identity.py": set(),
    "run/rebuild.py": set(),
    "record/lookup.py": {"choices", "dir", "files"},
    "system/console.py": set(),
    "export.py": {"run", "Tensor"},  # a type that is imported where types are checked
    "replay.py": set(),
}  # fmt: skip
_CALLS = ("get", "groupby", "sort_values", "drop_duplicates", "dropna", "set_index")
_NAME = re.compile(r"[A-Za-z]\w*([/. ]\w+)*")


def is_known(name):
    return any(schema.names(name) for schema in (ROW, LINES, PREDICTIONS, ENVIRONMENT))


def texts(node):
    for each in getattr(node, "elts", [node]):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and _NAME.fullmatch(each.value):
            yield each.value


def of_the_record(nodes):
    """The texts in a list of nodes, if most of them are names of the record."""
    found = [text for node in nodes if node is not None for text in texts(node)]
    return found if sum(map(is_known, found)) > len(found) / 2 else []


def looked_up(node):
    """Texts by which something is looked up: ``x["..."]``, ``x.get("...")``, ``"..." in x``, calls of pandas, and what
    stands in one list with names of the record.
    """
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield from texts(node.slice)
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
        yield from texts(node.left)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
        for argument in (*node.args[:1], *(word.value for word in node.keywords)):
            yield from texts(argument)
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        yield from of_the_record(node.elts)
    elif isinstance(node, ast.Dict):
        yield from (*of_the_record(node.keys), *of_the_record(node.values))


def grouped(node):
    """Texts such as ``test/loss``, wherever they stand."""
    starts = {column.start for schema in (ROW, LINES) for column in schema if "/" in column.start}
    heads = {start.partition("/")[0] for start in starts}
    for text in texts(node):
        if "/" in text and text.partition("/")[0] in heads and f"{text}/" not in starts:
            yield text


def made(node):
    """Plain names that the code itself gives to what it makes, other than by looking up the same name."""
    if isinstance(node, ast.Dict) and not of_the_record(node.keys):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and not {*texts(key)} & {text for inner in ast.walk(value) for text in texts(inner)}:
                yield from texts(key)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "assign":
        yield from (word.arg for word in node.keywords if word.arg)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        yield from texts(node.slice)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def strangers(reader):
    """What a reader looks up that is no name of the record, nothing of its own making, and not said to be other."""
    path = ROOT / "zobench" / reader
    files = [path] if path.is_file() else path.rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = {name for node in nodes for name in (*looked_up(node), *grouped(node))}
    own = {name for node in nodes for name in made(node) if not set(name) & set("/.")}
    return {name for name in names if not is_known(name)} - own


@pytest.mark.parametrize("reader", OTHER)
def test_readers_look_up_names_of_the_record(reader):
    assert strangers(reader) - OTHER[reader] == set(), "no names of the record; what else they are, say in this test"


@pytest.mark.parametrize(
    ("column", "reader"),
    [
        ("peak_gib", "report"),  # in a look-up and in a list
        ("cpu_hours", "report"),
        ("cache_seconds", "report"),  # a key of a dictionary
        ("zero_shot/test/majority", "report"),  # a value of one
        ("wall_seconds", "estimate/costs.py"),
        ("train/loss", "sweep/state.py"),
        ("weights_gib", "system/console.py"),
        ("best_step", "run/rebuild.py"),
    ],
)
def test_a_renamed_column_is_found_out(column, reader, monkeypatch):
    names = type(ROW).names
    monkeypatch.setattr(type(ROW), "names", lambda self, name: name != column and names(self, name))
    assert column in strangers(reader)
