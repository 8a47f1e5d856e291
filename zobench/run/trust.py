"""What a record may have made of it: objects of zobench's own classes, unless the user trusts a package as well.

Whoever replays or exports a run may have it from a stranger. Its configuration names classes, and importing a module
runs it. So names are checked before anything is imported, and what they name before anything is made.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zobench.config.instantiate import keyword_arguments, locate
from zobench.config.schema import SETTINGS
from zobench.errors import ConfigError
from zobench.models.base import ModelSpec
from zobench.models.tuning import Tuning
from zobench.objective import Criterion
from zobench.protocols import Protocol
from zobench.record import configs
from zobench.record.archive import Place
from zobench.record.reading import Unreadable, shown
from zobench.tasks.base import Task
from zobench.zo import Method

_KINDS: dict[str, type] = {
    "model": ModelSpec, "task": Task, "tuning": Tuning, "method": Method, "protocol": Protocol,
    configs.LATER: Criterion,
}  # fmt: skip
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_HUB = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_REVISION = re.compile(r"(refs/)?[\w-][\w.-]*(/[\w-][\w.-]*)*")
#: settings that older records lack, and that no replay reads
_LATER = ("tensorboard",)


def read(run: Place, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Read the configuration of a run that is to be made again.

    Args:
        run: its directory.
        allow: packages beside zobench whose classes it may name.

    Raises:
        Missing: if there is no configuration.
        Unreadable: if it is not one of a run, or names what it may not.
    """
    settings = configs.read(run)
    try:
        _check_settings(settings)
        _check_places(settings)
        targets = list(_targets(settings, ""))
        for where, target in targets:
            _check_path(where, target, allow)
        for group, kind in _KINDS.items():
            if group in settings:  # ``configs`` tells which must be there
                _check_kind(settings[group], group, kind)
    except NotAllowed as error:
        advice = f"if you trust the record and that package, add --allow {error.args[1]}"
        raise Unreadable(run / configs.NAME, error.args[0], advice=advice) from error
    except (ConfigError, ValueError) as error:
        raise Unreadable(run / configs.NAME, " ".join(str(error).split())) from error
    return settings


def is_ours(node: Mapping[str, Any], group: str) -> bool:
    """Whether a group of a configuration names zobench's own classes alone, of the kinds that are expected there."""
    try:
        for where, target in _targets(node, group):
            _check_path(where, target, ())
        _check_kind(node, group, _KINDS[group])
    except (ConfigError, ValueError):
        return False
    return True


class NotAllowed(ValueError):
    """A class of a package that the user did not allow: what is wrong, and the package."""


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for a setting of the run that is not there, or is none that a run accepts."""
    for setting in SETTINGS:
        value: Any = settings
        for part in setting.key.split("."):
            if not isinstance(value, dict) or part not in value:
                if setting.key in _LATER:
                    break
                raise ValueError(f"it lacks {setting.key}")
            value = value[part]
        else:
            if not setting.kind.accepts(value):
                expected = setting.kind.expected(setting.key, shown(value))
                raise ValueError(f"{setting.key}={shown(value)}; expected {expected}")


def _check_places(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for a name that would lead to another folder or address than its own."""
    for group, name in (("model", "id"), ("task", "hub")):
        value = settings[group].get(name)
        if value is not None and not (isinstance(value, str) and _HUB.fullmatch(value) and ".." not in value):
            raise ValueError(f"{group}.{name}={shown(value)}; expected the name of a repository, OWNER/NAME")
    for group in ("model", "task"):
        value = settings[group].get("revision")
        if value is not None and not (isinstance(value, str) and _REVISION.fullmatch(value) and ".." not in value):
            raise ValueError(f"{group}.revision={shown(value)}; expected a commit, a branch or refs/...")
    for group, name in (("task", "subset"), ("data", "splits")):
        value = settings[group].get(name)
        if value is not None and not configs.is_name(value):
            raise ValueError(f"{group}.{name}={shown(value)}; expected a name")


def _targets(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """The place and the text of every ``_target_``."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key == "_target_":
            yield where, value
        else:
            yield from _targets(value, f"{where}.{key}" if where else str(key))


def _check_path(where: str, target: Any, allow: Sequence[str]) -> None:
    """Raises ValueError unless a ``_target_`` is below zobench or an allowed package, where a class is expected."""
    if where.partition(".")[0] not in _KINDS:
        raise ValueError(f"{where or 'the top'}: a _target_; expected one in {', '.join(_KINDS)} alone")
    if not isinstance(target, str) or not _PATH.fullmatch(target):
        raise ValueError(f"{where}._target_={shown(target)}; expected the dotted path of a class")
    if not any(target.startswith(f"{package}.") for package in ("zobench", *allow)):
        raise NotAllowed(f"{where} is of {target}, not of zobench's own", target.partition(".")[0])


def _check_kind(node: Mapping[str, Any], where: str, kind: type) -> None:
    """Raises ValueError unless a node's class, and those of the nodes in it, are of the kinds that are expected."""
    cls = locate(node["_target_"], where)
    if not (isinstance(cls, type) and issubclass(cls, kind)) or cls is kind:
        raise ValueError(f"{where}._target_={node['_target_']}; expected a {kind.__name__} of its own")
    arguments = keyword_arguments(cls)
    for name, value in node.items():
        if not list(_targets(value, "")):
            continue
        hint = arguments[name].annotation if name in arguments else None
        kinds = [each for each in (getattr(hint, "__args__", None) or (hint,)) if isinstance(each, type)]
        kinds = [each for each in kinds if each.__module__.startswith("zobench.")]
        if not kinds or not isinstance(value, dict) or "_target_" not in value:
            raise ValueError(f"{where}.{name}: a _target_; expected none there")
        _check_kind(value, f"{where}.{name}", kinds[0])
