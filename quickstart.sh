#!/usr/bin/env bash
# Set everything up and run the quick start: a real language model learns from forward passes alone.
# Arguments are passed on, e.g. bash quickstart.sh seed=1
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/setup.sh"
cd "$here"
exec .venv/bin/python -m zobench experiment=quickstart "$@"
