"""Sweeps over fake runs, started, killed and read from tests."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

SWEEP = Path(__file__).with_name("fake_sweep.py")


def start(folder: Path, spec: dict[str, Any], fake: dict[str, Any] | None = None) -> subprocess.Popen[str]:
    environment = os.environ | {"FAKE": json.dumps(fake or {})}
    command = [sys.executable, str(SWEEP), str(folder), json.dumps(spec)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, spec: dict[str, Any], fake: dict[str, Any] | None = None) -> tuple[int, str]:
    """Run to the end; the exit code and everything that was printed."""
    process = start(folder, spec, fake)
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def kill_and_resume(
    folder: Path, spec: dict[str, Any], fake: dict[str, Any], kills: int, within: tuple[float, float], seed: int
) -> tuple[int, str]:
    """SIGKILL the sweep at `kills` random moments, every other time its jobs with it; then let it end."""
    chance = random.Random(seed)
    for i in range(kills):
        process = start(folder, spec, fake)
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(*within))
        process.kill()
        process.communicate()
        if i % 2:
            kill_jobs(folder)
    return finish(folder, spec, fake)


def kill_jobs(folder: Path) -> None:
    """SIGKILL whatever process still runs a job of this sweep."""
    for file in folder.glob("*/journal.txt"):
        word, process = file.read_text().splitlines()[-1].split()
        if word == "started":
            with suppress(OSError):
                os.kill(int(process), signal.SIGKILL)


def table(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "status.json").read_text())["jobs"]


def states(folder: Path) -> list[str]:
    return [job["state"] for job in table(folder)]


def figures(folder: Path) -> dict[tuple[str, ...], dict[str, float]]:
    return {tuple(job["overrides"]): job["values"] for job in table(folder)}


def journals(folder: Path) -> dict[str, list[str]]:
    """What the runs noted of themselves, by directory."""
    files = folder.glob("*/journal.txt")
    return {file.parent.name: [line.split()[0] for line in file.read_text().splitlines()] for file in files}


def trials(folder: Path) -> list[tuple[int, str]]:
    """Number and state of every trial in the study."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        return connection.execute("SELECT number, state FROM trials ORDER BY number").fetchall()


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
