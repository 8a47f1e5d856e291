"""The documentation site: every page has its place, every method its page, and it builds without a warning."""

import doctest
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "scripts" / "site"
METHODS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
REFERENCES = {"adamw", "zeroshot"}


@pytest.fixture(scope="module")
def made():
    """Imports a module of scripts/site/ by name, as mkdocs does: with that folder on the path."""
    sys.path.insert(0, str(SITE))
    yield importlib.import_module
    sys.path.remove(str(SITE))
    for path in SITE.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def pages(made):
    return {page.name: page for page in made("method_pages").method_pages()}


def targets(entries):
    """The files that a navigation names."""
    for entry in entries:
        held = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from targets(held) if isinstance(held, list) else [held]


def test_every_page_has_its_place_in_the_navigation_once(made):
    named = list(targets(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = {path.relative_to(ROOT).as_posix() for path in made("repository").pages()}
    assert len(named) == len(set(named))
    assert written - set(named) == set()


def test_what_pages_link_to_beyond_the_pages_is_on_the_site(made):
    linked = {path.relative_to(ROOT).as_posix() for path in made("repository").linked_files()}
    assert {"analysis/figures/sst2-curves.png", "docs/methods-table.json", "tests/golden/README.md"} <= linked
    assert not linked & {path.relative_to(ROOT).as_posix() for path in made("repository").pages()}


def test_every_method_has_a_page_with_its_name_source_settings_and_search_space(pages):
    assert sorted(pages.keys() - {"index"}) == METHODS
    for method in METHODS:
        text, first = (
            pages[method].text,
            (ROOT / f"conf/method/{method}.yaml").read_text(encoding="utf-8").splitlines()[0],
        )
        assert f"\n# {pages[method].title}\n" in text
        assert first.startswith(f"# {pages[method].title}:")
        assert first in text
        assert "Forward passes per step: " in text
        assert all(f"https://arxiv.org/abs/{number}" in text for number in re.findall(r"arXiv:([\d.]+\d)", first))
        assert f"[{pages[method].title}]({method}.md)" in pages["index"].text
    without = {
        part: {m for m in METHODS if f"\n## {part}\n" not in pages[m].text}
        for part in ("Search space", "What is proven")
    }
    assert without == {"Search space": {"zeroshot"}, "What is proven": REFERENCES}


def test_a_method_page_says_what_was_proven_measured_and_published(pages):
    text = pages["kerzoo"].text
    assert "`θ ← θ − lr · mean_q [ (L(θ+εru) − L(θ−εru)) / 2ε · K(r) u ]`" in text
    assert "| `method.lr` | `tag(log, interval(1e-8, 1e-5))` |" in text
    assert "| P(rK < 0) = 0.15485 |" in text
    assert "| step cost | " in text
    assert "[arXiv:2505.18886](https://arxiv.org/abs/2505.18886)" in text.partition("## Published numbers")[2]
    assert "::: zobench.methods.kerzoo.KerZOO" in text
    assert "preset of the class of [MeZO](mezo.md#the-class)" in pages["mezo_adam"].text
    assert "| central difference is exact on a quadratic |" not in pages["mezo_adam"].text


def test_scores_of_a_comparison_come_to_the_page_of_their_method(made, tmp_path):
    docs = tmp_path / "docs"
    (docs / "v1").mkdir(parents=True)
    for name in ("methods-table.md", "first-run.md"):
        shutil.copy(ROOT / "docs" / name, docs)
    lines = [
        "stage,workload,entry,of,test_metric,delta",
        "tuned,rte,pgap,,0.61234,0.01",
        "tuned,rte,pgap_random,pgap,0.6,",
    ]
    (docs / "v1" / "scores.csv").write_text("\n".join([*lines, "tuned,rte,mezo,,0.6,0"]), encoding="utf-8")
    text = made("method_results").measured("pgap", docs).partition("### In the comparison")[2]
    assert "(../docs/v1/comparison.md)" in text
    assert text.splitlines()[-2:] == [
        "| tuned | rte | pgap | 0.612 | 0.010 |",
        "| tuned | rte | pgap_random | 0.600 | - |",
    ]


def test_public_names_of_the_library_have_pages(made):
    shown = "".join(page.text for page in made("api_pages").api_pages())
    for package in ("zobench.zo", "zobench.report", "zobench.rules"):
        names = importlib.import_module(package).__all__
        assert [name for name in names if f"\n::: {package}.{name}\n" not in shown] == []


@pytest.mark.parametrize("name", ["prose", "docstrings"])
def test_examples_of_the_generators_run(made, name):
    if name == "docstrings":
        pytest.importorskip("griffe")
    assert doctest.testmod(made(name)) == (0, 1)


def test_the_site_builds_without_a_warning_and_asks_no_other_host_for_anything(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in ("index.html", "docs/rules/index.html", "methods/mezo/index.html", "api/zo/index.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?([^\"'\s>]+)|<link\b[^>]*\bhref=[\"']?([^\"'\s>]+)", text
        )
        assert loaded
        assert [one or other for one, other in loaded if re.match(r"(https?:)?//", one or other)] == []
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)[\"']?(https?:)?//", sheet.read_text(encoding="utf-8"))
    found = json.loads((tmp_path / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert {f"methods/{method}/" for method in METHODS} <= {place["location"] for place in found}
