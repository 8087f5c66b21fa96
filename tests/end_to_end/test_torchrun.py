"""Processes that torchrun starts side by side, on one node or as on two: one run, whose record says how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, NARROW, NO_TASKS, Finished, free_port, manifest, only_run
from test_process_deaths import DIES, STEP, require_recorded

RUN = (
    *NARROW,
    *NO_TASKS,
    *("trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=3", "datamodule.batch_size=242", "callbacks=none"),
)
AGENT = (sys.executable, "-m", "torch.distributed.run", "--no-python", "--master-addr=127.0.0.1")


def start(place: Path, *options: str, asked: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """`torchrun OPTIONS narrows train`, as on one node."""
    command = [*AGENT, *options, str(COMMAND), "train", *RUN, *asked]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=place, env=surroundings, stdout=pipe, stderr=pipe, text=True)


def finished(agent: subprocess.Popen[str]) -> Finished:
    out, err = agent.communicate(timeout=400)
    return Finished(agent.returncode, out, err)


def dying(place: Path, rank: int, how: str, other: str) -> Finished:
    (place / "unlucky.py").write_text(DIES.replace("STEP", str(STEP)))
    options = {"_target_": "unlucky.Dies", "rank": rank, "how": how, "other": other}
    asked = ("hydra.run.dir=run", *(f"+callbacks.dies.{key}={value}" for key, value in options.items()))
    done = finished(start(place, "--nproc-per-node=2", f"--master-port={free_port()}", asked=asked))
    assert done.code != 0
    return done


def test_one_that_is_killed_is_named(tmp_path: Path) -> None:
    done = dying(tmp_path, 1, "is killed", "waits")
    require_recorded(tmp_path / "run", 1, "was killed")
    assert "narrows: rank 1 of 2 processes failed, and the run with it: process " in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "how", "other", "error"),
    [
        (0, "is killed", "waits", "was killed"),
        (0, "is killed", "busy", "was killed"),
        (1, "is killed", "busy", "was killed"),
        (1, "raises", "waits", "ArithmeticError: the ninth"),
        (1, "raises", "busy", "ArithmeticError: the ninth"),
    ],
)
def test_whoever_dies_is_named(rank: int, how: str, other: str, error: str, tmp_path: Path) -> None:
    dying(tmp_path, rank, how, other)
    require_recorded(tmp_path / "run", rank, error)


def test_two_nodes_write_one_run(tmp_path: Path) -> None:
    meeting = ("--nnodes=2", "--nproc-per-node=1", f"--master-port={free_port()}")
    short = ("trainer.max_epochs=1",)
    agents = [start(tmp_path, *meeting, f"--node-rank={node}", asked=short) for node in range(2)]
    for done in map(finished, agents):
        assert done.code == 0, done.err
    run = only_run(tmp_path / "outputs")
    assert manifest(run)["status"] == "completed"
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_other_numbers_than_were_started_are_refused(tmp_path: Path) -> None:
    options = ("--nproc-per-node=2", f"--master-port={free_port()}")
    done = finished(start(tmp_path, *options, asked=("trainer.devices=3",)))
    assert "narrows: torchrun has started 2 processes on each of 1 nodes, and trainer.devices=3 is" in done.err
    assert list(tmp_path.rglob("manifest.json")) == []
