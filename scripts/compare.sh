#!/usr/bin/env bash
# The comparison of docs/comparison.md: for each method, all its learning rates and three seeds, at equal forward passes.
#
#   bash scripts/compare.sh smollm2 RUNS data.dir=DIR                             # every method, one cell after another
#   METHODS="loren ldsd" bash scripts/compare.sh smollm2 RUNS data.dir=DIR        # some of them, for a second process
#   bash scripts/compare.sh tiny RUNS data.dir=DIR model.dir=DIR                  # after scripts/pretrain_tiny.py
#   SEEDS=0 bash scripts/compare.sh smollm2 RUNS data.dir=DIR                     # one seed, to find learning rates
#
# Finished cells are skipped and interrupted ones go on, so the same command may be given again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."
setting=$1 runs=$2
shift 2

grid() { # the overrides of one row of the table: a method, or one of its ablations
  case $setting/$1 in
    smollm2/mezo) echo method=mezo method.lr=1e-3,2e-3,5e-3,1e-2 ;;
    smollm2/loren) echo method=loren method.lr=3e-4,1e-3,3e-3 ;;
    smollm2/iso_rloo) echo method=loren method.variant=iso_rloo method.lr=3e-4,1e-3,3e-3 ;;
    smollm2/ldsd) echo method=ldsd method.lr=1e-4,2e-4,5e-4 ;;
    smollm2/ldsd_no_policy) echo method=ldsd method.lr_mu=0 method.lr=1e-4,2e-4,5e-4 ;;
    smollm2/kerzoo) echo method=kerzoo method.lr=1e-4,3e-4,1e-3 ;;
    smollm2/curvzo) echo method=curvzo method.lr=3e-4,1e-3,3e-3 ;;
    smollm2/curvzo_uniform) echo method=curvzo method.score_power=0 method.adapt_every=0 method.lr=3e-4,1e-3,3e-3 ;;
    smollm2/pgap) echo method=pgap method.rank=64 method.lr=3e-2,1e-1,3e-1,1.0 ;;
    smollm2/pgap_random) echo method=pgap method.basis=random method.rank=64 method.lr=3e-2,1e-1,3e-1,1.0 ;;
    smollm2/adamw) echo method=adamw steps=300 forwards=null method.lr=3e-4,1e-3 ;;
    tiny/mezo) echo method=mezo method.lr=3e-5,1e-4,2e-4 ;;
    tiny/loren) echo method=loren method.lr=1e-5,3e-5,1e-4 ;;
    tiny/iso_rloo) echo method=loren method.variant=iso_rloo method.lr=1e-5,3e-5,1e-4 ;;
    tiny/ldsd) echo method=ldsd method.lr=3e-6,1e-5,3e-5 ;;
    tiny/ldsd_no_policy) echo method=ldsd method.lr_mu=0 method.lr=3e-6,1e-5,3e-5 ;;
    tiny/kerzoo) echo method=kerzoo method.lr=1e-5,3e-5,1e-4 ;;
    tiny/curvzo) echo method=curvzo method.lr=3e-5,1e-4,3e-4 ;;
    tiny/curvzo_uniform) echo method=curvzo method.score_power=0 method.adapt_every=0 method.lr=3e-5,1e-4,3e-4 ;;
    tiny/pgap) echo method=pgap method.rank=16 method.lr=1e-3,3e-3,1e-2 ;;
    tiny/pgap_random) echo method=pgap method.basis=random method.rank=16 method.lr=1e-3,3e-3,1e-2 ;;
    tiny/adamw) echo method=adamw steps=300 forwards=null method.lr=3e-4,1e-3 ;;
    *) echo "no row $1 in the setting $setting (smollm2 or tiny)" >&2; return 2 ;;
  esac
}

for row in ${METHODS:-mezo loren ldsd kerzoo curvzo pgap iso_rloo ldsd_no_policy curvzo_uniform pgap_random adamw}; do
  overrides=$(grid "$row")
  # shellcheck disable=SC2086  # the overrides are words
  python -m zobench -m experiment="compare_$setting" $overrides seed="${SEEDS:-0,1,2}" runs_dir="$runs" wandb=disabled \
    keep_weights=false "$@"
done
