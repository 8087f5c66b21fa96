"""What a sweep asks of those who run its jobs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from narrows.errors import UserError
from narrows.runs.lock import is_held

GUARD = Path(__file__).with_name("end_with_parent.py")


@dataclass(frozen=True)
class Task:
    """One process to run."""

    number: int
    command: tuple[str, ...]
    directory: Path
    """The run's."""
    log: Path
    lock: Path
    """Locked as long as the process lives, from its first moment."""
    devices: int | None = 1
    """GPUs that it will use; None: as many as it is given."""
    environment: dict[str, str] = field(default_factory=dict)


class Handle(Protocol):
    """A job that was started."""

    token: str | None
    """By which a later process can find it again."""
    code: int | None
    """The exit code, once it is known."""

    def done(self) -> bool:
        """Whether it has ended."""

    def stop(self, kill: bool = False) -> None:
        """Ask it to save and end; with `kill`, end it."""


class Workers(Protocol):
    """Where jobs run."""

    jobs: int
    """How many at once."""
    shared: bool
    """Whether jobs run on other machines."""

    def prepare(self, sweep: Path) -> None:
        """Called once, before the first job.

        Raises:
            UserError: a library is missing, or an option has no sense.
        """

    def start(self, task: Task) -> Handle: ...

    def attach(self, task: Task, token: str | None) -> Handle | None:
        """A job of an earlier process of this sweep, if it still lives."""


def take(lock: Path) -> int | None:
    """The open lock file, locked; None when another process has it.

    An `flock` belongs to the open file: a child that inherits it holds it on, whatever becomes of its parent.
    """
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return handle


def lives(task: Task) -> bool:
    """Whether a process of this job is there, on this machine or (by the run's own lock) on another."""
    handle = take(task.lock)
    if handle is None:
        return True
    os.close(handle)
    return is_held(task.directory)


def spawn(task: Task) -> subprocess.Popen[bytes]:
    """The task's process, in a session of its own, holding the task's lock.

    Raises:
        UserError: a process of this job lives already.
    """
    lock = take(task.lock)
    if lock is None:
        raise UserError(f"job {task.number} of the sweep runs already: {task.lock} is locked")
    try:
        with open(task.log, "ab") as log:
            log.write(f"$ {shlex.join(task.command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *task.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | task.environment,
                start_new_session=True,
                pass_fds=[lock],
            )
    finally:
        os.close(lock)


def end(process: subprocess.Popen[bytes], kill: bool) -> None:
    """SIGTERM to the main process, whose own business its helpers are; or SIGKILL to all of them."""
    with contextlib.suppress(ProcessLookupError):
        if kill:
            os.killpg(process.pid, signal.SIGKILL)
        elif process.poll() is None:
            process.send_signal(signal.SIGTERM)


@dataclass
class Watched:
    """A process of this job that someone else started: seen by its locks alone."""

    task: Task
    token: str | None = None
    code: int | None = None

    def done(self) -> bool:
        return not lives(self.task)

    def stop(self, kill: bool = False) -> None:
        """It is on its way out already: its own sweep has died."""
