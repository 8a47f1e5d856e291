"""``python -m zobench.testing --method my_pkg.MyMethod [pytest's options]``: hold methods to the contracts."""

import sys
from collections.abc import Sequence
from pathlib import Path

from zobench.errors import ConfigError, MissingExtra, complain, show, tolerant_streams

PROGRAM = "zobench.testing"
USAGE = "expected --method my_pkg.MyMethod, and any of pytest's options, e.g. -k sgd"
HELP = """\
python -m zobench.testing --method MODULE.CLASS [options]

Holds a method to the contracts that every method of zobench keeps, with each update rule, mode and variant it takes.

  --method MODULE.CLASS   the class, which Python must be able to import; may be repeated
  --setting KEY=VALUE     an argument of the class that has no default; may be repeated
  --device NAME           where the weights are: cpu (the default), cuda, ...; state must follow them
  -k WORDS, -x, ...       any of pytest's options: which cases run, where to stop
"""


def main(arguments: Sequence[str]) -> int:
    """Run pytest on the contracts; its exit code, or 2 if no method is named."""
    tolerant_streams()
    if {"-h", "--help"} & set(arguments):
        show(HELP.rstrip())
        return 0
    if not any(argument.partition("=")[0] == "--method" for argument in arguments):
        return complain(ConfigError(USAGE), PROGRAM)
    try:
        import pytest
    except ModuleNotFoundError as missing:
        return complain(MissingExtra("testing", missing), PROGRAM)
    suite = Path(__file__).with_name("test_contracts.py")
    return int(pytest.main(["-p", "zobench.testing.plugin", "--tb=short", str(suite), *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
