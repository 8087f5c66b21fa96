#!/usr/bin/env bash
# The goldens and laws as other processors compute them, so that what passes here passes elsewhere.
#
#   scripts/test_instruction_sets.sh [SETS [PYTEST ARGUMENTS]]
#   scripts/test_instruction_sets.sh sse,avx2 tests/test_goldens.py
#
# SETS: names of the table below with commas between; without any, all of them, on the goldens and the laws.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name, threads, the CPU's flag that it needs, then what torch, MKL, oneDNN and NumPy (with its BLAS) may use
table="
sse              1 sse4_2  ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41  OPENBLAS_CORETYPE=Nehalem
sse_2_threads    2 sse4_2  ATEN_CPU_CAPABILITY=default MKL_CBWR=SSE4_2     ONEDNN_MAX_CPU_ISA=SSE41  OPENBLAS_CORETYPE=Nehalem
avx2             1 avx2    ATEN_CPU_CAPABILITY=avx2    MKL_CBWR=AVX2       ONEDNN_MAX_CPU_ISA=AVX2   OPENBLAS_CORETYPE=Haswell
avx2_2_threads   2 avx2    ATEN_CPU_CAPABILITY=avx2    MKL_CBWR=AVX2       ONEDNN_MAX_CPU_ISA=AVX2   OPENBLAS_CORETYPE=Zen
avx512           1 avx512f ATEN_CPU_CAPABILITY=avx512  MKL_CBWR=AVX512     ONEDNN_MAX_CPU_ISA=AVX512_CORE OPENBLAS_CORETYPE=SkylakeX
avx512_2_threads 2 avx512f ATEN_CPU_CAPABILITY=avx512  MKL_CBWR=AUTO       ONEDNN_MAX_CPU_ISA=ALL    OPENBLAS_CORETYPE=SkylakeX
"
names=$(awk 'NF {print $1}' <<<"$table")
wanted=${1:-$(paste -sd, <<<"$names")}
shift
[ $# -gt 0 ] || set -- tests/test_goldens.py tests/laws

status=0
for name in ${wanted//,/ }; do
  row=$(awk -v name="$name" '$1 == name' <<<"$table")
  if [ -z "$row" ]; then
    echo "there is no instruction set '$name': choose among $(paste -sd' ' <<<"$names")" >&2
    exit 2
  fi
  read -r _ threads flag settings <<<"$row"
  if ! grep -qw "$flag" /proc/cpuinfo; then
    echo "── $name: left out, this processor has no $flag"
    continue
  fi
  # NumPy's own loops: all but the oldest are switched off for the oldest set, the widest for the middle one.
  case $flag in
    sse4_2) numpy="X86_V3 X86_V4 AVX512_ICL AVX512_SPR" ;;
    avx2) numpy="X86_V4 AVX512_ICL AVX512_SPR" ;;
    *) numpy="" ;;
  esac
  echo "── $name: $settings, threads: $threads"
  # shellcheck disable=SC2086
  env $settings OMP_WAIT_POLICY=passive NPY_DISABLE_CPU_FEATURES="$numpy" OMP_NUM_THREADS="$threads" NARROWS_TEST_THREADS="$threads" \
    python -m pytest -q "$@" || status=1
done
exit "$status"
