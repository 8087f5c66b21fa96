#!/bin/bash
# A sweep whose jobs are Slurm jobs, through submitit (pip install 'narrows[slurm]'), from a node that may submit. It can be
# killed at any time: the jobs go on, and the same command with sweep.resume=true finds them by their numbers.
set -eu
exec narrows train -m seed=0,1 bottleneck.dim=8,16 sweep/workers=slurm sweep.workers.jobs=4 \
    sweep.workers.gpus=0 sweep.workers.cpus=1 sweep.workers.memory=2 sweep.workers.timeout=60 "$@"
