"""wandb as a mirror of the record: config, lines, and the row as the run's summary."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.atomic import clean
from zobench.record.mirror import Mirror, Say
from zobench.record.recorder import Values
from zobench.system.imports import importing
from zobench.system.network import why_offline


def _cache() -> Path:
    """Where wandb keeps its cache and the log of its own process."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("WANDB_CACHE_DIR") or f"{home}/wandb")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


class WandbMirror(Mirror):
    """Sends config, metrics, evaluations and the summary row to wandb; begins with the first row.

    Args:
        cfg: the run's configuration; its group ``wandb`` has mode (offline or online), project, entity and group.
        directory: the run directory, where offline files go.
        say: prints a warning line.
    """

    name = "wandb"

    def __init__(self, cfg: DictConfig, directory: Path, say: Say):
        super().__init__(say)
        self._cfg, self._directory = cfg, directory
        self._run: Any = None

    def begin(self, row: Values) -> None:
        self.guard(self._start)

    def _start(self) -> None:
        cfg, mode = self._cfg, self._cfg.wandb.mode
        if mode == "online" and (reason := why_offline()):
            self._say(f"wandb: {reason}; recording offline in {self._directory}/wandb, send it later with `wandb sync`")
            mode = "offline"
        if not _writable(cache := _cache()):
            self._say(f"wandb: {cache} cannot be written; its cache and own log are in {self._directory}/wandb")
            os.environ["WANDB_CACHE_DIR"] = str(self._directory.resolve() / "wandb")
        with importing():
            import wandb

        self._run = wandb.init(
            mode=mode,
            project=cfg.wandb.project,
            entity=cfg.wandb.entity,
            group=cfg.wandb.group,
            name=f"{cfg.choices.method}-s{cfg.seed}",
            tags=["zo", *([cfg.choices.experiment] if cfg.choices.experiment else []), *cfg.tags],
            config=clean(OmegaConf.to_container(cfg, resolve=True)),
            dir=str(self._directory),
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        self._run.define_metric("*", step_metric="forwards")

    def log(self, line: Values) -> None:
        self.guard(lambda: self._run.log(clean(line)))

    def finish(self, row: Values) -> None:
        self.guard(lambda: self._finish(row))

    def _finish(self, row: Values) -> None:
        self._run.summary.update(clean(row))
        self._run.tags = (*(self._run.tags or ()), row["state"])
        self._run.finish(exit_code=0 if row["state"] == "finished" else 1)
        self._on = False
