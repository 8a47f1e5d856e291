"""What a run is made of besides its settings, known again at a glance: files of data and model, the code of prompts.

A run's name holds none of it. Its row has a digest of each, taken before anything was read: of a folder's files their
places, sizes, inodes and times, among them the time of the last change of the inode, which no tool sets; of code and
of the files that ship with zobench the content. Equal digests mean that nothing was touched; where they differ, the
contents are compared (``run.identity``), once: what was found the same is remembered.
"""

import inspect
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import zobench
from zobench.config import instantiate
from zobench.config.cache import Cache, sha256
from zobench.config.labels import look
from zobench.config.options import leaves
from zobench.errors import ConfigError
from zobench.record.digests import of as digest_of
from zobench.record.lookup import place, place_of, then_place
from zobench.tasks.base import files_of

#: the kinds of inputs, each with the column of its digest
KINDS = {"data": "inputs.data", "model": "inputs.model", "prompts": "inputs.prompts"}
_FOLDERS = ("data", "model")
_KEPT = 2000
_PACKAGE = Path(zobench.__file__).resolve().parent


def digests(settings: Mapping[str, Any]) -> dict[str, str | None]:
    """The digest of each kind as it is now, by its column; None for what comes from the hub or is made by zobench.

    Args:
        settings: the run's configuration.
    """
    return {
        KINDS["data"]: _of_folder(settings, "data"),
        KINDS["model"]: _of_folder(settings, "model"),
        KINDS["prompts"]: code_of(settings["task"].get("_target_")),
    }


def changed(directory: Path, row: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """The kinds of inputs that may hold something else than when a run was made.

    Those that were compared before (``remember_same``) do not.

    Args:
        directory: of the run.
        row: its summary.
        settings: the configuration that is asked for now.
    """
    now = digests(settings)
    found = {group for group in _FOLDERS if then_place(directory, row, group) != place_of(settings, group)}
    for kind, column in KINDS.items():
        if column in row:
            found |= {kind} if row[column] != now[column] else set()
        elif any(_newer(path, directory) for path in _files(kind, settings)):  # a record of an older version
            found.add(kind)
    return set() if found and Cache("same", keep=_KEPT).load(*_facts(directory, settings, now)) else found


def remember_same(directory: Path, settings: Mapping[str, Any]) -> None:
    """Note that a run was made of what the inputs of a configuration hold now."""
    Cache("same", keep=_KEPT).store(True, *_facts(directory, settings, digests(settings)))


def known_model(settings: Mapping[str, Any], digest: str | None) -> dict[str, Any] | None:
    """What an earlier run found of a model's folder with such a digest: checksum and tokenizer; None if none did."""
    return Cache("models", keep=_KEPT).load(*_of_model(settings, digest)) if digest else None


def remember_model(settings: Mapping[str, Any], digest: str | None, facts: Mapping[str, Any]) -> None:
    """Keep the columns ``model_checksum`` and ``tokenizer_hash`` of a model's folder.

    Args:
        digest: of the folder, taken before the model was loaded.
        facts: the run's columns.
    """
    if digest:
        kept = {key: facts[key] for key in ("model_checksum", "tokenizer_hash")}
        Cache("models", keep=_KEPT).store(kept, *_of_model(settings, digest))


def in_words(kinds: Collection[str]) -> str:
    """What of a run's examples may be another, for messages; rows and prompts are compared together.

    >>> in_words({"prompts"}), in_words({"data", "model"})
    ('prompts or label words', 'rows')
    """
    found = [words for kind, words in (("data", "rows"), ("prompts", "prompts or label words")) if kind in kinds]
    return ", ".join(found)


@lru_cache(maxsize=256)
def code_of(target: str | None) -> str | None:
    """A digest of the source that a dotted path names, with that of its bases; None where there is none to read.

    Of a class outside zobench all Python files beside it count, as it may take its words from them.
    """
    files = sorted({path for path in _sources(target) if path.is_file()})
    return _of_contents(files) if files else None


def score_code(settings: Mapping[str, Any]) -> str | None:
    """A digest of the source of a user's own score, which is imported; None without one, or without a source."""
    path = (settings.get("objective") or {}).get("score")
    if path is None:
        return None
    try:
        found = instantiate.function(path, "objective.score")
        return digest_of(inspect.getsource(found if inspect.isroutine(found) else type(found)).encode())
    except (ConfigError, OSError, TypeError):
        return None


def other_score(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """What is wrong with a finished run whose score was edited since, as its name holds the path alone; or None.

    Args:
        row: of the run.
        settings: the configuration that is asked for now.
    """
    then = row.get("objective.score_code")
    if then is None or score_code(settings) in (None, then):
        return None
    return f"objective.score={settings['objective']['score']} has other code than the run was made with"


def is_outside(target: str | None) -> bool:
    """Whether a dotted path names something that does not ship with zobench."""
    return target is not None and not target.startswith("zobench.")


def _sources(target: str | None) -> Iterator[Path]:
    try:
        named = instantiate.locate(str(target), "task")
    except ConfigError:
        return
    for each in inspect.getmro(named) if inspect.isclass(named) else (named,):
        file = getattr(sys.modules.get(each.__module__), "__file__", None)
        if each is object or file is None:
            continue
        path = Path(file).resolve()
        yield from [path] if path.is_relative_to(_PACKAGE) else path.parent.glob("*.py")


def _of_folder(settings: Mapping[str, Any], group: str) -> str | None:
    folder = place_of(settings, group)
    if folder is None:
        return None
    if folder == "mini":
        return _of_mini(str(settings["choices"]["task"]))
    return _sha([look(path) for path in _files(group, settings)])


@lru_cache(maxsize=256)
def _of_mini(task: str) -> str:
    files = sorted((_PACKAGE / "data" / "mini" / task).glob("*"))
    return _of_contents(files)


def _of_contents(files: Collection[Path]) -> str:
    return _sha([f"{path.name} {sha256(path.read_bytes())}" for path in files])


def _files(kind: str, settings: Mapping[str, Any]) -> Iterator[Path]:
    """What of a kind's files a run reads, those that ship with zobench apart."""
    if kind == "prompts":
        target = settings["task"].get("_target_")
        yield from sorted(set(_sources(target))) if is_outside(target) else ()
        return
    folder = place(settings[kind].get("dir"))
    if kind == "data" and folder is None:
        yield from (Path(path).expanduser() for path in files_of(settings["task"].get("files")).values())
    if folder not in (None, "mini"):
        inside = Path(folder) / settings["choices"]["task"] if kind == "data" else Path(folder)
        yield from sorted(path for path in inside.glob("*") if not path.is_dir())


def _newer(path: Path, directory: Path) -> bool:
    """Whether a file, or the link to it, has changed since a run was made."""
    try:
        made = (directory / "summary.json").stat().st_mtime_ns
        return any(time > made for s in (path.stat(), path.lstat()) for time in (s.st_mtime_ns, s.st_ctime_ns))
    except OSError:
        return False


def _facts(directory: Path, settings: Mapping[str, Any], now: Mapping[str, Any]) -> list[Any]:
    """All that the answer depends on whether a run was made of these inputs."""
    places = [place_of(settings, group) for group in _FOLDERS]
    return [str(directory.resolve()), (directory / "summary.json").stat().st_mtime_ns, places, dict(now)]


def _of_model(settings: Mapping[str, Any], digest: str | None) -> list[Any]:
    node = {key: str(value) for key, value in leaves(settings["model"]) if key != "dir"}
    return [digest, settings["dtype"], node]


def _sha(value: Any) -> str:
    return digest_of(json.dumps(value, default=str).encode())
