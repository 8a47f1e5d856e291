"""The Hydra application behind ``python -m zobench``; importable, so that launchers can send it to other processes."""

import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from zobench.config.folders import conf_dir
from zobench.config.settings import check_settings
from zobench.config.signature import register
from zobench.errors import UserError, complain, tolerant_streams
from zobench.models.own import check_chosen
from zobench.system.console import Console, cell_title, speak_as
from zobench.system.imports import importing, keep_imports
from zobench.system.requeue import hand_over
from zobench.system.workers import is_sweep, is_worker

register()


@hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    """Do one run; its best dev metric, the objective of a sweeper."""
    keep_imports()
    tolerant_streams()
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    if sweeping:
        job = HydraConfig.get().job
        if not job.name.startswith("cell "):
            Console().say(f"job {job.num + 1}: {title(cfg)}")
        elif is_worker():
            speak_as(job.name)
        elif not is_sweep():  # on another machine: this output has no other line that names the cell
            Console().say(f"{job.name}: {title(cfg)}")
    try:
        check_settings(cfg, config_folders())
        check_chosen(cfg)
        with importing():
            from zobench.run.runner import run

        return run(cfg, in_sweep=sweeping).get("dev_metric")
    except UserError as error:
        if sweeping:
            raise _portable(error) from None
        sys.exit(complain(error))
    except KeyboardInterrupt as error:
        if is_worker():
            raise UserError(f"a cell was interrupted by {error}; the same command goes on") from None
        again = "the same command without overwrite=true" if cfg.overwrite else "the same command"
        complain(f"interrupted; {again} goes on from the last checkpoint")
        hand_over(str(error))
        sys.exit(130)
    except OSError as error:  # a full disk, a folder without permission
        said = UserError(
            f"{error.filename or cfg.runs_dir}: {error.strerror or error}; runs_dir={cfg.runs_dir} must be a folder "
            "that can be written to; mend that or give another"
        )
        if sweeping:
            raise said from None
        sys.exit(complain(said))
    except Exception as error:
        traceback.print_exc()
        if sweeping:
            raise _portable(error) from None
        sys.exit(1)


def title(cfg: DictConfig) -> str:
    """What tells a cell from others, in a line."""
    names = {name: cfg.choices[name] for name in ("task", "model", "method", "tuning", "objective")}
    return cell_title({**names, "method.lr": cfg.method.get("lr"), "seed": cfg.seed})


def _portable(error: Exception) -> UserError:
    """What a sweep's launcher can send from process to process, which only zobench's own errors are sure to survive."""
    return error if isinstance(error, UserError) else UserError(f"{type(error).__name__}: {error}")


def config_folders() -> list[Path]:
    """The folders of options that Hydra reads, zobench's first."""
    sources = HydraConfig.get().runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file"]
