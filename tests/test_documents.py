"""The documents name what is there: links, files, modules."""

import json
import re
from pathlib import Path

import pytest

from zobench.config.schema import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *(ROOT / name for name in ("analysis/README.md", "tests/golden/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
_PATH = re.compile(r"(?<![\w/.-])(?:analysis|conf|docs|hydra_plugins|scripts|tests|zobench)/[\w./*-]*[\w/*]")
_MODULE = re.compile(r"python -m (zobench[.\w]*\w)")
_CODE = re.compile(r"``([\w/]+\.py)``")
_EXAMPLE = re.compile(r"^`([\w/.]+)`:$", re.M)  # a file that a walkthrough has one write


def named(text):
    """Paths that a text names, less those of its worked examples."""
    return set(_PATH.findall(text)) - set(_EXAMPLE.findall(text))


def there(path):
    path = re.sub(r"\.zip/.*", ".zip", path)  # what lies in an archive is its own affair
    return any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    assert [link for link in _LINK.findall(text) if not (page.parent / link).exists()] == []
    assert [path for path in sorted(named(text)) if not there(path)] == []
    modules = [ROOT / name.replace(".", "/") for name in _MODULE.findall(text)]
    assert [m for m in modules if not (m.with_suffix(".py").is_file() or (m / "__main__.py").is_file())] == []


def test_comments_of_options_name_files_that_are_there():
    comments = {
        comment
        for path in (ROOT / "conf").rglob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        for comment in line.partition("#")[2:]
    }
    assert any(map(named, comments))
    assert [path for comment in comments for path in named(comment) if not there(path)] == []


def test_files_that_the_code_names_are_there():
    files = sorted(
        path for folder in ("zobench", "hydra_plugins", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    names = {name for path in files for name in _CODE.findall(path.read_text(encoding="utf-8"))}
    assert names
    assert [name for name in sorted(names) if not any(path.as_posix().endswith(f"/{name}") for path in files)] == []


def test_every_page_can_be_reached_from_the_first_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / link).resolve() for link in _LINK.findall(text)}
    assert [page.name for page in PAGES if page.parent.name == "docs" and page not in linked] == []


def test_the_settings_page_has_every_setting_as_it_is_defined():
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [f"| `{s.key}` | `{_in_yaml(s.default)}` | {s.meaning} | {'yes' if s.names_run else ''} |" for s in SETTINGS]
    table = text.partition("| names the run |\n")[2].partition("\n\n")[0]
    assert table.splitlines()[1:] == rows


def _in_yaml(value):
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def test_the_library_page_runs():
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    (block,) = (found for found in re.findall(r"^```python\n(.*?)^```", text, re.S | re.M) if "zobench.zo" in found)
    names: dict = {}
    exec(block, names)
    assert names["weights"].sub(1.0).abs().max() < 1e-3
    assert names["optimizer"].oracle.forwards == 400
