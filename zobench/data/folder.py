"""A task's rows from local files: a folder in the hub's layout, or the files that the task names."""

from pathlib import Path

from zobench.data import files
from zobench.errors import ConfigError, DataError, did_you_mean, first_line, shown
from zobench.tasks.base import Task

#: the files of a data set
FILES = ("train", "validation")


def layout(task: Task, name: str) -> str:
    """What a user types for local files of a task, and how these are laid out."""
    return (
        f"data.dir=DIR with DIR/{name}/train.parquet and DIR/{name}/validation.parquet (or .jsonl, .csv, .tsv), "
        f"columns {', '.join(task.columns)}"
    )


def from_folder(task: Task, name: str, directory: str) -> dict[str, files.Rows]:
    """The train and validation files of a task below a folder; ``mini`` names those that ship with zobench.

    Raises:
        ConfigError, DataError: if the folder or a file cannot be read.
    """
    if not isinstance(directory, str) or not directory.strip():
        raise ConfigError(f"data.dir={shown(directory)}: expected a folder; {layout(task, name)}")
    try:
        root = Path(__file__).parent / "mini" if directory == "mini" else Path(directory).expanduser()
        return {split: files.read(_file(task, name, root / name, split)) for split in FILES}
    except (OSError, RuntimeError) as error:  # a folder that may not be listed, a name that is too long, ~nobody
        raise DataError(f"data.dir={shown(directory)} cannot be read: {first_line(error)}") from error


def from_files(task: Task, name: str) -> dict[str, files.Rows]:
    """The files that a task names: ``train``, and ``dev`` and ``validation`` (its test file) where they are.

    Raises:
        DataError: if one cannot be read.
    """
    tables = {}
    for part, given in task.files.items():
        try:
            path = Path(given).expanduser()
            if not path.is_file():
                near = [each.name for each in path.parent.glob("*") if each.is_file()] if path.parent.is_dir() else []
                hint = did_you_mean(path.name, near, f"{path.parent}/")
                wrong = "a folder, expected a file" if path.is_dir() else f"no such file in {Path.cwd()}{hint}"
                raise DataError(f"task={name}: task.files.{part}={shown(given)}: {wrong}")
            tables["validation" if part == "test" else part] = files.read(path)
        except (OSError, RuntimeError) as error:
            raise DataError(f"task={name}: task.files.{part}={shown(given)}: {first_line(error)}") from error
    return tables


def _file(task: Task, name: str, folder: Path, split: str) -> Path:
    """The one file of a split."""
    paths = [path for suffix in files.SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
    if not paths:
        near = sorted(path.name for path in folder.glob(f"{split}*")) if folder.is_dir() else []
        beside = f" as a file (there is {shown(', '.join(near))})" if near else ""
        raise DataError(
            f"task={name}: {folder} has no {split}.parquet or {split}.jsonl{beside}; give {layout(task, name)}"
        )
    if len(paths) > 1:
        raise DataError(
            f"task={name}: {paths[0]} and {paths[1].name} are both there, and may differ; remove the one that does not "
            "count"
        )
    return paths[0]
