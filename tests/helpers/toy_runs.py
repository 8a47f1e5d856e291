"""Runs of toy methods, which no option file names."""

from omegaconf import OmegaConf

from helpers.tiny_runs import TINY
from zobench.config.signature import compose


def settings_of(toy, runs, *overrides, **settings):
    """The settings of a short run of a class of ``helpers.toys``."""
    cell = (*TINY, "steps=6", "log_every=1", "eval_every=3", "save_every=2")
    cfg = compose(*cell, *overrides, f"runs_dir={runs}")
    OmegaConf.set_struct(cfg, False)
    cfg.method = {"_target_": f"helpers.toys.{toy}", "lr": 1e-3, **settings}
    return cfg
