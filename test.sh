#!/usr/bin/env bash
# Set everything up and pass the checks: style, types, imports, tests. Arguments go to pytest, e.g. bash test.sh -m slow
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/setup.sh"
cd "$here"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports --no-logo --no-cache
# Tests start processes of their own; spinning threads would only fight over the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# One worker for each core; -n 0 as an argument turns that off.
exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
