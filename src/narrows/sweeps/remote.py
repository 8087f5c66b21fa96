"""A job on another machine: one function, run by Slurm's or Ray's worker, around the job's process."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from narrows.sweeps.workers import Task, end, lives, spawn

STOP = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
"""By which a cluster announces that time is up, or that the job makes room."""
POLL = 0.5


def stop_file(log: Path) -> Path:
    """Its presence asks the job to save and end, wherever it runs: the folder is shared, signals are not."""
    return log.with_suffix(".stop")


def run(task: Task) -> int:
    """Run the task's process to its end and return its exit code.

    A job that was submitted twice, by a sweep that died before it could note it, runs once.
    """
    while lives(task):
        time.sleep(POLL)
    if stop_file(task.log).exists():
        return 128 + signal.SIGTERM
    process = spawn(task)

    def pass_on(number: int, frame: Any) -> None:
        if number != signal.SIGCONT:
            end(process, kill=False)

    with suppress(ValueError):  # Ray runs tasks outside the main thread, where signals do not arrive
        for number in STOP:
            signal.signal(number, pass_on)
    asked = False
    while process.poll() is None:
        if not asked and stop_file(task.log).exists():
            asked = True
            end(process, kill=False)
        time.sleep(POLL)
    end(process, kill=True)
    return process.returncode
