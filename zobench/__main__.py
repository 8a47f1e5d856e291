"""``python -m zobench``: the fast answers first, then the run."""

import sys

from zobench.conf_dir import conf_dir
from zobench.errors import ConfigError
from zobench.frontdoor import FrontDoor, config_dirs


def main() -> None:
    arguments = sys.argv[1:]
    door = FrontDoor([conf_dir(), *config_dirs(arguments)])
    if "--help" in arguments or "-h" in arguments:
        print(door.help())
        return
    try:
        door.check(arguments)
    except ConfigError as error:
        sys.exit(_complain(error))
    from zobench.app import main as run

    run()


def _complain(error: Exception) -> int:
    print(f"zobench: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
