#!/usr/bin/env bash
# One cell, or a whole sweep, as one SLURM job that comes back by itself after preemption and the time limit:
#
#   sbatch --time=4:00:00 --gpus=1 --cpus-per-task=4 --mem=32G scripts/slurm/cell.sh method=mezo task=rte model=opt-1.3b
#   sbatch ... scripts/slurm/cell.sh -m hydra/launcher=joblib method=mezo,loren seed=0,1,2 model=opt-125m
#
# Two minutes before the limit SLURM sends SIGUSR1 to this process; zobench stops after the step, writes a checkpoint and
# asks SLURM to requeue the job. exec makes Python the process that gets the signal.
#SBATCH --job-name=zobench
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
exec "${PYTHON:-python}" -u -m zobench "$@"
