"""Writes a leaderboard into a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from zobench.atomic import replacing
from zobench.errors import ConfigError
from zobench.report.site import boards, details
from zobench.report.site.cells import Link, Links
from zobench.report.site.content import Content, address
from zobench.report.typeset import html

#: a file by which a folder is known as a leaderboard, which the next one may replace
MARK = ".zobench-site"
_FOLDER = Path(__file__).parent


def check_folder(folder: Path) -> None:
    """Raises ConfigError for a folder that holds something else than a leaderboard, which stays as it is."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--site {folder}: not a folder; give a new one")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ConfigError(f"--site {folder}: holds something else than a leaderboard; give a new or an empty folder")
    if not folder.parent.is_dir():
        raise ConfigError(f"--site {folder}: no folder {folder.parent} to make it in")


def write(content: Content, folder: Path) -> int:
    """Write all pages; an older leaderboard in the folder is replaced as a whole.

    Returns:
        The number of pages.

    Raises:
        ConfigError: if the folder holds something else.
        CannotWrite: if that fails; what was there then stays.
    """
    check_folder(folder)
    environment = html.templates(_FOLDER)
    environment.tests |= {"link": lambda cell: isinstance(cell, Link), "links": lambda cell: isinstance(cell, Links)}
    script = html.script_of_tables() + (_FOLDER / "search.js").read_text("utf-8")
    own = [Link(name, address("workload", name)) for name in _workloads(content)]
    shared = {
        "style": html.style() + Markup((_FOLDER / "site.css").read_text("utf-8")),
        "script": Markup(script), "policy": html.policy(script), "version": content.version,
        "nav": [Link("Leaderboard", boards.HOME), *own, Link("All runs", boards.RUNS)],
    }  # fmt: skip
    with replacing(folder) as scratch:
        scratch.mkdir()
        (scratch / MARK).write_text("")
        pages = 0
        for name, template, title, values in _pages(content):
            page = environment.get_template(template).render(**shared, title=title, here=name, **values)
            (scratch / name).write_text(page, encoding="utf-8")
            pages += 1
    return pages


def _pages(content: Content) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """File, template, title and values of each page."""
    yield boards.HOME, "home.html.j2", "Leaderboard", boards.home(content)
    for name in _workloads(content):
        yield address("workload", name), "workload.html.j2", name, boards.workload(content, name)
    for name in content.entries:
        yield address("entry", name), "entry.html.j2", name, details.entry(content, name)
    yield boards.RUNS, "runs.html.j2", "All runs", boards.runs_page(content)
    for run in content.runs.values():
        yield run.page, "run.html.j2", run.title, details.run(content, run)


def _workloads(content: Content) -> list[str]:
    return sorted(set(content.compared.runs["workload"]))
