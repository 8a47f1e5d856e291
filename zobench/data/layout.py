"""Which files of the hub's data set hold a split, as its README says, or else by their names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zobench.data.files import SUFFIXES
from zobench.errors import DataError, did_you_mean, first_line, shown

#: other words for a split in names of files
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing"),
}


class Layout:
    """The files of one subset.

    Args:
        readme: the data set's README.md, whose first lines may say which subset has which files; None if it has none.
        subset: None for the only one, or the one that the README calls the default.

    Raises:
        DataError: for a README that cannot be read, or a subset that is not there.
    """

    def __init__(self, readme: Path | None, subset: str | None):
        self._folder, self._patterns = "", None
        configs = _configs(readme) if readme else []
        if configs:
            chosen = _chosen(configs, subset)
            self._folder = str(chosen.get("data_dir") or "").strip("./")
            if "data_files" in chosen:
                self._patterns = _by_split(chosen["data_files"])
        elif subset not in (None, "default"):
            self._folder = str(subset)

    @property
    def splits(self) -> list[str]:
        """The splits that the README names; empty if it names none."""
        return list(self._patterns or ())

    def patterns(self, split: str) -> list[str]:
        """Patterns of names that the files of a split fit; others may fit them too."""
        if self._patterns is not None:
            return [self._below(pattern) for pattern in self._patterns.get(split, ())]
        return [self._below(f"*{word}*{suffix}") for word in _words(split) for suffix in SUFFIXES]

    def files(self, split: str, names: Iterable[str]) -> list[str]:
        """The names of the split's files among those of the repository, in their order."""
        if self._patterns is not None:
            return sorted({name for name in names for pattern in self.patterns(split) if _fits(name, pattern)})
        marks = "|".join(map(re.escape, _words(split)))
        marked = re.compile(rf"(?:^|[-._ 0-9/])(?:{marks})(?=[-._ 0-9/])")
        start = self._below("")
        return sorted(
            n for n in names if n.startswith(start) and n.endswith(SUFFIXES) and marked.search(n[len(start) :])
        )

    def _below(self, pattern: str) -> str:
        return f"{self._folder}/{pattern}" if self._folder else pattern


def _configs(readme: Path) -> list[Mapping[str, Any]]:
    """The subsets that a README names."""
    from huggingface_hub import DatasetCard

    try:
        configs = DatasetCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.get("configs") or []
    except (ValueError, OSError) as error:
        raise DataError(f"its README.md cannot be read: {first_line(error)}") from error
    if not isinstance(configs, list) or not all(isinstance(c, Mapping) and c.get("config_name") for c in configs):
        raise DataError("its README.md has configs without config_name")
    return configs


def _chosen(configs: Sequence[Mapping[str, Any]], subset: str | None) -> Mapping[str, Any]:
    names = {str(config["config_name"]): config for config in configs}
    if subset is not None:
        if subset in names:
            return names[subset]
        near = did_you_mean(subset, names, before="task.subset=", otherwise=f"; it has {shown(', '.join(names), 200)}")
        raise DataError(f"has no subset {shown(subset)}{near}")
    default = [config for config in configs if config.get("default")] or [names[n] for n in ("default",) if n in names]
    if not default and len(configs) > 1:
        raise DataError(f"has several subsets; choose one: task.subset={shown(' | '.join(names), 200)}")
    return (default or configs)[0]


def _by_split(data_files: Any) -> dict[str, list[str]]:
    """The patterns of each split: a README gives them by split, or some for all, which then are for training."""
    if isinstance(data_files, Mapping):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    patterns: dict[str, list[str]] = {}
    for entry in data_files if isinstance(data_files, list) else [data_files]:
        split, paths = (entry.get("split"), entry.get("path")) if isinstance(entry, Mapping) else ("train", entry)
        patterns.setdefault(str(split), []).extend(map(str, paths if isinstance(paths, list) else [paths]))
    return patterns


def _fits(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern, whose single stars stay within a folder.

    >>> _fits("sst2/train-0.parquet", "sst2/train-*"), _fits("sst2/train-0.parquet", "*.parquet")
    (True, False)
    """
    return fnmatchcase(name, pattern) and ("**" in pattern or name.count("/") == pattern.count("/"))


def _words(split: str) -> tuple[str, ...]:
    return _WORDS.get(split, (split,))
