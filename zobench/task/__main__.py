"""``python -m zobench.task check TASK``: what a run would see of a task, and what is odd about it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zobench.config.folders import conf_dir
from zobench.config.options import own_folder
from zobench.config.overrides import FrontDoor
from zobench.config.words import ALLOW_FOREIGN, check_commas
from zobench.errors import ConfigError, UserError, complain, in_one_line, tolerant_streams

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PROGRAM = "zobench.task"


def main(arguments: list[str] | None = None) -> int:
    """Check a task.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0, also with warnings; 1 for what would stop a run; 2 for wrong arguments and settings.
    """
    tolerant_streams()
    asked = _parser().parse_intermixed_args(arguments)
    try:
        return _check(asked)
    except UserError as error:
        return complain(error, _PROGRAM)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf"):
            raise
        return complain(ConfigError(in_one_line(error)), _PROGRAM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {_PROGRAM}",
        description="Show three prompts of a task with their tokens, and its splits; warn of what is odd about them.",
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=["check"], metavar="check")
    parser.add_argument("task", metavar="TASK", help="a task, as task=TASK of a run names it")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as of a run: model=..., data.dir=DIR, model.max_length=..."
    )
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with options of one's own, as DIR/task/TASK.yaml")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        ALLOW_FOREIGN, action="store_true", help="let options of --config-dir have Hydra run code of others"
    )
    return parser


def _check(asked: argparse.Namespace) -> int:
    own = [own_folder(asked.config_dir)] if asked.config_dir else []
    words = FrontDoor([conf_dir(), *own]).check([f"task={asked.task}", *asked.overrides])
    check_commas(words)
    if not asked.allow_foreign:
        from zobench.config.foreign import check_foreign

        check_foreign([*(["--config-dir", asked.config_dir] if own else []), *words])
    from zobench.task.look import at_hand, look_at

    instead = None if any(word.startswith(("model=", "experiment=")) for word in words) else at_hand()
    look = look_at(_composed([*words, *([f"model={instead}"] if instead else [])], own))
    if asked.json:
        from zobench.task.facts import facts

        print(json.dumps(facts(look), indent=1))
    else:
        from zobench.task.page import show

        show(look, without_model=instead is not None)
    return 0


def _composed(words: Sequence[str], own: Sequence[Path]) -> "DictConfig":
    """The checked configuration of a run."""
    from zobench.config.settings import check_settings
    from zobench.config.signature import compose
    from zobench.models.own import check_chosen

    cfg = compose(*(f"hydra.searchpath=['file://{folder.resolve()}']" for folder in own), *words)
    check_settings(cfg, [conf_dir(), *own])
    check_chosen(cfg)
    return cfg


if __name__ == "__main__":
    sys.exit(main())
