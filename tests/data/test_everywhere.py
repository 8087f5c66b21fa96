"""Data that narrows makes or prepares are the same on every machine: their fingerprint says whether they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served_data import MARGIN, served

MACHINES = {
    "old": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "NPY_DISABLE_CPU_FEATURES": "X86_V4"},
}
THREADS = {"old": 1, "avx2": 2}
PROGRAM = Path(__file__).resolve().with_name("served_data.py")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each machine serves, all at work at once; this process is the machine as it is."""
    real = Path(os.environ.get("NARROWS_DATA", PROGRAM.parents[3] / "shared" / "data"))
    started = {
        machine: subprocess.Popen(
            [
                sys.executable,
                str(PROGRAM),
                str(tmp_path_factory.mktemp("files")),
                *([str(real)] if real.is_dir() else []),
            ],
            env=os.environ | settings | {"OMP_NUM_THREADS": str(THREADS[machine])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for machine, settings in MACHINES.items()
    }
    here = served(tmp_path_factory.mktemp("files"), real if real.is_dir() else None)
    printed = {machine: process.communicate()[0] for machine, process in started.items()}
    assert [process.returncode for process in started.values()] == [0] * len(started)
    return {"as it is": here} | {machine: json.loads(text) for machine, text in printed.items()}


def test_every_source_serves_the_same_values_whatever_the_threads_and_instructions(
    machines: dict[str, dict[str, Any]],
) -> None:
    first, *others = ({k: v for k, v in found.items() if k != MARGIN} for found in machines.values())
    assert len(first) > 80
    for other in others:
        assert {name for name in first if first[name] != other[name]} == set()


def test_no_machine_can_round_the_generated_signal_otherwise(machines: dict[str, dict[str, Any]]) -> None:
    """Errors of double precision are about 1e-15."""
    assert all(found[MARGIN] > 1e-12 for found in machines.values())
