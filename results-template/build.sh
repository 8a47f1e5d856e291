#!/usr/bin/env bash
# The leaderboard, in the folder site: comparisons, submissions, and the verdicts that maintainers committed
set -euo pipefail
shopt -s nullglob
runs=(comparison/*.zip comparison/*/ submissions/*/)
verdicts=()
for file in verification/*.json; do
  verdicts+=(--verification "$file")
done
python -m zobench.report "${runs[@]}" --site site "${verdicts[@]}"
