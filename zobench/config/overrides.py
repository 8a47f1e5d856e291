"""The front door: ``--list`` and misspelt overrides, answered before Hydra and torch are imported.

Standard library and PyYAML only. It reads conf/ as files: a group is a folder, an option a YAML file whose first
comment line describes it.
"""

import contextlib
import fnmatch
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zobench.config.options import GRIDS, TUNED, defaults, describe, groups, leaves, load_yaml, texts
from zobench.config.plugins import check_plugin
from zobench.config.renamed import typed
from zobench.config.schema import SETTINGS, as_yaml
from zobench.config.words import check_interpolations, check_words, overrides
from zobench.errors import ConfigError, did_you_mean, shown

_OVERRIDE = re.compile(r"^(?P<mark>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@:-]*)(=(?P<value>.*))?$", re.S)
#: Hydra's functions of options in a sweep, and their own arguments
_CALL, _OF_CALL = re.compile(r"\b(?:choice|glob|shuffle|sort)\(|\)"), re.compile(r"(?:exclude|reverse|list)=")
_OUTSIDE = ("hydra",)
LAUNCHERS = "hydra/launcher"
_PRESETS = ("experiment", "search")  # settings of the whole run, and optional
#: groups whose options have a class, which has a default for what is taken away
_WITH_CLASS = ("model", "task", "method", "method/rule", "tuning", "protocol", "objective")


def _flatten(node: Any, prefix: str) -> Iterator[str]:
    if prefix:
        yield prefix
    if isinstance(node, dict):
        for key, child in node.items():
            if key not in ("defaults", "_target_"):
                yield from _flatten(child, f"{prefix}.{key}" if prefix else str(key))


