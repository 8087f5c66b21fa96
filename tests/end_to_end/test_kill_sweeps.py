"""The real thing: sweeps on digits, killed by SIGKILL at random moments and resumed until they are done.

    python -m pytest -m slow tests/end_to_end/test_kill_sweeps.py        NARROWS_KILL_SEED=3 for other moments

Each ends complete, with the figures of a sweep that was never stopped, no job or trial lost and none doubled.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, NARROW, NO_TASKS

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("NARROWS_KILL_SEED", "0"))
KILLS = 4
BUDGET = ("callbacks=none", "trainer.max_epochs=12", "datamodule.batch_size=64", *NARROW, *NO_TASKS)
SWEEPS = {
    "grid": ("seed=0,1,2", "bottleneck.dim=2,8", "optimizer.lr=1e-3,3e-3"),
    "optuna": ("sweep=optuna", "sweep.trials=20", "sweep.sampler.n_startup_trials=6", "sweep.pruner.n_warmup_steps=1"),
    "pareto": ("sweep=pareto", "sweep.trials=12", "sweep.sampler.population_size=4"),
}
JOBS = {"grid": 12, "optuna": 20, "pareto": 12}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [str(COMMAND), "train", "-m", *arguments, *BUDGET]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(folder / "said", "a") as said:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said, text=True)


def directory(folder: Path) -> Path | None:
    found = list(folder.glob("outputs/sweeps/*/*/sweep.yaml"))
    assert len(found) <= 1, "a second sweep was started"
    return found[0].parent if found else None


def resumption(folder: Path) -> tuple[str, ...]:
    return () if directory(folder) is None else ("sweep.resume=true",)


def kill_jobs(sweep: Path) -> None:
    """SIGKILL to every process of a job of this sweep."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                if "narrows.commands.train" in line and str(sweep) in line:
                    os.kill(int(entry.name), signal.SIGKILL)


def run_with_kills(folder: Path, arguments: tuple[str, ...], chance: random.Random) -> int:
    """How often it was killed while it ran."""
    kills = 0
    while kills < KILLS:
        process = start(folder, *arguments, *resumption(folder))
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(5, 60))
            break
        process.kill()
        process.wait()
        kills += directory(folder) is not None
        if kills % 2 and (sweep := directory(folder)):
            kill_jobs(sweep)
    assert start(folder, *arguments, *resumption(folder)).wait(timeout=3600) == 0, (folder / "said").read_text()
    return kills


def jobs(folder: Path) -> list[dict[str, Any]]:
    sweep = directory(folder)
    assert sweep is not None
    return json.loads((sweep / "status.json").read_text())["jobs"]


def figures(folder: Path, job: dict[str, Any]) -> dict[str, float]:
    sweep = directory(folder)
    assert sweep is not None
    found = json.loads((sweep / job["directory"] / "metrics.json").read_text())
    return {name: value for name, value in found.items() if not name.startswith("throughput/")}


@pytest.mark.parametrize("kind", SWEEPS)
def test_killed_and_resumed_it_is_the_sweep_that_never_stopped(kind: str, tmp_path: Path) -> None:
    never, killed = tmp_path / "never", tmp_path / "killed"
    kills = run_with_kills(killed, SWEEPS[kind], random.Random(f"{SEED} {kind}"))
    assert kills >= 3, "it was done before it could be killed"
    assert start(never, *SWEEPS[kind]).wait(timeout=3600) == 0, (never / "said").read_text()
    one, other = jobs(never), jobs(killed)
    assert [job["number"] for job in other] == list(range(JOBS[kind]))
    assert [job["state"] for job in other] == [job["state"] for job in one]
    assert {job["state"] for job in other} <= {"completed", "pruned"}
    for a, b in zip(one, other, strict=True):
        assert (a["overrides"], a["values"]) == (b["overrides"], b["values"])
        assert figures(never, a) == figures(killed, b), a["directory"]
    sweep = directory(killed)
    assert sweep is not None
    runs = [path.name for path in sweep.iterdir() if (path / "manifest.json").exists()]
    assert sorted(runs) == [job["directory"] for job in other]
    for job in other:
        attempts = json.loads((sweep / job["directory"] / "manifest.json").read_text())["attempts"]
        assert sum(attempt["status"] in ("completed", "pruned") for attempt in attempts) == 1
    if kind != "grid":
        with closing(sqlite3.connect(sweep / "study.db")) as connection:
            trials = connection.execute("SELECT number, state FROM trials ORDER BY number").fetchall()
        names = {"completed": "COMPLETE", "pruned": "PRUNED"}
        assert trials == [(job["number"], names[job["state"]]) for job in other]
