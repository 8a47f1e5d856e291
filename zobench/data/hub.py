"""A task's rows from the Hugging Face hub, at a pinned revision."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

from zobench.data import files
from zobench.data.files import SUFFIXES
from zobench.data.folder import FILES, layout
from zobench.data.layout import Layout
from zobench.errors import ConfigError, DataError, shown
from zobench.system.hub import Missing, Repository
from zobench.tasks.base import Task

#: what so many splits are for
_ROLES = {1: ("train",), 2: FILES, 3: ("train", "dev", "validation")}


def from_hub(task: Task, name: str) -> dict[str, files.Rows]:
    """The files of a task, by what they are for: ``train``, ``dev`` and ``validation`` (its test file).

    They are downloaded, or in the hub's cache. ``task.rows`` names the splits of the data set in this order: one, two
    (for training and for the test) or three; else they are train and validation. No other is downloaded.

    Raises:
        ConfigError: if the task names no hub, or too many splits.
        DataError: if they cannot be had, or do not have as many rows as the task says.
    """
    splits = tuple(task.rows) or FILES
    if len(splits) > len(_ROLES):
        raise ConfigError(f"task.rows names {', '.join(splits)}; expected at most three splits: train, dev and test")
    if not task.hub:
        given = f"task.files=FILE, task.hub=ORG/NAME, or {layout(task, name)}"
        raise ConfigError(f"task={name}: its file names no data; give {given}")
    repository = Repository("dataset", task.hub, task.revision)
    what = f"task={name}: {task.hub}" + (f" ({task.subset})" if task.subset else "")
    try:
        folder, found = _fetch(repository, task.subset, splits)
        tables = {split: _Shards(f"{task.hub} {split}", folder, names) for split, names in found.items()}
    except Missing as error:
        ships = "; or try the files that ship with zobench: data=mini" if "mini" in task.splits else ""
        raise DataError(f"{what} {error}. Or local files: {layout(task, name)}{ships}") from error
    except DataError as error:
        raise DataError(f"{what} {error}") from error
    commit = replace(repository, revision=folder.name)
    for split, table in tables.items():
        wanted = task.rows.get(split)
        if wanted is None and not commit.names():
            raise DataError(
                f"{what} may lack files: the hub's list of them is not in the cache. Run once with the network, or say "
                f"how many rows there are: task.rows.{split}=N"
            )
        if wanted is not None and len(table) != wanted:
            at = f"at revision {task.revision}" if task.revision else "without a task.revision"
            raise DataError(
                f"{what}: {split} has {len(table)} rows, expected {wanted}; the data set {at} is not the one that "
                "task.rows pins"
            )
    return dict(zip(_ROLES[len(splits)], tables.values(), strict=True))


def _fetch(repository: Repository, subset: str | None, splits: Sequence[str]) -> tuple[Path, dict[str, list[str]]]:
    """The folder of the revision, and the names of each split's files in it."""
    folder = repository.fetch(["README.md"])
    repository = replace(repository, revision=folder.name)  # the commit, which need not be asked for again
    readme = folder / "README.md"
    places = Layout(readme if readme.exists() else None, subset)
    folder = repository.fetch([pattern for split in splits for pattern in places.patterns(split)])
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found = {split: places.files(split, names) for split in splits}
    empty = [split for split, paths in found.items() if not paths]
    if empty:
        raise DataError(_without(empty[0], repository, places))
    return folder, found


def _without(split: str, repository: Repository, places: Layout) -> str:
    """What is said of a data set without files for a split."""
    known = repository.names()
    scripts = [name for name in known if name.endswith(".py")]
    if scripts and not any(name.endswith(SUFFIXES) for name in known):
        return (
            f"is made by a script ({shown(scripts[0])}), which is not run. Look for a revision with parquet "
            "files, such as task.revision=refs/convert/parquet"
        )
    there = [f"a split {name}" for name in places.splits] or [name for name in known if not name.startswith(".")]
    return (
        f"has no {' or '.join(SUFFIXES)} files of a split {split}; it has {shown(', '.join(there) or 'nothing', 200)}. "
        "Splits of other names: task.rows='{NAME: null, NAME: null}'"
    )


class _Shards(files.Rows):
    """The rows of a split, which may be in several files, one after another.

    Raises:
        DataError: if a file cannot be read, or has other columns than the first.
    """

    def __init__(self, path: str, folder: Path, names: Sequence[str]):
        self.path = path
        self._files = [files.read(folder / name) for name in names]
        self.names = self._files[0].names
        for file in self._files[1:]:
            if set(file.names) != set(self.names):
                raise DataError(f"{file.path} has other columns than {self._files[0].path}")
        self._ends = [0, *accumulate(map(len, self._files))]

    def __len__(self) -> int:
        return self._ends[-1]

    def take(self, columns: Sequence[str], index: Sequence[int] | None = None) -> list[files.Row]:
        index = range(len(self)) if index is None else index
        taken = dict(self._taken(columns, index))
        return [taken[place] for place in index]

    def _taken(self, columns: Sequence[str], index: Sequence[int]) -> Iterator[tuple[int, files.Row]]:
        for file, (start, end) in zip(self._files, pairwise(self._ends), strict=True):
            places = [place for place in index if start <= place < end]
            if places:
                yield from zip(places, file.take(columns, [place - start for place in places]), strict=True)
