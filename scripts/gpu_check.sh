#!/usr/bin/env bash
# What zobench does on a GPU, in at most eight minutes: tests, the noise kernel, every method's cost, memory, two ranks.
# Uses Python and its packages as they are; nothing is downloaded. The results are $OUT/gpu_check.json (./out by default),
# written anew after each stage, so that a run that was cut short goes on where it was.
#
#   bash scripts/gpu_check.sh                    on a machine with a GPU
#   bash scripts/gpu_check.sh --tiny             the same stages on a CPU with tiny shapes, in about two minutes
#   bash scripts/gpu_check.sh --only noise,tests
#
# Pure Python packages that the machine lacks may lie in .packages; where a registry can be reached, this puts them there:
#   python -m pip install --no-deps --target .packages hydra-core omegaconf antlr4-python3-runtime
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH=$PWD:$PWD/.packages${PYTHONPATH:+:$PYTHONPATH}
if [ -z "${PYTHON:-}" ]; then
  [ -x .venv/bin/python ] && PYTHON=.venv/bin/python || PYTHON=python3
fi
command -v "$PYTHON" >/dev/null || { echo "gpu_check: $PYTHON is not there; set PYTHON to a Python with torch" >&2; exit 2; }
exec "$PYTHON" -u scripts/gpu_check.py "$@"
