"""The sweeper ``search``: Optuna's, with the best setting printed and no trial able to stop the search."""

from pathlib import Path
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SearchSweeper(Sweeper):
    """Hands everything to the plugin ``hydra-optuna-sweeper``, and says at the end what it found.

    Args:
        settings: the arguments of that plugin's sweeper.
    """

    def __init__(self, **settings: Any):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._optuna: Any = None
        self._results = Path()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

        from zobench.config.folders import conf_dir
        from zobench.sweep.trials import tuned

        self._results = Path(config.hydra.sweep.dir) / "optimization_results.yaml"
        found = [Path(source.path) for source in config.hydra.runtime.config_sources if source.schema == "file"]
        folders = [conf_dir(), *(folder for folder in found if folder != conf_dir())]
        choices, space = config.hydra.runtime.choices, self._settings["params"] or {}
        space = OmegaConf.create(tuned(space, choices["method"], choices["tuning"], folders))
        self._optuna = OptunaSweeper(**{**self._settings, "params": space})
        self._optuna.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Search, then print the best setting.

        Raises:
            SweepFailed: if no trial gave a result.
        """
        from zobench.errors import SweepFailed, show

        self._results.unlink(missing_ok=True)
        try:
            self._optuna.sweep(arguments)
        except ValueError as error:
            if "No trials are completed" in str(error):
                raise SweepFailed("no trial of the search gave a result; their records say why") from None
            raise
        best = OmegaConf.load(self._results)
        setting = " ".join(f"{key}={value}" for key, value in best.best_params.items())
        show(f"best dev metric {best.best_value:.3f}: {setting}\nwritten: {self._results}")
