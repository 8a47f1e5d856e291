"""``python -m zobench``: the fast answers first, then the run."""

import os
import sys

from zobench.config.folders import conf_dir
from zobench.config.options import config_dirs
from zobench.config.overrides import FrontDoor
from zobench.config.plugins import with_search
from zobench.errors import ConfigError, UserError, complain


def main() -> None:
    """Answer the command line: help and complaints at once, anything else by a run or several."""
    arguments = sys.argv[1:] = _multirun_first(with_search(sys.argv[1:]))
    door = FrontDoor([conf_dir(), *config_dirs(arguments)])
    if {"--help", "-h", "--list"} & set(arguments):
        print(door.help())
        return
    try:
        if any(argument.startswith("hydra.sweeper.grid=") for argument in arguments):  # its lines are checked later
            door.check_plugins(arguments)
        else:
            door.check(arguments)
    except ConfigError as error:
        sys.exit(complain(error))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here instead of being printed by Hydra
    from zobench.system.requeue import hand_over
    from zobench.system.workers import stopped_first

    try:
        with stopped_first():
            from zobench.run.app import main as run

            run()
    except UserError as error:
        sys.exit(complain(error))
    except KeyboardInterrupt as error:  # outside a cell, or in a sweep whose cells run in other processes
        print("zobench: stopped; the same command goes on", file=sys.stderr)
        hand_over(str(error))
        sys.exit(130)
    except Exception as error:
        package = type(error).__module__.split(".")[0]
        if package in ("hydra", "omegaconf"):
            complain(error)
            sys.exit(2)
        if package in ("joblib", "submitit"):  # a process or a job that died
            sys.exit(complain(error))
        raise


def _multirun_first(arguments: list[str]) -> list[str]:
    """Hydra's parser wants its flag before the overrides; people write it anywhere."""
    flags = [a for a in arguments if a in ("-m", "--multirun")]
    return flags[:1] + [a for a in arguments if a not in flags]


if __name__ == "__main__":
    main()
