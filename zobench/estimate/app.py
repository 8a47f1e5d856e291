"""The Hydra application behind ``python -m zobench --estimate``."""

import os
import sys
import traceback

import hydra
from omegaconf import DictConfig

from zobench.config.folders import conf_dir
from zobench.config.settings import check_settings
from zobench.config.signature import register
from zobench.errors import UserError, complain
from zobench.models.own import check_chosen
from zobench.run.app import config_folders, title
from zobench.system.console import Console
from zobench.system.imports import importing, keep_imports

register()


@hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Say what one run will take, and stop."""
    keep_imports()
    os.environ["HF_HUB_OFFLINE"] = "1"  # what is not at hand is estimated by law, not downloaded
    try:
        check_settings(cfg, config_folders())
        check_chosen(cfg)
        with importing():
            from zobench.estimate.one import estimate
            from zobench.estimate.tell import lines

        console = Console()
        for line in [title(cfg), *lines(estimate(cfg)), "an estimate: nothing was recorded"]:
            console.say(line)
    except UserError as error:
        sys.exit(complain(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
