"""Pages of the library's public names, each from its docstring."""

import ast
from functools import cache

from repository import ROOT, Page

#: name of the page → title, what stands above its names, and the packages whose ``__all__`` lists them
LISTS = {
    "zo": ("The core", "zobench.zo"),
    "report": ("Reports", "zobench.report"),
    "rules": ("Rules of a comparison", "zobench.rules"),
}
#: name of the page → title, and modules that are shown whole
MODULES = {
    "testing": (
        "Contracts of a method",
        ("zobench.testing.contracts", "zobench.testing.cases", "zobench.testing.evidence"),
    ),
    "perturbations": ("Distributions of directions", ("zobench.zo.perturbations",)),
    "integrations": ("Trainers of others", ("zobench.integrations.transformers",)),
    "errors": ("Errors", ("zobench.errors",)),
}


@cache
def api_pages() -> list[Page]:
    """All pages: a page for each package with a list of public names, and for modules that are shown whole."""
    packages = [Page(name, title, _listed(title, package)) for name, (title, package) in LISTS.items()]
    modules = [Page(name, title, _whole(title, modules)) for name, (title, modules) in MODULES.items()]
    return [*packages, *modules]


def public_names(package: str) -> list[str]:
    """What a package's ``__all__`` lists, read without importing it."""
    path = ROOT / package.replace(".", "/") / "__init__.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{path}: no __all__")


def _listed(title: str, package: str) -> str:
    shown = "\n\n".join(f"::: {package}.{name}" for name in public_names(package))
    head = f"::: {package}\n    options:\n      members: []\n      show_root_heading: false"
    return f"# {title}\n\n`{package}`\n\n{head}\n\n{shown}\n"


def _whole(title: str, modules: tuple[str, ...]) -> str:
    options = "\n    options:\n      show_submodules: true\n      show_root_full_path: true"
    return f"# {title}\n\n" + "\n\n".join(f"::: {module}{options}" for module in modules) + "\n"
