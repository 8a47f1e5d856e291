"""Docstrings: their examples run, and they keep the rules that a machine can check."""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import zobench

PACKAGE = Path(zobench.__file__).parent
#: openings of a first line that say nothing without the name, or without another docstring
FORBIDDEN = re.compile(r"(Nothing|The same|Same|Of|See|As)\b|As ``")
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Documented:
    """A public object: where it stands, its docstring, and whether a class it derives from has one for it."""

    where: str
    text: str
    inherits: bool = False


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of the package by its path in it, as a tree."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("_") or path.stem[-2:] == "__"]
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def is_public(node: ast.AST) -> bool:
    return isinstance(node, Definition) and (not node.name.startswith("_") or node.name == "__call__")


def bases_of(node: ast.ClassDef) -> list[str]:
    named = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return [ast.unparse(base).rpartition(".")[2] for base in named]


@cache
def classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for tree in trees().values() for node in tree.body if isinstance(node, ast.ClassDef)}


def ancestors(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """The classes of the package that one derives from."""
    for name in bases_of(node):
        if name in classes() and classes()[name] is not node:
            yield classes()[name]
            yield from ancestors(classes()[name])


def public_objects(tree: ast.Module, path: str) -> Iterator[Documented]:
    """The module, its public classes and functions, and the public methods of these classes."""
    yield Documented(path, ast.get_docstring(tree) or "")
    for node in filter(is_public, tree.body):
        yield Documented(f"{path}:{node.lineno} {node.name}", ast.get_docstring(node) or "")
        for method in filter(is_public, node.body) if isinstance(node, ast.ClassDef) else ():
            overridden = [m for base in ancestors(node) for m in base.body if getattr(m, "name", "") == method.name]
            inherits = any(ast.get_docstring(m) for m in overridden)
            where = f"{path}:{method.lineno} {node.name}.{method.name}"
            yield Documented(where, ast.get_docstring(method) or "", inherits)


def faults(tree: ast.Module, path: str) -> list[str]:
    """What is wrong with a module's docstrings, a line each."""
    lines = []
    for item in public_objects(tree, path):
        first = item.text.partition("\n")[0]
        if not first and not item.inherits:
            lines.append(f"{item.where}: no docstring")
        elif first and first[-1] not in ".:":
            lines.append(f"{item.where}: the first line does not end with a full stop or a colon: {first}")
        elif first and (FORBIDDEN.match(first) or len(first.split()) < 3):
            lines.append(f"{item.where}: the first line says too little by itself: {first}")
    methods = [node for node in tree.body if isinstance(node, ast.ClassDef) and is_public(node)]
    if path.startswith("methods/") and any(base.name == "Method" for node in methods for base in ancestors(node)):
        text = ast.get_docstring(tree) or ""
        lines += [f"{path}: the module does not state '{word}:'" for word in STATED if f"{word}:" not in text]
    return lines


#: what the docstring of a method's module says
STATED = ("Forward passes per step", "State")


def test_every_public_object_has_a_docstring_whose_first_line_stands_alone():
    assert len(trees()) > 50
    lines = [line for path, tree in trees().items() for line in faults(tree, path)]
    assert not lines, f"{len(lines)} faults:\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1", "a.py: no docstring"),
        ('"""A module."""', "a.py: the first line says too little by itself: A module."),
        ('"""What it is for"""', "does not end with a full stop"),
        ('"""A first line that\ngoes on."""', "does not end with a full stop"),
        ('"""What it is for."""\ndef f(): ...', "a.py:2 f: no docstring"),
        ('"""What it is for."""\nclass A:\n    """Of two things."""', "a.py:2 A: the first line says too little"),
        ('"""What it is for."""\nclass A:\n    """The class A."""\n    def f(self): ...', "a.py:4 A.f: no docstring"),
        ('"""What it is for."""\nclass A(Team):\n    """The class A."""\n    def f(self): ...', "A.f: no docstring"),
        ('"""What it is for."""\nclass A(Team):\n    """The class A."""\n    def stop(self): ...', None),
        ('"""What it is for."""\ndef _f(): ...', None),
        ('"""What it is for:\n\nthat."""', None),
    ],
)
def test_the_rules_bite(source, fault):
    lines = faults(ast.parse(source), "a.py")
    assert len(lines) == (fault is not None)
    assert all(fault in line for line in lines)


def test_the_module_of_a_method_states_its_forward_passes_and_its_state():
    source = '"""A method of two losses. State: none."""\nclass A(MeZO):\n    """The method of a paper."""'
    assert faults(ast.parse(source), "methods/a.py") == [
        "methods/a.py: the module does not state 'Forward passes per step:'"
    ]


def examples_of(tree: ast.Module) -> int:
    """The number of docstrings with examples."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | Definition)]
    return sum(">>>" in (ast.get_docstring(node) or "") for node in nodes)


@pytest.mark.parametrize("path", [path for path, tree in trees().items() if examples_of(tree)])
def test_the_examples_in_docstrings_run(path):
    name = ".".join(["zobench", *Path(path).with_suffix("").parts]).removesuffix(".__init__")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} cannot be imported: {error}")
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    examples = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(examples) == examples_of(trees()[path])
    said: list[str] = []
    for test in examples:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
