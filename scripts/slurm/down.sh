#!/usr/bin/env bash
# Stop the cluster that up.sh started under DIR, its jobs included.
#
#   bash scripts/slurm/down.sh DIR
set -uo pipefail
root=$(realpath "${1:?usage: down.sh DIR}")
export SLURM_CONF=$root/slurm.conf

timeout 10 scancel --full --signal=KILL --state=RUNNING 2>/dev/null
timeout 10 scancel --state=PENDING 2>/dev/null
for _ in $(seq 20); do # a daemon that is stopped while a job ends would wait for it for ever
  [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break
  sleep 0.5
done
stop() { # signal, then every process of this cluster
  for daemon in slurmctld slurmd munged; do
    [ -f "$root/$daemon.pid" ] && kill "-$1" "$(cat "$root/$daemon.pid")" 2>/dev/null
  done
  for process in /proc/[0-9]*; do # what has lost its pid file, and the keepers of jobs
    case $(cat "$process/comm" 2>/dev/null) in slurmd | slurmstepd | slurmctld) ;; *) continue ;; esac
    grep -qz "^SLURM_CONF=$root/slurm.conf$" "$process/environ" 2>/dev/null && kill "-$1" "${process#/proc/}" 2>/dev/null
  done
}
stop TERM
for _ in $(seq 20); do # the pid files go last
  ls "$root"/*.pid >/dev/null 2>&1 || break
  sleep 0.25
done
stop KILL
exit 0
