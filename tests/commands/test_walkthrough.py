"""CONTRIBUTING.md followed to the letter: its files are written, its commands run, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"^`(?P<path>[\w/.]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.S | re.M)
_COMMANDS = re.compile(r"^```bash\n(?P<text>.*?)^```$", re.S | re.M)
#: what each section's commands end with, and the files that it has one write
PROOF = {
    "Add a method": ("python -m zobench.testing", [".py", ".yaml"]),
    "Add a method with state": ("python -m zobench.testing", [".py", ".yaml"]),
    "Add a task": ("python -m pytest", [".yaml"]),
}


def sections():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", text, flags=re.M)[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


@pytest.mark.parametrize("title", PROOF)
def test_walkthrough(title, tmp_path):
    for name in ("zobench", "hydra_plugins", "conf", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)  # what was compiled too: it takes seconds
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    section = sections()[title]
    files = {m["path"]: m["text"] for m in _FILE.finditer(section)}
    proof, kinds = PROOF[title]
    assert sorted(Path(path).suffix for path in files) == kinds
    for path, text in files.items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(text, encoding="utf-8")
    commands = "\n".join(m["text"] for m in _COMMANDS.finditer(section))
    assert proof in commands
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": binaries, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"\d passed", found.stdout)
    linted = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120"]
    for path in files:
        if path.endswith(".py"):
            checked = subprocess.run([*linted, path], cwd=tmp_path, capture_output=True, text=True)
            assert checked.returncode == 0, checked.stdout
    if "python -m zobench " in commands:
        assert "finished" in found.stdout
        assert any((tmp_path / "runs").rglob(f"*{Path(next(iter(files))).stem}*/**/summary.json"))