class FrontDoor:
    """What conf/ offers, and what of an argument list it does not."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = list(folders)
        self._offered = [groups(folder) for folder in self.folders]
        self.groups: dict[str, list[str]] = {}
        for offered in self._offered:
            for group, options in offered.items():
                self.groups.setdefault(group, []).extend(o for o in options if o not in self.groups.get(group, []))

    def file(self, group: str, option: str) -> Path | None:
        """The YAML file of an option, in the first folder that has one; None if none has."""
        for folder in self.folders:
            path = folder / group / f"{option}.yaml"
            if path.is_file():
                return path
        return None

    def keys(self) -> set[str]:
        """Every key that some choice of options accepts."""
        found = set(_flatten(load_yaml(self.folders[0] / "config.yaml"), ""))
        for setting in SETTINGS:
            found |= {setting.key, setting.key.partition(".")[0]}
        for group, options in self.groups.items():
            for option in options:
                found |= self._option_keys(group, option)
        return found

    def _option_keys(self, group: str, option: str) -> set[str]:
        path = self.file(group, option)
        return set(_flatten(load_yaml(path), group.replace("/", "."))) if path and group not in _PRESETS else set()

    def check(self, arguments: list[str]) -> list[str]:
        """Refuse the first override that names no group, option or key.

        Returns:
            The arguments, with settings of former names under those of today.

        Raises:
            ConfigError: with the nearest right name.
        """
        check_words(overrides(arguments))
        self._check_own_files()
        self.check_plugins(arguments)
        self._check_shadows()
        chosen = self._chosen(arguments)
        arguments = typed(arguments, chosen)
        for argument in overrides(arguments):
            match = _OVERRIDE.match(argument)
            if match is None or (match["value"] is None and match["mark"] != "~"):
                raise ConfigError(f"{shown(argument)}: expected key=value; see python -m zobench --list")
            self._check_emptied(argument, match)
            mark, key, value = match["mark"], match["key"].split("@")[0], match["value"]
            if key.split(".")[0] == "choices":
                group = key.removeprefix("choices.") if "." in key else "GROUP"
                raise ConfigError(f"{shown(argument)}: it only tells what was chosen; choose with {group}={value}")
            if key == "hydra.searchpath":
                raise ConfigError("hydra.searchpath: folders of options are given with --config-dir DIR")
            if key.split("/")[0].split(".")[0] in _OUTSIDE:
                continue
            if "_target_" in argument:
                raise ConfigError(
                    f"{shown(argument)}: the class belongs to the option's file; write one of your own into a "
                    "--config-dir, see CONTRIBUTING.md"
                )
            if mark == "+" and value and key in self.groups:
                raise ConfigError(f"{shown(argument)}: the + is for keys that there are not; choose with {key}={value}")
            if mark in ("+", "++"):
                continue
            if key.replace(".", "/") in self.groups and "." in key:
                group = key.replace(".", "/")
                raise ConfigError(f"{argument}: {group} is a group; did you mean {group}={value}?")
            if key in self.groups:
                self._check_options(key, value)
                self._check_nested(key, argument, chosen)
            else:
                self._check_key(key, value, chosen)
        return arguments

    def _check_own_files(self) -> None:
        """Files of a user's own must be readable, whichever are chosen, and resolve to nothing of their machine's."""
        for folder in self.folders[1:]:
            for path in sorted(folder.rglob("*.yaml")):
                outside = path.relative_to(folder).parts[0] in (*_OUTSIDE, GRIDS)
                defaults(path)
                for where, text in texts(load_yaml(path)) if not outside else ():
                    check_interpolations(text, f"{path}: {where}")

    def _check_shadows(self) -> None:
        """An option of a user's own must not bear the name of one that ships, which Hydra would take."""
        shipped, *others = self._offered
        for folder, offered in zip(self.folders[1:], others, strict=True):
            for group, options in offered.items():
                for option in sorted(set(options) & set(shipped.get(group, ()))):
                    raise ConfigError(
                        f"{folder / group / option}.yaml: {group}={option} ships with zobench, which would be taken; "
                        "give this file another name"
                    )

    def _chosen(self, arguments: list[str]) -> dict[str, list[str]]:
        """Group → options: the defaults, what an experiment overrides, what the arguments say."""
        chosen = defaults(self.folders[0] / "config.yaml")
        given: dict[str, list[str]] = {}
        for argument in overrides(arguments):
            match = _OVERRIDE.match(argument)
            if match and match["key"] in self.groups and match["value"]:
                given[match["key"]] = self._named(match["key"], match["value"])
        for group in _PRESETS:
            for option in given.get(group, []):
                path = self.file(group, option)
                chosen |= defaults(path) if path else {}
        return chosen | given

    def check_plugins(self, arguments: list[str]) -> None:
        """Refuse launchers and sweepers, of an experiment or of the arguments, that are misspelt or not installed."""
        chosen = self._chosen(arguments)
        matches = [match for argument in overrides(arguments) if (match := _OVERRIDE.match(argument))]
        given = {match["key"]: _split(match["value"]) for match in matches if match["value"]}
        for group, options in (chosen | given).items():
            for option in options if group.startswith("hydra/") else ():
                check_plugin(group, option, self.folders)
        launcher = ",".join(given.get("hydra/launcher", []))
        if launcher and "hydra.mode" not in given and not {"-m", "--multirun", "--cfg", "-c"} & set(arguments):
            raise ConfigError(f"hydra/launcher={launcher}: launchers start the cells of a sweep; add -m")

    def _check_emptied(self, argument: str, match: re.Match[str]) -> None:
        group = match["key"]
        optional = group in _PRESETS or "/" in group or group not in self.groups
        if not optional and (match["mark"] == "~" or match["value"] in ("", "null")):
            raise ConfigError(f"{argument}: a run needs a {group}, one of {', '.join(self.groups[group])}")
        if match["mark"] == "~" and group.split(".")[0] not in (*_WITH_CLASS, *_PRESETS, *_OUTSIDE):
            raise ConfigError(f"{shown(argument)}: a setting cannot be taken away; leave it out for its default")

    def _check_options(self, group: str, value: str | None) -> None:
        for option in self._named(group, value or ""):
            if option in self.groups[group] or option in ("null", ""):
                continue
            hint = did_you_mean(option, self.groups[group], f"{group}=") or self._own_hint(group, option)
            known = ", ".join(self.groups[group])
            raise ConfigError(f"{group}={option}: no such {group}{hint}\n{group} is one of: {known}")

    def _own_hint(self, group: str, option: str) -> str:
        """Where an option of a user's own may be, if no folder with such was given."""
        if len(self.folders) > 1:
            return ""
        with contextlib.suppress(OSError):  # a name that no file can have
            found = sorted(folder for folder in Path().iterdir() if (folder / group / f"{option}.yaml").is_file())
            if found:
                return f"; did you mean --config-dir {found[0]}, which has it?"
        return f"; one of your own, DIR/{group}/{option}.yaml, needs --config-dir DIR"

    def _check_nested(self, group: str, argument: str, chosen: dict[str, list[str]]) -> None:
        """A group within another, such as ``method/rule``, is chosen for options whose file leaves the choice."""
        outer, _, inner = group.rpartition("/")
        for option in chosen.get(outer, []) if outer not in _OUTSIDE else []:
            path = self.file(outer, option)
            if path and inner not in defaults(path):
                raise ConfigError(f"{argument}: {outer}={option} leaves no {inner} to choose; see its file, {path}")

    def _named(self, group: str, value: str) -> list[str]:
        """Options that a value names, of a sweep's ``choice(...)`` and ``glob(...)`` as well."""
        words = _split(_CALL.sub("", value).replace("[", "").replace("]", "") if _CALL.search(value) else value)
        found: list[str] = []
        for word in words if "glob(" in value else ():
            found += [] if _OF_CALL.match(word) else fnmatch.filter(self.groups[group], word) or [word]
        return found or words

    def _check_key(self, key: str, value: str | None, chosen: dict[str, list[str]]) -> None:
        head = key.split(".")[0]
        if head in chosen and "." in key:
            known = self._own_keys(head, chosen[head])
            where = f" for {head}={','.join(chosen[head])}"
        else:
            known, where = self.keys() | set(self.groups), ""
        if key in known:
            return
        shown = f"{key}={value}" if value is not None else key
        if where and key in self.keys():
            own = sorted(name.removeprefix(f"{head}.") for name in known if name.startswith(f"{head}."))
            raise ConfigError(f"{shown}: no such key{where}, which has {', '.join(own) or 'none'}")
        hint = did_you_mean(key, known, otherwise="; see python -m zobench --list")
        raise ConfigError(f"{shown}: no such key{where}{hint}")

    def _own_keys(self, head: str, options: list[str]) -> set[str]:
        """Keys of a group's chosen options, and of the subgroups of which they choose."""
        found = {key for option in options for key in self._option_keys(head, option)}
        inner = {name for option in options if (path := self.file(head, option)) for name in defaults(path)}
        for group in (f"{head}/{name}" for name in inner):
            found |= {key for option in self.groups.get(group, ()) for key in self._option_keys(group, option)}
        return found

    def everything(self) -> str:
        """The text of ``--list``: all groups with their options, grids, launchers and settings."""
        lines = [
            "Groups (group=option):",
        ]
        for group, options in self.groups.items():
            lines += self._described(group, options)
        lines += self._tuned()
        grids = {path.stem: None for folder in self.folders for path in sorted((folder / GRIDS).glob("*.yaml"))}
        lines += ["", f"Grids (python -m zobench.{GRIDS} GRID):", *self._described(GRIDS, list(grids))]
        launchers = sorted({path.stem for folder in self.folders for path in (folder / LAUNCHERS).glob("*.yaml")})
        lines += ["", f"Launchers of a sweep (-m {LAUNCHERS}=option):", *self._described(LAUNCHERS, launchers)]
        lines += ["", "Run settings (key=value):", ""]
        lines += [f"  {f'{s.key}={as_yaml(s.default)}':<28}{s.meaning}" for s in SETTINGS]
        lines += [
            "",
            "Options of a choice are set with group.key=value, e.g. method.lr=1e-6; its YAML file lists them all.",
            f"Configuration: {', '.join(str(folder) for folder in self.folders)}",
            "Hydra's own help: --hydra-help; print the composed configuration: --cfg job",
        ]
        return "\n".join(lines)

    def _tuned(self) -> list[str]:
        """Methods' defaults that a tuning sets: a line for each method, a column for each tuning."""
        values: dict[tuple[str, str], str] = {}
        for path in (path for folder in self.folders for path in sorted((folder / TUNED).glob("*/*.yaml"))):
            told = " ".join(f"{key}={as_yaml(value)}" for key, value in leaves(load_yaml(path)))
            values.setdefault((path.stem, path.parent.name), told)
        methods, tunings = (sorted({key[i] for key in values}) for i in (0, 1))
        rows = [["", *(f"tuning={name}" for name in tunings)]]
        rows += [[method, *(values.get((method, tuning), "") for tuning in tunings)] for method in methods]
        widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
        lines = ["", "A method's defaults (method.KEY) where the tuning sets them:", ""]
        return lines + [f"  {''.join(map(str.ljust, row, widths))}".rstrip() for row in rows]

    def _described(self, group: str, options: list[str]) -> list[str]:
        """A group's name, and its options with their first comment lines."""
        width = max(len(option) for option in options) + 2
        lines = [f"\n  {group}"]
        for option in options:
            path = self.file(group, option)
            lines.append(f"    {option:<{width}}{describe(path) if path else ''}".rstrip())
        return lines


def _split(value: str) -> list[str]:
    return [part.strip().strip("'\"") for part in value.split(",")]
