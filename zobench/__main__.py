"""``python -m zobench``: the fast answers first, then the run."""

import os
import sys

from zobench.config.folders import conf_dir
from zobench.config.options import config_dirs
from zobench.config.overrides import FrontDoor
from zobench.config.plugins import with_search
from zobench.config.start import START
from zobench.config.words import ALLOW_FOREIGN, ESTIMATE, check_commas, flags_first, of_hydra, overrides
from zobench.errors import ConfigError, UserError, complain, show, tolerant_streams
from zobench.version import VERSION


def main() -> None:
    """Answer the command line: help and complaints at once, anything else by a run or several."""
    tolerant_streams()
    try:
        arguments = _checked(sys.argv[1:])
    except ConfigError as error:
        sys.exit(complain(error))
    if arguments is None:
        return
    allowed, estimating = ALLOW_FOREIGN in arguments, ESTIMATE in arguments
    sys.argv[1:] = [argument for argument in arguments if argument not in (ALLOW_FOREIGN, ESTIMATE)]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here instead of being printed by Hydra
    from zobench.system.requeue import hand_over
    from zobench.system.spinning import spin_briefly
    from zobench.system.workers import stopped_first

    spin_briefly()
    try:
        with stopped_first():
            from zobench.config.foreign import check_foreign

            if estimating:
                from zobench.estimate.app import main as run
            else:
                from zobench.run.app import main as run
            if not allowed:
                check_foreign(arguments)
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
            sys.exit(complain(of_hydra(error)))
        if package in ("joblib", "submitit"):  # a process or a job that died
            sys.exit(complain(error))
        raise


def _checked(given: list[str]) -> list[str] | None:
    """The command line as Hydra wants it; None if it was answered.

    Raises:
        ConfigError: for what is misspelt.
    """
    arguments = with_search(flags_first(given))
    door = FrontDoor([conf_dir(), *config_dirs(arguments)])
    if {"--help", "-h"} & set(arguments):
        show(START)
        return None
    if "--list" in arguments:
        show(door.everything())
        return None
    if "--version" in arguments:
        show(f"zobench {VERSION}")
        return None
    if any(argument.startswith("hydra.sweeper.grid=") for argument in arguments):  # its lines are checked later
        door.check_plugins(arguments)
    else:
        arguments = door.check(arguments)
        several = {"-m", "--multirun"} & set(arguments) or any(a.startswith("hydra.mode=") for a in arguments)
        if several and ESTIMATE in arguments:
            raise ConfigError(f"{ESTIMATE}: is of one cell; of a table: python -m zobench.sweep GRID --dry-run")
        if not several:
            check_commas(overrides(arguments))
    return arguments


if __name__ == "__main__":
    main()
