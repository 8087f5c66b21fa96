#!/usr/bin/env bash
# The long reproductions, which the default suite leaves out: real kills of trainings and sweeps, every variant
# reproduced, two processes stopped and continued. About half an hour on 2 cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
exec python -m pytest -m slow "$@"
