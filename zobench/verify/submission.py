"""``submission.yaml``: whose runs these are, and the options they come with, of which nothing is run unasked.

A submission is a folder: the stages of a comparison, ``submission.yaml``, and ``options/`` with the entry file
``rules/entries.yaml`` and ``method/*.yaml`` where the entry is none of the rules' own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zobench.config.options import RULES, load_yaml, texts
from zobench.errors import ConfigError, did_you_mean, shown
from zobench.record.archive import Place
from zobench.record.schema import is_plain
from zobench.rules.files import Rules
from zobench.run import trust

FILE, OPTIONS = "submission.yaml", "options"
ENTRIES = f"{RULES}/entries.yaml"
#: key → what it says; the last is optional
_KEYS = {
    "who": "who submits", "method": "the method in a line", "entry": "an entry of the rules, or of options/",
    "code": "url and commit, or wheel", "rules": "a version of the rules", "licence": "that of the code, such as MIT",
    "contact": "an address",
}  # fmt: skip
_URL, _COMMIT = re.compile(r"https://[\w.-]+(:\d+)?/\S+"), re.compile(r"[0-9a-f]{40}")
_MOST_FILES = 100


@dataclass
class Submission:
    """What a submission says of itself.

    Attributes:
        content: of its file.
        options: its folder of options; None where there is none, or one that is not used.
        problems: what is wrong, a line each.
        code: whether its options name code of its own.
    """

    content: dict[str, Any] = field(default_factory=dict)
    options: Path | None = None
    problems: list[str] = field(default_factory=list)
    code: bool = False


def read(top: Place) -> Submission | None:
    """Read and check what a submission says; None where the folder is none.

    Raises:
        ConfigError: for a submission in a zip.
    """
    if not (top / FILE).is_file():
        return None
    if not isinstance(top, Path):
        raise ConfigError(f"{top / FILE}: a submission is a folder; unpack the zip")
    found = Submission()
    try:
        found.content = load_yaml(top / FILE)
        found.problems += _wrong(found.content, top)
        if (options := top / OPTIONS).is_dir():
            found.problems += _wrong_options(options)
            found.code = any(map(_names_code, (options / "method").glob("*.yaml")))
            found.options = None if found.problems else options
    except ConfigError as error:
        found.problems.append(str(error))
    return found


def check_entry(found: Submission, rules: Rules) -> None:
    """Note an entry that is neither of the rules nor in the entry file that came with it."""
    entry = found.content.get("entry")
    if entry in rules.entries or entry in _own_entries(found) or found.problems:
        return
    hint = did_you_mean(str(entry), rules.entries)
    found.problems.append(
        f"{FILE}: entry={shown(entry)}: no entry of {rules.version}{hint}; one of your own comes with its file, "
        f"{OPTIONS}/{ENTRIES}"
    )


def names(found: Submission, rules: Rules) -> set[str]:
    """The entries that a submission is of: the one that it names, those that come with it, and their ablations."""
    own = {str(found.content["entry"]), *_own_entries(found)}
    return own | {name for name, entry in rules.entries.items() if entry.of in own}


def _own_entries(found: Submission) -> dict[str, Any]:
    """The entry file that came with a submission; empty without one."""
    path = found.options / ENTRIES if found.options else None
    return load_yaml(path) if path and path.is_file() else {}


def _wrong(content: dict[str, Any], top: Path) -> Iterator[str]:
    """What is wrong with the keys and values of the file."""
    for key in content:
        if key not in _KEYS:
            yield f"{FILE}: {shown(key)}: no such key{did_you_mean(str(key), _KEYS)}"
    for key, meaning in _KEYS.items():
        value = content.get(key)
        if value is None and key != "contact":
            yield f"{FILE}: {key} is missing; expected {meaning}"
        elif key == "code" and (problem := _wrong_code(value, top)):
            yield f"{FILE}: code: {problem}"
        elif key != "code" and value is not None and not (is_plain(value) and str(value).strip()):
            yield f"{FILE}: {key}={shown(value)}; expected a text of one line"


def _wrong_code(code: Any, top: Path) -> str | None:
    """What is wrong with where the code is; None if nothing is."""
    if not isinstance(code, dict) or set(code) not in ({"url", "commit"}, {"wheel"}):
        return "expected {url: https://..., commit: 40 digits} or {wheel: FILE.whl}"
    if "wheel" in code:
        wheel = code["wheel"]
        plain = isinstance(wheel, str) and Path(wheel).name == wheel and wheel.endswith(".whl")
        return None if plain and (top / str(wheel)).is_file() else f"wheel={shown(wheel)}: no such file beside {FILE}"
    if not (isinstance(code["url"], str) and _URL.fullmatch(code["url"])):
        return f"url={shown(code['url'])}; expected https://..."
    commit = code["commit"]
    named = isinstance(commit, str) and _COMMIT.fullmatch(commit)
    return None if named else f"commit={shown(commit)}; expected 40 hexadecimal digits, as a text"


def _wrong_options(options: Path) -> Iterator[str]:
    """What is wrong with the options: files that are not read, and classes where none are expected."""
    files = sorted(path for path in options.rglob("*") if not path.is_dir())
    for path in files[:_MOST_FILES]:
        name = path.relative_to(options).as_posix()
        if name == ENTRIES:
            yield from wrong_entries(options)
        elif path.suffix == ".yaml" and not re.fullmatch(r"method/[\w-]+\.yaml", name):
            yield f"{OPTIONS}/{name}: expected {ENTRIES} and method/*.yaml alone; workloads are those of the rules"
    if len(files) > _MOST_FILES:
        yield f"{OPTIONS}: {len(files)} files; expected {_MOST_FILES} at most"


def wrong_entries(options: Path) -> Iterator[str]:
    """What is wrong with the entries of a submission: more than a method, its settings and where they are searched.

    Args:
        options: the folder of options; one without an entry file has nothing wrong.
    """
    path = options / ENTRIES
    for name, entry in load_yaml(path).items() if path.is_file() else ():
        where = f"{path.parent.parent.name}/{ENTRIES}: {name}"
        if any("_target_" in text or "_target_" in at for at, text in texts(entry)):
            yield f"{where}: a _target_; expected words, space and shipped values of methods"
        elif not isinstance(entry, dict) or not isinstance(entry.get("words"), str):
            yield f"{where}: expected words, such as method=mezo"
        else:
            keys = [word.partition("=")[0] for word in entry["words"].split()]
            for part in ("space", "shipped", "small_matrices"):
                keys += map(str, entry.get(part) or ())
            if strange := [key for key in keys if key != "method" and not key.startswith(("method.", "method/"))]:
                yield f"{where}: {strange[0]}: expected settings of the method alone; all else is the workload's"
            if not entry.get("shipped"):
                yield f"{where}: expected shipped values and the space around them"
            if entry.get("backprop"):
                yield f"{where}: backprop: expected a budget in forward passes; the steps of adamw are the rules' own"


def _names_code(path: Path) -> bool:
    """Whether a method's file names a class that does not ship with zobench."""
    node = {key: value for key, value in load_yaml(path).items() if key != "defaults"}
    return not trust.is_ours(node, "method")
