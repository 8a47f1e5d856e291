"""A griffe extension: docstrings of this code as mkdocstrings reads them.

Parameters that share a line (``low, high: the ends``) get a line each, ``settings`` that a signature calls
``**settings`` its stars, and what stands above the sections is brought to Markdown.
"""

import re
from typing import Any

import griffe
from prose import SECTION, markdown

_NAMES = re.compile(r"    (\w+(?:, \w+)*):(.*)")


class Docstrings(griffe.Extension):
    """Rewrites each docstring once its object has been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Bring one docstring into the form that griffe's Google parser knows."""
        if obj.docstring:
            parameters = getattr(obj, "parameters", None) or ()
            starred = {each.name.lstrip("*") for each in parameters if each.kind is griffe.ParameterKind.var_keyword}
            obj.docstring.value = google(obj.docstring.value, starred)


def google(text: str, starred: set[str]) -> str:
    """The docstring with Markdown above its sections, and one parameter a line in them.

    >>> print(google("The ends.\\n\\nArgs:\\n    low, high: where it ends.\\n    more: the rest.", {"more"}))
    The ends.
    <BLANKLINE>
    Args:
        low: where it ends.
        high: where it ends.
        **more: the rest.
    """
    head, *sections = SECTION.split(text.strip())
    parts = [markdown(head)]
    for name, body in zip(sections[::2], sections[1::2], strict=True):
        entries = _entries(body.rstrip(), starred) if name in ("Args", "Attributes") else body.rstrip()
        parts.append(f"{'Examples' if name == 'Example' else name}:{entries}")
    return "\n\n".join(parts)


def _entries(body: str, starred: set[str]) -> str:
    lines = []
    for entry in re.split(r"\n(?=    \S)", body.strip("\n")):
        if named := _NAMES.match(entry):
            said = entry[named.start(2) :]
            lines += [f"    {'**' if name in starred else ''}{name}:{said}" for name in named[1].split(", ")]
        else:
            lines.append(entry)
    return "\n" + "\n".join(lines)
