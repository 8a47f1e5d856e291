#!/usr/bin/env bash
# Start a SLURM cluster of one node on this machine, for tests. Every file lies under DIR; neither root nor systemd needed.
#
#   apt-get install slurm-wlm munge          # Debian, Ubuntu: the daemons, a few megabytes
#   bash scripts/slurm/up.sh DIR             # up in about a second; only processes of this machine can reach it
#   export SLURM_CONF=DIR/slurm.conf         # sinfo, sbatch, python -m zobench -m hydra/launcher=slurm ...
#   bash scripts/slurm/down.sh DIR
#
# Partitions: debug, and urgent, whose jobs preempt those of debug after a grace of 5 s. No accounting: sacct fails.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd; do
  command -v $program >/dev/null || { echo "up.sh: $program is not installed; apt-get install slurm-wlm munge" >&2; exit 3; }
done
mkdir -p "${1:?usage: up.sh DIR}"/{ctld,slurmd,log}
root=$(realpath "$1") host=$(hostname -s) user=$(id -un)
chmod 755 "$root" # munged refuses a socket in a folder that others cannot pass

ports=$(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))')
read -r port_ctld port_slurmd <<<"$ports"
head -c 1024 /dev/urandom >"$root/munge.key"
chmod 600 "$root/munge.key"
munged --force --socket="$root/munge.sock" --key-file="$root/munge.key" --pid-file="$root/munged.pid" \
  --seed-file="$root/munge.seed" --log-file="$root/log/munged.log"

# A requeued job starts after cred_expire; the default would be two minutes. Two devices that exist pass for GPUs.
cat >"$root/slurm.conf" <<END
ClusterName=zobench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$root/munge.sock,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=30
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
SlurmctldPort=$port_ctld
SlurmdPort=$port_slurmd
SlurmdSpoolDir=$root/slurmd
StateSaveLocation=$root/ctld
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.log
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(awk '/MemTotal/{print int($2/1280)}' /proc/meminfo) Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
printf 'Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n' >"$root/gres.conf"
export SLURM_CONF=$root/slurm.conf
slurmctld
slurmd
for _ in $(seq 80); do
  [ "$(sinfo -h -p debug -o %T 2>/dev/null)" = idle ] && exit 0
  sleep 0.25
done
echo "up.sh: the node did not come up in 20 s" >&2
tail -n 20 "$root"/log/*.log >&2
exit 1
