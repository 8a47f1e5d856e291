#!/usr/bin/env bash
# Set everything up and run a table of cells: what is finished is skipped, what was stopped goes on.
#
#   bash sweep.sh                              the grids there are
#   bash sweep.sh smoke                        run one
#   bash sweep.sh paper --dry-run              what it would run, with hours and memory
#   bash sweep.sh small data.dir=DIR --status  how it stands; --watch in a second terminal
#
# All arguments go to python -m zobench.sweep; --help lists them.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/setup.sh"
exec "$here/.venv/bin/python" -m zobench.sweep "$@"
