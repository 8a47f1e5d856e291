"""The estimate of one cell: measured where all that it needs is at hand, else from runs like it, or by the law."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zobench.config.chosen import Cell
from zobench.config.settings import check_settings
from zobench.errors import ConfigError, UserError
from zobench.estimate.cost import LAW, Cost
from zobench.estimate.costs import Costs
from zobench.estimate.measured import measured
from zobench.run.build import check_parts
from zobench.run.runner import mendable
from zobench.system import hub, processes
from zobench.zo import Diverged


def estimate(cfg: DictConfig) -> Cost:
    """What a cell takes. Nothing is downloaded, and nothing is recorded.

    Args:
        cfg: its configuration.

    Raises:
        UserError: what its run would say where it cannot run.
    """
    check_settings(cfg)
    if (size := processes.launched()) > 1:
        raise ConfigError(f"--estimate: {size} processes were started; one measures, so start it without torchrun")
    cfg = cfg.copy()
    OmegaConf.resolve(cfg)
    check_parts(cfg)
    try:
        return measured(cfg)
    except Diverged as error:
        raise UserError(f"the run would diverge: {error}") from None
    except UserError as error:
        if not isinstance(error.__cause__, hub.Missing):
            raise
        return _unmeasured(cfg, f"{str(error).split(' is ')[0]} is not at hand")
    except Exception as error:
        raise mendable(error, cfg) from None


def _unmeasured(cfg: DictConfig, why: str) -> Cost:
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    cost = Costs([Path(cfg.runs_dir)]).of(Cell(settings))
    if cost.refusal:
        raise ConfigError(cost.refusal)
    return replace(cost, said=why) if cost.source == LAW else cost
