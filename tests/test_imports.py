"""The contracts on imports of pyproject.toml bite: a package in which each is broken is refused, line by line."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WRONG = {
    "zobench/record/summaries.py": "from zobench.run.budget import limits",  # upward
    "zobench/bench/table.py": "import zobench.report",  # sideways
    "zobench/zo/slot.py": "import yaml\nfrom zobench.errors import UserError",  # foreign to the core
    "zobench/system/signals.py": "import zobench.system.workers",  # which imports signals
    "zobench/a_new_room.py": "",  # has no place yet
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the linter says of a copy of the package with these lines in it."""
    copy = tmp_path_factory.mktemp("imports")
    for path in (ROOT / "zobench").rglob("*.py"):
        (copy / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy / path.relative_to(ROOT))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, line in WRONG.items():
        with (copy / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return ended.stdout


def test_an_import_upward_or_sideways_is_refused(said):
    assert "zobench.record.summaries -> zobench.run.budget" in said
    assert "zobench.bench.table -> zobench.report" in said


def test_the_core_may_import_neither_another_room_nor_another_library(said):
    assert "zobench.zo.slot -> yaml" in said
    assert "zobench.zo.slot -> zobench.errors" in said


def test_a_circle_inside_a_room_is_refused(said):
    assert "No cycles are allowed in zobench.system" in said


def test_a_new_room_needs_a_place_among_the_layers(said):
    assert "- zobench.a_new_room" in said


def test_the_core_imports_torch_and_numbers_alone():
    """The contract names who is foreign; this finds also those nobody thought of."""
    allowed = {*sys.stdlib_module_names, "torch", "numpy", "numba", "llvmlite", "triton"}
    foreign = []
    for path in sorted((ROOT / "zobench" / "zo").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.partition(".")[0] not in allowed and not name.startswith("zobench.zo"):
                    foreign.append(f"{path.relative_to(ROOT)}: {name}")
    assert not foreign
