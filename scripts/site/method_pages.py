"""A page for each method, from its docstring, its YAML files, what is proven of it, and what was measured."""

import ast
from functools import cache
from pathlib import Path

import method_results
from prose import SECTION, markdown, table
from repository import ROOT, Page

from zobench.config.folders import conf_dir
from zobench.config.options import describe, leaves, load_yaml
from zobench.rules import load


@cache
def method_pages() -> list[Page]:
    """All pages: an overview, then a page for each file of conf/method/."""
    files = sorted((conf_dir() / "method").glob("*.yaml"), key=lambda path: _title(path).lower())
    return [_overview(files), *(Page(path.stem, _title(path), _text(path, files)) for path in files)]


def _title(path: Path) -> str:
    return describe(path).partition(":")[0]


def _overview(files: list[Path]) -> Page:
    lines = [[f"[{_title(path)}]({path.stem}.md)", markdown(describe(path).partition(": ")[2])] for path in files]
    text = "Each page is made from the method's file, its settings, and what was proven and measured of it."
    return Page("index", "All methods", f"# All methods\n\n{text}\n\n{table(('method', 'in one line'), *lines)}\n")


def _text(path: Path, files: list[Path]) -> str:
    method, title, summary = path.stem, *describe(path).split(": ", 1)
    target = load_yaml(path)["_target_"]
    module, _, name = target.rpartition(".")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    use = f"python -m zobench method={method} task=sst2 model=opt-125m"
    parts = [
        "---\nsearch:\n  boost: 2\n---",
        f"# {title}\n\n{markdown(summary[0].upper() + summary[1:])}.",
        f"```bash\n{use}\n```",
        f"## The method\n\n{_told(tree, name)}",
        f"## Settings\n\nAs they ship, with their sources:\n\n{_yaml(path)}",
        _tuned(path),
        _search(method),
        method_results.proven(title, module),
        method_results.measured(method),
        method_results.published(method),
        _class(path, target, files),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _told(tree: ast.Module, name: str) -> str:
    """The module's docstring, and below its first lines the update rule, with which the class's begins."""
    (node,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    rule = SECTION.split(ast.get_docstring(node) or "")[0].strip()
    first, _, rest = (ast.get_docstring(tree) or "").partition("\n\n")
    return markdown("\n\n".join([first, *([rule] if "←" in rule else []), rest]))


def _yaml(path: Path) -> str:
    where = path.relative_to(conf_dir().parent).as_posix()
    return f'```yaml title="{where}"\n{path.read_text(encoding="utf-8").strip()}\n```'


def _tuned(path: Path) -> str:
    """What a tuning of fewer weights sets instead."""
    folders = sorted((conf_dir() / "defaults").iterdir())
    lines = [
        [f"`tuning={folder.name}`", ", ".join(f"`{key}={value}`" for key, value in leaves(load_yaml(file)))]
        for folder in folders
        if (file := folder / path.name).is_file()
    ]
    return f"With less to train, set unless told otherwise:\n\n{table(('tuning', 'sets'), *lines)}" if lines else ""


def _search(method: str) -> str:
    """Where its settings are searched, and its entries in the comparison besides its own."""
    path = conf_dir() / "search" / f"{method}.yaml"
    if not path.is_file():
        return ""
    space = load_yaml(path)["hydra"]["sweeper"]["params"]
    searched = table(("setting", "searched in"), *((f"`{key}`", f"`{where}`") for key, where in space.items()))
    others = [entry for entry in load("v1").entries.values() if entry.of == method]
    said = "\n".join(f"- `{entry.name}`: `{entry.words}`" for entry in others)
    tail = f"\n\nOther forms and ablations in the comparison ([rules](../docs/rules.md)):\n\n{said}" if others else ""
    command = f"python -m zobench search={method} task=sst2 model=opt-125m steps=2000"
    return f"## Search space\n\n{searched}\n\n```bash\n{command}\n```{tail}"


def _class(path: Path, target: str, files: list[Path]) -> str:
    """The class with its source; where several methods are presets of one class, on the page of the first alone."""
    sharing = [file for file in files if load_yaml(file)["_target_"] == target]
    name = target.rpartition(".")[2]
    first = min(sharing, key=lambda file: (len(file.stem), file.stem))
    if first != path:
        return f"## The class\n\nIt is a preset of the class of [{_title(first)}]({first.stem}.md#the-class)."
    shown = f"::: {target}\n    options:\n      heading_level: 3\n      show_source: true"
    return f"## The class\n\n```python\nfrom zobench import {name}\n```\n\n{shown}"
