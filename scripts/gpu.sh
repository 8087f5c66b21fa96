#!/usr/bin/env bash
# What one GPU gives, in at most eight minutes, as JSON on standard output:
#
#   scripts/gpu.sh [--data DIR] > figures.json
#   scripts/gpu.sh --toy              # the smallest sizes, on the CPU: does it run?
#
# It needs this checkout and an environment with narrows in it; --data names the folder of data sets, for the published
# settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec timeout --signal=INT 480 python -m benchmarks.gpu "$@"
