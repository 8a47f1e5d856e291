"""The repository's own pages, and the files that they link to."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: pages outside docs/; those that are not there are left out
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md", "analysis/README.md")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


class Page(NamedTuple):
    """A generated page.

    Attributes:
        name: of its file, without folder and ending.
        title: in the navigation.
        text: in Markdown.
    """

    name: str
    title: str
    text: str


def pages() -> list[Path]:
    """The Markdown files that are pages of the site."""
    outside = [ROOT / name for name in OUTSIDE if (ROOT / name).is_file()]
    return [*outside, *sorted((ROOT / "docs").rglob("*.md"))]


def linked_files() -> list[Path]:
    """What pages link to that is no page of the list: pictures, tables, option files, and pages beyond them."""
    found = dict.fromkeys(pages())
    for page in (waiting := list(found)):
        if page.suffix == ".md":
            targets = [(page.parent / link).resolve() for link in _LINK.findall(page.read_text(encoding="utf-8"))]
            new = [path for path in targets if path.is_file() and path not in found]
            found |= dict.fromkeys(new)
            waiting += new
    return [path for path in found if path not in set(pages())]
