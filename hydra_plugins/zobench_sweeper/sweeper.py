"""Hydra's sweeper for tables: skips what is finished, goes on with what is not, and lets no cell stop the others."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class ZobenchSweeperConf:
    """The settings of ``hydra/sweeper=zobench``, which is the default.

    Attributes:
        params: overrides with commas, as of an experiment; those of the command line win.
        grid: a grid's name or file (``zobench.sweep``); None: the command line is the grid's only line.
        only: conditions on the cells that run, such as ``method=mezo,loren``.
        retry_failed: run failed cells again.
        max_batch_size: cells handed to the launcher at a time; None for all.
        retry: what to type to have failed cells run again, for messages.
    """

    _target_: str = "hydra_plugins.zobench_sweeper.sweeper.ZobenchSweeper"
    params: dict[str, str] | None = None
    grid: str | None = None
    only: list[str] = field(default_factory=list)
    retry_failed: bool = False
    max_batch_size: int | None = None
    retry: str = "hydra.sweeper.retry_failed=true"


ConfigStore.instance().store(group="hydra/sweeper", name="zobench", node=ZobenchSweeperConf, provider="zobench")


class ZobenchSweeper(Sweeper):
    """Plans all cells of a sweep, then hands those that are left to the launcher.

    Args:
        params: not read here: each cell's own composition has them, since presets can be swept over as well.
        grid, only, retry_failed, max_batch_size, retry: as in ``ZobenchSweeperConf``.
    """

    def __init__(
        self,
        params: Any,
        grid: str | None,
        only: list[str],
        retry_failed: bool,
        max_batch_size: int | None,
        retry: str,
    ):
        self.grid, self.only, self.retry = grid, only, retry
        self.retry_failed, self.batch = retry_failed, max_batch_size
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells that are left of a line of overrides, or of a grid.

        Args:
            arguments: overrides, with commas; a grid's lines are given them too.

        Raises:
            ConfigError: for a line that cannot be composed.
            SweepFailed: if cells failed or were stopped.
        """
        from zobench.config.folders import conf_dir
        from zobench.estimate.costs import Costs
        from zobench.sweep import launch
        from zobench.sweep.plan import Planner, select
        from zobench.sweep.remember import remembered

        config = self.config
        assert config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        found = [Path(source.path) for source in config.hydra.runtime.config_sources if source.schema == "file"]
        folders = [conf_dir(), *(folder for folder in found if folder != conf_dir())]
        loader = self.hydra_context.config_loader
        planner = Planner(lambda cell: loader.load_sweep_config(config, cell), folders, config_loader=loader)
        given = list(config.hydra.overrides.hydra)
        lines = [arguments]
        if self.grid is not None:
            from zobench.sweep.grids import find

            lines = find(self.grid, folders).arguments(arguments, folders)
        cells = select(remembered(lines, folders, lambda: planner.cells(lines), hydra=given), list(self.only))
        costs = Costs({Path(cell.settings["runs_dir"]) for cell in cells})
        return launch.run(
            cells, self.launcher, retry_failed=self.retry_failed, batch=self.batch, costs=costs, retry=self.retry
        )
