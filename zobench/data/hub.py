"""A task's rows from the Hugging Face hub, at a pinned revision."""

from zobench.data import files
from zobench.data.folder import FILES, layout
from zobench.errors import DataError, first_line
from zobench.system import network
from zobench.tasks.base import Task


def from_hub(task: Task, name: str) -> dict[str, files.Rows]:
    """The train and validation files of a task, downloaded or from the hub's cache.

    Raises:
        DataError: if they cannot be had, or do not have as many rows as the task says.
    """
    if task.hub is None:
        raise DataError(f"task={name}: its file names no data; give task.files=FILE, or {layout(task, name)}")
    online = network.prepare()
    import datasets

    datasets.disable_progress_bars()
    tables: dict[str, files.Rows] = {}
    for split in FILES:
        try:
            data = datasets.load_dataset(task.hub, task.subset, revision=task.revision, split=split)
        except Exception as error:
            ships = "mini" in task.splits
            reason = "the hub cannot be reached" if not online else f"{type(error).__name__}: {first_line(error)}"
            raise DataError(
                f"task={name}: {task.hub} ({task.subset}) is not in the cache and cannot be downloaded: {reason}. "
                f"Offline: {layout(task, name)}{'; or try the files that ship with zobench: data=mini' * ships}"
            ) from error
        if len(data) != task.rows[split]:
            raise DataError(
                f"task={name}: {task.hub} {split} has {len(data)} rows, expected {task.rows[split]}; the data set "
                f"at revision {task.revision} is not the one this protocol pins"
            )
        tables[split] = files.Table(f"{task.hub} {split}", data.with_format("arrow")[:])
    return tables
