"""Whether a finished run that a command finds was made of the data and the model that the command names."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from zobench.errors import DataError
from zobench.record import checkpoint
from zobench.record.lookup import moved_folders, remember_same
from zobench.run.build import build_trained, load_splits, specs
from zobench.system.console import Console
from zobench.system.devices import pick_device


def check_found(cfg: DictConfig, summary: dict[str, Any], directory: Path, console: Console) -> None:
    """Compare by content what a name leaves out: where folders are others, or changed, their rows and weights.

    Args:
        cfg: what was asked for.
        summary: the row of the run that was found.
        directory: where it lies.

    Raises:
        DataError: if the rows or the base model's weights are not those of the run.
    """
    moved = moved_folders(directory, summary, cfg)
    if "data" in moved and summary.get("rows_hash"):
        rows_hash = load_splits(cfg, specs(cfg)[0]).rows_hash
        if rows_hash != summary["rows_hash"]:
            raise _other(directory, f"data.dir={cfg.data.dir}", "rows", summary["rows_hash"], rows_hash)
    if "model" in moved:
        console.say(f"model.dir={cfg.model.dir}: comparing its weights with those of the finished run")
        trained = build_trained(cfg, pick_device(str(cfg.device)), *specs(cfg))
        base, model = checkpoint.checksums(trained.loaded.model, trained.method.slots)
        for then, now in ((summary.get("base_checksum"), base), (summary.get("model_checksum"), model)):
            if then not in (None, now):
                raise _other(directory, f"model.dir={cfg.model.dir}", "weights", then, now)
    if moved:
        remember_same(directory, cfg)


def _other(directory: Path, asked: str, what: str, then: str, now: str) -> DataError:
    return DataError(
        f"{asked}: the finished run in {directory} was made of other {what} ({then}, these are {now}); a run's name "
        "holds no paths, so give this one another runs_dir, or overwrite=true"
    )
