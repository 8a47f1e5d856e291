"""What mkdocs asks while it builds the site: which files it has, and where the generated pages stand.

The site has the repository's own layout, so that a page's links lead to the same place as on a code host.
"""

from pathlib import Path
from typing import Any

from api_pages import api_pages
from method_pages import method_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from repository import ROOT, linked_files, pages

#: entry of the navigation in mkdocs.yml → pages that are generated there
GENERATED = {"methods/": method_pages, "api/": api_pages}

STYLE = "site.css"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages where the navigation names their folder, and leave out what the repository lacks."""
    config.nav = _navigation(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by the repository's pages, what they link to, and the generated pages."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for paths, inclusion in (pages(), InclusionLevel.INCLUDED), (linked_files(), InclusionLevel.NOT_IN_NAV):
        for path in paths:
            source = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, source, abs_src_path=str(path), inclusion=inclusion))
    files.append(File.generated(config, STYLE, abs_src_path=str(Path(__file__).with_name(STYLE))))
    for folder, make in GENERATED.items():
        for page in make():
            files.append(File.generated(config, f"{folder}{page.name}.md", content=page.text))
    return files


def _navigation(entries: list[Any]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(target, list):
            found.append({title: _navigation(target)})
        elif target in GENERATED:
            found += [{page.title: f"{target}{page.name}.md"} for page in GENERATED[target]()]
        elif Path(ROOT / target).is_file():
            found.append(entry)
    return found
