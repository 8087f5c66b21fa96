"""The protocol of workers, which run the jobs of a sweep, and the processes that they start."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from narrows.errors import UserError
from narrows.files import POSIX
from narrows.files import lock as lock_file
from narrows.runs.directory_lock import is_held

GUARD = Path(__file__).with_name("end_with_parent.py")


@dataclass(frozen=True)
class Task:
    """One process that is to run a job."""

    number: int
    command: tuple[str, ...]
    directory: Path
    """The run's."""
    log: Path
    lock: Path
    """The lock file that the process holds from start to end."""
    devices: int | None = 1
    """Number of GPUs that it uses; None for all that it is given."""
    environment: dict[str, str] = field(default_factory=dict)


class Handle(Protocol):
    """The protocol of a started job."""

    token: str | None
    """A token by which a later process can find the job again."""
    code: int | None
    """The exit code, once it is known."""

    def done(self) -> bool:
        """Whether it has ended."""

    def stop(self, kill: bool = False) -> None:
        """Ask it to save and end; with `kill`, end it."""


class Workers(Protocol):
    """The protocol of workers."""

    jobs: int
    """Most jobs at once."""
    shared: bool
    """Whether jobs run on other machines."""

    def prepare(self, sweep: Path) -> None:
        """Prepare for the jobs; called once, before the first one.

        Raises:
            UserError: a library is missing, or an option is invalid.
        """

    def start(self, task: Task) -> Handle: ...

    def attach(self, task: Task, token: str | None) -> Handle | None:
        """Find a job that an earlier process of this sweep started; None if it no longer runs."""

    def close(self) -> None:
        """End what was prepared; called once, after the last job."""


def take(lock: Path) -> int | None:
    """Open and lock the lock file; None if another process has locked it.

    A child that inherits it keeps the lock even if its parent ends.
    """
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    locked = False
    try:
        locked = lock_file(handle, inherited=True)
    finally:
        if not locked:
            os.close(handle)
    return handle if locked else None


def lives(task: Task) -> bool:
    """Whether a process of this job is running, on this machine or (by the run's own lock) on another."""
    handle = take(task.lock)
    if handle is None:
        return True
    os.close(handle)
    return is_held(task.directory)


def spawn(task: Task) -> subprocess.Popen[bytes]:
    """Start the task's process in its own session, holding the task's lock.

    Raises:
        UserError: a process of this job is already running.
    """
    with taken(task) as lock, opened_log(task) as log:
        return subprocess.Popen(
            [*(guard() if POSIX else ()), *task.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | task.environment,
            start_new_session=True,
            pass_fds=[lock] if POSIX else (),
        )


@contextlib.contextmanager
def taken(task: Task) -> Iterator[int]:
    """The task's lock, for a process to inherit.

    Raises:
        UserError: a process of this job is already running.
    """
    lock = take(task.lock)
    if lock is None:
        raise UserError(f"job {task.number} of the sweep runs already: {task.lock} is locked")
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def opened_log(task: Task) -> Iterator[IO[bytes]]:
    """The task's log, for a process to append to, behind the command that it runs."""
    with open(task.log, "ab") as log:
        log.write(f"$ {shlex.join(task.command)}\n".encode())
        log.flush()
        yield log


def guard() -> list[str]:
    """What stands before a command that is to end when this process ends."""
    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid())]


def end(process: subprocess.Popen[bytes], kill: bool) -> None:
    """Send SIGTERM to the main process, which ends its own children; or SIGKILL to all of them."""
    with contextlib.suppress(ProcessLookupError):
        if kill and POSIX:
            os.killpg(process.pid, signal.SIGKILL)
        elif kill:
            process.kill()
        elif process.poll() is None:
            process.terminate()


@dataclass
class Watched:
    """A job's process that another process started and that is known by its locks alone."""

    task: Task
    token: str | None = None
    code: int | None = None

    def done(self) -> bool:
        return not lives(self.task)

    def stop(self, kill: bool = False) -> None:
        """Do nothing: it is ending already, because its own sweep has died."""
