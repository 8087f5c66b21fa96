"""Run directories to compare: one real run of two optimiser steps, and edited copies of its records."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import NARROW, TINY, only_run, run_in_process
from run_copies import MakeRun, Template, write_sweep


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `narrows train` leaves behind."""
    folder = tmp_path_factory.mktemp("real")
    done = run_in_process("variant=vae", "bottleneck.dim=4", *TINY, *NARROW, cwd=folder)
    assert done.code == 0, done.err
    return only_run(folder)


@pytest.fixture(scope="session")
def make_run(real_run: Path) -> MakeRun:
    """`make_run(directory, {dotted key: value}, {metric: value}, **manifest)`: the real run with other values."""
    return Template(real_run).write


@pytest.fixture
def sweep(tmp_path: Path, make_run: MakeRun) -> Path:
    """Twelve jobs; see `write_sweep`."""
    return write_sweep(tmp_path / "sweep", make_run)
