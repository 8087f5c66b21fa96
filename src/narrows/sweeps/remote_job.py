"""A job on another machine: the function that a Slurm or Ray worker calls to run the job's process."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from narrows import os_signals
from narrows.sweeps.workers import Task, end, lives, spawn

STOP = os_signals.existing("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT")
"""The signal by which a cluster announces a time limit or preemption."""
POLL = 0.5


def stop_file(log: Path) -> Path:
    """The file whose presence asks the job to save and end; signals do not reach other machines, shared folders do."""
    return log.with_suffix(".stop")


def run(task: Task) -> int:
    """Run the task's process to its end and return its exit code.

    A job runs only once, even if a sweep submitted it twice because it died before recording the first time.
    """
    while lives(task):
        time.sleep(POLL)
    if stop_file(task.log).exists():
        return 128 + signal.SIGTERM
    process = spawn(task)

    def pass_on(number: int, frame: Any) -> None:
        if number not in os_signals.existing("SIGCONT"):
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
