#!/usr/bin/env bash
# The leaderboard, in the folder site: the comparison, submissions, and the verdicts that maintainers committed
set -euo pipefail
shopt -s nullglob
runs=(comparison/*.zip comparison/*/)
verdicts=()
for file in verification/*.json; do
  verdicts+=(--verification "$file")
done
python -m zobench.report "${runs[@]}" --submissions submissions --site site "${verdicts[@]}"
